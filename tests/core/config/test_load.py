"""Layers, presets, sections of plugins, and where every value came from."""

from __future__ import annotations

import contextlib
import math
from pathlib import Path

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llem.config.arrival import ReplayLoad
from llem.config.fields import DAY_S
from llem.config.load import Layer, resolve, to_document
from llem.config.models import (
    PRESETS,
    SLO_PRESETS,
    Baseline,
    ClosedLoad,
    Experiment,
    OfflineLoad,
    OpenLoad,
    Quality,
    Sampling,
    Slo,
    Warmup,
)
from llem.errors import BrokenPlugin, ConfigError, LlemError, UnknownPlugin


@pytest.fixture
def build(registry):
    """Resolve one layer named "python"."""
    return lambda **values: resolve([Layer("python", values)], registry)


@pytest.fixture
def refused(registry):
    """The problems that one layer gives, as text."""

    def _refused(**values):
        with pytest.raises(ConfigError) as caught:
            resolve([Layer("python", {"backend": "echo", **values})], registry)
        return [str(problem) for problem in caught.value.problems]

    return _refused


def test_defaults_fill_everything(build):
    """With the backend alone, all else has its default: workload, sections and preset included."""
    experiment = build(backend="echo").experiment

    assert experiment.workload.kind == "synthetic"
    assert experiment.options.delay_s == 0.0
    assert experiment.load == OfflineLoad()
    assert (experiment.preset, experiment.trials, experiment.max_trials) == ("standard", 5, 10)


def test_sections_reach_their_classes(build):
    """The backend's, the workload's and a meter's sections become objects of their plugins' classes."""
    experiment = build(
        backend="fast",
        fast={"torch_compile": True, "cuda_graphs": [1, 8]},
        meters=["nvml", "codecarbon"],
        codecarbon={"country": "SE"},
        workload={"kind": "file", "path": "prompts.jsonl"},
    ).experiment

    assert (experiment.options.torch_compile, experiment.options.cuda_graphs) == (True, (1, 8))
    assert {name: options.country for name, options in experiment.meter_options.items()} == {"codecarbon": "SE"}
    assert experiment.workload.path == "prompts.jsonl"


def test_later_layers_win_and_sources_say_which(registry):
    """A value comes from the last layer that sets it; every leaf has a source."""
    resolved = resolve(
        [
            Layer("user config", {"gpus": [3]}),
            Layer("file study.yaml", {"backend": "echo", "load": {"batch_size": 8}, "warmup": {"seconds": 1}}),
            Layer("flag", {"load.batch_size": 32, "echo.delay_s": 1, "preset": "quick"}),
        ],
        registry,
    )

    assert resolved.experiment.load.batch_size == 32
    assert resolved.experiment.warmup == Warmup(batches=1, seconds=1.0)
    shown = {
        path: resolved.sources[path]
        for path in (
            "gpus", "backend", "load.batch_size", "load.kind", "warmup.seconds", "warmup.batches", "window_s",
            "echo.delay_s", "echo.bits", "workload.kind", "preset", "sampling.top_k",
        )
    }  # fmt: skip
    assert shown == {
        "gpus": "user config",
        "backend": "file study.yaml",
        "load.batch_size": "flag",
        "load.kind": "default",
        "warmup.seconds": "file study.yaml",
        "warmup.batches": "preset quick",
        "window_s": "preset quick",
        "echo.delay_s": "flag",
        "echo.bits": "default",
        "workload.kind": "default",
        "preset": "flag",
        "sampling.top_k": "default",
    }


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_set_what_they_say(build, preset):
    """Each preset's values are in the experiment, marked with its name, and a user's value stands above them."""
    resolved = build(backend="echo", preset=preset, window_s=3)
    document = to_document(resolved.experiment)

    for path, value in PRESETS[preset].items():
        if path == "window_s":
            continue
        found = document
        for step in path.split("."):
            found = found[step]
        assert found == value
        assert resolved.sources[path] == f"preset {preset}"
    assert document["window_s"] == 3.0
    assert resolved.sources["window_s"] == "python"


