"""A server by its address alone: what is asked of it, what is known of its model, and what prompts it gets."""

from __future__ import annotations

import http.server
import json
import math
import threading
from contextlib import contextmanager, suppress

import pytest

from llem.backends.base import Observed
from llem.config.layers import Layer
from llem.config.load import resolve
from llem.config.text import parse_yaml
from llem.errors import ConfigError, MachineError
from llem.models.resolve import resolve_model
from llem.plugins.registry import registry
from llem.study.plan.expand import load as load_study
from llem.study.start.here import look_here
from llem.study.start.templates import study_text
from llem.workloads.base import Uniform
from llem.workloads.files import FileOptions
from llem.workloads.synthetic import SyntheticOptions, SyntheticWorkload
from llem_openai.address import Address
from llem_openai.config import OpenAIOptions
from llem_openai.defaults import commanded, computing, defaults, found, known
from llem_openai.observed import figures
from llem_openai.served import (
    COMMON,
    FEW,
    Prompts,
    context_of,
    differing,
    first_request,
    random_ids,
    tokenizer_model,
    words,
)
from llem_openai.server import PAGE_BYTES, Site

SERVED = resolve_model("served:m")


def asked(**settings):
    """The experiment of these settings, and where its values came from; nothing is looked at."""
    return resolve([Layer("test", {"backend": "openai", **settings})], registry())


# defaults


def test_an_experiment_on_a_server_needs_no_settings():
    """Number format, load, processes and model fit a server, and each says that the backend chose it."""
    resolved = asked()
    one, source = resolved.experiment, "default of backend openai"
    assert (one.dtype, one.load.kind, one.load.concurrency, one.processes) == ("auto", "closed", 1, 1)
    assert one.model == "served"
    assert {resolved.sources[path] for path in ("dtype", "load.kind", "load.concurrency", "model")} == {source}


def test_what_is_said_stays():
    """Settings of another load make it another load; a preset's processes are those of a server that runs."""
    resolved = asked(load={"batch_size": 4}, preset="publication", model="shape:tiny")
    one = resolved.experiment
    assert (one.load.kind, one.load.batch_size, one.processes, one.model) == ("offline", 4, 1, "shape:tiny")
    started = asked(preset="publication", **{"openai.command": "vllm serve org/name --port 8000"}).experiment
    assert (started.processes, started.model) == (5, "org/name")


@pytest.mark.parametrize(
    ("said", "load"),
    [
        ({"load.concurrency": 16}, {"kind": "closed", "concurrency": 16}),
        ({"load.batch_size": 4}, {"kind": "offline", "batch_size": 4}),
        ({"load.request_rate": 4}, {"kind": "open", "request_rate": 4.0}),
        ({"load": {"kind": "offline"}}, {"kind": "offline", "batch_size": 1}),
    ],
)
def test_a_load_needs_no_kind(said, load):
    """Its settings say which it is."""
    found = asked(**said).experiment.load
    assert {name: getattr(found, name) for name in load} == load


@pytest.mark.parametrize(
    ("axis", "values", "kind"),
    [("concurrency", [1, 16], "closed"), ("request_rate", [2.0, 4.0], "open"), ("batch_size", [1, 8], "offline")],
)
def test_an_axis_over_a_setting_of_a_load(axis, values, kind):
    """In a study file too."""
    study = load_study({"base": {"backend": "openai"}, "axes": {f"load.{axis}": values}}, (), registry())
    loads = [one.experiment.load for one in study.experiments]
    assert sorted((load.kind, getattr(load, axis)) for load in loads) == [(kind, value) for value in values]


def test_defaults_of_one_backend_are_not_those_of_another():
    """Nothing of a server's defaults is in an experiment of another backend."""
    one = resolve([Layer("test", {"backend": "echo"})], registry()).experiment
    assert (one.dtype, one.load.kind, one.model) == ("bfloat16", "offline", "shape:tiny")


