"""What passes through the pipes between the worker and its client processes: a line of JSON, and bytes after it.

{"name": "requests", …, "bytes": 1234}\\n<1234 bytes>
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["Frames", "frame"]


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
