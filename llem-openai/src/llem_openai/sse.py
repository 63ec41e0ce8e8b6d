"""Server-sent events, as far as these servers use them: the name and the data of each event."""

from __future__ import annotations

__all__ = ["Events"]

BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Events:
    """Puts events together from the pieces in which they arrive.

    A line ends with a line feed, a carriage return, or both (WHATWG HTML, server-sent events), and with nothing else:
    text within the data may hold other characters at which Python would split a text (U+2028, U+0085).
    """

    def __init__(self) -> None:
        self._rest: list[bytes] = []  # of a line that has not ended
        self._data: list[bytes] = []
        self._name = b""
        self._after_return = False
        self._begun = False

    def feed(self, piece: bytes) -> list[tuple[bytes, bytes]]:
        """Name and data of every event that this piece completes; the name is mostly empty, the data never."""
        if not piece:
            return []
        if self._after_return:  # the second half of a line's end that came in two pieces
            piece = piece.removeprefix(b"\n")
        self._after_return = piece.endswith(b"\r")
        lines = piece.splitlines(keepends=True)  # of bytes: at \n, \r and \r\n alone
        found = []
        for line in lines:
            if not line.endswith((b"\n", b"\r")):
                self._rest.append(line)
                break
            if self._rest:
                line = b"".join((*self._rest, line))
                self._rest.clear()
            event = self._line(line.rstrip(b"\r\n"))
            if event is not None:
                found.append(event)
        return found

    def _line(self, line: bytes) -> tuple[bytes, bytes] | None:
        if not self._begun:
            self._begun, line = True, line.removeprefix(BYTE_ORDER_MARK)
        if line:
            field, _, value = line.partition(b":")
            if field == b"data":
                self._data.append(value.removeprefix(b" "))
            elif field == b"event":
                self._name = value.removeprefix(b" ")
            return None
        name, data = self._name, b"\n".join(self._data)
        self._name, self._data = b"", []
        return (name, data) if data.strip() else None