def test_more_trials_raise_the_most(build):
    """`trials` above the preset's `max_trials` raises it, and the source says so."""
    resolved = build(backend="echo", preset="quick", trials=7)

    assert resolved.experiment.max_trials == 7
    assert resolved.sources["max_trials"] == "derived from trials"


def test_contradiction_of_trials_is_refused(refused):
    """A `max_trials` that the user set below `trials` is an error."""
    assert refused(trials=5, max_trials=3) == ["max_trials: is 3, below trials (5) (raise max_trials, or lower trials)"]


def test_another_kind_replaces_a_section(registry):
    """A later layer with another `kind` replaces the section; with the same kind it is merged."""
    below = Layer("file a.yaml", {"backend": "echo", "workload": {"kind": "synthetic", "seed": 3}})

    merged = resolve([below, Layer("flag", {"workload.input_tokens": 7})], registry).experiment.workload
    other = resolve([below, Layer("flag", {"workload": {"kind": "file", "path": "p"}})], registry).experiment.workload

    assert (merged.seed, merged.input_tokens) == (3, 7)
    assert (other.kind, other.path) == ("file", "p")


def test_a_load_of_another_kind_in_whatever_order(registry):
    """Two flags make one load whichever comes first, and what a file said of the other kind is gone."""
    file = Layer("file a.yaml", {"backend": "echo", "load": {"kind": "offline", "batch_size": 8}})
    flags = [Layer("flag --set", {"load.kind": "closed"}), Layer("flag --set", {"load.concurrency": 3})]

    for order in (flags, flags[::-1]):
        resolved = resolve([file, *order], registry)
        assert resolved.experiment.load == ClosedLoad(concurrency=3)
        assert resolved.sources["load.ramp_s"] == "default"


def test_limits_of_a_preset_and_above_it():
    """A limit that is given stands in the place of the preset's; what neither states is not judged."""
    slo = Slo(preset="mlperf-llama-3.1-8b-interactive", tpot_s=0.05)

    assert slo.limits() == {"ttft_s": 0.5, "tpot_s": 0.05}


def test_objects_count_as_sections(build):
    """In Python a section may be given as an object."""
    assert build(backend="echo", load=OfflineLoad(batch_size=4)).experiment.load.batch_size == 4


def test_free_mappings_keep_dotted_keys(build):
    """Only keys at the top are paths; what is handed on to the engine is not split."""
    assert build(backend="echo", echo={"extra": {"a.b": 1}}).experiment.options.extra == {"a.b": 1}


