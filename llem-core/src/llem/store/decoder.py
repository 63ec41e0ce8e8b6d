"""JSON as llem reads it: what is no JSON number is refused, and so is what nests too deeply to be read."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["DECODER"]


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


class _Decoder(json.JSONDecoder):
    def raw_decode(self, s: str, idx: int = 0) -> tuple[Any, int]:
        try:
            return super().raw_decode(s, idx)
        except RecursionError as error:
            raise ValueError("it nests too deeply") from error


DECODER = _Decoder(parse_constant=_refuse)
