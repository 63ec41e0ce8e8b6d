"""What changes execution changes the id, nothing else does."""

from __future__ import annotations

import hashlib
import json

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llem.config.fields import DAY_S, option
from llem.config.identity import EXECUTION, NOT_EXECUTION, THROUGH_MODEL, experiment_id, file_settings
from llem.config.load import Layer, resolve, to_document
from llem.config.models import Experiment
from llem.models.spec import ModelSpec

MODEL = ModelSpec(name="shape:tiny", source="shape", weights="random", fingerprint="f00d")

#: For every field, settings that change it, and whether they change the id. `through the model` fields change it by the
#: fingerprint alone. A field that is not listed here fails `test_every_field_is_classified`.
CHANGES = {
    "model": ({"model": "./elsewhere"}, False),
    "revision": ({"revision": "main"}, False),
    "weights_seed": ({"weights_seed": 1}, False),
    "trust_remote_code": ({"trust_remote_code": True}, True),
    "backend": ({"backend": "fast"}, True),
    "dtype": ({"dtype": "float16"}, True),
    "device": ({"device": "cuda"}, True),
    "gpus": ({"gpus": [0, 1]}, True),
    "workload": ({"workload.input_tokens": 7}, True),
    "load": ({"load.batch_size": 2}, True),
    "sampling": ({"sampling.top_k": 5}, True),
    "warmup": ({"warmup.batches": 3}, True),
    "baseline": ({"baseline.seconds": 31}, True),
    "meters": ({"meters": ["nvml"]}, False),
    "slo": ({"slo.ttft_s": 0.5}, False),
    "quality": ({"quality": {"evaluator": "spelling", "tasks": ["fruit"]}}, False),
    "preset": ({"preset": "quick"}, None),  # by its values: see below
    "window_s": ({"window_s": 11}, True),
    "trials": ({"trials": 6}, False),
    "max_trials": ({"max_trials": 11}, False),
    "target_half_width": ({"target_half_width": 0.5}, False),
    "processes": ({"processes": 2}, False),
    "token_times": ({"token_times": True}, True),
    "phases": ({"phases": "differential"}, True),
    "options": ({"echo.bits": 4}, True),
    "meter_options": ({"meters": ["codecarbon"], "codecarbon.country": "SE"}, False),
}

#: What a field needs beside it.
BESIDE = {"slo": {"load.kind": "closed"}}


@pytest.fixture(scope="session")
def name(registry):
    """The id of the experiment that these settings give on the backend echo."""

    def _name(settings=None, model=MODEL, contents=None):
        layers = [Layer("base", {"backend": "echo"}), Layer("python", settings or {})]
        return experiment_id(resolve(layers, registry).experiment, model, contents)

    return _name


def test_every_field_is_classified():
    """Each field of Experiment is in one class, and in the table of this test."""
    fields = sorted(field.name for field in attrs.fields(Experiment))

    assert sorted((*EXECUTION, *THROUGH_MODEL, *NOT_EXECUTION)) == fields
    assert sorted(CHANGES) == fields


@pytest.mark.parametrize("field", [field for field, (_, changes) in CHANGES.items() if changes is not None])
def test_a_change_of_each_field(name, field):
    """The id changes exactly for the fields that change execution."""
    settings, changes = CHANGES[field]
    beside = BESIDE.get(field, {})

    assert (name({**beside, **settings}) != name(beside)) is changes
    assert (field in EXECUTION) is changes


def test_changes_differ_from_each_other(name):
    """No two different executions share an id."""
    ids = [name(settings) for settings, changes in CHANGES.values() if changes]

    assert len({*ids, name()}) == len(ids) + 1


def test_a_preset_counts_by_its_values(name, registry):
    """The name of the preset is nothing; the same values set by hand give the same id."""
    by_hand = {
        "window_s": 5,
        "warmup": {"batches": 1, "seconds": 3},
        "baseline": {"seconds": 5, "discard_seconds": 2},
    }

    assert name({"preset": "quick"}) == name(by_hand) != name()


