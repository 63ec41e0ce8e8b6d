"""Plots of plain characters for a terminal: configurations in two metrics, with the bars of their intervals.

A terminal whose encoding is no UTF gets ASCII. rich leaves colours out where there is no terminal, or NO_COLOR is set.
"""

from __future__ import annotations

import math
import string
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llem.reports.axis import Axis
from llem.reports.decision_tables import STANDINGS
from llem.reports.figures import plain, screen
from llem.reports.tradeoff import Point, TradeOff

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Canvas", "canvas_for", "render_trade_off"]

#: Columns and lines of a plot at most, and the least of both.
WIDEST, NARROWEST, HIGHEST, LOWEST = 110, 24, 20, 8
#: What each thing is drawn with, in Unicode and in ASCII. "+" is where two bars cross.
SIGNS: Mapping[str, tuple[str, str]] = {
    "-": ("─", "-"), "|": ("│", "|"), "+": ("┼", "+"), "corner": ("└", "+"), "tick_x": ("┬", "+"), "tick_y": ("┤", "+"),
    "<": ("◂", "<"), ">": ("▸", ">"), "v": ("▾", "v"), "^": ("▴", "^"), "limit_x": ("┊", ":"), "limit_y": ("┄", "."),
    "point": ("•", "o"), "several": ("*", "*"),
}  # fmt: skip
#: Colours by where a configuration stands.
STYLES = {"choice": "bold green", "tie": "yellow", "worse": "", "out": "dim", "": "cyan"}
#: Rows and columns of the eight dots of a braille character, by bit.
DOTS = ((0, 0), (1, 0), (2, 0), (0, 1), (1, 1), (2, 1), (3, 0), (3, 1))


class Canvas:
    """Characters between two axes. Columns count from the left, lines from below.

    Args:
        width, height: of the plot, without its axes.
    """

    def __init__(self, x: Axis, y: Axis, width: int, height: int, *, unicode: bool) -> None:
        self.x, self.y, self.width, self.height, self.unicode = x, y, width, height, unicode
        self._cells: dict[tuple[int, int], tuple[str, str]] = {}
        self._dots: dict[tuple[int, int], int] = {}

    def sign(self, name: str) -> str:
        """What a thing is drawn with here."""
        return SIGNS[name][0 if self.unicode else 1]

    def column(self, value: float) -> int:
        """The column of a value; -1 or `width` where it is beyond the axis."""
        return _cell(self.x.at(value), self.width)

    def line(self, value: float) -> int:
        """The line of a value; -1 or `height` where it is beyond the axis."""
        return _cell(self.y.at(value), self.height)

    def put(self, column: int, line: int, sign: str, style: str = "") -> None:
        """Draw one character; what is outside of the plot is left out."""
        if 0 <= column < self.width and 0 <= line < self.height:
            self._cells[column, line] = sign, style

    def at(self, column: int, line: int) -> str:
        """The character that is drawn there; "" for none."""
        return self._cells.get((column, line), ("", ""))[0]

    def dot(self, x: float, y: float, style: str = "") -> None:
        """Draw a dot, in Unicode eight to a character."""
        across, up = self.x.at(x), self.y.at(y)
        if not (0 <= across <= 1 and 0 <= up <= 1):
            return
        column, line = _cell(across, self.width), _cell(up, self.height)
        if not self.unicode:
            self.put(column, line, "*", style)
            return
        right = _cell(across, 2 * self.width) % 2
        down = 3 - _cell(up, 4 * self.height) % 4
        self._dots[column, line] = self._dots.get((column, line), 0) | 1 << DOTS.index((down, right))
        self.put(column, line, chr(0x2800 + self._dots[column, line]), style)

    def upright(self, value: float, style: str) -> None:
        """A line over the whole height."""
        for line in range(self.height):
            self.put(self.column(value), line, self.sign("limit_x"), style)

    def level(self, value: float, style: str) -> None:
        """A line over the whole width."""
        for column in range(self.width):
            self.put(column, self.line(value), self.sign("limit_y"), style)

    def text(self) -> Any:
        """The plot with its axes, as rich's text."""
        from rich.text import Text

        told = {self.line(value): text for value, text in self.y.ticks}
        room = max(map(len, told.values()), default=0)
        lines = [plain(self.y.heading)]
        for line in reversed(range(self.height)):
            edge = self.sign("tick_y" if line in told else "|")
            parts = [(f"{told.get(line, ''):>{room}} {edge}", "dim")]
            parts += [self._cells.get((column, line), (" ", "")) for column in range(self.width)]
            row = Text.assemble(*parts)
            row.rstrip()
            lines.append(row)
        marks = {self.column(value): text for value, text in self.x.ticks}
        foot = "".join(self.sign("tick_x" if column in marks else "-") for column in range(self.width))
        before = " " * room
        lines += [
            Text(f"{before} {self.sign('corner')}{foot}", "dim"),
            Text(f"{before}  {_labels(marks, self.width)}".rstrip(), "dim"),
            plain(f"{before}  {self.x.heading:^{self.width}}".rstrip()),
        ]
        return Text("\n").join(lines)


