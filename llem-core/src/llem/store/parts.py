"""Some parts of a long document, without parsing the rest.

llem writes each key on a line of its own, indented by its depth (`llem.store.files.to_text`). A string in JSON holds no
line break, so that a key, and the end of an object, can be searched for; keys are sorted. Whoever edits a file may
lay it out differently: such a document is for its reader to parse whole.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from llem.store.files import parse_at

__all__ = ["parts_of"]

INDENT = "  "


def parts_of(text: str, wanted: Mapping[str, Collection[str] | None]) -> dict[str, Any] | None:
    """Those parts of a document that are wanted; None where its text is not laid out as llem writes it.

    What is not wanted is not parsed, so that damage to it is not found here.

    Args:
        text: of a file.
        wanted: keys that every such document has, each with those keys that are wanted, where they are there, of the
            object that it is; None wants all of it.
    """
    if not (text.startswith('{\n  "') and text.endswith("\n}\n")):
        return None
    try:
        found = _values(text, wanted, 1, 0, len(text))
    except ValueError:
        return None
    return found if len(found) == len(wanted) else None


def _values(text: str, wanted: Mapping[str, Collection[str] | None], depth: int, at: int, end: int) -> dict[str, Any]:
    """Those values that are there, of keys at this depth from `at` to `end`, in the order of their keys."""
    margin, found = "\n" + depth * INDENT, {}
    for key in sorted(wanted):
        name = f'{margin}"{key}": '
        place = text.find(name, at, end)
        if place < 0:
            continue
        begin, below = place + len(name), wanted[key]
        if below is None:
            found[key], at = parse_at(text, begin)
            if not text.startswith((",\n", "\n"), at):
                raise ValueError(f"{key} does not end where its line ends")
        elif text.startswith("{}", begin):
            found[key], at = {}, begin + 2
        elif text.startswith("{\n", begin):
            at = text.index(margin + "}", begin)
            found[key] = _values(text, dict.fromkeys(below), depth + 1, begin, at)
        else:
            raise ValueError(f"{key} is not an object")
    return found