class TestBackendChoice:
    def test_the_only_one(self, with_backends):
        """The one backend beside echo is chosen, and the source says why."""
        resolved = resolve([], with_backends("echo", "pytorch"))

        assert resolved.experiment.backend == "pytorch"
        assert resolved.sources["backend"] == "only backend installed"

    @pytest.mark.parametrize("names", [(), ("echo",)])
    def test_none(self, with_backends, names):
        """Without a backend, or with echo alone, the error says what to install."""
        with pytest.raises(UnknownPlugin, match="pip install llem-pytorch"):
            resolve([], with_backends(*names))

    def test_several(self, with_backends):
        """Several are listed."""
        with pytest.raises(ConfigError, match="set `backend` to one of: pytorch, vllm"):
            resolve([], with_backends("vllm", "pytorch", "echo"))

    def test_unknown(self, registry):
        """An unknown name gets the nearest, installed or to be installed."""
        with pytest.raises(UnknownPlugin, match="did you mean 'fast'"):
            resolve([Layer("flag", {"backend": "fats"})], registry)
        with pytest.raises(UnknownPlugin, match="pip install llem-vllm"):
            resolve([Layer("flag", {"backend": "vlm"})], registry)

    def test_misspelt(self, with_backends):
        """A misspelt `backend` is not mistaken for an absent one."""
        with pytest.raises(ConfigError, match=r"bakend: unknown field \(did you mean 'backend'\?\)"):
            resolve([Layer("flag", {"bakend": "pytorch"})], with_backends("pytorch", "vllm"))

    def test_wrong_type(self, refused):
        """A backend that is no text is reported with everything else."""
        assert refused(backend=3, trials=0) == [
            'backend: must be text, got the number 3 (write it in quotes: "3")',
            "trials: must be between 1 and 100000, got 0",
        ]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"modle": "x"}, "modle: unknown field (did you mean 'model'?)"),
        ({"ecko": {}}, "ecko: unknown field (did you mean 'echo'?)"),
        ({"codecarbn": {}}, "codecarbn: unknown field (did you mean 'codecarbon'?)"),
        ({"delay_s": 1}, "delay_s: unknown field (did you mean 'echo.delay_s'? Write echo={\"delay_s\": …})"),
        ({"vllm": {}}, "vllm: is the section of a plugin that is not installed (remove it, or pip install llem-vllm)"),
        (
            {"fast": {"torch_compile": True}},
            "fast: is the section of backend 'fast', but the backend is 'echo' (remove it, or set `backend: fast`)",
        ),
        (
            {"codecarbon": {}},
            "codecarbon: is the section of meter 'codecarbon', which is not in `meters` "
            "(remove it, or set `meters: [nvml, rapl, codecarbon]`)",
        ),
        ({"nvml": {"period": 1}}, "nvml: meter 'nvml' has no settings (remove this section)"),
        ({"echo": {"dealy_s": 1}}, "echo.dealy_s: unknown field (did you mean 'delay_s'?)"),
        ({"echo": {"bits": 5}}, "echo.bits: must be one of 4, 8 or null, got the number 5"),
        ({"echo": 3}, "echo: must be a section, got the number 3"),
        (
            {"workload": "synthetic"},
            "workload: must be a section, got the text 'synthetic' (such as {kind: synthetic})",
        ),
        ({"workload": {"kind": 3}}, "workload.kind: must be text, got the number 3"),
        (
            {"workload": {"input_tokens": {"kind": "uniform", "low": 5, "high": 4}}},
            "workload.input_tokens.high: must not be below low (5), got 4",
        ),
        (
            {"workload": {"path": "x"}},
            "workload.path: is a setting of kind 'file', and no kind is set, which means 'synthetic' (set "
            "`workload.kind=file` too)",
        ),
        (
            {"load": {"kind": "closde", "concurrency": 3}},
            "load.kind: must be one of 'offline', 'closed', 'open', 'replay', 'command', got the text 'closde' "
            "(did you mean 'closed'?)",
        ),
        (
            {"load": {"kind": "closed", "request_rate": 3}},
            "load.request_rate: is a setting of kind 'open', and this is of kind 'closed' "
            "(remove it, or change `kind`)",
        ),
        (
            {"load": {"concurrency": 3}},
            "load.concurrency: is a setting of kind 'closed', and this is of kind 'offline' "
            "(remove it, or change `kind`)",
        ),
        (
            {"load": {"kind": "closed", "concurency": 3}},
            "load.concurency: unknown field (did you mean 'concurrency'?)",
        ),
        ({"load": {"kind": "open"}}, "load: give exactly one of request_rate and capacity_share, not neither"),
        (
            {"load": {"kind": "open", "request_rate": 1, "capacity_share": 0.5}},
            "load: give exactly one of request_rate and capacity_share, not both",
        ),
        (
            {"load": {"kind": "open", "request_rate": 1, "probe_concurrency": 8}},
            "load: probe_concurrency and probe_seconds belong to capacity_share; no probe is needed here",
        ),
        (
            {"load": {"kind": "open", "capacity_share": 1.6}},
            "load.capacity_share: must be between 0.01 and 1.5, got 1.6",
        ),
        (
            {"load": {"kind": "open", "request_rate": "max"}},
            "load.request_rate: is the greatest rate at which an SLO is kept, and no `slo` says which "
            "(add `slo`, such as {ttft_s: 0.5, tpot_s: 0.05, attainment: 0.99})",
        ),
        (
            {"load": {"kind": "open", "request_rate": 2, "search": {"min_rate": 2}}},
            "load: search belongs to `request_rate: max`; nothing is looked for here",
        ),
        (
            {"load": {"kind": "open", "request_rate": "max", "search": {"min_rate": 9, "max_rate": 8}}},
            "load.search: max_rate (8) is below min_rate (9)",
        ),
        (
            {"load": {"kind": "open", "request_rate": "max", "search": {"min_rate": 0.1}}},
            "load.search: a window of 30 s has 3 requests at min_rate (0.1), and 10 are needed: "
            "raise window_s or min_rate",
        ),
        ({"load": {"kind": "replay", "speed": 0}}, "load.speed: must be between 0.001 and 1000, got 0.0"),
        (
            {"token_times": True, "load": {"kind": "closed"}},
            "token_times: is for offline loads; with a load of kind 'closed' every request has its times (remove it)",
        ),
        (
            {"slo": {"ttft_s": 1}},
            "slo: limits the latencies of a serving load, and this load is offline "
            "(remove it, or set `load.kind` to closed, open or replay)",
        ),
        (
            {"slo": {"ttft_s": 1}, "token_times": True},
            "slo: limits the latencies of a serving load, and this load is offline "
            "(remove it, or set `load.kind` to closed, open or replay)",
        ),
        ({"trials": 10**7}, "trials: must be between 1 and 100000, got 10000000"),
        ({"window_s": 1e99}, "window_s: must be between 0.1 and 86400, got 1e+99"),
        ({"window_s": math.inf}, "window_s: must be a finite number, got inf"),
        ({"warmup": {"seconds": 86_401}}, "warmup.seconds: must be between 0 and 86400, got 86401.0"),
        ({"baseline": {"seconds": 1e9}}, "baseline.seconds: must be between 0 and 86400, got 1000000000.0"),
        ({"load": {"kind": "closed", "ramp_s": 1e9}}, "load.ramp_s: must be between 0 and 86400, got 1000000000.0"),
        (
            {"slo": {"preset": "mlperf-llama-3.1-8b-interactiv"}},
            "slo.preset: no preset 'mlperf-llama-3.1-8b-interactiv'; did you mean 'mlperf-llama-3.1-8b-interactive'?",
        ),
        ({"slo": {}}, "slo: states no limit; give preset, ttft_s, tpot_s or e2el_s"),
        ({"dtype": "bf16"}, None),
        ({"trust_remote_code": "false"}, None),
        ({"preset": "quik"}, None),
        ({"meters": "nvml"}, "meters: must be a list or null, got the text 'nvml' (write [nvml])"),
        ({"meters": ["nvml", "nvml"]}, "meters: names a meter twice"),
        ({"options": {}}, None),
    ],
)
def test_one_clear_problem_each(refused, values, message):
    """Each mistake gives exactly one problem, at its path, with what would be right."""
    problems = refused(**values)

    assert len(problems) == 1
    assert problems[0].startswith(f"{next(iter(values))}")
    if message is not None:
        assert problems == [message]