def _cell(share: float, count: int) -> int:
    return -1 if share < 0 else count if share > 1 else min(count - 1, math.floor(share * count))


def _labels(marks: Mapping[int, str], width: int) -> str:
    """Texts below their columns; one that would touch its neighbour is left out."""
    line, end = "", -1
    for column, text in sorted(marks.items()):
        start = max(0, min(column - len(text) // 2, width - len(text)))
        if start > end:
            line += " " * (start - len(line)) + text
            end = len(line)
    return line


def canvas_for(x: Axis, y: Axis, out: Console, *, height: int = HIGHEST) -> Canvas:
    """A canvas that fits the terminal, in characters that it has."""
    room = max((len(text) for _, text in y.ticks), default=0) + 3
    width = max(NARROWEST, min(WIDEST, out.width) - room)
    lines = max(LOWEST, min(height, out.height - 6))
    return Canvas(x, y, width, lines, unicode=out.encoding.lower().startswith("utf"))


# configurations in two metrics


def render_trade_off(found: TradeOff | str, console: Console | None = None) -> None:
    """Print a trade-off, a legend and notes; or why there is nothing to draw."""
    out = screen(console)
    if isinstance(found, str):
        out.print(plain(found))
        return
    canvas = canvas_for(found.x, found.y, out)
    for bound, _ in found.limits["x"]:
        canvas.upright(bound, "red")
    for bound, _ in found.limits["y"]:
        canvas.level(bound, "red")
    for point in found.points:
        _bars(canvas, point)
    letters = dict(
        zip((point.id for point in found.points), string.ascii_uppercase + string.ascii_lowercase, strict=False)
    )
    several = [_mark(canvas, point, letters.get(point.id, canvas.sign("point"))) for point in reversed(found.points)]
    out.print(canvas.text(), no_wrap=True, crop=False, overflow="ignore")
    out.print()
    for line in _legend(canvas, found, letters):
        out.print(line)
    notes = [f"{canvas.sign('several')}: several at one place"] if any(several) else []
    for note in (*notes, *found.notes):
        out.print(plain(note), style="dim")


def _bars(canvas: Canvas, point: Point) -> None:
    """The two intervals of a point; an arrow where one goes on beyond the plot."""
    column, line = canvas.column(float(point.x)), canvas.line(float(point.y))
    low, high = (canvas.column(float(point.x) if end is None else end) for end in (point.x.low, point.x.high))
    for at in range(low, high + 1):
        _bar(
            canvas,
            at,
            line,
            "-",
            {0: "<" if low < 0 else "-", canvas.width - 1: ">" if high >= canvas.width else "-"}.get(at, "-"),
        )
    low, high = (canvas.line(float(point.y) if end is None else end) for end in (point.y.low, point.y.high))
    for at in range(low, high + 1):
        _bar(
            canvas,
            column,
            at,
            "|",
            {0: "v" if low < 0 else "|", canvas.height - 1: "^" if high >= canvas.height else "|"}.get(at, "|"),
        )


def _bar(canvas: Canvas, column: int, line: int, along: str, name: str) -> None:
    across = canvas.sign("|" if along == "-" else "-")
    crossed = canvas.at(column, line) in (across, canvas.sign("+"))
    canvas.put(column, line, canvas.sign("+" if crossed else name), "dim")


def _mark(canvas: Canvas, point: Point, letter: str) -> bool:
    """Draw the letter, beside its place where another one is. Whether there was no room for it."""
    column, line = canvas.column(float(point.x)), canvas.line(float(point.y))
    for at in (column, column + 1, column - 1):
        if not canvas.at(at, line).isalpha() and 0 <= at < canvas.width:
            canvas.put(at, line, letter, STYLES[point.standing])
            return False
    canvas.put(column, line, canvas.sign("several"), STYLES[point.standing])
    return True


def _legend(canvas: Canvas, found: TradeOff, letters: Mapping[str, str]) -> Sequence[Any]:
    """A line for each letter and limit."""
    from rich.text import Text

    lines = []
    for point in found.points[: len(letters)]:
        rest = "  ".join(filter(None, (point.name, STANDINGS.get(point.standing, ""), point.words)))
        lines.append(Text.assemble((f"{letters[point.id]}  ", STYLES[point.standing] or "bold"), plain(rest)))
    if more := len(found.points) - len(letters):
        lines.append(plain(f"{canvas.sign('point')}  {more:,} more"))
    for axis, limits in found.limits.items():
        lines += [Text.assemble((f"{canvas.sign(f'limit_{axis}')}  ", "red"), plain(text)) for _, text in limits]
    return lines
