"""The door through which results reach a notebook's display, and the one that answers a misspelt attribute.

Classes of results stand below the views that draw them, so they cannot import these. A class that a notebook shows
derives from `Displayed`. The room that draws enters here (`drawn_by`); `llem.api` does that for `import llem`. Without
it, a notebook prints the short `repr`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from llem.errors import nearest

__all__ = ["Displayed", "drawn_by"]

Draw = Callable[[Any], str]
_DRAWS: list[Draw] = []


def drawn_by(draw: Draw) -> None:
    """Let `draw` make the HTML of every `Displayed` object; it replaces what was here before."""
    _DRAWS[:] = [draw]


class Displayed:
    """What a notebook shows as HTML. A misspelt attribute is answered with the nearest one that there is."""

    __slots__ = ()

    def _repr_html_(self) -> str | None:
        """HTML, all foreign text escaped; None where nothing draws, and a notebook prints the `repr`."""
        return _DRAWS[0](self) if _DRAWS else None

    if not TYPE_CHECKING:  # a type checker would take every attribute for one that there is

        def __getattr__(self, name):
            what = f"{type(self).__name__!r} object has no attribute {name!r}"
            near = None if name.startswith("_") else nearest(name, [one for one in dir(self) if one[0] != "_"])
            raise AttributeError(f"{what}; did you mean {near!r}?" if near else what, name=name, obj=self)
