"""Where the wall clock went, as text for a terminal."""

from __future__ import annotations

from llem.analysis.wall_clock import PARTS, TimeSpent
from llem.reports.figures import grid, plain, put, screen

__all__ = ["render_time"]


def render_time(spent: TimeSpent) -> None:
    """Print the parts with their share of the sum, and what the sum leaves out."""
    out = screen()
    if spent.parts:
        shared = any(part.shared_by > 1 for part in spent.parts)
        table = grid("part", "time", "share", *(["shared by"] if shared else []), "")
        for part in spent.parts:
            cells = [
                part.part,
                f"{part.seconds:.3f} s",
                f"{part.seconds / spent.whole_s:.1%}" if spent.whole_s else "–",
            ]
            cells += [f"{part.shared_by} experiments" if part.shared_by > 1 else ""] if shared else []
            table.add_row(*map(plain, [*cells, PARTS.get(part.part, "")]))
        put(out, table)
        out.print(plain(f"\n{_whole(spent)}"))
    if spent.untimed:
        what = "engine process has" if spent.untimed == 1 else "engine processes have"
        out.print(plain(f"{spent.untimed} {what} no times: measured by an llem whose events had none"))
    elif not spent.parts:
        out.print(plain("no times yet: no worker was launched"))


def _whole(spent: TimeSpent) -> str:
    engines = f"{spent.workers} engine process{'' if spent.workers == 1 else 'es'}"
    whole = f"in all {spent.whole_s:.3f} s, {engines}"
    if spent.wall_s is not None and spent.whole_s - spent.wall_s > 0.001:
        return f"{whole} side by side within {spent.wall_s:.3f} s"
    if any(part.shared_by > 1 for part in spent.parts):
        return f"{whole}; what several experiments share is counted whole for each of them"
    return whole
