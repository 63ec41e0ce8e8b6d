"""The experiments of a study as a table: what varies, and the headline figures. One line each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from llem.analysis.overview import state_of
from llem.findings import REASONS
from llem.reports.figures import bare, grid, plain, put, screen, setting
from llem.reports.serving import render_curves
from llem.store.models import Quantity, Result

__all__ = ["headings", "prefixes", "render_study", "varied"]

#: Metric and the heading of its column.
FIGURES: tuple[tuple[str, str], ...] = (
    ("energy_per_output_token_j", "J/output token"),
    ("output_tokens_per_s", "output token/s"),
    ("power_w", "W"),
)


def render_study(results: Sequence[Result], study: Mapping[str, Any]) -> None:
    """Print results in the order given; `study` is the content of study.json."""
    out = screen()
    axes = varied(study, [result.id for result in results])
    points = study.get("points", {})
    words = [*range(1, len(axes) + 1), len(axes) + len(FIGURES) + 1]
    table = grid("id", *headings(axes), *(heading for _, heading in FIGURES), "outcome", words=words)
    shown = prefixes([result.id for result in results])
    for result in results:
        values = points.get(result.id, {}).get("values", {})
        cells = [setting(values[path]) if path in values else "" for path in axes]
        figures = [_bare(result.metrics.get(name)) for name, _ in FIGURES]
        table.add_row(*(plain(cell) for cell in (shown[result.id], *cells, *figures, _outcome(result))))
    put(out, table)
    for line in _missing(results):
        out.print(plain(line), style="dim")
    render_curves(results, out)


def prefixes(ids: Sequence[str]) -> dict[str, str]:
    """The beginning of each id that is enough for `llem show`."""
    length = next(n for n in range(8, 65) if len({one[:n] for one in ids}) == len(set(ids)))
    return {one: one[:length] for one in ids}


def _bare(quantity: Quantity | None) -> str:
    return "–" if quantity is None or quantity.value is None else bare(quantity)


def _missing(results: Sequence[Result]) -> Iterator[str]:
    """Why figures are missing, each reason once."""
    absent: dict[str, dict[str, None]] = {}  # in order, each heading once
    for name, heading in FIGURES:
        for quantity in (result.metrics.get(name) for result in results):
            if quantity is not None and quantity.value is None:
                absent.setdefault(quantity.reason or "", {})[heading] = None
    for reason, names in absent.items():
        yield f"– in {', '.join(names)}: {REASONS.get(reason, reason)}"


def varied(study: Mapping[str, Any], ids: Sequence[str]) -> list[str]:
    """Paths that are not the same for all these experiments, in the study's order."""
    values = [study.get("points", {}).get(name, {}).get("values", {}) for name in ids]
    return [path for path in study.get("axes", ()) if len({setting(one.get(path)) for one in values}) > 1]


def headings(paths: Sequence[str]) -> list[str]:
    """Each path by its shortest ending that no other path has."""
    found = []
    for path in paths:
        steps = path.split(".")
        endings = [".".join(steps[-count:]) for count in range(1, len(steps) + 1)]
        alone = (end for end in endings if sum(other == end or other.endswith(f".{end}") for other in paths) == 1)
        found.append(next(alone, path))
    return found


def _outcome(result: Result) -> str:
    return f"{result.outcome}: {result.error}" if result.error else state_of(result)
