"""How to begin with the backend `openai`."""

from __future__ import annotations

from llem.backends.start import Start

__all__ = ["start"]

URL = "http://127.0.0.1:{}/v1"


def start(gpu: bool, model: str) -> Start:
    """A server must be there first, so this backend is never taken by itself. The server decides on model and number
    format."""
    del gpu, model  # a server on this machine has both
    return Start(
        obstacle="needs a server: set openai.base_url, or openai.command",
        names_model=False,
        base={"dtype": "auto", "processes": 1, "openai.base_url": URL.format(8000)},
        quantisation=tuple({"openai.base_url": URL.format(port)} for port in (8000, 8001)),
        note="The server decides how weights are held: start one server for each way, each on a port of its own.",
    )
