"""How GPUs hold a model, and which settings change nothing, before vLLM is imported."""

from __future__ import annotations

import dataclasses

import attrs
import pytest

from llem.backends.base import Holding
from llem.config.models import Experiment, Sampling
from llem.models.resolve import resolve_model
from llem_vllm.arguments import sampling_arguments
from llem_vllm.backend import VllmBackend
from llem_vllm.canonical import DEFAULTS, SAMPLING
from llem_vllm.config import ENGINE, VllmOptions

TINY = resolve_model("shape:tiny")


def experiment(dtype="bfloat16", sampling=None, **options) -> Experiment:
    """With these options of the section `vllm`."""
    section = VllmOptions(**options)
    return Experiment(backend="vllm", dtype=dtype, options=section, sampling=Sampling(**(sampling or {})))


def canonical(one: Experiment) -> Experiment:
    return VllmBackend(one.options).canonical(one)


@pytest.mark.parametrize(
    ("dtype", "options", "held"),
    [
        ("bfloat16", {}, Holding(weight_bits=16.0)),
        ("float32", {"tensor_parallel_size": 2}, Holding(weight_bits=32.0)),
        ("auto", {}, Holding()),
        ("bfloat16", {"quantization": "fp8"}, Holding()),
        ("bfloat16", {"cpu_offload_gb": 8.0}, Holding()),
        ("bfloat16", {"extra": {"offload_backend": "uva"}}, Holding()),
        ("bfloat16", {"data_parallel_size": 2}, Holding(weight_bits=16.0, copies=2)),
        ("bfloat16", {"data_parallel_size": 2, "enable_expert_parallel": True}, Holding(weight_bits=16.0)),
        ("float32", {"kv_cache_dtype": "fp8_e4m3"}, Holding(weight_bits=32.0, cache_bits=8.0)),
        ("float32", {"kv_cache_dtype": "bfloat16"}, Holding(weight_bits=32.0, cache_bits=16.0)),
        ("bfloat16", {"kv_cache_dtype": "auto"}, Holding(weight_bits=16.0)),
    ],
)
def test_how_gpus_hold_a_model(dtype, options, held) -> None:
    """By the dtype; bits are not said where weights are quantised or may lie elsewhere."""
    one = experiment(dtype, **options)

    assert VllmBackend(one.options).holding(one, TINY) == held


@pytest.mark.parametrize("name", DEFAULTS)
def test_what_vllm_does_anyway_is_left_out(name) -> None:
    """Each by itself; what else was asked stays."""
    assert canonical(experiment(max_num_seqs=8, **{name: DEFAULTS[name]})) == experiment(max_num_seqs=8)


@pytest.mark.process
@pytest.mark.parametrize("name", [name for name in DEFAULTS if name in ENGINE])
def test_what_is_left_out_is_the_default_of_the_installed_vllm(name) -> None:
    """So that vLLM gets the very same arguments either way."""
    from vllm.engine.arg_utils import EngineArgs

    [field] = [field for field in dataclasses.fields(EngineArgs) if field.name == name]
    assert field.default == DEFAULTS[name]


@pytest.mark.parametrize("sampling", [{name: value} for name, value in SAMPLING.items()])
def test_sampling_that_is_none_is_left_out(sampling) -> None:
    """Only where vLLM's own parameters are equal with it and without."""
    [name] = sampling
    one = experiment(sampling={"temperature": 1.0, **sampling})
    plain = canonical(one)

    assert getattr(plain.sampling, name) is None
    assert sampling_arguments(one.options, one.sampling, 8) == sampling_arguments(one.options, plain.sampling, 8)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"tensor_parallel_size": 2},
        {"enforce_eager": True},
        {"enable_prefix_caching": True},
        {"gpu_memory_utilization": 0.9},
        {"optimization_level": 2},
        {"kv_cache_dtype": "fp8"},
        {"shape_weights": "seeded"},
        {"beam_width": 4, "length_penalty": 1.0},
        {"in_process": False},
    ],
)
def test_what_may_change_something_stays(options) -> None:
    """The very same object, also for defaults that are of one version of vLLM; so does the seed of the engine."""
    one = experiment(sampling={"seed": 3}, **options)

    assert canonical(one) is one


def test_each_canonical_experiment_is_canonical() -> None:
    """Doing it twice changes nothing more, and the engine is the same one."""
    one = experiment(tensor_parallel_size=1, kv_cache_dtype="auto")
    plain = canonical(one)

    assert canonical(plain) is plain
    assert VllmBackend(plain.options).engine_key(plain) == VllmBackend().engine_key(
        attrs.evolve(one, options=VllmOptions())
    )
