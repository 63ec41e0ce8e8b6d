"""Requests that seem to be forgotten: aborted at the end of their load, long after others had theirs. Pure.

A request that hangs takes no part in the load, so the load is a smaller one than was asked for. It fails when its
patience is over, which may be long after the window; until then only its silence tells of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from llem.findings import Finding, finding
from llem.metrics.checks.arrivals import Served
from llem.metrics.checks.words import in_trials
from llem.metrics.flow import Flow

__all__ = ["requests_hang"]

#: A request hangs that was silent for so many times the longest wait of all that went on, and so many seconds.
TIMES, LEAST_S = 3.0, 1.0


def requests_hang(served: Served) -> Iterable[Finding]:
    """One finding for all windows; none where no request went on, for then nothing says what is long."""
    flows = [flow for *_, flow in served]
    waited = [wait for flow in flows if (wait := _longest_wait_s(flow)) is not None]
    prompts = max((int(flow.inputs[~(flow.stopped | flow.lost)].max(initial=1)) for flow in flows), default=1)
    if not waited:
        return
    longest = max(waited)
    silent = [(trial.index, _silent_s(flow, longest, prompts)) for trial, _, flow in served]
    found = [(index, seconds) for index, seconds in silent if len(seconds)]
    if found:
        count, least = sum(len(seconds) for _, seconds in found), min(float(seconds.min()) for _, seconds in found)
        trials = [index for index, _ in found]
        message = (
            f"{count} request{'' if count == 1 else 's'} of the windows got no token for the last {least:.3g} s or "
            f"more before {'it was' if count == 1 else 'they were'} aborted, where others waited {longest:.3g} s at "
            f"most{in_trials(trials)}"
        )
        yield finding("requests_hang", message, hanging=count, silent_s=least, longest_wait_s=longest, trials=trials)


def _longest_wait_s(flow: Flow) -> float | None:
    """The longest time to a first token, and between two, of requests that were neither aborted nor failed."""
    import numpy as np

    went_on = ~(flow.stopped | flow.lost) & (flow.first >= 0)
    if not went_on.any():
        return None
    same = (flow.owner[1:] == flow.owner[:-1]) & went_on[flow.owner[1:]]
    gaps = np.diff(flow.at)[same]
    return float(max((flow.first - flow.start)[went_on].max(), gaps.max(initial=0))) / 1e9


def _silent_s(flow: Flow, longest_s: float, prompts: int) -> Any:
    """Seconds that each hanging request was silent before it was aborted.

    A longer prompt than any other's may take longer in proportion; so nothing is said of a request without a token
    whose prompt went out as text, which nobody has counted. A request without a token was overtaken: one that was sent
    later has had its first; else it may stand in a queue.
    """
    import numpy as np

    seconds = (flow.end - np.maximum(flow.last, flow.start)) / 1e9
    allowed = TIMES * longest_s * np.maximum(flow.inputs / prompts, 1.0)
    begun = flow.start[flow.first >= 0].max(initial=0)
    overtaken = (flow.first >= 0) | ((flow.start < begun) & (flow.inputs >= 0))
    return seconds[flow.stopped & overtaken & (seconds > np.maximum(allowed, LEAST_S))]
