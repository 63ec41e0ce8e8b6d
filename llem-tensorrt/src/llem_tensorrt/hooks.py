"""What this package gives to llem; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llem.plugins import Reference, hookimpl
from llem.plugins.reference import torch_versions

__all__ = ["STATUS", "llem_backends", "llem_environment"]

#: Shown beside the name wherever plugins are listed.
STATUS = "not yet run on the real library: tested against a stand-in that enforces its documented signatures"

DISTRIBUTIONS = ("tensorrt-llm", "tensorrt", "torch", "transformers", "nvidia-modelopt", "mpi4py", "flashinfer-python")


@hookimpl
def llem_backends() -> Sequence[Reference]:
    """The backend `tensorrt`."""
    return [
        Reference(
            "tensorrt",
            "llem_tensorrt.backend:TensorRTBackend",
            config="llem_tensorrt.config:TensorRTOptions",
            requires=("tensorrt_llm",),
            summary="Hugging Face models through TensorRT-LLM's LLM API, on CUDA.",
            install="install TensorRT-LLM 1.0 to 1.2 by NVIDIA's guide, then: pip install llem-tensorrt",
            capabilities={
                "generate": "supported",
                "token_times": "supported",
                "stream": "supported",
                "loglikelihood": "supported",
                "stop": "supported",
                "memory": "unsupported",
            },
            status=STATUS,
            parameters="llem_tensorrt.coverage:parameters",
            deploy="llem_tensorrt.deploy:commands",
            start="llem_tensorrt.start:start",
        )
    ]


@hookimpl
def llem_environment() -> Mapping[str, Any]:
    """Versions of what computes."""
    found = torch_versions(DISTRIBUTIONS)
    return {"tensorrt": found} if "tensorrt-llm" in found else {}
