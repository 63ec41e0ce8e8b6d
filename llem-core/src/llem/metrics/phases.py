"""Prefill and decode apart: what further windows of a trial run, and joules, seconds and shares of the phases. Pure.

Of one window with whole batches, the energies of the two phases cannot be known. So a trial has further windows, in
which the batches of the whole window run otherwise (`phases: differential`). With w, p and b the joules that all
batches of the whole window take as they are, with one output token a request, and once each way,

    prefill  p              decode  w - p              closure  ((b - 2 p) + p) / w = (b - p) / w

The closure sets the sum of both phases, each of windows other than the whole one, against the whole window. It is 1
where energies add up. In windows with both a prefill follows a decode, as in whole batches; where a prefill takes
another energy there than in a loop of its own (power limit, clocks, caches), the closure departs from 1 by that.

The prefill brings the first output token; decoding is every further one. Seconds of the phases follow in the same way.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence

import attrs

from llem.metrics.checks.pauses import stood_still, too_long
from llem.metrics.energies import Key, joules
from llem.metrics.hardware import no_bytes, no_rate
from llem.metrics.metric import Measured, Metric
from llem.metrics.quantity import Value, total
from llem.metrics.work import Ceiling, WindowWork
from llem.store.models import Part, Trial

__all__ = ["DESIGNS", "FIRST", "Pass", "cut", "part_counts", "phase_metrics"]

#: The most output tokens of a request in one pass of its batch; None leaves it whole.
Pass = int | None
FIRST: Pass = 1
#: The parts of a trial by the setting `phases`, and the passes of each.
DESIGNS: Mapping[str, Mapping[str, tuple[Pass, ...]]] = {
    "none": {},
    "differential": {"prefill": (FIRST,), "both": (FIRST, None)},
}


def cut(output_tokens: int, one: Pass) -> int:
    """Output tokens of a request in one pass."""
    return output_tokens if one is None else min(output_tokens, one)


def part_counts(trial: Trial, part: Part, outputs: Sequence[int]) -> dict[str, int | None] | None:
    """What a part has to count, by the trial's own counts; None for a part of no design.

    Args:
        outputs: tokens of each request of the whole window.
    """
    passes = next((parts[part.name] for parts in DESIGNS.values() if part.name in parts), None)
    if passes is None:
        return None
    times = part.rounds * len(passes)
    return {
        "batches": trial.batches * times,
        "requests": trial.requests * times,
        "input_tokens": None if trial.input_tokens is None else trial.input_tokens * times,
        "output_tokens": part.rounds * sum(cut(count, one) for one in passes for count in outputs),
        "batch_s": trial.batches * times,
    }


@attrs.frozen
class Split:
    """The phases of one trial, each for all batches of its whole window together.

    Attributes:
        prefill, decode: joules. closure: the sum of the phases by the parts alone over the whole window.
        prefill_s, decode_s: seconds.
    """

    prefill: Value
    decode: Value
    closure: Value
    prefill_s: Value
    decode_s: Value


def _splits(measured: Measured) -> list[Split]:
    return [_split(measured, trial, whole) for trial, whole in zip(measured.trials, measured.gross, strict=True)]


def _split(measured: Measured, trial: Trial, whole: Value) -> Split:
    prefill, both = trial.part("prefill"), trial.part("both")
    if prefill is None or both is None:
        return Split(*[Value(None, reason="not_recorded")] * 5)
    if any(_paused(measured.setup.device, part) for part in (prefill, both)):
        return Split(*[Value(None, reason="part_paused")] * 5)
    keys = () if measured.headline is None else measured.headline.of(trial)
    first, turns = (_round(part, keys) for part in (prefill, both))
    first_s = Value(prefill.duration_s / prefill.rounds)
    return Split(
        prefill=first,
        decode=_left(trial, total([whole, first.scaled(-1)])),
        closure=_share(total([turns, first.scaled(-1)]), whole),
        prefill_s=first_s,
        decode_s=_left(trial, total([Value(trial.duration_s), first_s.scaled(-1)])),
    )


def _paused(device: str, part: Part) -> bool:
    """Whether llem stood still in a part for longer than a window may have."""
    if part.beats is None:
        return False
    return too_long(stood_still(device, part.beats, part.t0_ns, part.t1_ns)[0], part.duration_s)


def _round(part: Part, keys: Sequence[Key]) -> Value:
    """Headline joules of one round of a part."""
    return total([joules(part.energies, key) for key in keys]).scaled(1 / part.rounds)


def _left(trial: Trial, decode: Value) -> Value:
    """What decoding took, where there is any and it is more than what the instrument may be off by."""
    if trial.output_tokens <= trial.requests:
        return Value(None, reason="one_output_token")
    if decode.value is not None and decode.value <= (decode.bound or 0.0):
        return Value(None, reason="difference_too_small")
    return decode


def _share(part: Value, whole: Value) -> Value:
    """`part / whole`, whose bounds are those of both, to the first order."""
    if part.value is None or not whole.value:
        return Value(None, reason=part.reason or whole.reason or "difference_too_small")
    share, errors = part.value / whole.value, {}
    for name in ("bound", "shared"):
        mine, other = getattr(part, name), getattr(whole, name)
        errors[name] = None if mine is None or other is None else (mine + abs(share) * other) / abs(whole.value)
    return Value(share, **errors)


def _unasked(measured: Measured) -> str | None:
    """Why an experiment has no parts."""
    if measured.served or measured.setup.serving:
        return "phases_side_by_side"
    if measured.setup.config.get("phases", "none") == "none":
        return "not_requested"
    return None if measured.trials else "no_trials"


def _lacks(measured: Measured) -> str | None:
    """Why its phases have no energies."""
    basis = measured.basis
    modelled = basis is not None and basis.kind == "modelled"
    return _unasked(measured) or ("modelled_energy" if modelled else None)


def _joules(phase: str, count: Callable[[Trial], int | None]) -> Callable[[Measured], list[Value]]:
    """Joules of a phase divided by a count of each trial's whole window."""

    def each(measured: Measured) -> list[Value]:
        found = []
        for split, trial in zip(measured.once(_splits), measured.trials, strict=True):
            number, energy = count(trial), getattr(split, phase)
            lacking = Value(None, reason=energy.reason or ("prompt_not_told" if number is None else "no_completions"))
            found.append(energy.scaled(1 / number) if number else lacking)
        return found

    return each


