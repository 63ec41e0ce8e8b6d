"""How each parameter of transformers is reached; see `llem.backends.coverage`. Imports no transformers."""

from __future__ import annotations

from llem.backends.coverage import Coverage, Parameter
from llem_pytorch.inventory import bundled
from llem_pytorch.names import NOT_FREE, SECTIONS, TYPED

__all__ = ["parameters"]


def parameters() -> Coverage:
    """Every parameter of the bundled inventory."""
    known = bundled()
    listed = (_parameter(owner, name) for owner, names in known.fields.items() for name in names)
    return Coverage(f"transformers {known.version}", tuple(listed))


def _parameter(owner: str, name: str) -> Parameter:
    if name in TYPED[owner]:
        return Parameter(owner, name, "typed", f"`pytorch.{TYPED[owner][name]}`")
    for reach, table in NOT_FREE.items():
        if name in table.get(owner, {}):
            return Parameter(owner, name, reach, table[owner][name])
    return Parameter(owner, name, "extra", f"`pytorch.{SECTIONS[owner]}`")
