"""What this package gives to llem; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Sequence

from llem.plugins import Reference, hookimpl

__all__ = ["llem_backends"]


@hookimpl
def llem_backends() -> Sequence[Reference]:
    """The backend `openai`."""
    return [
        Reference(
            "openai",
            "llem_openai.backend:OpenAIBackend",
            config="llem_openai.config:OpenAIOptions",
            requires=("httptools",),
            summary="Any OpenAI-compatible server on this machine (vLLM, SGLang, llama.cpp, TGI, Ollama, …).",
            install="pip install llem-openai",
            capabilities={
                "generate": "supported",
                "stream": "supported",
                "token_times": "supported",
                "memory": "unsupported",
                "loglikelihood": "supported",
                "stop": "supported",
            },
            deploy="llem_openai.deploy:commands",
            start="llem_openai.start:start",
            defaults="llem_openai.defaults:defaults",
            found="llem_openai.defaults:found",
            url="base_url",
        )
    ]
