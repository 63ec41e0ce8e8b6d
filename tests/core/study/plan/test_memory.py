"""Memory before anything is loaded: the estimate, what is certain not to fit, and how it is shown."""

from __future__ import annotations

import json

import attrs
import pytest

from llem.backends.base import Holding
from llem.config.models import ClosedLoad, Experiment, OfflineLoad, OpenLoad
from llem.config.study.file import parse_study
from llem.errors import ConfigError
from llem.models.resolve import resolve_model
from llem.models.spec import ModelSpec
from llem.plugins.registry import registry
from llem.study.plan.expand import expand
from llem.study.plan.memory import (
    GpuKind,
    MemoryEstimate,
    UnknownMemory,
    estimate_memory,
    gib,
    parse_bytes,
    refuse_too_large,
    this_gpu,
)
from llem.testing.fakes import FakeClock, FakeGpu, FakeNvml, Load
from llem.workloads.base import Lognormal, Uniform
from llem.workloads.synthetic import SyntheticOptions

BITS16 = Holding(weight_bits=16.0)
LLAMA = resolve_model("shape:llama-3.1-8b")
GIB = 2**30


def experiment(**settings) -> Experiment:
    """128 + 128 tokens in batches of 32 unless said otherwise."""
    base = {"backend": "echo", "workload": SyntheticOptions(), "load": OfflineLoad(batch_size=32)}
    return Experiment(**{**base, **settings})


def test_the_estimate_of_a_known_model() -> None:
    """Llama 3.1 8B in bfloat16: 8.03e9 x 2 bytes, and 128 KiB of cache for each of 32 x 256 tokens."""
    found = estimate_memory(experiment(), LLAMA, BITS16)

    assert found is not None
    assert found.parameters == 8_030_261_248
    assert found.weight_bytes == 16_060_522_496
    assert found.kv_bytes == 131_072 * 32 * 256
    assert (found.gpus, found.certain) == (1, True)
    assert found.total_bytes == found.weight_bytes + GIB


@pytest.mark.parametrize(
    ("settings", "kv"),
    [
        ({"dtype": "float32"}, 262_144 * 32 * 256),
        ({"load": ClosedLoad(concurrency=4)}, 131_072 * 4 * 256),
        ({"load": OpenLoad(request_rate=4.0)}, None),
        ({"workload": SyntheticOptions(input_tokens=Uniform(low=1, high=100))}, 131_072 * 32 * 228),
        ({"workload": SyntheticOptions(output_tokens=Lognormal(mean=9.0, sigma=1.0, max=872))}, 131_072 * 32 * 1000),
        ({"workload": None}, None),
    ],
)
def test_the_cache_is_of_the_longest_requests_in_flight(settings, kv) -> None:
    """None where their number or length is not known."""
    found = estimate_memory(experiment(**settings), LLAMA, BITS16)

    assert found is not None
    assert found.kv_bytes == kv


def test_nothing_is_estimated_where_the_sizes_are_not_known() -> None:
    """A hub model before it is loaded and another family of models, with the reason; a backend that holds none."""
    hub = ModelSpec("org/name", "hub", "real", "f")
    other = attrs.evolve(LLAMA, config={**(LLAMA.config or {}), "model_type": "mamba"})

    assert estimate_memory(experiment(), hub, BITS16) == UnknownMemory(
        "the sizes of the model are not known before it is loaded"
    )
    assert estimate_memory(experiment(), other, BITS16) == estimate_memory(experiment(), hub, BITS16)
    assert estimate_memory(experiment(), LLAMA, Holding(weight_bits=0.0)) is None


def test_the_dtype_auto_is_the_models_own() -> None:
    """As its configuration says."""
    found = estimate_memory(experiment(dtype="auto"), resolve_model("shape:tiny"), Holding())

    assert found is not None
    assert found.bits == 32
    assert not found.certain


