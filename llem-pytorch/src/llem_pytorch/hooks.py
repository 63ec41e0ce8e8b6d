"""What this package gives to llem; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llem.plugins import Reference, hookimpl
from llem.plugins.reference import torch_versions

__all__ = ["llem_backends", "llem_environment"]

DISTRIBUTIONS = ("torch", "transformers", "accelerate", "bitsandbytes", "peft")


@hookimpl
def llem_backends() -> Sequence[Reference]:
    """The backend `pytorch`."""
    return [
        Reference(
            "pytorch",
            "llem_pytorch.backend:PyTorchBackend",
            config="llem_pytorch.config:PyTorchOptions",
            requires=("torch", "transformers", "accelerate"),
            summary="Hugging Face models through PyTorch and transformers, on CPU and CUDA.",
            install="pip install llem-pytorch",
            capabilities={
                "generate": "supported",
                "token_times": "supported",
                "memory": "supported",
                "prefilled": "supported",
                "stream": "unsupported",
                "loglikelihood": "supported",
                "stop": "supported",
            },
            parameters="llem_pytorch.coverage:parameters",
            deploy="llem_pytorch.deploy:commands",
            start="llem_pytorch.start:start",
        )
    ]


@hookimpl
def llem_environment() -> Mapping[str, Any]:
    """Versions of what computes."""
    found = torch_versions(DISTRIBUTIONS)
    return {"pytorch": found} if found else {}
