"""The control of the stand-in: it belongs to the tests, and nothing of the kind is in the real library."""

from __future__ import annotations

from collections import deque
from typing import Any


class Control:
    """What the stand-in received, and how it shall fail.

    Attributes:
        llm: keyword arguments of the last LLM.
        generated: (inputs, keyword arguments) of the last calls of generate and generate_async.
        fail_at: "load" or "generate": raise `failure` there.
        failure: the exception to raise.
        aborted: ids of aborted requests.
        shutdowns: how often shutdown was called.
        finish: finish reason of each request, None for what follows from its tokens.
        vocabulary: ids run below this.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.llm: dict[str, Any] = {}
        self.generated: deque[tuple[Any, dict[str, Any]]] = deque(maxlen=3)  # a library keeps no call
        self.fail_at: str | None = None
        self.failure: Exception = RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB")
        self.aborted: list[int] = []
        self.shutdowns = 0
        self.finish: str | None = None
        self.vocabulary = 512


control = Control()
