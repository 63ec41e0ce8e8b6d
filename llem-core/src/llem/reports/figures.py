"""Figures as text: as many digits as the interval leaves meaning in, in the unit that fits."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llem.foreign.shown import visible
from llem.store.models import Quantity

if TYPE_CHECKING:
    from rich.console import Console

__all__ = [
    "PERSONS",
    "amount",
    "figure",
    "grid",
    "new_console",
    "number",
    "p_value",
    "percent",
    "plain",
    "put",
    "scaled",
    "screen",
    "setting",
    "settings",
    "short",
    "two",
]

#: Columns of what is no terminal (a pipe, a file) and does not say how wide it is.
NO_TERMINAL = 160
#: Characters that a column of words keeps at least where there is little room.
WORDS = 16
#: Columns that a person's terminal has.
PERSONS = 100

#: Units shown larger or smaller: from this value on, divided by this.
SCALES: Mapping[str, tuple[tuple[str, float], ...]] = {
    "B": (("GiB", 2.0**30), ("MiB", 2.0**20), ("KiB", 2.0**10), ("B", 1.0)),
    "s": (("s", 0.5), ("ms", 1e-3), ("µs", 1e-6)),
    "J": (("J", 1e-3), ("mJ", 1e-6), ("µJ", 1e-9)),
}
DIVISORS: Mapping[str, float] = {"s": 1.0, "J": 1.0, "ms": 1e-3, "mJ": 1e-3, "µs": 1e-6, "µJ": 1e-6}


def scaled(value: float, unit: str) -> tuple[str, float]:
    """The unit to show `value` in, and what to divide it by."""
    for name, least in SCALES.get(unit, ()):
        if abs(value) >= least:
            return name, DIVISORS.get(name, least)
    return unit, 1.0


def _decimals(value: float, half: float | None) -> int:
    """Decimals that carry meaning: two digits of the half-width (of the value at least), or four of the value alone.

    Below 0 where a half-width leaves no meaning in the last digits before the point.
    """
    if value == 0 or not math.isfinite(value):
        return 0
    top = math.floor(math.log10(abs(value)))
    if not half or not math.isfinite(half):
        return max(0, 3 - top)
    last = min(math.floor(math.log10(abs(half))), top) - 1
    return -last if last > 0 else max(0, -max(last, top - 5))


def number(value: float, half: float | None = None) -> str:
    """The value with the decimals that its half-width leaves meaning in; in powers of ten where it is far from 1."""
    if value and not 1e-6 <= abs(value) < 1e9:
        return f"{value:.3e}"
    decimals = _decimals(value, half)
    return f"{round(value, decimals) if decimals < 0 else value:,.{max(0, decimals)}f}"


def figure(quantity: Quantity) -> str:
    """Value ± half-width and unit, or a dash with the reason."""
    if quantity.value is None:
        return f"– ({quantity.reason})"
    unit, divisor = scaled(quantity.value, quantity.unit)
    return f"{amount(quantity, quantity.value, divisor)} {unit}".rstrip()


def amount(quantity: Quantity, value: float, divisor: float = 1.0, *, brief: bool = False) -> str:
    """Value ± half-width, or value (low to high) where the interval is lopsided; all divided, without the unit.

    Args:
        brief: `(low–high)`, for a table, where no end is below 0.
    """
    if quantity.low is None or quantity.high is None:
        return number(value / divisor)
    half = (quantity.high - quantity.low) / 2 / divisor
    shown = number(value / divisor, half)
    if quantity.lopsided:
        to = "–" if brief and quantity.low >= 0 else " to "
        return f"{shown} ({number(quantity.low / divisor, half)}{to}{number(quantity.high / divisor, half)})"
    return f"{shown} ± {two(half)}"


def new_console(**settings: Any) -> Console:
    """A console that lets the command line tell of a closed pipe; rich by itself ends the process with status 1."""
    from rich.console import Console as RichConsole

    class Piped(RichConsole):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    return Piped(**settings)


def screen(console: Console | None = None, *, stderr: bool = False) -> Console:
    """`console`, or one for standard output (or error) when None."""
    if console is not None:
        return console
    out = new_console(highlight=False, stderr=stderr)
    if not out.is_terminal and "COLUMNS" not in os.environ:
        out.width = NO_TERMINAL
    return out


def grid(*headings: str, words: Sequence[int] = ()) -> Any:
    """A table whose figures are never cut or broken; `words` are the columns of prose, which may be."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, show_header=any(headings))
    for place, heading in enumerate(headings):
        table.add_column(plain(heading), overflow="fold", no_wrap=place not in words)
    return table


