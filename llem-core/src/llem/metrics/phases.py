"""Prefill and decode apart: joules, seconds and shares of the peak of each phase, from the windows of trials. Pure.

Of one window with whole batches the energies of the two phases cannot be known, so a trial has further windows, its
parts. `llem.metrics.designs` says what runs in them and how phases follow. The closure sets the sum of both phases,
each of windows other than the whole one, against the whole window: it is 1 where energies add up.

The prefill brings the first output token; decoding is every further one. Seconds of the phases follow as joules do.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence

import attrs

from llem.metrics.checks.pauses import stood_still, too_long
from llem.metrics.designs import ALL, TERMS, WHOLE, weights_of, work_of
from llem.metrics.energies import joules
from llem.metrics.hardware import no_bytes, no_rate
from llem.metrics.metric import Measured, Metric
from llem.metrics.quantity import Value, total
from llem.metrics.work import Ceiling, WindowWork
from llem.store.models import Part, RequestRow, Trial

__all__ = ["phase_metrics"]


@attrs.frozen
class Split:
    """The phases of one trial, each for all batches of its whole window together.

    Attributes:
        joules: of `prefill` and `decode`, of each term of a regression, and the `closure`.
        seconds: of `prefill` and `decode`.
    """

    joules: Mapping[str, Value]
    seconds: Mapping[str, Value]


def _splits(measured: Measured) -> list[Split]:
    windows = zip(measured.trials, measured.gross, measured.rows, strict=True)
    return [_split(measured, *window) for window in windows]


def _split(measured: Measured, trial: Trial, whole: Value, rows: Sequence[RequestRow]) -> Split:
    keys = () if measured.headline is None else measured.headline.of(trial)
    energies, seconds = {WHOLE: whole}, {WHOLE: Value(trial.duration_s)}
    for part in trial.parts:
        paused = Value(None, reason="part_paused") if _paused(measured.setup.device, part) else None
        energies[part.name] = paused or total([joules(part.energies, key) for key in keys]).scaled(1 / part.rounds)
        seconds[part.name] = paused or Value(part.duration_s / part.rounds)
    return Split(_phases(trial, energies, rows), _phases(trial, seconds, rows))


def _paused(device: str, part: Part) -> bool:
    """Whether llem stood still in a part for longer than a window may have."""
    if part.beats is None:
        return False
    return too_long(stood_still(device, part.beats, part.t0_ns, part.t1_ns)[0], part.duration_s)


def _phases(trial: Trial, rounds: Mapping[str, Value], rows: Sequence[RequestRow]) -> dict[str, Value]:
    """Of each quantity its value, by what the rounds of the windows took."""
    known = {name: one.value for name, one in rounds.items() if one.value is not None}
    lacking = next((one for one in rounds.values() if one.value is None), None)
    weights = weights_of(trial, known, rows) if lacking is None else (lacking.reason or "meter_failed")
    if isinstance(weights, str):
        return dict.fromkeys(("prefill", "decode", "closure", *TERMS), Value(None, reason=weights))
    found = {
        name: total([rounds[window].scaled(weight) for window, weight in of.items()]) for name, of in weights.items()
    }
    unfitted = dict.fromkeys(TERMS, Value(None, reason="not_requested"))
    return {
        **unfitted,
        **found,
        "decode": _left(trial, found["decode"]),
        "closure": _share(found["sum"], rounds[WHOLE]),
    }


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


def _unfitted(measured: Measured) -> str | None:
    """Why there is no regression."""
    asked = measured.setup.config.get("phases") == "regression"
    return _lacks(measured) or (None if asked else "not_requested")


def _joules(phase: str, count: Callable[[Trial], int | None]) -> Callable[[Measured], list[Value]]:
    """Joules of a phase divided by a count of each trial's whole window."""

    def each(measured: Measured) -> list[Value]:
        found = []
        for split, trial in zip(measured.once(_splits), measured.trials, strict=True):
            number, energy = count(trial), split.joules[phase]
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
            _share_of_peak(split.seconds[phase], amount(work), peak(ceiling))
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
            each=_joules(phase, count), lacks=_lacks, scoped=True,
            shown=("result", "study", "compare"),
            heading=f"{phase} J/token", since=6,
        )  # fmt: skip
    yield Metric(
        "phase_closure", "", "closure of the phases", None, "phases",
        "The energy of both phases, each of windows other than the whole one, as a share of the whole window's. "
        "1 where they add up.",
        each=lambda measured: [split.joules["closure"] for split in measured.once(_splits)], lacks=_lacks,
        shown=("result",), since=6,
    )  # fmt: skip
    yield from _terms()
    yield from _shares()


def _terms() -> Iterator[Metric]:
    """The coefficients of the regression."""
    for name, term, label, doc, count in (
        ("fit_batch_j", "batches", "fitted energy of a batch",
         "Energy of a batch that depends on no length (a of the regression).", lambda work: work[0]),
        ("fit_prompt_token_j", "prompts", "fitted energy of a prompt token",
         "Energy of one more prompt token (b of the regression).", lambda work: work[1]),
        ("fit_decoded_token_j", "decoded", "fitted energy of a decoded token",
         "Energy of one more output token, without its context (c of the regression).", lambda work: work[2]),
        ("fit_context_token_j", "contexts", "fitted energy of a token of context",
         "Energy that each token of context adds to each decoded token (d of the regression).", lambda work: work[3]),
    ):  # fmt: skip
        yield Metric(
            name, "J", label, "lower", "phases", doc,
            each=_coefficient(term, count), lacks=_unfitted, scoped=True, shown=("result",), since=6, least=None,
        )  # fmt: skip


def _coefficient(
    term: str, count: Callable[[tuple[float, float, float, float]], float]
) -> Callable[[Measured], list[Value]]:
    def each(measured: Measured) -> list[Value]:
        found = []
        for split, rows in zip(measured.once(_splits), measured.rows, strict=True):
            energy = split.joules[term]
            found.append(energy if energy.value is None else energy.scaled(1 / count(work_of(rows, ALL))))
        return found

    return each


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
