"""The designs that tell prefill from decode: which windows a trial has, what each runs, and how phases follow. Pure.

A trial has its whole window and parts. A part runs the batches of the whole window, with their prompts, in one or more
passes; each pass may cut prompts and answers. A round is every pass of every batch. What a round takes, in joules or in
seconds, is linear in what phases take, so that each phase is a sum of weights times the rounds of windows:

    differential  prefill p, decode w - p, the sum of both without the whole window (b - 2 p) + p = b - p
    segregated    prefill p, decode r, their sum p + r
    regression    E = a batches + b prompt tokens + c decoded tokens + d (decoded tokens x their contexts), fitted to
                  the five parts by least squares of relative errors; prefill is the first two terms at the lengths of
                  the whole window, decode the other two, and their sum is what the parts predict for it

with w, p, b and r of the whole window and the parts `prefill`, `both` and `decode`. The parts of the regression are the
grid of half and whole prompts with one output token, half of the answer and all of it; its sixth point is the whole
window.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from llem.store.models import Part, RequestRow, Trial

__all__ = ["ALL", "DESIGNS", "FIRST", "TERMS", "WHOLE", "Pass", "Weights", "part_counts", "weights_of", "work_of"]

#: The name of the whole window among those of a trial.
WHOLE = "whole"


@attrs.frozen(order=True)
class Pass:
    """How a batch runs: the shares of each prompt, from its beginning, and of each answer; one token is left at least.

    Requests without output tokens have none in any pass.

    Attributes:
        kept: the prompts were computed before the window, and every token but the first is decoded in it.
    """

    inputs: float = 1.0
    outputs: float = 1.0
    kept: bool = False

    def input_tokens(self, whole: int) -> int:
        """Tokens of a prompt that has so many."""
        return min(whole, max(1, math.ceil(whole * self.inputs)))

    def output_tokens(self, whole: int) -> int:
        """Tokens of an answer that has so many."""
        if self.kept:
            return max(whole - 1, 0)
        return min(whole, max(1, math.ceil(whole * self.outputs)))


#: As the batch is; with one output token for each request; and without the first of them.
ALL, FIRST, REST = Pass(), Pass(outputs=0.0), Pass(kept=True)
#: The parts of a trial by the setting `phases`, and the passes of each.
DESIGNS: Mapping[str, Mapping[str, tuple[Pass, ...]]] = {
    "none": {},
    "differential": {"prefill": (FIRST,), "both": (FIRST, ALL)},
    "segregated": {"prefill": (FIRST,), "decode": (REST,)},
    "regression": {
        "prefill": (FIRST,),
        "half_prefill": (Pass(0.5, 0.0),),
        "half_output": (Pass(1.0, 0.5),),
        "half_input": (Pass(0.5, 1.0),),
        "halves": (Pass(0.5, 0.5),),
    },
}
_PASSES = {name: passes for parts in DESIGNS.values() for name, passes in parts.items()}
#: The terms of the regression, each as what it takes of the whole window.
TERMS = ("batches", "prompts", "decoded", "contexts")


def part_counts(trial: Trial, part: Part, rows: Sequence[RequestRow]) -> dict[str, int | None] | None:
    """What a part has to count, by the requests of the whole window; None for a part of no design."""
    passes = _PASSES.get(part.name)
    if passes is None:
        return None
    times, inputs = part.rounds * len(passes), [row.input_tokens for row in rows]
    known = [one for one in inputs if one is not None]
    prompts = part.rounds * sum(one.input_tokens(count) for one in passes for count in known)
    return {
        "batches": trial.batches * times,
        "requests": trial.requests * times,
        "input_tokens": prompts if len(known) == len(inputs) else None,
        "output_tokens": part.rounds * sum(one.output_tokens(row.output_tokens) for one in passes for row in rows),
        "batch_s": trial.batches * times,
    }


#: Of a quantity: what the rounds of windows are multiplied by, by their names.
Weights = Mapping[str, Mapping[str, float]]


def weights_of(trial: Trial, rounds: Mapping[str, float], rows: Sequence[RequestRow]) -> Weights | str:
    """`prefill`, `decode` and `sum` (of both, without the whole window) from the rounds of windows, by their names; of
    a regression also each of `TERMS`. A code where it cannot be told.

    Args:
        rounds: what a round of each window took, the whole one too.
        rows: requests of the whole window.
    """
    names = {part.name for part in trial.parts}
    if names == set(DESIGNS["segregated"]):
        alone = {name: {name: 1.0} for name in DESIGNS["segregated"]}
        return {**alone, "sum": _added(*alone.values())}
    if names == set(DESIGNS["differential"]):
        differences = {"decode": {WHOLE: 1.0, "prefill": -1.0}, "sum": {"both": 1.0, "prefill": -1.0}}
        return {"prefill": {"prefill": 1.0}, **differences}
    return _fitted(rounds, rows) if names == set(DESIGNS["regression"]) else "not_recorded"


def _fitted(rounds: Mapping[str, float], rows: Sequence[RequestRow]) -> Weights | str:
    """The weights of the least squares of relative errors. Each column is scaled to the whole window, so that a
    coefficient is what its term takes of it."""
    import numpy as np

    names = list(DESIGNS["regression"])
    if any(row.input_tokens is None for row in rows):
        return "prompt_not_told"
    whole = np.array(work_of(rows, ALL))
    design = np.array([work_of(rows, _PASSES[name][0]) for name in names])
    values = np.array([rounds[name] for name in names])
    if not (whole > 0).all() or not (values > 0).all():
        return "too_few_lengths"
    scaled = design / whole / values[:, None]
    if np.linalg.matrix_rank(scaled, tol=1e-6 * np.linalg.norm(scaled)) < len(TERMS):
        return "too_few_lengths"
    found = np.linalg.pinv(scaled) / values
    terms = {term: dict(zip(names, map(float, row), strict=True)) for term, row in zip(TERMS, found, strict=True)}
    return {
        **terms,
        "prefill": _added(terms["batches"], terms["prompts"]),
        "decode": _added(terms["decoded"], terms["contexts"]),
        "sum": _added(*terms.values()),
    }


def work_of(rows: Sequence[RequestRow], one: Pass) -> tuple[float, float, float, float]:
    """Batches, prompt tokens, decoded tokens, and the contexts of these added up, of all batches in one pass."""
    prompts = [one.input_tokens(row.input_tokens or 0) for row in rows]
    decoded = [max(one.output_tokens(row.output_tokens) - 1, 0) for row in rows]
    contexts = sum(n * given + n * (n + 1) / 2 for given, n in zip(prompts, decoded, strict=True))
    return float(len({row.batch for row in rows})), float(sum(prompts)), float(sum(decoded)), float(contexts)


def _added(*weights: Mapping[str, float]) -> dict[str, float]:
    names: Any = dict.fromkeys(name for one in weights for name in one)
    return {name: sum(one.get(name, 0.0) for one in weights) for name in names}
