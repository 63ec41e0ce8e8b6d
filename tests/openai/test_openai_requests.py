"""Every setting is seen in a request that a server received, or in what llem does with it."""

from __future__ import annotations

import time

import attrs
import psutil
import pytest

from llem.config.models import Sampling
from llem.errors import ExperimentFailed, LlemError, MachineError
from llem.workloads.files import BuiltinOptions
from llem.workloads.synthetic import SyntheticOptions
from llem_openai.backend import OpenAIBackend
from llem_openai.config import OpenAIOptions

pytestmark = pytest.mark.process

FREE = Sampling(ignore_eos=False)
KEY = "sk-secret-1234"


def sent(running, load, requests_of, options, sampling=None, flags=()):
    """The request that a server got for one prompt of three tokens."""
    server = running(*flags)
    sampling = sampling or Sampling()
    engine = load({"base_url": server.url, **options}, sampling=sampling)
    engine.generate(requests_of((3, 4)), sampling)
    return server.last()


def base_url(running, load, requests_of, monkeypatch, started):
    """Requests arrive at this server and not at the other."""
    one, other = running(), running()
    load({"base_url": other.url + "/"}).generate(requests_of((3, 4)), FREE)
    assert len(other.log()["received"]) == 2  # the probe too
    assert one.log()["received"] == []


def command(running, load, requests_of, monkeypatch, started):
    """The program runs with these arguments."""
    url, words = started
    engine = load({"base_url": url, "command": " ".join(words)})
    children = [psutil.Process(pid).cmdline() for pid in engine.pids()]
    assert any(line[-2:] == words[-2:] for line in children)
    assert engine.effective_config()["command"] == words


def ready_timeout_s(running, load, requests_of, monkeypatch, started):
    """Who is not ready by then is given up."""
    url, words = started
    with pytest.raises(ExperimentFailed, match=r"not ready after 0\.7 s") as failed:
        load({"base_url": url, "command": [*words, "--loading", "60"], "ready_timeout_s": 0.7})
    assert failed.value.code == "timeout"


def served_model(running, load, requests_of, monkeypatch, started):
    """The name goes out with each request."""
    options = {"served_model": "b"}
    assert sent(running, load, requests_of, options, flags=("--models", "a,b"))["body"]["model"] == "b"


def api_key_env(running, load, requests_of, monkeypatch, started):
    """The key in the variable is the bearer token."""
    monkeypatch.setenv("MY_KEY", KEY)
    got = sent(running, load, requests_of, {"api_key_env": "MY_KEY"}, flags=("--key-variable", "MY_KEY"))
    assert got["headers"]["authorization"] == f"Bearer {KEY}"


def endpoint(running, load, requests_of, monkeypatch, started):
    """Chat gets a message of the user."""
    got = sent(running, load, requests_of, {"endpoint": "chat"})
    assert got["path"] == "/v1/chat/completions"
    assert got["body"]["messages"] == [{"role": "user", "content": "ana"}]


def prompt(running, load, requests_of, monkeypatch, started):
    """The prompt is the text of the token ids, or the ids."""
    assert sent(running, load, requests_of, {"prompt": "text"})["body"]["prompt"] == "ana"
    assert sent(running, load, requests_of, {"prompt": "token_ids"})["body"]["prompt"] == [97, 110, 97]


def return_token_ids(running, load, requests_of, monkeypatch, started):
    """It is asked for, and only then."""
    assert sent(running, load, requests_of, {"return_token_ids": True})["body"]["return_token_ids"] is True
    assert "return_token_ids" not in sent(running, load, requests_of, {})["body"]


def ignore_eos_fields(running, load, requests_of, monkeypatch, started):
    """These fields and no others."""
    body = sent(running, load, requests_of, {"ignore_eos_fields": ("min_tokens",)})["body"]
    assert body["min_tokens"] == 4
    assert "ignore_eos" not in body


def extra_body(running, load, requests_of, monkeypatch, started):
    """They are in the body as they are."""
    got = sent(running, load, requests_of, {"extra_body": {"cache_prompt": False, "lora": {"a": 1}}})
    assert got["body"]["cache_prompt"] is False
    assert got["body"]["lora"] == {"a": 1}