def test_the_model_counts_by_its_fingerprint(name):
    """Another content is another experiment; another name or folder with the same content is not."""
    assert name(model=attrs.evolve(MODEL, name="x", path="/y", seed=3)) == name()
    assert name(model=attrs.evolve(MODEL, fingerprint="beef")) != name()


def test_loads_count_by_kind_and_settings(name):
    """Every kind and every setting of a load is another experiment; an offline load's id is what it always was."""
    loads = [
        {"kind": "offline"},
        {"kind": "closed"},
        {"kind": "closed", "ramp_s": 1},
        {"kind": "open", "request_rate": 1},
        {"kind": "open", "request_rate": 1, "seed": 1},
        {"kind": "open", "request_rate": 1, "burstiness": 0.5},
        {"kind": "open", "capacity_share": 1},
        {"kind": "replay"},
        {"kind": "replay", "speed": 2},
    ]
    ids = [name({"load": load}) for load in loads]

    assert len(set(ids)) == len(loads)
    assert ids[0] == name()


def test_objectives_count_where_the_load_is_the_greatest_that_keeps_them(name):
    """Another SLO is another greatest rate; the same limits by a preset are the same, and so are written defaults."""
    greatest = {"kind": "open", "request_rate": "max"}
    preset, limits = {"preset": "mlperf-llama-2-70b-interactive"}, {"ttft_s": 0.45, "tpot_s": 0.04}

    def named(load, slo):
        return name({"load": load, "slo": slo})

    assert named(greatest, preset) == named(greatest, limits) == named({**greatest, "search": {}}, limits)
    ids = {
        named(greatest, limits),
        named(greatest, {**limits, "attainment": 0.9}),
        named(greatest, {"ttft_s": 0.45}),
        named({**greatest, "search": {"tolerance": 0.1}}, limits),
        named({"kind": "open", "request_rate": 1}, limits),
    }
    assert len(ids) == 5
    assert named({"kind": "open", "request_rate": 1}, limits) == named({"kind": "open", "request_rate": 1}, preset)


def test_gpus_count_by_number(name):
    """Which GPUs is the machine's matter; null is one, and the CPU has none."""
    assert name({"gpus": [3]}) == name({"gpus": ["GPU-1"]}) == name({"gpus": 1}) == name()
    assert name({"gpus": [3, 1]}) == name({"gpus": 2}) != name({"gpus": 3})
    assert name({"gpus": [3], "device": "cpu"}) == name({"device": "cpu"})


def test_options_left_at_none_do_not_count(name, registry):
    """A setting that is None is as if it did not exist, so that adding one later keeps ids; false is not None."""
    assert name({"echo.bits": None}) == name()
    assert name({"echo.compile": False}) != name()


def test_none_counts_in_what_is_handed_on(name):
    """In a free mapping, null is a value that the engine gets."""
    assert name({"echo.extra": {"rope_scaling": None}}) != name()


@pytest.mark.parametrize("path", ["echo.delay_s", "echo.extra.x", "sampling.temperature", "window_s"])
def test_whole_floats_and_integers_are_one_number(name, path):
    """1 and 1.0 give the same id, in typed fields and in free mappings; 1.5 and true give others."""
    assert name({path: 1}) == name({path: 1.0})
    assert name({path: 1}) != name({path: 1.5})


def test_true_is_not_one(name):
    """In a free mapping true and 1 differ."""
    assert name({"echo.extra.x": True}) != name({"echo.extra.x": 1})


def test_files_count_by_content(name, registry):
    """With its content known, a file may be anywhere; another content or format is another experiment."""
    here, there = ({"workload": {"kind": "file", "path": path}} for path in ("a.txt", "b/c.txt"))
    content = {"workload.path": "c0ffee"}

    assert name(here, contents=content) == name(there, contents=content)
    assert name(here, contents=content) != name(here, contents={"workload.path": "beef"})
    assert name(here, contents=content) != name({"workload": {"kind": "file", "path": "a.jsonl"}}, contents=content)
    assert name(here) != name(there)


