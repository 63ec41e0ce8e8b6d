"""Small static SVG charts: points, lines and bars of intervals between two axes. Pure.

Colours stand out on white and on black, since a page may be either and an image does not know it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import Literal

import attrs

from llem.foreign.shown import visible
from llem.reports.axis import Axis, Span, axis_of

__all__ = ["BLUE", "GREEN", "GREY", "ORANGE", "RED", "Line", "Series", "chart", "stacked"]

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 640, 340, 64, 16, 48, 44
INK = "#7d8590"
BLUE, ORANGE, GREEN, RED, GREY = "#3f86c9", "#d28a12", "#2e9e5b", "#d0453f", "#9a9a9a"
FONT = "font-family:system-ui,sans-serif;font-size:12px"


@attrs.frozen(kw_only=True)
class Series:
    """Values that belong together.

    Attributes:
        ends: of each value the ends of its interval. kind: how they are drawn.
    """

    name: str
    xs: Sequence[float]
    ys: Sequence[float]
    ends: Sequence[tuple[float, float]] = ()
    colour: str = BLUE
    kind: Literal["points", "line", "both"] = "points"


@attrs.frozen
class Line:
    """A dashed line at a value of an axis, with what it means."""

    axis: Literal["x", "y"]
    value: float
    text: str = ""
    colour: str = RED


def chart(
    title: str, x: tuple[str, str], y: tuple[str, str], series: Sequence[Series], lines: Sequence[Line] = ()
) -> str:
    """A chart.

    Args:
        title: for those who do not see it. x, y: heading and unit of an axis.
    """
    across = axis_of(*x, [(v, None, None) for one in series for v in one.xs], _at(lines, "x"))
    up = axis_of(*y, [span for one in series for span in _spans(one)], _at(lines, "y"))
    body = [
        *_axes(across, up),
        *(text for line in lines for text in _line_across(across, up, line)),
        *(text for one in series for text in _series(across, up, one)),
        *_legend(series),
    ]
    return _svg(title, body, WIDTH)


def stacked(title: str, charts: Sequence[str]) -> str:
    """Several charts as one picture, one above the other."""
    parts = [f'<g transform="translate(0 {number * HEIGHT})">{one}</g>' for number, one in enumerate(charts)]
    return _svg(title, parts, WIDTH, HEIGHT * len(charts))


def _svg(title: str, body: Sequence[str], width: int, height: int = HEIGHT) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    return "\n".join((f'{head} role="img" style="{FONT}" fill="{INK}" aria-label="{_text(title)}">', *body, "</svg>\n"))


def _at(lines: Sequence[Line], axis: str) -> list[float]:
    return [line.value for line in lines if line.axis == axis]


def _spans(one: Series) -> list[Span]:
    if not one.ends:
        return [(value, None, None) for value in one.ys]
    return [(value, *ends) for value, ends in zip(one.ys, one.ends, strict=True)]


def _x(axis: Axis, value: float) -> float:
    return LEFT + axis.at(value) * (WIDTH - LEFT - RIGHT)


def _y(axis: Axis, value: float) -> float:
    return HEIGHT - BOTTOM - axis.at(value) * (HEIGHT - TOP - BOTTOM)


def _text(text: str) -> str:
    return escape(visible(text), quote=True)


def _stroke(x1: float, y1: float, x2: float, y2: float, colour: str, more: str = "") -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" {more}/>'


def _label(x: float, y: float, text: str, anchor: str = "middle", more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {more}>{_text(text)}</text>'


def _axes(x: Axis, y: Axis) -> Iterator[str]:
    bottom, faint = HEIGHT - BOTTOM, 'stroke-opacity="0.25"'
    for value, text in x.ticks:
        yield _stroke(_x(x, value), TOP, _x(x, value), bottom, INK, faint)
        yield _label(_x(x, value), bottom + 16, text)
    for value, text in y.ticks:
        yield _stroke(LEFT, _y(y, value), WIDTH - RIGHT, _y(y, value), INK, faint)
        yield _label(LEFT - 6, _y(y, value) + 4, text, "end")
    yield _stroke(LEFT, bottom, WIDTH - RIGHT, bottom, INK)
    yield _stroke(LEFT, TOP, LEFT, bottom, INK)
    yield _label((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, x.heading)
    yield _label(8, 14, y.heading, "start")


def _line_across(x: Axis, y: Axis, line: Line) -> Iterator[str]:
    dashed = 'stroke-width="1.5" stroke-dasharray="5 4"'
    if line.axis == "x":
        at = _x(x, line.value)
        yield _stroke(at, TOP, at, HEIGHT - BOTTOM, line.colour, dashed)
        yield _label(at - 4, TOP + 12, line.text, "end", f'fill="{line.colour}"')
    else:
        at = _y(y, line.value)
        yield _stroke(LEFT, at, WIDTH - RIGHT, at, line.colour, dashed)
        yield _label(WIDTH - RIGHT - 4, at - 4, line.text, "end", f'fill="{line.colour}"')


def _series(x: Axis, y: Axis, one: Series) -> Iterator[str]:
    dots = [(_x(x, across), _y(y, up)) for across, up in zip(one.xs, one.ys, strict=True)]
    for (at, _), (low, high) in zip(dots, one.ends, strict=False):
        yield _stroke(at, _y(y, low), at, _y(y, high), one.colour, 'stroke-width="1.5" stroke-opacity="0.75"')
    if one.kind != "points":
        path = " ".join(f"{at:.1f},{up:.1f}" for at, up in dots)
        yield f'<polyline points="{path}" fill="none" stroke="{one.colour}" stroke-width="1.5"/>'
    if one.kind != "line":
        for at, up in dots:
            yield f'<circle cx="{at:.1f}" cy="{up:.1f}" r="3" fill="{one.colour}" fill-opacity="0.7"/>'


def _legend(series: Sequence[Series]) -> Iterator[str]:
    at = float(LEFT)
    for one in series:
        if one.name:
            yield f'<circle cx="{at:.1f}" cy="32" r="4" fill="{one.colour}"/>'
            yield _label(at + 8, 36, one.name, "start")
            at += 26 + 6.6 * len(one.name)
