"""JSON that somebody else may have written: what is read can be computed with, and written again.

Not a number, infinity (also as 1e999), whole numbers that 64 bits do not hold, and what nests too deeply, are refused.
"""

from __future__ import annotations

import json
import math
from datetime import datetime
from typing import Any

__all__ = ["DECODER", "MOST", "TOO_DEEP", "a_time", "finite", "from_json", "whole"]

#: Why a value is refused that goes deeper than can be followed.
TOO_DEEP = "it nests too deeply"
#: Whole numbers that 64 bits hold.
_LEAST, MOST = -(2**63), 2**63 - 1
#: Characters of a number that is told as being none.
_TOLD = 20


def finite(text: str) -> float:
    """A number. Raises ValueError where it is so large that it is no number."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{_told(text)} is beyond any number")
    return value


def whole(text: str) -> int:
    """A whole number. Raises ValueError where 64 bits do not hold it."""
    if len(text) < _TOLD - 1:  # mostly, and every number of so few characters is one
        return int(text)
    if len(text) > _TOLD or not _LEAST <= (value := int(text)) <= MOST:
        raise ValueError(f"{_told(text)} is no whole number of 64 bits")
    return value


def a_time(_: Any, __: Any, text: str) -> None:
    """Validator of a field: its text is a time, ISO 8601 with its zone, so that times can be subtracted. Raises
    ValueError."""
    if datetime.fromisoformat(text).tzinfo is None:
        raise ValueError(f"{text} is of no time zone")


def _told(text: str) -> str:
    return text if len(text) <= _TOLD else f"{text[:_TOLD]}… ({len(text)} characters)"


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


class _Decoder(json.JSONDecoder):
    def raw_decode(self, s: str, idx: int = 0) -> tuple[Any, int]:
        try:
            return super().raw_decode(s, idx)
        except RecursionError as error:
            raise ValueError(TOO_DEEP) from error


DECODER = _Decoder(parse_constant=_refuse, parse_int=whole, parse_float=finite)
#: Numbers as they are written.
_AS_TEXT = _Decoder(parse_constant=_refuse, parse_int=str, parse_float=str)
_ENDLESS = _Decoder()


def from_json(text: str | bytes, *, numbers_as_text: bool = False, endless: bool = False) -> Any:
    """The value of a JSON text, in UTF-8 where it is bytes. Raises ValueError that says where it is none.

    Args:
        numbers_as_text: numbers stay as they are written, as in a table.
        endless: NaN and infinity are numbers, as in what other programs write; whoever computes with them looks first.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8-sig")
    return (_AS_TEXT if numbers_as_text else _ENDLESS if endless else DECODER).decode(text)
