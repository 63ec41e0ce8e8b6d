"""Server-sent events, as far as these servers use them: the data of each event."""

from __future__ import annotations

__all__ = ["Events"]


class Events:
    """Puts events together from the pieces in which they arrive.

    Lines end at line feeds alone: text within the data may hold other characters at which Python would split a text
    (U+2028, U+0085), which JSON leaves as they are.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []

    def feed(self, piece: bytes) -> list[bytes]:
        """The data of every event that this piece completes."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        found = []
        for line in lines:
            line = line.removesuffix(b"\r")
            if line.startswith(b"data:"):
                self._data.append(line[5:].removeprefix(b" "))
            elif not line and self._data:
                found.append(b"\n".join(self._data))
                self._data = []
        return found
