"""JSON as llem writes and reads it, and its hash."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from llem.foreign.values import DECODER

__all__ = ["canonical", "digest", "parse", "parse_at", "parse_whole", "to_text"]

#: How an escaped half of a character begins; one alone is no text.
HALVES = ("\\ud", "\\uD")


def to_text(data: Any) -> str:
    """JSON as it is stored. Raises ValueError for NaN and infinity, which are not JSON."""
    return json.dumps(data, allow_nan=False, sort_keys=True, indent=2, ensure_ascii=False) + "\n"


def parse(text: str) -> Any:
    """JSON values from text. Raises ValueError with the position; NaN and infinity are refused."""
    return DECODER.decode(text)


def parse_whole(text: str) -> Any:
    """The same, of text that is printed: halves of characters, which have no UTF-8, are refused too."""
    data = parse(text)
    if any(half in text for half in HALVES):
        canonical(data)
    return data


def parse_at(text: str, begin: int) -> tuple[Any, int]:
    """The JSON value that begins there, and where it ends. Raises ValueError as `parse`."""
    return DECODER.raw_decode(text, begin)


def canonical(data: Any) -> bytes:
    """One byte string per JSON value, whatever the order and spacing it was written in."""
    return json.dumps(data, allow_nan=False, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def digest(data: Any) -> str:
    """SHA-256 over the canonical form."""
    return hashlib.sha256(canonical(data)).hexdigest()
