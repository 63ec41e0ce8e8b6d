"""The page: every figure in words, in tables and as a plot, with causes of failures from a file written by hand."""

from __future__ import annotations

import json
import math
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
from benchmarks.validation import (
    anchor_figures,
    drift_figures,
    known_figures,
    phase_figures,
    repeat_figures,
    sensor_figures,
)
from benchmarks.validation.figure import Figure
from benchmarks.validation.raw import NotMeasured, Raw, unpacked

from llem.errors import StoreError

__all__ = ["CAUSES", "FIGURES", "figures", "page", "write"]

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "explanation" / "validation.md"
#: Beside the raw data: by the name of a figure, why it fails, in sentences.
CAUSES = "causes.json"
#: Each figure, and the title that it has where it was not measured.
FIGURES: Mapping[str, tuple[str, Callable[[Raw], Figure]]] = {
    "F1": ("Counter and instantaneous reading", sensor_figures.agreement),
    "F2": ("Error by the length of the window", sensor_figures.lengths),
    "F3": ("Linearity", known_figures.linearity),
    "F4": ("Repeatability", repeat_figures.repeatability),
    "F5": ("A against A", repeat_figures.same),
    "F6": ("Known effects", known_figures.effects),
    "F7": ("Additivity of phases", phase_figures.phases),
    "F8": ("Bounds, published figures and the monitor's own cost", anchor_figures.anchoring),
    "F9": ("Thermal drift", drift_figures.drift),
    "F10": ("Blocks against sequence", drift_figures.blocks),
}
HEAD = (
    "# Validation on a real GPU\n\n"
    "Each figure below is computed from measurements of llem's production code on one GPU, and held against a "
    "threshold "
    "that was set before. Passes and failures stand side by side. No external power meter was there, so nothing here "
    "says how far the board's own sensor is from true joules. The thresholds were set before. Which windows a figure "
    "takes, and how near a prediction counts as met, was settled while the first data of an H200 were there.\n"
)


def figures(raw: Raw) -> list[Figure]:
    """Every figure; one whose part is not there says so."""
    return [_figure(name, raw) for name in FIGURES]


def _figure(name: str, raw: Raw) -> Figure:
    title, made = FIGURES[name]
    try:
        found = made(raw)
        stopped = [part for part in found.parts if (raw.folder / part).is_dir() and not raw.done(part)]
        told = [f"The part `{part}` was stopped before its end: what it had is used." for part in stopped]
        return attrs.evolve(found, notes=(*found.notes, *told))
    except (NotMeasured, StoreError) as error:  # such as too few trials to compare, where a part was stopped early
        return Figure(name=name, title=title, parts=(), done="", missing=str(error))


def page(found: Sequence[Figure], machine: Mapping[str, Any], causes: Mapping[str, str], data: str, plots: str) -> str:
    """The page as Markdown.

    Args:
        causes: by the name of a figure. data: folder of the raw data, from the repository's root.
        plots: folder of the SVG, from the page.
    """
    lines = [HEAD, *_machine(machine, data), "## All figures", "", "| figure | | result |", "|---|---|---|"]
    lines += [f"| {one.name} | [{one.title}](#{_anchor(one)}) | {_counted(one)} |" for one in found]
    for one in found:
        lines += ["", f"## {one.name}: {one.title}", "", *_section(one, causes.get(one.name, ""), plots)]
    lines += ["", *_repeat(data)]
    return "\n".join(lines) + "\n"


def _anchor(one: Figure) -> str:
    words = "".join(c for c in f"{one.name}: {one.title}".lower() if c.isalnum() or c in " -_")
    return words.replace(" ", "-")


def _counted(one: Figure) -> str:
    if one.verdict == "not measured":
        return "not measured"
    passed = sum(check.passed for check in one.checks)
    return f"**{one.verdict}** ({passed} of {len(one.checks)} checks hold)"


def _machine(machine: Mapping[str, Any], data: str) -> list[str]:
    told = f"Raw data: `{data}`, one archive for each part."
    if machine:
        told = f"{machine['name']}, power limit {machine['power_limit_w']:.0f} W, driver {machine['driver']}. {told}"
    return [told, ""]


