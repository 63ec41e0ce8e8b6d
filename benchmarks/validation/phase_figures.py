"""F7: the energies of prefill and decode. Pure but for the reading of stores."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import attrs
from benchmarks.validation.chart import BLUE, GREEN, GREY, ORANGE, RED, Series, chart
from benchmarks.validation.figure import Check, Figure, percent
from benchmarks.validation.known_figures import joules
from benchmarks.validation.raw import NotMeasured, Raw
from benchmarks.validation.regression import fit

from llem.metrics.statistics import Interval

__all__ = ["Window", "phases", "plain_windows"]


@attrs.frozen
class Window:
    """One window of a grid of lengths: joules of a request of `prompt` and `output` tokens."""

    prompt: int
    output: int
    joules: float


def plain_windows(raw: Raw) -> list[Window]:
    """The windows of the part `phases`, whose experiments are plain ones of one prompt and output length each.

    A study with llem's own setting `phases` has the lengths in the parts of each trial. To read one, give `phases`
    another source of the same windows; nothing after it depends on where they come from. Raises NotMeasured.
    """
    store, names = raw.store("phases")
    found = []
    for name in names:
        work = store.read_experiment(name)["config"]["workload"]
        for trial in store.trials(name):
            found.append(Window(work["input_tokens"], work["output_tokens"], joules(trial) / trial.requests))
    return found


def phases(raw: Raw) -> Figure:
    """F7: a regression of joules on lengths, and how its phases close."""
    windows = plain_windows(raw)
    # the relative scatter is alike in all windows, so small ones are known better in joules
    weights = [1 / one.joules for one in windows]
    try:
        found = fit([_terms(one) for one in windows], [one.joules for one in windows], weights)
    except ValueError as error:
        raise NotMeasured(f"the part `phases` was stopped with {len(windows)} windows: {error}") from None
    closure = [fitted / one.joules - 1 for fitted, one in zip(found.fitted, windows, strict=True)]
    cells = [
        statistics.mean(c for c, one in zip(closure, windows, strict=True) if _cell(one) == at)
        for at in _cells(windows)
    ]
    worst = max(map(abs, cells))
    table = [["prompt", "output", "whole, J/request", "prefill", "decode", "sum over whole, less 1"]]
    for (prompt, output), off in zip(_cells(windows), cells, strict=True):
        whole = statistics.mean(one.joules for one in windows if _cell(one) == (prompt, output))
        parts = [b.value * x for b, x in zip(found.terms, _terms(Window(prompt, output, whole)), strict=True)]
        table.append(
            [str(prompt), str(output), f"{whole:.3f}", f"{sum(parts[:2]):.3f}", f"{sum(parts[2:]):.3f}", percent(off)]
        )
    a, b, c, d = found.terms
    return Figure(
        name="F7",
        title="Additivity of phases",
        parts=("phases",),
        done=f"The 8B shape on PyTorch, {len(_cells(windows))} pairs of prompt and output length, {len(windows)} "
        "windows. "
        "Joules of a request are fitted by E = a + b·in + c·out + d·out·context (least squares, relative errors "
        "alike), where "
        "out are the tokens after the first one, which the prefill brings, and context is the mean of theirs. "
        "Prefill is "
        "a + b·in, decode the rest; the closure sets their sum against the whole window.",
        checks=(
            Check("closure, the greatest of any pair of lengths", percent(worst), "≤ 2 %", worst <= 0.02),
            Check("b, joules per prompt token", _told(b), "within 5 % (95 %)", _narrow(b)),
            Check("c, joules per output token", _told(c), "within 5 % (95 %)", _narrow(c)),
        ),
        notes=(f"a = {_told(a)}, d = {_told(d)}; R² = {found.r2:.5f}.",),
        table=table,
        plots={"F7": _grid(windows, found.terms)},
        numbers={name: attrs.asdict(one) for name, one in zip("abcd", found.terms, strict=True)} | {"closure": worst},
    )


def _terms(one: Window) -> list[float]:
    """1, prompt tokens, decoded tokens, and decoded tokens times their mean context."""
    decoded = one.output - 1
    return [1.0, float(one.prompt), float(decoded), decoded * (one.prompt + (1 + one.output) / 2)]


def _cell(one: Window) -> tuple[int, int]:
    return one.prompt, one.output


def _cells(windows: Sequence[Window]) -> list[tuple[int, int]]:
    return sorted({_cell(one) for one in windows})


def _told(one: Interval) -> str:
    share = f" (± {percent(one.half_width / abs(one.value), 1)})" if one.value else ""
    return f"{one.value:.4g} J [{one.low:.4g}, {one.high:.4g}]{share}"


def _narrow(one: Interval) -> bool:
    return one.half_width <= 0.05 * abs(one.value)


def _grid(windows: Sequence[Window], terms: Sequence[Interval]) -> str:
    series = []
    for prompt, colour in zip(sorted({one.prompt for one in windows}), (BLUE, ORANGE, GREEN, RED, GREY), strict=False):
        own = [one for one in windows if one.prompt == prompt]
        outputs = sorted({one.output for one in own})
        line = [sum(b.value * x for b, x in zip(terms, _terms(Window(prompt, n, 0.0)), strict=True)) for n in outputs]
        xs, ys = [float(one.output) for one in own], [one.joules for one in own]
        series.append(Series(name=f"{prompt} in", xs=xs, ys=ys, colour=colour))
        series.append(Series(name="", xs=list(map(float, outputs)), ys=line, colour=colour, kind="line"))
    return chart("Joules per request by lengths", ("output tokens", ""), ("energy per request, J", ""), series)
