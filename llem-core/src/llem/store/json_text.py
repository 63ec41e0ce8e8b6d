"""JSON as llem writes and reads it, and its hash."""

from __future__ import annotations

import hashlib
import json
import math
from json.encoder import encode_basestring
from typing import Any

from llem.foreign.values import DECODER, TOO_DEEP

__all__ = ["canonical", "digest", "has_halves", "parse", "parse_at", "parse_whole", "to_text"]

#: How an escaped half of a character begins; one alone is no text.
HALVES = ("\\ud", "\\uD")


_WORDS = {None: "null", True: "true", False: "false"}
#: Refuses what is no JSON.
_PLAIN = json.JSONEncoder(allow_nan=False)


def to_text(data: Any, before: str = "") -> str:
    """JSON as it is stored. Raises ValueError for NaN and infinity, which are not JSON, and what nests too deeply.

    Args:
        before: what stands before each line but the first.
    """
    try:
        return _written(data, f"\n{before}") + "\n"
    except RecursionError as error:  # what the decoder has read may nest more deeply than what goes through it here
        raise ValueError(TOO_DEEP) from error


def _written(value: Any, line: str) -> str:
    """What `json.dumps` writes with sorted keys and two spaces for each level; that is slow, as it goes step by step.

    Args:
        line: what begins a new line on the level of the value.
    """
    if isinstance(value, str):
        return encode_basestring(value)
    if value is None or value is True or value is False:
        return _WORDS[value]
    if type(value) is int or (type(value) is float and math.isfinite(value)):
        return repr(value)
    if isinstance(value, dict) and value:
        inner = f"{line}  "
        parts = [f"{_name(key)}: {_written(below, inner)}" for key, below in sorted(value.items())]
        return f"{{{inner}{f',{inner}'.join(parts)}{line}}}"
    if isinstance(value, (list, tuple)) and value:
        inner = f"{line}  "
        return f"[{inner}{f',{inner}'.join([_written(below, inner) for below in value])}{line}]"
    return _PLAIN.encode(value)


def _name(key: Any) -> str:
    if isinstance(key, str):
        return encode_basestring(key)
    if key is None or isinstance(key, (bool, int, float)):
        return f'"{_PLAIN.encode(key)}"'
    raise TypeError(f"a name in JSON is text, not {type(key).__name__}")


def parse(text: str) -> Any:
    """JSON values from text. Raises ValueError with the position; NaN and infinity are refused."""
    return DECODER.decode(text)


def has_halves(text: str) -> bool:
    """Whether the text of a JSON document may hold halves of characters: llem itself writes none."""
    return any(half in text for half in HALVES)


def parse_whole(text: str) -> Any:
    """The same, of text that is printed: halves of characters, which have no UTF-8, are refused too."""
    data = parse(text)
    if has_halves(text):
        try:
            canonical(data)
        except UnicodeEncodeError as error:
            raise ValueError("it holds half of a character (a lone surrogate)") from error
    return data


def parse_at(text: str, begin: int) -> tuple[Any, int]:
    """The JSON value that begins there, and where it ends. Raises ValueError as `parse`."""
    return DECODER.raw_decode(text, begin)


def canonical(data: Any) -> bytes:
    """One byte string per JSON value, whatever the order and spacing it was written in.

    Raises ValueError as `to_text`.
    """
    try:
        return json.dumps(data, allow_nan=False, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    except RecursionError as error:
        raise ValueError(TOO_DEEP) from error


def digest(data: Any) -> str:
    """SHA-256 over the canonical form. Raises ValueError as `to_text`."""
    return hashlib.sha256(canonical(data)).hexdigest()