def _section(one: Figure, cause: str, plots: str) -> list[str]:
    if one.missing:
        return [f"Not measured: {one.missing}.", *(["", cause] if cause else [])]
    lines = [one.done, "", "| check | found | wanted | |", "|---|---|---|---|"]
    lines += [f"| {c.what} | {c.found} | {c.wanted} | {'pass' if c.passed else '**fail**'} |" for c in one.checks]
    if cause:
        lines += ["", f"**Cause.** {cause}"]
    elif one.verdict == "fail":
        lines += ["", "**Cause.** Not known yet."]
    for plot in one.plots:
        lines += ["", f"![{one.title}]({plots}/{plot}.svg)"]
    for note in one.notes:
        lines += ["", note]
    if one.table:
        head, *rows = one.table
        lines += ["", _row(head), "|" + "---|" * len(head), *map(_row, rows)]
    lines += [
        "",
        f"Measured by the part{'s' if len(one.parts) > 1 else ''} {', '.join(f'`{part}`' for part in one.parts)}.",
    ]
    return lines


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _repeat(data: str) -> list[str]:
    return [
        "## How to repeat it",
        "",
        "On a machine with an NVIDIA GPU, from the repository's root (PyTorch and `llem-pytorch` are needed; each "
        "part takes less than 9 "
        "minutes and is resumed where it was stopped):",
        "",
        "```sh",
        "python -m benchmarks.validation parts",
        "python -m benchmarks.validation measure raw --pack out --part sensors thermal drift",
        f"python -m benchmarks.validation write {data} --take out",
        "```",
        "",
        f"The last command needs no GPU. It copies the archives into `{data}`, and computes every figure, plot and "
        "this page anew. "
        f"Causes of failures are written by hand into `{CAUSES}` there.",
    ]


def write(folder: Path, take: Path | None = None, to: Path = PAGE) -> list[Figure]:
    """Compute every figure from the archives of `folder`; write the page, its plots, and the numbers.

    Args:
        take: a folder whose archives are copied there first.
        to: the page. Its plots lie in a folder of its name beside it; the numbers, in figures.json beside the archives.

    Raises SystemExit: there is no archive.
    """
    if take is not None:
        folder.mkdir(parents=True, exist_ok=True)
        for file in take.glob("*.tar.gz"):
            if not file.name.endswith("-whole.tar.gz"):
                shutil.copyfile(file, folder / file.name)
    if not any(folder.glob("*.tar.gz")):
        raise SystemExit(f"{folder}: there is no PART.tar.gz; `measure … --pack {folder}` writes them")
    causes_file = folder / CAUSES
    causes = json.loads(causes_file.read_text()) if causes_file.exists() else {}
    if unknown := sorted(set(causes) - set(FIGURES)):
        raise SystemExit(f"{causes_file}: there is no figure {unknown[0]!r}; there are {', '.join(FIGURES)}")
    with tempfile.TemporaryDirectory() as temporary:
        raw = unpacked(folder, Path(temporary))
        found, machine = figures(raw), raw.machine()
    plots = to.with_suffix("")
    shutil.rmtree(plots, ignore_errors=True)
    plots.mkdir(parents=True)
    for one in found:
        for name, svg in one.plots.items():
            (plots / f"{name}.svg").write_text(svg)
    data = folder.resolve()
    shown = data.relative_to(ROOT).as_posix() if data.is_relative_to(ROOT) else folder.as_posix()
    to.write_text(page(found, machine, causes, shown, plots.name))
    numbers = {one.name: {"verdict": one.verdict, "missing": one.missing, **_plain(one)} for one in found}
    (folder / "figures.json").write_text(json.dumps(numbers, indent=1) + "\n")
    return found


def _plain(one: Figure) -> dict[str, Any]:
    return {"checks": [attrs.asdict(check) for check in one.checks], "numbers": _finite(one.numbers)}


def _finite(value: Any) -> Any:
    """The same with None for what is not a number, which JSON does not know."""
    if isinstance(value, Mapping):
        return {str(name): _finite(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