def salt(running, load, requests_of, monkeypatch, started):
    """Prompts are drawn anew for each engine, or by their seed alone."""
    url = running().url
    assert load({"base_url": url}).salt() != load({"base_url": url}).salt()
    assert load({"base_url": url, "salt": False}).salt() == ""


def timeout_s(running, load, requests_of, monkeypatch, started):
    """A time without a token that is longer ends the request; of a whole answer all tokens come at its end."""
    server = running("--delay", "0.1")
    engine = load({"base_url": server.url, "timeout_s": 1.0})
    began = time.monotonic()
    with pytest.raises(ExperimentFailed, match=r"no token came for 1 s\n.*openai\.timeout_s"):
        engine.generate(requests_of((3, 400)), Sampling())
    assert time.monotonic() - began < 20  # of 40


def deadline_s(running, load, requests_of, monkeypatch, started):
    """A request that takes longer has failed, though its tokens come."""
    engine = load({"base_url": running("--delay", "0.1").url, "timeout_s": 30.0, "deadline_s": 1.0})
    began = time.monotonic()
    with pytest.raises(ExperimentFailed, match=r"not complete within 1 s.*\n.*openai\.deadline_s"):
        engine.generate(requests_of((3, 400)), Sampling(), token_times=True)
    assert time.monotonic() - began < 20  # of 40


def client_processes(running, load, requests_of, monkeypatch, started):
    """The load generator is told how many; it starts them."""
    server = running()
    assert load({"base_url": server.url}).wire().processes is None
    assert load({"base_url": server.url, "client_processes": 3}).wire().processes == 3


CASES = {
    case.__name__: case
    for case in (
        base_url,
        command,
        ready_timeout_s,
        served_model,
        api_key_env,
        endpoint,
        prompt,
        return_token_ids,
        ignore_eos_fields,
        extra_body,
        salt,
        timeout_s,
        deadline_s,
        client_processes,
    )
}


@pytest.mark.parametrize("name", [field.name for field in attrs.fields(OpenAIOptions)])
def test_every_option_has_an_effect(name, running, load, requests_of, monkeypatch, start_command):
    """Each option is seen at the server or in llem; one without a case fails."""
    CASES[name](running, load, requests_of, monkeypatch, start_command)


#: settings of sampling, and what they are in the body
SAMPLED = {
    "temperature": (Sampling(temperature=0.7), {"temperature": 0.7}),
    "top_k": (Sampling(temperature=1.0, top_k=5), {"top_k": 5}),
    "top_p": (Sampling(temperature=1.0, top_p=0.5), {"top_p": 0.5}),
    "min_p": (Sampling(temperature=1.0, min_p=0.25), {"min_p": 0.25}),
    "repetition_penalty": (Sampling(repetition_penalty=1.5), {"repetition_penalty": 1.5}),
    "seed": (Sampling(temperature=1.0, seed=3), {"seed": 3_000_009}),
    "ignore_eos": (Sampling(), {"ignore_eos": True, "min_tokens": 4}),
}


@pytest.mark.parametrize("name", [field.name for field in attrs.fields(Sampling)])
def test_every_setting_of_sampling_is_sent(name, running, load, requests_of):
    """Each is in the body under the name by which servers know it; one without a case fails."""
    sampling, wanted = SAMPLED[name]
    plain = sent(running, load, requests_of, {}, FREE)["body"]
    body = sent(running, load, requests_of, {}, sampling)["body"]
    assert {key: body.get(key) for key in wanted} == wanted
    assert {key: plain.get(key) for key in wanted} != wanted


def test_nothing_is_sent_that_was_not_asked_for(running, load, requests_of):
    """A server that knows the plain interface alone is given nothing else."""
    body = sent(running, load, requests_of, {}, FREE)["body"]
    assert set(body) == {"model", "prompt", "max_tokens", "temperature"}


def test_requests_have_seeds_of_their_own(running, load, requests_of):
    """Two requests with one prompt do not draw the same tokens."""
    server, sampling = running(), Sampling(temperature=1.0)
    load({"base_url": server.url}, sampling=sampling).generate(requests_of((3, 4), (3, 4)), sampling)
    seeds = [one["body"]["seed"] for one in server.log()["received"][1:]]
    assert len(set(seeds)) == 2