def test_file_settings_are_found(registry):
    """Settings that name files are found in the workload and in the backend's section, there or not."""
    values = {"backend": "echo", "echo.adapter": "./lora", "workload": {"kind": "file", "path": "a.txt"}}
    experiment = resolve([Layer("python", values)], registry).experiment

    found = file_settings(experiment, lambda name: False)
    assert found == {"workload.path": "a.txt", "options.adapter": "./lora"}


@attrs.frozen
class Drafting:
    """A section with a setting that names a folder, or a model somewhere else."""

    draft: str | None = option(None, help="A draft.", file="or id")


@pytest.mark.parametrize(("draft", "found"), [("./here", {"options.draft": "./here"}), ("org/name", {}), (None, {})])
def test_what_may_be_no_file_is_asked_about(draft, found):
    """By whoever calls, of this setting alone: the file system is not looked at."""
    asked = []
    experiment = Experiment(backend="echo", options=Drafting(draft))

    assert file_settings(experiment, lambda name: (asked.append(name), name == "./here")[1]) == found
    assert asked == ([draft] if draft else [])


def test_golden_id(name):
    """The id of one configuration, spelt out: a change here makes stored results unfindable."""
    payload = {
        "backend": "echo",
        "baseline": {"discard_seconds": 10, "seconds": 30},
        "device": "auto",
        "dtype": "bfloat16",
        "gpus": 1,
        "load": {"batch_size": 1, "kind": "offline"},
        "model": "f00d",
        "options": {"bits": 8, "delay_s": 0, "extra": {}},
        "sampling": {"ignore_eos": True, "repetition_penalty": 1.5, "seed": 0, "temperature": 0},
        "token_times": False,
        "trust_remote_code": False,
        "warmup": {"batches": 2, "seconds": 30},
        "window_s": 10,
        "workload": {"input_tokens": {"high": 9, "kind": "uniform", "low": 1}, "kind": "synthetic", "seed": 0},
    }
    text = json.dumps(payload, sort_keys=True, separators=(",", ":"))
    settings = {
        "echo.bits": 8,
        "sampling.repetition_penalty": 1.5,
        "workload.input_tokens": {"kind": "uniform", "low": 1, "high": 9},
    }

    assert name(settings) == hashlib.sha256(text.encode()).hexdigest()[:16]
    assert name(settings) == "e6a217cd32432b6a"


settings = st.fixed_dictionaries(
    {},
    optional={
        "load.batch_size": st.integers(1, 9),
        "sampling.temperature": st.floats(0, 2),
        "window_s": st.floats(1, DAY_S),
        "load.kind": st.just("offline"),
        "gpus": st.none() | st.integers(1, 2) | st.lists(st.integers(0, 7), min_size=1, max_size=2),
        "echo.extra": st.dictionaries(
            st.text(max_size=3), st.none() | st.integers() | st.floats(-1e9, 1e9), max_size=3
        ),
        "echo.share": st.none() | st.floats(0, 1),
    },
)
ignored = st.fixed_dictionaries(
    {},
    optional={
        "model": st.text(min_size=1, max_size=5),
        "trials": st.integers(1, 40),
        "processes": st.integers(1, 3),
        "target_half_width": st.floats(0, 1),
        "meters": st.none() | st.just(["codecarbon"]) | st.just([]),
    },
)


@given(settings, ignored)
def test_stable_through_json_and_what_does_not_count(name, registry, given_settings, more):
    """The id survives writing as JSON and reading, and any setting that is not execution."""
    experiment = resolve([Layer("p", {"backend": "echo", **given_settings, **more})], registry).experiment
    again = resolve([Layer("p", json.loads(json.dumps(to_document(experiment))))], registry).experiment

    assert experiment_id(again, MODEL) == experiment_id(experiment, MODEL) == name(given_settings)


@given(settings, settings)
def test_same_id_means_same_execution(registry, one, other):
    """Two experiments have one id exactly when they are equal but for the GPUs' numbers."""
    a, b = (resolve([Layer("p", {"backend": "echo", **values})], registry).experiment for values in (one, other))
    normal = [attrs.evolve(e, gpus=e.gpu_count or 1) for e in (a, b)]

    assert (experiment_id(a, MODEL) == experiment_id(b, MODEL)) is (normal[0] == normal[1])
