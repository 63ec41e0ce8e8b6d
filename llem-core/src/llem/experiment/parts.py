"""The windows of an offline trial where phases are told apart: what runs in each, how often, and in which order. Pure.

A part runs the batches of the whole window, so that all windows of a trial have the same prompts. Each of its passes
may cut prompts and answers of a batch (`llem.metrics.designs`); a round is every pass of every batch.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import attrs

from llem.backends.base import Request
from llem.errors import ConfigError
from llem.metrics.designs import DESIGNS, Pass

__all__ = ["PartPlan", "in_turn", "plan_parts", "shortened"]

Batch = Sequence[Request]
T = TypeVar("T")


@attrs.frozen
class PartPlan:
    """What a part runs in each trial.

    Attributes:
        passes: what each batch of the whole window runs as, one after the other.
        rounds: how often all batches of the whole window run.
        leads: batches before the window and after it, of the same work.
        seconds: how long all of it should take.
    """

    name: str
    passes: tuple[Pass, ...]
    rounds: int
    leads: int
    seconds: float

    def arranged(self, whole: Sequence[Batch], made: Callable[[Batch, Pass], T]) -> tuple[list[T], list[T]]:
        """What runs before the window and after it, and what within it, from the batches of the whole window.

        Args:
            made: of a batch and a pass what runs them; called once for each.
        """
        turn = [made(batch, one) for batch in whole for one in self.passes]
        return list(itertools.islice(itertools.cycle(turn), self.leads)), turn * self.rounds


def shortened(request: Request, one: Pass) -> Request:
    """A request as a pass runs it. Raises ConfigError: its prompt is text, of which no part is known by tokens."""
    if one.inputs == 1:
        return attrs.evolve(request, output_tokens=one.output_tokens(request.output_tokens))
    if request.text is not None or request.messages is not None or not request.token_ids:
        hint = "use a workload of token ids, such as {kind: synthetic}, or `phases: differential`"
        raise ConfigError("phases: `regression` shortens prompts, and those of this workload are text", hint)
    kept = request.token_ids[: one.input_tokens(len(request.token_ids))]
    return attrs.evolve(request, token_ids=kept, output_tokens=one.output_tokens(request.output_tokens))


def plan_parts(
    design: str, seconds: Mapping[Pass, float], batches: int, window_s: float, lead_s: float
) -> list[PartPlan]:
    """The parts of a design, each as many rounds as fill a window.

    Args:
        seconds: that a batch takes in each pass.
        batches: of the whole window.
        lead_s: least seconds of work before and after a window; 0 for none.
    """
    found = []
    for name, passes in DESIGNS[design].items():
        turn_s = max(sum(seconds[one] for one in passes), 1e-6)
        rounds = max(1, math.ceil(window_s / (turn_s * batches)))
        leads = len(passes) * math.ceil(lead_s / turn_s)
        total_s = turn_s * (batches * rounds + 2 * leads / len(passes))
        found.append(PartPlan(name, passes, rounds, leads, total_s))
    return found


def in_turn(plans: Sequence[PartPlan], index: int) -> list[PartPlan | None]:
    """The windows of a trial in their order, None for the whole one: the reverse in every second trial.

    What drifts along a line is then the same for all windows, over two trials.
    """
    half = len(plans) // 2
    order = [*plans[:half], None, *plans[half:]]
    return order[::-1] if index % 2 else order