def put(out: Console, table: Any, widest: int | None = None) -> None:
    """Print a table of `grid`. Where the terminal is narrower than its figures, lines run over its edge, whole.

    A table with headings first moves its columns together and breaks headings; then the widest columns of words break.

    Args:
        widest: columns together and headings broken from this width on, however wide the terminal is.
    """
    from rich.cells import cell_len
    from rich.measure import Measurement

    def wide() -> Measurement:
        return Measurement.get(out, out.options.update(max_width=10**6), table)

    figures = [column for column in table.columns if column.no_wrap]
    words = [column for column in table.columns if not column.no_wrap]
    for column in table.columns:
        longest = max(map(cell_len, (*str(column.header).split(), *map(str, column.cells))), default=0)
        column.min_width = longest if column.no_wrap else min(longest, WORDS)
        column.no_wrap = False  # a heading breaks between words; no figure is wider than the column
    room = out.width if widest is None else min(out.width, widest)
    if table.show_header and wide().maximum > room:
        table.padding = (0, 1, 0, 0)
    if table.show_header:
        _narrow(figures, wide().maximum - room)
    _narrow(words, wide().maximum - out.width)
    if (least := wide().minimum) > out.width:
        table.width = least
    out.print(table, crop=False)


def _narrow(columns: Sequence[Any], excess: int) -> None:
    """Take `excess` characters from columns, always from the widest; each keeps its least width."""
    from rich.cells import cell_len

    widths = [max(map(cell_len, (str(column.header), *map(str, column.cells)))) for column in columns]
    if excess <= 0:
        return
    while excess > 0 and (left := [n for n, column in enumerate(columns) if widths[n] > column.min_width]):
        widest = max(left, key=widths.__getitem__)
        widths[widest] -= 1
        columns[widest].max_width = widths[widest]
        excess -= 1
    for width, column in zip(widths, columns, strict=True):
        column._cells = [_broken(cell, width) for cell in column.cells]


#: Where a word that is longer than its column breaks.
_JOINTS = re.compile(r"(?<=[_=./:,-])")


def _broken(cell: Any, width: int) -> Any:
    """A cell whose words longer than `width` break at their joints: `enable_chunked_` and `prefill=false`."""
    from rich.text import Text

    if not isinstance(cell, Text) or all(len(word) <= width for word in cell.plain.split()):
        return cell
    lines = [""]
    for word in cell.plain.split(" "):
        whole = f"{lines[-1]} {word}".lstrip(" ")
        if len(whole) <= width:
            lines[-1] = whole
            continue
        lines += [""] if lines[-1] else []
        for part in _JOINTS.split(word):
            if lines[-1] and len(lines[-1] + part) > width:
                lines.append("")
            lines[-1] += part
    return Text("\n".join(lines), style=cell.style)


def plain(text: str) -> Any:
    """Text in which rich finds no markup, and a terminal no commands, whatever it holds."""
    from rich.text import Text

    return Text(visible(text))


def two(value: float) -> str:
    """Two significant digits, never in powers of ten."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    last = 1 - math.floor(math.log10(abs(value)))
    return f"{round(value, last):,.{max(0, last)}f}"


def p_value(value: float) -> str:
    """Two significant digits, and below 0.0001 only that it is."""
    return "<0.0001" if value < 1e-4 else two(value)


def percent(share: float) -> str:
    """A share in percent, with two significant digits or in whole percent; below 0.01 % only that it is."""
    if 0 < abs(share) < 1e-4:
        return "< 0.01 %"
    return f"{share * 100:,.0f} %" if abs(share) >= 1 else f"{two(share * 100)} %"


def short(quantity: Quantity | None) -> str:
    """Value and unit, without the interval."""
    if quantity is None or quantity.value is None:
        return "–"
    unit, divisor = scaled(quantity.value, quantity.unit)
    return f"{number(quantity.value / divisor)} {unit}"


def setting(value: Any) -> str:
    """A value of an axis in few characters, as YAML would have it."""
    return value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)


def settings(values: Mapping[str, Any]) -> str:
    """What a point of a study sets, by path."""
    return " ".join(f"{path}={setting(value)}" for path, value in values.items())