@pytest.mark.parametrize(
    ("command", "model"),
    [
        ("vllm serve org/name --port 1", "org/name"),
        ("python -m vllm.entrypoints.openai.api_server --model=org/name", "org/name"),
        ("python -m sglang.launch_server --model-path org/name", "org/name"),
        ("llama-server -m ./model.gguf", None),
        ("vllm serve ./nowhere", None),
        ("vllm serve --help", None),
        ("", None),
    ],
)
def test_the_model_of_a_command(command, model):
    """A folder or an id that the command names; a single file is no model here."""
    assert commanded(tuple(command.split())) == model


def test_weights_of_a_server_are_unknown():
    """Unless llem starts it with the model that is named; dummy weights are random."""
    shape, hub = resolve_model("shape:tiny"), resolve_model("org/name")
    assert known(OpenAIOptions(), shape).weights == "unknown"
    assert known(OpenAIOptions(), hub).weights == "unknown"
    assert known(OpenAIOptions(command="vllm serve org/name"), hub).weights == "real"
    assert known(OpenAIOptions(command="vllm serve org/other"), hub).weights == "unknown"
    assert known(OpenAIOptions(command="vllm serve org/name --load-format dummy"), hub).weights == "random"
    assert SERVED.weights == "unknown"


def test_malformed_settings_are_reported_by_their_own_check():
    """Defaults do not stumble over them."""
    assert defaults({"openai": "http://x"})["model"] == "served"
    assert defaults({"openai": {"command": 'vllm "serve'}})["model"] == "served"
    assert found({"openai": {"base_url": 7}}) == found({"openai": {"base_url": "nonsense"}}) == {}


# what is found


@pytest.mark.process
def test_the_served_name_is_in_the_plan(running):
    """The plan asks the server, so its name is in the configuration and in the identity."""
    server = running("--models", "a-model")
    settings = {"backend": "openai", "openai": {"base_url": server.url}}
    [one] = load_study({"base": settings}, (), registry(), unmet=False).experiments
    assert one.experiment.model == "served:a-model"
    assert one.sources["model"] == "found by backend openai"
    assert one.model.weights == "unknown"


@pytest.mark.process
def test_several_models_are_named(running):
    """Which one is meant must be said, and then it is in the plan."""
    server = running("--models", "a,b")
    settings = {"backend": "openai", "openai.base_url": server.url}
    with pytest.raises(ConfigError, match="lists 2 models"):
        load_study({"base": settings}, (), registry(), unmet=False)
    named = {**settings, "openai.served_model": "b"}
    [one] = load_study({"base": named}, (), registry(), unmet=False).experiments
    assert one.experiment.model == "served:b"


def test_a_run_says_at_once_that_nothing_listens():
    """A plan does not mind."""
    settings = {"backend": "openai", "openai.base_url": "http://127.0.0.1:9/v1"}
    with pytest.raises(MachineError, match="nothing listens"):
        load_study({"base": settings}, (), registry(), unmet=False)
    [one] = load_study({"base": settings}, (), registry()).experiments
    assert one.experiment.model == "served"


def test_the_devices_of_a_server():
    """Its GPUs; the CPU where others alone compute; nothing where processes cannot be told apart."""
    gpus = {"GPU-a": {7}, "GPU-b": {8}}
    assert computing(gpus, {7, 1}, lambda _: True) == {"gpus": ["GPU-a"]}
    assert computing(gpus, {1}, lambda _: True) == {"device": "cpu"}
    assert computing(gpus, {1}, lambda pid: pid != 8) == {}


def test_an_address_without_a_path_means_its_interface():
    """As other load generators take it."""
    assert Address.of("http://127.0.0.1:8000").base == "http://127.0.0.1:8000/v1"
    assert Address.of("http://127.0.0.1:8000/").root == "http://127.0.0.1:8000"
    assert Address.of("http://127.0.0.1:8000/proxy").base == "http://127.0.0.1:8000/proxy"


# the model and the prompts


