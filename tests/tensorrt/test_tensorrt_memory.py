"""How GPUs hold a model, before TensorRT-LLM is imported."""

from __future__ import annotations

import typing
from pathlib import Path

import attrs
import pytest

from llem.backends.base import Holding
from llem.config.models import Experiment, OfflineLoad
from llem.models.resolve import resolve_model
from llem.study.plan.memory import MemoryEstimate, estimate_memory
from llem.workloads.synthetic import SyntheticOptions
from llem_tensorrt.backend import TensorRTBackend
from llem_tensorrt.config import TensorRTOptions
from llem_tensorrt.sections import KvCache

LLAMA = resolve_model("shape:llama-3.1-8b")


def held(model=LLAMA, dtype="bfloat16", **options) -> Holding:
    """What the backend says with these options of the section `tensorrt`."""
    section = TensorRTOptions(**options)
    return TensorRTBackend(section).holding(Experiment(backend="tensorrt", dtype=dtype, options=section), model)


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({}, Holding(weight_bits=16.0)),
        ({"dtype": "float32"}, Holding(weight_bits=32.0)),
        ({"dtype": "auto"}, Holding()),
        ({"tensor_parallel_size": 2, "pipeline_parallel_size": 2}, Holding(weight_bits=16.0)),
        ({"quant_algo": "FP8"}, Holding(weight_bits=8.0)),
        ({"quant_algo": "NVFP4", "dtype": "auto"}, Holding(weight_bits=4.0)),
        ({"quant_algo": "W4A16_AWQ"}, Holding(weight_bits=4.0)),
        ({"kv_cache_config": KvCache(dtype="fp8")}, Holding(weight_bits=16.0, cache_bits=8.0)),
        ({"kv_cache_config": KvCache(dtype="auto")}, Holding(weight_bits=16.0)),
        ({"extra": {"load_format": "dummy"}}, Holding()),
    ],
)
def test_of_a_shape(options, wanted) -> None:
    """By the dtype or the algorithm; GPUs that share a model hold it once; `extra` may say anything."""
    assert held(**options) == wanted


def test_every_algorithm_has_bits() -> None:
    """So that none that the section takes is forgotten here."""
    [literal, _] = typing.get_args(typing.get_type_hints(TensorRTOptions)["quant_algo"])
    for algorithm in typing.get_args(literal):
        assert held(quant_algo=algorithm).weight_bits in (4.0, 8.0)


def test_a_real_model_may_be_quantised(tmp_path: Path) -> None:
    """In a file that is not its configuration: the dtype makes an estimate, and nothing is certain."""
    model = attrs.evolve(LLAMA, source="folder", path=str(tmp_path), weights="real")
    experiment = Experiment(backend="tensorrt", gpus=2, workload=SyntheticOptions(), load=OfflineLoad(batch_size=32))
    found = estimate_memory(experiment, model, held(model, tensor_parallel_size=2))

    assert held(model) == Holding()
    assert isinstance(found, MemoryEstimate)
    assert (found.weight_bytes, found.certain, found.gpus) == (16_060_522_496, False, 2)
    assert found.kv_bytes == 131_072 * 32 * 256
