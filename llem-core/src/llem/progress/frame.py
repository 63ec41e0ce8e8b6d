"""Lines that fit a terminal: aligned where it is wide enough, else broken between parts. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from llem.foreign.shown import visible

__all__ = ["framed", "packed"]

SEPARATOR = " · "
INDENT = "  "
#: Lines of the terminal that are left to what stays on the screen.
KEPT_LINES = 4


def _clean(text: str) -> str:
    """One line, without commands to a terminal."""
    return visible(text).replace("\n", "\\n").replace("\t", "\\t")


def _width(text: str) -> int:
    from rich.cells import cell_len

    return cell_len(text)


def _cut(text: str, width: int) -> str:
    """At most `width` cells; what is cut is told by `…`."""
    from rich.cells import set_cell_size

    return text if _width(text) <= width else set_cell_size(text, max(width - 1, 0)) + "…"


def packed(parts: Sequence[str], width: int) -> list[str]:
    """Parts joined by ` · `, in as many lines as it takes. Only a part that is wider than the terminal is cut."""
    lines: list[str] = []
    for part in map(_clean, filter(None, parts)):
        if lines and _width(joined := lines[-1] + SEPARATOR + part) <= width:
            lines[-1] = joined
        else:
            lines.append(_cut(INDENT + part if lines else part, width))
    return lines


def _aligned(rows: Sequence[Sequence[str]], width: int) -> list[str] | None:
    """Rows as columns; None where they are wider than the terminal."""
    columns = list(zip(*rows, strict=True))
    widths = [max(map(_width, column)) for column in columns]
    lines = [
        INDENT.join(cell + " " * (size - _width(cell)) for cell, size in zip(row, widths, strict=True) if size).rstrip()
        for row in rows
    ]
    return lines if all(_width(line) <= width for line in lines) else None


def framed(
    head: Sequence[Sequence[str]], rows: Sequence[Sequence[str]], width: int, height: int, last: int = -1
) -> list[str]:
    """The lines of a display: those of the head, and a row for each worker.

    Args:
        head: parts of each line above the rows.
        rows: cells of each worker, all of one length.
        width, height: of the terminal, in cells and lines.
        last: cell that gives way to the others where there is little room, and is put last; -1 for none.
    """
    above = [line for parts in head for line in packed(parts, width)]
    clean = [[_clean(cell) for cell in row] for row in rows]
    room = max(height - KEPT_LINES - len(above), 1)
    below = _aligned(clean, width) if clean else []
    each = [[line] for line in below] if below is not None else [packed(_order(row, last), width) for row in clean]
    lines: list[str] = []
    for number, row in enumerate(each):
        if len(lines) + len(row) > room and number:
            return [*above, *lines, _cut(f"and {len(each) - number} more", width)]
        lines += row
    return [*above, *lines]


def _order(row: Sequence[str], last: int) -> list[str]:
    if last < 0:
        return list(row)
    return [cell for number, cell in enumerate(row) if number != last] + [row[last]]