def test_another_model_than_the_named_is_told(tmp_path):
    """By its name, its folder or where it was loaded from."""
    folder = tmp_path / "llama"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "llama", "vocab_size": 300}')
    named = resolve_model(str(folder))
    for entry in ({"id": str(folder)}, {"id": "alias", "root": str(folder)}, {"id": "llama"}):
        assert list(differing(named, entry, OpenAIOptions())) == []
    [one] = differing(named, {"id": "qwen", "root": "org/qwen"}, OpenAIOptions())
    assert (one.code, one.severity) == ("served_model_differs", "warning")
    assert list(differing(SERVED, {"id": "anything"}, OpenAIOptions())) == []


def test_a_name_that_no_file_can_have_is_not_told():
    """A list of models is text of somebody's."""
    entry = {"id": "qwen", "root": "/a\0b"}
    [one] = differing(resolve_model("shape:tiny"), entry, OpenAIOptions())
    assert one.evidence["served"] == ["qwen"]
    assert tokenizer_model(SERVED, entry) is None


def test_the_tokenizer_of_a_served_folder(tmp_path, monkeypatch):
    """The folder that the server tells, else the named model, else none."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    (tmp_path / "config.json").write_text('{"model_type": "llama", "vocab_size": 300}')
    model = tokenizer_model(SERVED, {"id": "alias", "root": str(tmp_path)})
    assert model is not None
    assert model.config["vocab_size"] == 300
    assert tokenizer_model(SERVED, {"id": "llama3.2:1b", "root": None}) is None
    named = resolve_model("shape:tiny")
    assert tokenizer_model(named, {"id": "alias", "root": str(tmp_path)}) is named


def test_ids_are_those_that_the_server_takes():
    """Of large vocabularies first; a refusal means a small one."""

    def refuse(_):
        raise ConfigError("out of vocabulary")

    assert random_ids(lambda _: None) == COMMON
    assert random_ids(refuse) == FEW


def test_words_are_about_as_many_as_ids():
    """And differ where the ids do."""
    assert len(words(range(500)).split()) == 500
    assert words((1, 2)) != words((2, 1))


@pytest.mark.parametrize(
    ("told", "context"),
    [
        ({"max_model_len": 2048}, 2048),
        ({"context_length": "8192"}, 8192),
        ({"context_length": 4096.0}, 4096),
        ({"context_length": "8k"}, None),
        ({"context_length": "8k", "context_window": 8192}, 8192),
        ({"max_model_len": 0, "context_length": 16}, 16),
        *[({"max_model_len": one}, None) for one in (None, True, -1, "", [2048], {"tokens": 1}, math.inf, math.nan)],
    ],
)
def test_a_context_that_is_no_number_of_tokens_is_not_told(told, context):
    """Servers write what they like into their list of models."""
    assert context_of({"id": "m", **told}) == context


# salts


def test_a_salt_changes_prompts_and_no_length():
    """Two runs share no prefix; what is asked for stays."""

    def made(salt):
        workload = SyntheticWorkload(
            SyntheticOptions(input_tokens=40, output_tokens=Uniform(low=1, high=99), seed=3), None, 512
        )
        workload.salt = salt
        return workload.requests(0, 20)

    plain, one, other = made(""), made("a1"), made("b2")
    for first, second in ((plain, one), (one, other)):
        assert all(a.token_ids[:8] != b.token_ids[:8] for a, b in zip(first, second, strict=True))
        assert [len(a.token_ids) for a in first] == [len(b.token_ids) for b in second]
        assert [a.output_tokens for a in first] == [b.output_tokens for b in second]
    assert made("a1") == one


@pytest.mark.parametrize(
    ("options", "salts"),
    [
        ({}, True),
        ({"salt": False}, False),
        ({"command": "vllm serve x"}, False),
        ({"command": "vllm serve x", "salt": True}, True),
        ({"return_token_ids": True}, False),
    ],
)
def test_when_prompts_are_salted(options, salts):
    """For a server that ran before, unless outputs are compared or the user says otherwise; anew for each engine."""
    experiment = asked(model="shape:tiny").experiment
    made = [Prompts.of(OpenAIOptions(**options), experiment, SERVED, {"id": "m"}).salt for _ in range(2)]
    assert (made[0] != made[1]) is salts
    assert bool(made[0]) is salts


# pages


class Pages(http.server.BaseHTTPRequestHandler):
    """Answers by path."""

    routes: dict[str, tuple[int, dict[str, str], bytes]] = {}
    keys: list[str | None] = []
    server_version, sys_version = "my a-secret", ""

    def do_GET(self):
        self.keys.append(self.headers.get("authorization"))
        status, headers, body = self.routes.get(self.path, (404, {}, b""))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        with suppress(ConnectionError):
            self.wfile.write(body)

    def log_message(self, *_):
        pass


@contextmanager
def pages(**routes):
    """A server of these pages in a thread, and what authorisations it saw."""
    handler = type("Handler", (Pages,), {"routes": routes, "keys": []})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", handler.keys
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.process
def test_a_redirect_gets_no_key():
    """The other host is not asked at all."""
    with pages() as (other, keys), pages(**{"/v1/models": (302, {"location": f"{other}/v1/models"}, b"")}) as (url, _):
        answer = Site(url, f"{url}/v1", "a-secret").get(f"{url}/v1/models")
        assert answer is not None
        assert answer.status == 302
        assert keys == []


@pytest.mark.process
def test_a_page_is_read_to_a_limit_and_without_the_key():
    """A page that is longer tells nothing; what repeats the key is made harmless where it enters."""
    routes = {
        "/version": (200, {}, b'{"version": "' + b"9" * (PAGE_BYTES + 1) + b'"}'),
        "/v1/models": (200, {}, json.dumps({"data": [{"id": "x a-secret"}]}).encode()),
    }
    with pages(**routes) as (url, _):
        site = Site(url, f"{url}/v1", "a-secret")
        long = site.get(f"{url}/version")
        assert long is not None
        assert (long.content, long.server.strip()) == (b"", "my ***")
        assert site.model(None)["id"] == "x ***"


@pytest.mark.process
@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"data": [1]}', b'{"data": [{"id": 3}]}', b"\xff", b"{}"])
def test_a_strange_list_of_models_is_an_error(body):
    """It says what would be right, and is no traceback."""
    with pages(**{"/v1/models": (200, {}, body)}) as (url, _), pytest.raises(ConfigError):
        Site(url, f"{url}/v1", None).model(None)


METRICS = """
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 3.0
vllm:num_requests_running{engine="1",model_name="m"} 4.0
vllm:num_requests_waiting{engine="0",model_name="m } {"} 1.0
vllm:kv_cache_usage_perc{engine="0"} 0.25
vllm:kv_cache_usage_perc{engine="1"} 0.75
vllm:generation_tokens_total{engine="0"} 1.2e+06 1700000000
vllm:prefix_cache_hits_total NaN
process_cpu_seconds_total 12
"""


def test_a_page_of_metrics_is_read():
    """Engines are added up, shares are averaged; what is no number, or not on the list, is left out."""
    assert figures(METRICS) == {
        "requests_running": 7.0,
        "requests_waiting": 1.0,
        "kv_cache_used": 0.5,
        "output_tokens": 1.2e6,
    }
    assert figures("llamacpp:tokens_predicted_total 5\ntgi_queue_size 2\nnonsense {") == {
        "requests_waiting": 2.0,
        "output_tokens": 5.0,
    }
    assert figures("tgi_queue_size 1e308\ntgi_queue_size 1e308\ntgi_queue_size inf") == {}


@pytest.mark.parametrize("odd", ["nan", "-1", "1e999", "1e30", "-inf", "many", "1.1"])
def test_a_figure_that_cannot_be_right_is_none(odd):
    """Neither it nor the sum or mean with it: the other engine's alone is not the server's."""
    share = f'vllm:kv_cache_usage_perc{{engine="0"}} 0.5\nvllm:kv_cache_usage_perc{{engine="1"}} {odd}\n'
    count = f'vllm:generation_tokens_total{{engine="0"}} 5\nvllm:generation_tokens_total{{engine="1"}} {odd}\n'
    assert figures(share) == {}
    assert figures(count) == ({"output_tokens": 6.1} if odd == "1.1" else {})


@pytest.mark.process
def test_a_page_of_metrics_that_fails_once_is_asked_again(running, load, monkeypatch):
    """A server without the page is asked once."""
    engine, told = load({"base_url": running().url}), Observed(1, {"requests_running": 1.0}, {})
    answers = [told, None, told]
    monkeypatch.setattr("llem_openai.engine.observed", lambda site: answers.pop(0))
    assert [engine.observe() for _ in range(3)] == [told, None, told]

    engine, answers = load({"base_url": running().url}), [None]
    monkeypatch.setattr("llem_openai.engine.observed", lambda site: answers.pop(0))
    assert [engine.observe() for _ in range(3)] == [None, None, None]


# the first request


def first(experiment, tmp_path, text, options, context=None, tokenizer=None, **section):
    """The request by which a server is tried, for a file of prompts."""
    path = tmp_path / "p.jsonl"
    path.write_text(text)
    asked = experiment(options, workload=FileOptions(path=str(path), **section))
    prompts = Prompts(None if tokenizer is None else resolve_model(tokenizer), None, None, "")
    return first_request(asked, asked.options, prompts, context)


def test_a_server_is_tried_with_what_will_be_measured(experiment, tmp_path):
    """The text or the messages of the file, eight tokens of output; nothing that llem made up."""
    text = first(experiment, tmp_path, '{"prompt": "unpossible"}', {"prompt": "text"}, output_tokens=90)
    assert (text.text, text.messages, text.output_tokens) == ("unpossible", None, 8)
    talk = '{"messages": [{"role": "user", "content": "Hi"}]}'
    chat = first(experiment, tmp_path, talk, {"endpoint": "chat"}, tokenizer="shape:tiny")
    assert (chat.text, chat.messages, chat.token_ids) == (None, ({"role": "user", "content": "Hi"},), ())


def test_a_server_is_tried_with_what_fits(experiment, tmp_path):
    """The first prompt that does, with as much output as there is room for; a long one may be left out later."""
    rows = '{"prompt": "a much too long prompt"}\n{"prompt": "short"}'
    found = first(experiment, tmp_path, rows, {}, context=7, tokenizer="shape:tiny")
    assert (bytes(found.token_ids), found.output_tokens) == (b"short", 2)


def test_random_prompts_are_tried_with_others(experiment):
    """Of their length, so that the server has none of those that will be measured in its cache."""
    section = SyntheticOptions(input_tokens=11)
    asked = experiment({}, workload=section)
    found = first_request(asked, asked.options, Prompts(None, None, None, "s", COMMON), None)
    work = SyntheticWorkload(section, None, 256)
    work.salt, work.ids = "s", COMMON
    [measured] = work.requests(0, 1)
    assert len(found.token_ids) == len(measured.token_ids) == 11
    assert found.token_ids != measured.token_ids


@pytest.mark.process
def test_the_probe_is_of_the_file(running, load, tmp_path):
    """As the server gets it: the first row, as messages."""
    path = tmp_path / "p.txt"
    path.write_text("unpossible\n")
    server = running()
    load({"base_url": server.url, "endpoint": "chat"}, workload=FileOptions(path=str(path), chat=True))
    [got] = server.log()["received"]
    assert got["body"]["messages"] == [{"role": "user", "content": "unpossible"}]
    assert got["body"]["max_tokens"] == 8


def test_a_study_for_a_server_names_no_model():
    """The server has one."""
    here = look_here(registry(), None, None, gpu=lambda: False, zones=tuple)
    text = study_text("study", here, None, "openai")
    assert "model:" not in text
    [one, *_] = load_study(parse_yaml(text), (), registry()).experiments
    assert one.experiment.model == "served"
