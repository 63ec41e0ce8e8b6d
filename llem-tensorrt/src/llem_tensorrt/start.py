"""How to begin with the backend `tensorrt`."""

from __future__ import annotations

from llem.backends.start import Start

__all__ = ["start"]


def start(gpu: bool, model: str) -> Start:
    """It runs on GPUs alone. `quant_algo` is for shapes; other models bring their quantisation in their checkpoint."""
    shape = model.startswith("shape:")
    return Start(
        obstacle=None if gpu else "needs a GPU",
        quantisation=({"dtype": "bfloat16"}, {"tensorrt.quant_algo": "FP8"}) if shape else (),
        note="Also NVFP4 and others, see the settings."
        if shape
        else "A model brings its quantisation in its checkpoint. List quantised checkpoints as an axis `model`.",
    )