def _reached(
    phase: str, amount: Callable[[WindowWork], float | None], peak: Callable[[Ceiling], float]
) -> Callable[[Measured], list[Value]]:
    """The share of a peak rate that was reached in a phase; None where the count of the work does not fit."""

    def each(measured: Measured) -> list[Value]:
        ceiling = measured.setup.ceiling
        return [
            _share_of_peak(getattr(split, f"{phase}_s"), amount(work), peak(ceiling))
            for split, work in zip(measured.once(_splits), measured.works, strict=True)
            if ceiling is not None and isinstance(work, WindowWork)
        ]

    return each


def _share_of_peak(seconds: Value, amount: float | None, peak: float) -> Value:
    if not seconds.value or amount is None:
        return Value(None, reason=seconds.reason or "format_unknown")
    share = amount / seconds.value / peak
    return Value(None, reason="model_does_not_fit") if share > 1 else Value(share)


def _bytes(phase: str) -> Callable[[WindowWork], float | None]:
    def moved(work: WindowWork) -> float | None:
        parts = [getattr(batch, f"{phase}_bytes") for batch in work.batches]
        return None if None in parts else float(sum(parts))

    return moved


#: What each phase is, and its tokens: in words, and how many there are.
_PHASES: Mapping[str, tuple[str, str, Callable[[Trial], int | None]]] = {
    "prefill": (
        "the passes over prompts, which bring the first output token of each request",
        "prompt token",
        lambda trial: trial.input_tokens,
    ),
    "decode": (
        "every output token after a request's first",
        "decoded token",
        lambda trial: trial.output_tokens - trial.requests,
    ),
}


def phase_metrics() -> Iterator[Metric]:
    """The rows, in the order in which they are shown."""
    for phase, (what, token, count) in _PHASES.items():
        yield Metric(
            f"{phase}_energy_j", "J", f"energy of {phase}, per request", "lower", "phases",
            f"Energy of {what}, divided by the requests.",
            each=_joules(phase, lambda trial: trial.requests), lacks=_lacks, scoped=True, shown=("result",),
            heading=f"{phase} J/request", since=6,
        )  # fmt: skip
        yield Metric(
            f"{phase}_energy_per_token_j", "J", f"energy of {phase}, per {token}", "lower", "phases",
            f"Energy of {what}, divided by the {token}s.",
            each=_joules(phase, count), lacks=_lacks, scoped=True, shown=("result", "study"),
            heading=f"{phase} J/token", since=6,
        )  # fmt: skip
    yield Metric(
        "phase_closure", "", "closure of the phases", None, "phases",
        "The energy of both phases, each of windows other than the whole one, as a share of the whole window's. "
        "1 where they add up.",
        each=lambda measured: [split.closure for split in measured.once(_splits)], lacks=_lacks, shown=("result",),
        since=6,
    )  # fmt: skip
    yield from _shares()


def _shares() -> Iterator[Metric]:
    for phase in ("prefill", "decode"):
        yield Metric(
            f"{phase}_mfu", "", f"share of peak FLOP/s in {phase}", "higher", "phases",
            f"Operations that the architecture needs for {phase}, divided by the seconds of {phase}, as a share of the "
            "GPUs' peak rate in this dtype.",
            each=_reached(phase, operator.attrgetter(f"{phase}_flops"), lambda peak: peak.flops),
            lacks=lambda measured: _unasked(measured) or no_rate(measured), shown=("result",), since=6, most=1.0,
        )  # fmt: skip
        yield Metric(
            f"{phase}_mbu", "", f"share of peak bandwidth in {phase}", "higher", "phases",
            f"Bytes that must move at least for {phase}, divided by the seconds of {phase}, as a share of the GPUs' "
            "peak memory bandwidth.",
            each=_reached(phase, _bytes(phase), lambda peak: peak.bytes_per_s),
            lacks=lambda measured: _unasked(measured) or no_bytes(measured), shown=("result",), since=6, most=1.0,
        )  # fmt: skip