def test_a_section_is_not_judged_by_meters_that_cannot_be_read(refused):
    """It may be of one of them: what is wrong with `meters` is told alone."""
    problems = refused(meters="codecarbon", codecarbon={"country": "FR"})
    assert problems == ["meters: must be a list or null, got the text 'codecarbon' (write [codecarbon])"]


def test_all_problems_at_once_with_their_layers(registry):
    """Problems of the experiment, of sections and of unknown names come together, each with its layer."""
    layers = [
        Layer("file study.yaml", {"backend": "echo", "trils": 3, "echo": {"delay_s": -1}}),
        Layer("flag", {"load.batch_size": 2.5, "workload.seed": "x"}),
    ]
    with pytest.raises(ConfigError) as caught:
        resolve(layers, registry)

    assert str(caught.value) == (
        "invalid configuration from file study.yaml, flag\n"
        "  echo.delay_s: must be at least 0, got -1.0 [file study.yaml]\n"
        "  workload.seed: must be an integer, got the text 'x' [flag]\n"
        "  trils: unknown field [file study.yaml] (did you mean 'trials'?)\n"
        "  load.batch_size: must be an integer, got the number 2.5 [flag]"
    )


def test_unknown_meter_and_workload(registry):
    """They raise what the registry says."""
    with pytest.raises(UnknownPlugin, match="unknown meter 'nvlm'"):
        resolve([Layer("x", {"backend": "echo", "meters": ["nvlm"]})], registry)
    with pytest.raises(UnknownPlugin, match="unknown workload 'fiel'"):
        resolve([Layer("x", {"backend": "echo", "workload": {"kind": "fiel"}})], registry)