def test_copies_and_the_number_format_of_the_cache() -> None:
    """Two whole models on two GPUs do not fit where one shared by both does; half the bits, half the cache."""
    held = Holding(weight_bits=16.0, cache_bits=8.0, copies=2)
    found = estimate_memory(experiment(gpus=2), LLAMA, held)

    assert isinstance(found, MemoryEstimate)
    assert (found.weight_bytes, found.kv_bytes) == (2 * 16_060_522_496, 131_072 * 32 * 256 // 2)
    with pytest.raises(ConfigError, match=r"2 copies of 8\.03 billion parameters of 16 bits make 29\.9 GiB"):
        refuse_too_large(found, GpuKind(14 * GIB))
    shared = estimate_memory(experiment(gpus=2), LLAMA, attrs.evolve(held, copies=1))
    assert isinstance(shared, MemoryEstimate)
    refuse_too_large(shared, GpuKind(14 * GIB))


def test_what_surely_does_not_fit_is_refused_with_the_numbers() -> None:
    """Weights alone beyond all GPUs together; one more GPU, and it may."""
    one = estimate_memory(experiment(gpus=(0,)), LLAMA, BITS16)
    two = estimate_memory(experiment(gpus=(0, 1)), LLAMA, BITS16)
    assert one is not None
    assert two is not None

    with pytest.raises(ConfigError, match=r"8\.03 billion parameters of 16 bits make 15\.0 GiB, estimated"):
        refuse_too_large(one, GpuKind(8 * GIB))
    refuse_too_large(one, GpuKind(15 * GIB))
    refuse_too_large(two, GpuKind(8 * GIB))


def test_what_may_be_held_otherwise_is_never_refused() -> None:
    """A backend that does not say, or a model whose files are quantised."""
    unsaid = estimate_memory(experiment(), LLAMA, Holding())
    config = {**(LLAMA.config or {}), "quantization_config": {"quant_method": "awq"}}
    quantised = estimate_memory(experiment(), attrs.evolve(LLAMA, config=config), BITS16)
    for found in (unsaid, quantised):
        assert found is not None
        assert not found.certain
        refuse_too_large(found, GpuKind(GIB))


@pytest.mark.parametrize(
    ("text", "count"),
    [("80GiB", 80 * GIB), ("80 GB", 80 * 10**9), ("1.5gib", GIB * 3 // 2), ("1024B", 1024), ("16 MiB", 2**24)],
)
def test_an_amount_of_memory_is_read(text, count) -> None:
    """With its unit, in any case."""
    assert parse_bytes(text) == count


@pytest.mark.parametrize("text", ["", "GiB", "80 GX", "-1GiB", "0", "nan", "1e999", "80 8GiB B"])
def test_what_is_no_amount_of_memory_is_refused(text) -> None:
    """Saying how to write one."""
    with pytest.raises(ValueError, match="write it as 80GiB"):
        parse_bytes(text)


def test_a_unit_is_asked_for() -> None:
    """80 may be GiB, GB or bytes."""
    with pytest.raises(ValueError, match="'80' has no unit; write it as 80GiB or 80GB"):
        parse_bytes("80")


def test_amounts_are_told_in_gib() -> None:
    """And small ones in MiB."""
    assert gib(15 * GIB) == "15.0 GiB"
    assert gib(2**20) == "1.0 MiB"


# in a study, on a backend whose engine holds the model as it is (the lab's)


def test_points_that_cannot_fit_are_pruned_and_others_run(run_llem, lab, isolated_llem) -> None:
    """Listed as invalid with the numbers; the note is for what may not fit; the plan has memory for each point."""
    (isolated_llem.folder / "s.yaml").write_text(
        "name: s\nbase: {backend: lab, device: cuda, lab: {weight_bits: 16}}\n"
        "axes:\n  model: [shape:llama-3.1-8b, shape:llama-3.2-1b]\n  load.batch_size: [1, 512]\n"
    )
    text = run_llem("plan", "s.yaml", "--gpu-memory", "8 GiB").stdout

    assert "      -2  invalid\n" in text
    assert (
        "invalid:\n  s.yaml: axes.model[0]: does not fit: 8.03 billion parameters of 16 bits make 15.0 GiB, estimated, "
        "and the GPU has 8.0 GiB (use more GPUs, fewer bits or a smaller model)\n" in text
    )
    assert "may not fit" not in text
    assert "GPU memory, estimated: 2.3 GiB to 6.3 GiB a point\n" in text
    small = run_llem("plan", "s.yaml", "--gpu-memory", "4 GiB").stdout
    assert (
        "note: 1 of 2 points may not fit: weights of 2.3 GiB and a key-value cache of up to 4.0 GiB on 4.0 GiB" in small
    )


def test_what_is_not_known_is_shown_with_its_reason(run_llem, lab, isolated_llem) -> None:
    """No number: neither in the table nor in the plan's JSON. Such a point is never pruned."""
    (isolated_llem.folder / "s.yaml").write_text(
        "name: s\nbase: {backend: lab, device: cuda, model: shape:llama-3.1-8b, lab: {weight_bits: 16}}\n"
        "axes: {lab.unknown_memory: [null, the server decides]}\n"
    )
    text = run_llem("plan", "s.yaml", "--gpu-memory", "80 GiB").stdout
    plan = json.loads(run_llem("plan", "s.yaml", "--json", "--gpu-memory", "1 GiB").stdout)
    [memory] = [one["memory"] for one in plan["estimates"].values()]

    assert "GPU memory, estimated: 15.0 GiB a point\n" in text
    assert "GPU memory, unknown for 1 point: the server decides\n" in text
    assert "  unknown  lab.unknown_memory=the server decides\n" in text
    assert memory == {"unknown": "the server decides"}


def test_without_known_memory_nothing_is_pruned(run_llem, lab, isolated_llem) -> None:
    """This machine has no GPU that NVML knows of, or the study names the CPU."""
    (isolated_llem.folder / "s.yaml").write_text(
        "name: s\nbase: {backend: lab, device: cpu, lab: {weight_bits: 16}}\n"
        "axes: {model: [shape:llama-3.1-8b, shape:llama-3.2-1b]}\n"
    )
    text = run_llem("plan", "s.yaml", "--gpu-memory", "1 GiB").stdout

    assert "       0  invalid\n" in text
    assert "GPU memory" not in text


def test_settings_without_effect_make_no_new_experiment(run_llem, lab, isolated_llem) -> None:
    """The same id as without them; merged, with the setting that changes nothing; what was asked is what is stored."""
    (isolated_llem.folder / "s.yaml").write_text(
        "name: s\nbase: {backend: lab, device: cpu}\naxes: {lab.idle: [0, null, 1]}\n"
    )
    plan = json.loads(run_llem("plan", "s.yaml", "--json").stdout)
    text = run_llem("plan", "s.yaml").stdout

    [merged] = plan["merged"]
    assert (merged["values"], merged["because"]) == ({"lab.idle": None}, ["lab.idle=0"])
    assert plan["points"][merged["into"]]["values"] == {"lab.idle": 0}
    assert len(plan["experiments"]) == 2
    assert f"the same experiment as {merged['into']}: lab.idle=0 changes nothing\n    lab.idle=null\n" in text
    assert plan["estimates"][merged["into"]] == {"least_s": 135.0, "most_s": 185.0, "memory": None}


@pytest.mark.parametrize("gpus", [(), (FakeGpu(Load([(1.0, 100.0)])),)])
def test_what_nvml_knows_of_this_machine(monkeypatch, gpus) -> None:
    """Memory and name of its GPU; nothing, and no error, where NVML cannot be opened."""
    monkeypatch.setattr("llem.devices.nvml._pynvml", lambda: FakeNvml(FakeClock(0), gpus))

    assert this_gpu() == (GpuKind(2**36, "Fake GPU") if gpus else None)


def test_a_number_format_that_the_gpu_lacks_is_noted(lab) -> None:
    """A T4 computes in no bfloat16; what it does in its place is the engine's matter, so the point stays."""
    file = parse_study({"base": {"backend": "lab"}, "axes": {"dtype": ["bfloat16", "float16"]}})
    study = expand(file, registry(), gpu=lambda: GpuKind(16 * GIB, "Tesla T4"))

    assert len(study.experiments) == 2
    assert study.notes == ("Tesla T4 has no bfloat16 arithmetic: 1 of 2 points will be slow, or refused by the engine",)


def test_a_wrong_amount_is_a_usage_error(run_llem, isolated_llem) -> None:
    """Before the study is read."""
    done = run_llem("plan", "there-is-none.yaml", "--gpu-memory", "much")

    assert done.exit_code == 2
    assert "write it as 80GiB" in done.stderr
