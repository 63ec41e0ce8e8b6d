"""How many bits of each weight the GPUs hold, before vLLM is imported."""

from __future__ import annotations

import pytest

from llem.config.models import Experiment
from llem.models.resolve import resolve_model
from llem_vllm.backend import VllmBackend
from llem_vllm.config import VllmOptions


@pytest.mark.parametrize(
    ("dtype", "options", "bits"),
    [
        ("bfloat16", {}, 16.0),
        ("float32", {"tensor_parallel_size": 2}, 32.0),
        ("auto", {}, None),
        ("bfloat16", {"quantization": "fp8"}, None),
        ("bfloat16", {"cpu_offload_gb": 8.0}, None),
        ("bfloat16", {"extra": {"offload_backend": "uva"}}, None),
    ],
)
def test_bits_of_a_weight(dtype, options, bits) -> None:
    """By the dtype; not said where weights are quantised or may lie elsewhere."""
    backend = VllmBackend(VllmOptions(**options))
    experiment = Experiment(backend="vllm", dtype=dtype, options=backend.options)

    assert backend.weight_bits(experiment, resolve_model("shape:tiny")) == bits
