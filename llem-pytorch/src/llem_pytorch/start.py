"""How to begin with the backend `pytorch`."""

from __future__ import annotations

from importlib.util import find_spec

from llem.backends.start import Start

__all__ = ["start"]


def start(gpu: bool, model: str) -> Start:
    """It runs wherever torch does. 8 and 4 bits are of bitsandbytes, and are offered where that is and a GPU is."""
    del model
    if gpu and find_spec("bitsandbytes") is not None:
        ways = ({"dtype": "bfloat16"}, {"pytorch.load_in_8bit": True}, {"pytorch.load_in_4bit": True})
        return Start(quantisation=ways, note="8 and 4 bits through bitsandbytes.")
    lacking = "pip install bitsandbytes for 8 and 4 bits." if gpu else "8 and 4 bits need a GPU, and bitsandbytes."
    return Start(note=lacking)
