"""Metrics of the hardware: operations by formula, shares of the peak rates, peak memory.

A share of a peak rests on a model of the work (`llem.metrics.work`). Where the model does not fit, the share is None
with its reason. It never says anything about an energy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from llem.metrics.metric import Measured, Metric, alike, mean_over_trials
from llem.metrics.quantity import Value, exact
from llem.metrics.work import Ceiling, Work
from llem.store.models import Quantity, Trial

__all__ = ["hardware_metrics", "no_bytes", "no_rate"]


def _no_work(measured: Measured) -> str | None:
    if not measured.trials:
        return "no_trials"
    if measured.setup.architecture is None:
        return "architecture_unknown"
    return "no_completions" if None in measured.works else None


def _no_ceiling(measured: Measured) -> str | None:
    setup, known = measured.setup, measured.setup.architecture
    if setup.ceiling is None and setup.ceiling_reason == "no_gpu":
        return _no_work(measured) or "no_gpu"
    unfit = None if known is None else known.unfit
    return _no_work(measured) or unfit or (None if setup.ceiling else setup.ceiling_reason or "peak_unknown")


def no_rate(measured: Measured) -> str | None:
    """Why there is no share of the peak FLOP/s: products in other formats have another peak."""
    known = measured.setup.architecture
    return _no_ceiling(measured) or ("format_unknown" if known is not None and known.other_products else None)


def no_bytes(measured: Measured) -> str | None:
    """Why there is no share of the peak bandwidth."""
    known = measured.setup.architecture
    return _no_ceiling(measured) or ("format_unknown" if known is not None and known.read_bytes is None else None)


def _of_work(count: Callable[[Work], float | None], reason: str) -> Callable[[Measured], list[Value]]:
    """What the work of each trial gives; None with `reason` where that phase has no token."""

    def each(measured: Measured) -> list[Value]:
        found = [count(work) for work in measured.works if work is not None]
        return [Value(value, reason=reason if value is None else None) for value in found]

    return each


def _share(reached: Callable[[Work, Trial, Ceiling], float]) -> Callable[[Measured], list[Value]]:
    """The share of a peak rate that was reached over the window, prefill and decode together.

    More than the hardware can do was not done: the count of the work is wrong then, and the share is None.
    """

    def each(measured: Measured) -> list[Value]:
        ceiling, pairs = measured.setup.ceiling, zip(measured.works, measured.trials, strict=True)
        shares = [reached(work, trial, ceiling) for work, trial in pairs if work and ceiling]
        return [Value(None, reason="model_does_not_fit") if share > 1 else Value(share) for share in shares]

    return each


def _peak_memory(measured: Measured) -> list[Value]:
    peaks = [(trial.peak_memory_bytes, trial.memory_reason) for trial in measured.trials]
    return [Value(None if peak is None else float(peak), reason=reason or "not_supported") for peak, reason in peaks]


def _greatest(measured: Measured, metric: Metric) -> Quantity:
    """The greatest of all trials."""
    values = metric.each(measured)
    known = [value.value for value in values if value.value is not None]
    if not known or len(known) < len(values):
        return mean_over_trials(measured, metric)  # which says why there is none
    return exact(max(known), metric.unit, len(known))


def hardware_metrics() -> Iterator[Metric]:
    """The rows, in the order in which they are shown."""
    yield Metric(
        "mfu", "", "share of peak FLOP/s", "higher", "hardware",
        "Operations per second that the architecture needs, of prefill and decode together, as a share of the GPUs' "
        "peak rate in this dtype.",
        each=_share(lambda work, trial, peak: work.flops / trial.duration_s / peak.flops), lacks=no_rate,
        shown=("result",), since=4, most=1.0,
    )  # fmt: skip
    yield Metric(
        "mbu", "", "share of peak bandwidth", "higher", "hardware",
        "Bytes per second that the work must move at least, as a share of the GPUs' peak memory bandwidth: the weights "
        "once per step, of a mixture of experts those of one token's experts, and the key-value cache of each token's "
        "context.",
        each=_share(lambda work, trial, peak: (work.least_bytes or 0.0) / trial.duration_s / peak.bytes_per_s),
        lacks=no_bytes, shown=("result",), since=4, most=1.0,
    )  # fmt: skip
    yield Metric(
        "flops_per_token", "FLOP", "operations per token", "lower", "hardware",
        "Operations that the architecture needs for a token, by formula; the mean over prompt and output tokens. "
        "Prompt tokens that the engine says it had cached are left out. Logits count once per output token.",
        each=_of_work(lambda work: work.flops_per_token, "no_completions"), over=alike, lacks=_no_work, since=4,
    )  # fmt: skip
    yield Metric(
        "prefill_flops_per_token", "FLOP", "operations per prompt token", "lower", "hardware",
        "Operations that the architecture needs for prompts, the logits of the first output token included, divided by "
        "the prompt tokens that were computed. By formula.",
        each=_of_work(lambda work: work.prefill_flops_per_token, "no_completions"), over=alike, lacks=_no_work, since=4,
    )  # fmt: skip
    yield Metric(
        "decode_flops_per_token", "FLOP", "operations per decoded token", "lower", "hardware",
        "Operations that the architecture needs for each output token after a request's first. By formula; with "
        "speculation or beams an engine computes more.",
        each=_of_work(lambda work: work.decode_flops_per_token, "one_output_token"), over=alike, lacks=_no_work,
        since=4,
    )  # fmt: skip
    yield Metric(
        "peak_memory_bytes", "B", "peak memory", "lower", "hardware",
        "The greatest peak of all trials. `memory_covers` of a trial says what the peak covers.",
        each=_peak_memory, over=_greatest, shown=("result", "study"), heading="memory", of_window=True,
    )  # fmt: skip
