"""The page of a report around its document: HTML that needs nothing but itself."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

__all__ = ["page", "script_json"]

#: Characters that would end a script, or a line of one.
ESCAPED = {ord(one): f"\\u{ord(one):04x}" for one in "<>&\u2028\u2029"}


def script_json(value: Any) -> str:
    """JSON that is safe within a script element."""
    return json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":")).translate(ESCAPED)


def page(document: Mapping[str, Any], details: Iterable[tuple[str, Mapping[str, Any]]]) -> Iterator[str]:
    """The page, piece by piece."""
    verdict = "".join(f"<p>{html.escape(line)}</p>" for line in document["verdict"]["sentences"])
    title = html.escape(document["title"])
    yield f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><h1>{title}</h1>{verdict}\n'
    yield f'<script type="application/json" id="llem">{script_json(document)}</script>\n'
    for name, one in details:
        yield f'<script type="application/json" id="x-{html.escape(name)}">{script_json(one)}</script>\n'
    yield "</html>\n"
