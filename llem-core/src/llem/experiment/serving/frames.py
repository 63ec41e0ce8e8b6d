"""What passes through the pipes between the worker and its client processes: a line of JSON, and bytes after it.

{"name": "requests", …, "bytes": 1234}\\n<1234 bytes>
"""

from __future__ import annotations

import json
import traceback
from collections.abc import Iterator, Mapping
from typing import Any

from llem import errors
from llem.errors import LlemError

__all__ = ["Frames", "frame", "told", "untold"]


def frame(name: str, body: bytes = b"", /, **head: Any) -> bytes:
    """One frame; `head` has JSON values."""
    return json.dumps({"name": name, **head, "bytes": len(body)}).encode() + b"\n" + body


class Frames:
    """Frames out of the pieces in which they come through a pipe."""

    def __init__(self) -> None:
        self._held = bytearray()
        self._head: Mapping[str, Any] | None = None

    def feed(self, piece: bytes) -> Iterator[tuple[Mapping[str, Any], bytes]]:
        """Head and body of each frame that is whole now."""
        self._held += piece
        while True:
            if self._head is None:
                end = self._held.find(b"\n")
                if end < 0:
                    return
                self._head = json.loads(self._held[:end])
                del self._held[: end + 1]
            head, size = self._head, self._head["bytes"]
            if len(self._held) < size:
                return
            body = bytes(memoryview(self._held)[:size])
            del self._held[:size]
            self._head = None
            yield head, body


def told(error: BaseException) -> Mapping[str, str]:
    """An error as JSON. What no one foresaw goes to the log besides."""
    if isinstance(error, LlemError):
        return {"type": type(error).__name__, "message": error.message, "hint": error.hint, "code": error.code}
    traceback.print_exception(error)
    message = f"the load generator failed: {type(error).__name__}: {error}"
    return {"type": "LlemError", "message": message, "hint": "see the worker's log", "code": "bug"}


def untold(told: Mapping[str, str]) -> LlemError:
    """The error that was told; of the class that a plugin made of one, its base in the core."""
    kind = getattr(errors, told["type"], errors.ExperimentFailed)
    made: LlemError = kind(told["message"], told["hint"], told["code"])
    return made