@pytest.mark.parametrize(
    "values",
    [
        {"backend": "careless"},
        {"backend": "echo", "quality": {"evaluator": "unlike", "tasks": ["a"]}},
        {"backend": "echo", "meters": ["plain"]},
        {"backend": "echo", "workload": {"kind": "nokind"}},
        {"backend": "echo", "workload": {"kind": "nothing"}},
    ],
)
def test_unusable_config_class_breaks_only_itself(careless, values):
    """A plugin with an unusable config class is a broken plugin when it is asked for, and only then."""
    assert resolve([Layer("x", {"backend": "echo"})], careless).experiment.backend == "echo"
    with pytest.raises(BrokenPlugin, match="the config class of"):
        resolve([Layer("x", values)], careless)


numbers = st.floats(0, 1e6, allow_nan=False)
durations = st.floats(0, DAY_S)
optional_share = st.none() | st.floats(0, 1)
limits = st.builds(Slo, preset=st.sampled_from(list(SLO_PRESETS)), tpot_s=st.none() | numbers) | st.builds(
    Slo, e2el_s=numbers, attainment=st.floats(0, 1)
)
loads = (
    st.builds(OfflineLoad, batch_size=st.integers(1))
    | st.builds(ClosedLoad, concurrency=st.integers(1), ramp_s=durations)
    | st.builds(OpenLoad, request_rate=st.floats(0.001, 1e4), burstiness=st.floats(0.01, 9), seed=st.integers())
    | st.builds(OpenLoad, capacity_share=st.floats(0.01, 1.5), probe_concurrency=st.integers(1))
    | st.builds(ReplayLoad, speed=st.floats(0.001, 1000))
)