def test_effective_config_says_what_is_sent_and_what_the_server_tells(running, load):
    """Version, entry of the model, processes, sampling; no prompt and no key-like field."""
    server = running()
    effective = load({"base_url": server.url, "extra_body": {"a": 1}}).effective_config()
    assert effective["server"] == {"server": "endpoint", "version": {"version": "1.2.3"}}
    assert effective["model"]["max_model_len"] == 2048
    assert effective["pids"] == [server.process.pid]
    assert effective["processes"][0][-1] == str(server.port)
    assert effective["request"] == {"a": 1, "model": "tiny", "temperature": 0.0, "ignore_eos": True}
    assert effective["token_counts"] == "continuous_usage"


def test_the_key_is_told_nowhere(running, load, requests_of, monkeypatch, start_command):
    """Neither the effective configuration nor an error of a server that repeats it holds the key."""
    monkeypatch.setenv("MY_KEY", KEY)
    url, words = start_command
    options = {"base_url": url, "command": [*words, "--key-variable", "MY_KEY"], "extra_body": {"user": "me"}}
    effective = load({**options, "api_key_env": "MY_KEY"}).effective_config()
    assert effective["request"]["user"] == "me"
    assert KEY not in str(effective)
    monkeypatch.setenv("WRONG", "wrong-key-99")
    server = running("--key-variable", "MY_KEY")
    with pytest.raises(LlemError, match="api_key_env") as failed:
        load({"base_url": server.url, "api_key_env": "WRONG"})
    assert "wrong-key-99" not in str(failed.value)
    assert "***" in str(failed.value)


def test_a_key_that_is_not_there_is_an_error(load, monkeypatch):
    """The variable is named, and what to do."""
    monkeypatch.delenv("MY_KEY", raising=False)
    with pytest.raises(MachineError, match=r"MY_KEY of openai\.api_key_env is not set"):
        load({"api_key_env": "MY_KEY"})


def test_stop_texts_are_sent_beside_those_of_the_settings(running, load, requests_of):
    """Each request's own, whether `extra_body` has one text, several or none."""
    server = running()
    request = attrs.evolve(requests_of((3, 4))[0], stop=("\n",))
    for own, wanted in ((None, ["\n"]), ("a", ["a", "\n"]), (["a", "b"], ["a", "b", "\n"])):
        options = {"base_url": server.url, "extra_body": {} if own is None else {"stop": own}}
        load(options, sampling=FREE).generate([request], FREE)
        assert server.log()["received"][-1]["body"]["stop"] == wanted


def test_context_is_what_the_list_of_models_tells(running, load):
    """Under the name that vLLM and SGLang use."""
    assert load({"base_url": running().url}).context_length() == 2048


@pytest.mark.parametrize(
    ("options", "model", "workload", "told"),
    [
        ({}, "served:tiny", SyntheticOptions(), ("token_ids", None, True)),
        ({"salt": False}, "served:tiny", SyntheticOptions(), ("token_ids", None, False)),
        ({"prompt": "text"}, "served:tiny", SyntheticOptions(), ("text", "common words", True)),
        ({}, "served:tiny", BuiltinOptions(), ("text", None, False)),
        ({}, "shape:tiny", BuiltinOptions(), ("token_ids", None, False)),
        ({"endpoint": "chat"}, "served:tiny", BuiltinOptions(), ("text", None, False)),
    ],
)
def test_what_is_told_of_prompts_is_what_was_sent(running, load, experiment, options, model, workload, told):
    """Text or token ids, what the text was made with, and the salt: null where there was none."""
    server = running()
    engine = load({"base_url": server.url, **options}, model=model, workload=workload)
    found = engine.effective_config()
    assert (found["prompt"], found["prompt_text"], found["salt"] is not None) == told
    sent = server.last()["body"]
    assert ("messages" in sent or isinstance(sent["prompt"], str)) == (told[0] == "text")
    by_settings = [one.code for one in OpenAIBackend(OpenAIOptions(**options)).check(experiment(options), None)]
    warned = [*by_settings, *(one.code for one in engine.findings())]
    assert warned.count("prompt_as_text") == (told[0] == "text")
