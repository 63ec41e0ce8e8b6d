"""A trade-off as a small static SVG: crosses for intervals, colours for where each stands, dashed lines for limits.

It has no script and no style sheet. Its text has the colour of the text around it, so it fits light and dark pages.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from llem.foreign.shown import visible
from llem.reports.axis import Axis
from llem.reports.figures import figure
from llem.reports.tradeoff import Point, TradeOff

__all__ = ["COLOURS", "tradeoff_svg"]

#: Pixels of the whole, and of what the axes take.
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 640, 360, 64, 16, 28, 48
#: Colours that stand out on white and on black, by where a configuration stands.
COLOURS = {"choice": "#2e9e5b", "tie": "#d28a12", "worse": "#6b8cae", "out": "#9a9a9a", "": "#3f86c9"}
LIMIT = "#d0453f"
#: So many points have a name beside them.
NAMED = 12
#: Left, top, right and bottom in pixels.
Box = tuple[float, float, float, float]
FONT = "font-family:system-ui,sans-serif;font-size:12px"


def tradeoff_svg(found: TradeOff) -> str:
    """The plot; all text in it is escaped.

    Points say their configuration and figures when they are pointed at.
    """
    across, up = (f"{axis.heading}" for axis in (found.x, found.y))
    title = f"{len(found.points)} configurations: {up} against {across}"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" role="img" '
        f'style="max-width:100%;height:auto;color:inherit;{FONT}" fill="currentColor" aria-label="{_text(title)}">',
        *_axes(found.x, found.y),
        *_limits(found),
        *(line for point in reversed(found.points) for line in _point(found, point)),
        *_names(found),
        "</svg>",
    ]
    return "\n".join(parts)


def _x(axis: Axis, value: float) -> float:
    return LEFT + axis.at(value) * (WIDTH - LEFT - RIGHT)


def _y(axis: Axis, value: float) -> float:
    return HEIGHT - BOTTOM - axis.at(value) * (HEIGHT - TOP - BOTTOM)


def _text(text: str) -> str:
    return escape(visible(text), quote=True)


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, more: str = "") -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" {more}/>'


def _label(x: float, y: float, text: str, anchor: str = "middle", more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {more}>{_text(text)}</text>'


def _axes(x: Axis, y: Axis) -> Iterator[str]:
    """Grid lines with their values, and the headings."""
    bottom, faint = HEIGHT - BOTTOM, 'stroke-opacity="0.15"'
    for value, text in x.ticks:
        yield _line(_x(x, value), TOP, _x(x, value), bottom, "currentColor", faint)
        yield _label(_x(x, value), bottom + 16, text, more='fill-opacity="0.75"')
    for value, text in y.ticks:
        yield _line(LEFT, _y(y, value), WIDTH - RIGHT, _y(y, value), "currentColor", faint)
        yield _label(LEFT - 6, _y(y, value) + 4, text, "end", 'fill-opacity="0.75"')
    yield _line(LEFT, bottom, WIDTH - RIGHT, bottom, "currentColor", 'stroke-opacity="0.6"')
    yield _line(LEFT, TOP, LEFT, bottom, "currentColor", 'stroke-opacity="0.6"')
    yield _label((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, x.heading)
    yield _label(8, 16, y.heading, "start")


def _limits(found: TradeOff) -> Iterator[str]:
    dashed = 'stroke-width="1.5" stroke-dasharray="5 4"'
    for bound, text in found.limits["x"]:
        at = _x(found.x, bound)
        yield _line(at, TOP, at, HEIGHT - BOTTOM, LIMIT, dashed)
        yield _label(at - 4, TOP + 12, text, "end", f'fill="{LIMIT}"')
    for bound, text in found.limits["y"]:
        at = _y(found.y, bound)
        yield _line(LEFT, at, WIDTH - RIGHT, at, LIMIT, dashed)
        yield _label(WIDTH - RIGHT, at - 4, text, "end", f'fill="{LIMIT}"')


def _point(found: TradeOff, point: Point) -> Iterator[str]:
    """A cross of the two intervals, cut at the edges of the plot, and a dot at the values."""
    x, y, colour = found.x, found.y, COLOURS[point.standing]
    at, up = _x(x, float(point.x)), _y(y, float(point.y))
    yield f"<g><title>{_text(_told(point))}</title>"
    thick = f'stroke-width="1.5" stroke-opacity="{0.45 if point.standing == "out" else 0.75}"'
    if point.x.low is not None and point.x.high is not None:
        yield _line(_x(x, point.x.low), up, _x(x, point.x.high), up, colour, thick)
    if point.y.low is not None and point.y.high is not None:
        yield _line(at, _y(y, point.y.low), at, _y(y, point.y.high), colour, thick)
    size = 6 if point.standing == "choice" else 4
    hollow = f'fill="none" stroke="{colour}" stroke-width="1.5"' if point.standing == "out" else f'fill="{colour}"'
    yield f'<circle cx="{at:.1f}" cy="{up:.1f}" r="{size}" {hollow}/></g>'


#: Where a name may stand beside its point: to the right or to the left, and so many pixels below.
SIDES = tuple((side, down) for down in (-6, 15, -19, 28, -32, 41) for side in (1, -1))


def _names(found: TradeOff) -> Iterator[str]:
    """The beginnings of the first ids, each where no other name and no point is; one that has no room is left out."""
    dots = [(_x(found.x, float(one.x)), _y(found.y, float(one.y))) for one in found.points]
    taken = [(at - 5, up - 5, at + 5, up + 5) for at, up in dots]
    for point, (at, up) in zip(found.points[:NAMED], dots, strict=False):
        wide = 7.5 * len(point.name)
        for side, down in SIDES:
            left = at + 8 if side > 0 else at - 8 - wide
            box = (left, up + down - 10, left + wide, up + down + 2)
            inside = box[0] > LEFT and box[2] < WIDTH and box[1] > TOP - 8 and box[3] < HEIGHT - BOTTOM
            if inside and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                weight = 'font-weight="600"' if point.standing == "choice" else 'fill-opacity="0.85"'
                yield _label(at + 8 * side, up + down, point.name, "start" if side > 0 else "end", weight)
                break


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _told(point: Point) -> str:
    return f"{point.name}: {point.words}\n{figure(point.x)}, {figure(point.y)}"