@st.composite
def experiments(draw, registry):
    """Any complete experiment of this registry."""
    config = {name: registry.reference("backend", name).load_config() for name in ("echo", "fast")}
    workload = {name: registry.reference("workload", name).load_config() for name in ("synthetic", "file")}
    carbon = registry.reference("meter", "codecarbon").load_config()
    spelling = registry.reference("evaluator", "spelling").load_config()
    tasks = st.lists(st.text(max_size=5), min_size=1, unique=True).map(tuple)
    asked = {"tasks": tasks, "limit": st.none() | st.integers(1)}
    backend = draw(st.sampled_from(["echo", "fast"]))
    meters = draw(st.none() | st.lists(st.sampled_from(["nvml", "rapl", "codecarbon"]), unique=True).map(tuple))
    load, trials = draw(loads), draw(st.integers(1, 50))
    free = st.dictionaries(st.text(max_size=5), st.none() | st.integers() | numbers | st.text(max_size=5), max_size=3)
    options = {
        "echo": st.builds(
            config["echo"], delay_s=numbers, compile=st.none() | st.booleans(), bits=st.sampled_from([None, 4, 8]),
            share=optional_share, extra=free,
        ),
        "fast": st.builds(config["fast"], cuda_graphs=st.none() | st.lists(st.integers()).map(tuple)),
    }  # fmt: skip
    return Experiment(
        model=draw(st.text(min_size=1, max_size=9)),
        revision=draw(st.none() | st.text(max_size=5)),
        weights_seed=draw(st.integers()),
        trust_remote_code=draw(st.booleans()),
        backend=backend,
        dtype=draw(st.sampled_from(["auto", "float32", "float16", "bfloat16"])),
        device=draw(st.sampled_from(["auto", "cpu", "cuda"])),
        gpus=draw(
            st.none() | st.integers(1, 8) | st.lists(st.integers(0, 7) | st.text(max_size=5), max_size=3).map(tuple)
        ),
        workload=draw(
            st.builds(workload["synthetic"], input_tokens=st.integers(1), seed=st.integers())
            | st.builds(workload["file"], path=st.text(max_size=5))
        ),
        load=load,
        slo=draw(st.none() if load.kind == "offline" else st.none() | limits),  # limits are for serving loads alone
        quality=draw(
            st.none()
            | st.builds(Quality, evaluator=st.just("plain"), **asked)
            | st.builds(spelling, evaluator=st.just("spelling"), strict=st.booleans(), force=st.booleans(), **asked)
        ),
        sampling=Sampling(
            temperature=draw(numbers), top_k=draw(st.none() | st.integers(1)), top_p=draw(optional_share)
        ),
        warmup=Warmup(batches=draw(st.integers(0)), seconds=draw(durations)),
        baseline=Baseline(seconds=draw(durations), discard_seconds=draw(durations)),
        meters=meters,
        preset=draw(st.sampled_from(list(PRESETS))),
        window_s=draw(st.floats(0.1, DAY_S)),
        trials=trials,
        max_trials=draw(st.integers(trials, 99)),
        target_half_width=draw(numbers),
        processes=draw(st.integers(1, 9)),
        token_times=False,  # true is for offline loads alone
        options=draw(options[backend]),
        meter_options={"codecarbon": carbon(country="SE")} if "codecarbon" in (meters or ()) else {},
    )


@given(st.data())
def test_document_is_the_inverse(registry, data):
    """Resolving an experiment's document gives the same experiment, all of it from that layer."""
    experiment = data.draw(experiments(registry))
    resolved = resolve([Layer("x", to_document(experiment))], registry)

    assert resolved.experiment == experiment
    assert set(resolved.sources.values()) <= {"x", "default"}


def test_strategy_covers_every_field():
    """The property above knows every field: this fails when a field is added and not drawn there."""
    source = Path(__file__).read_text(encoding="utf-8")
    drawn = source[source.index("    return Experiment(") : source.index("@given(st.data())")]

    assert [field.name for field in attrs.fields(Experiment) if f"        {field.name}=" not in drawn] == []


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=3),
    max_leaves=6,
)
names = [
    *(field.name for field in attrs.fields(Experiment)),
    "echo",
    "fast",
    "codecarbon",
    "vllm",
    "load.kind",
    "echo.extra",
]


@given(st.dictionaries(st.sampled_from(names) | st.text(max_size=5) | st.integers(), anything, max_size=4))
def test_no_document_makes_a_traceback(registry, document):
    """Whatever a document holds, it loads or gives an error for the user."""
    with contextlib.suppress(LlemError):
        resolve([Layer("file x", document)], registry)


@pytest.mark.parametrize(
    ("settings", "path", "new"),
    [
        ({"restarts": 2}, "restarts", "processes"),
        ({"slo": {"ttft_s": 1, "percentile": 0.9}}, "slo.percentile", "attainment"),
    ],
)
def test_a_setting_that_was_renamed_is_told_its_new_name(registry, settings, path, new):
    """Files written for an earlier version say the old name."""
    with pytest.raises(ConfigError) as caught:
        resolve([Layer("file study.yaml", {"backend": "echo", "load": {"kind": "closed"}, **settings})], registry)

    [problem] = caught.value.problems
    assert (problem.path, problem.hint) == (path, f"it is called {new!r} now")
