"""Times without a token of any request while one was in flight, and what may explain them. Pure.

Work on prompts explains a silence, and so does an answer that comes at once when it is whole, and an engine that lets
each request wait as long by itself.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import attrs

from llem.metrics.flow import Flow
from llem.metrics.spans import covered
from llem.store.models import RequestRow, Trial

__all__ = ["CLOSELY", "Silences", "client_stood", "decoding", "pace", "prompts_of", "silences_of", "single_wait"]

#: A request waited through a silence that it was sent into within this share of it.
SENT_SHARE = 0.25
#: Of the silences of a request's wait, a tenth of the longest is long: less lies between tokens of one step.
OWN_SHARE = 0.1
#: First tokens of a step come so soon after one another, in seconds, at most.
SOON_S = 0.1
#: It is longer than so many times what single requests wait, of which this many are asked.
WAIT_TIMES, ASKED = 3.0, 500
#: Silences of a window at whose begin all requests are looked at: the longest.
CLOSELY = 50
#: Percentile of the wait per prompt token: such requests queued little.
LITTLE = 10


@attrs.frozen(eq=False)
class Silences:
    """Times between tokens within one window, and its edges, in which a request was in flight; columns, monotonic ns.

    Attributes:
        prompts: tokens of the prompts that were worked on: of each request that waited for its first token, they count
            at the last long silence of its wait; those before it are of requests that it queued behind.
    """

    begins: Any
    ends: Any
    prompts: Any

    @property
    def seconds(self) -> Any:
        return (self.ends - self.begins) / 1e9

    def longest(self, count: int) -> list[int]:
        """Places of so many, at most, the longest first."""
        import numpy as np

        return [int(place) for place in np.argsort(self.begins - self.ends, kind="stable")[:count]]


def silences_of(flow: Flow) -> Silences:
    """Those of one window, in order."""
    import numpy as np

    order = np.argsort(flow.at, kind="stable")
    order = order[flow.inside[order]]
    starts = np.fromiter((row.start_ns for row in flow.rows), dtype=np.int64, count=len(flow.rows))
    plain = np.concatenate(([flow.t0], flow.at[order]))
    ends = np.concatenate((flow.at[order], [flow.t1]))
    # the request of the token that ends a silence was in flight; at the longest ones, all that were
    begins = np.concatenate((np.maximum(plain[:-1], starts[flow.owner[order]]), [flow.t1]))
    for place in {*np.argsort(plain - ends, kind="stable")[:CLOSELY].tolist(), len(ends) - 1}:
        there = starts[(starts < ends[place]) & (flow.end >= ends[place])]
        if len(there):
            begins[place] = max(plain[place], there.min())
    return Silences(begins, ends, _worked_on(flow, starts, begins, ends))


def _worked_on(flow: Flow, starts: Any, begins: Any, ends: Any) -> Any:
    """Prompt tokens by silence. A request without a token by the window's end waits until then."""
    import numpy as np

    prompts = np.zeros(len(ends), dtype=np.int64)
    lengths = ends - begins
    until = np.where((flow.first < 0) | (flow.first > flow.t1), flow.t1, flow.first)
    # a client sends its next request a moment after the last token, when the silence has begun
    firsts = np.searchsorted(begins + lengths * SENT_SHARE, starts, side="left")
    lasts = np.searchsorted(ends, until, side="right")
    for place in np.flatnonzero((firsts < lasts) & (flow.end > flow.t0)):
        waits = lengths[int(firsts[place]) : int(lasts[place])]
        own = int(np.flatnonzero(waits >= OWN_SHARE * waits.max())[-1])
        prompts[int(firsts[place]) + own] += flow.inputs[place]
    return prompts


def single_wait(
    flows: Sequence[Flow], flow: Flow, begin: int, end: int, others: Sequence[tuple[int, int]] = ()
) -> float:
    """Seconds that single requests wait at most, by their median and apart from this silence: where each is slow and
    many overlap, silences are short until one is alone. Between tokens where a request had some, else for the first.

    Args:
        others: silences that are left out too, monotonic ns.
    """
    within = [i for i, row in enumerate(flow.rows) if row.start_ns <= begin and row.end_ns >= end]
    between = any(0 <= flow.first[i] <= begin for i in within)
    rows = [row for one in flows for i, row in enumerate(one.rows) if between or not (one is flow and i in within)]
    known = [row for row in rows if len(row.token_times_ns or ()) > between]
    apart = [(begin, end), *others]
    longest = [_longest(row, between, apart) for row in known[:: len(known) // ASKED + 1]]
    return WAIT_TIMES * max(statistics.median(longest), _answer_s(flows, flow, within)) if longest else math.inf


def _answer_s(flows: Sequence[Flow], flow: Flow, within: Sequence[int]) -> float:
    """Seconds that the longest of these answers takes which come at once, by the median time per token of such; 0 where
    none does. While it is made, nothing is seen of it."""
    import numpy as np

    tokens = max((int(flow.outputs[i]) for i in within if flow.together[i]), default=0)
    if not tokens:
        return 0.0
    paces = [((one.first - one.start) / np.maximum(one.outputs, 1))[one.together] for one in flows]
    return tokens * float(np.median(np.concatenate(paces))) / 1e9


def _longest(row: RequestRow, between: bool, apart: Sequence[tuple[int, int]]) -> float:
    times = row.token_times_ns or ()
    if not between:
        return (times[0] - row.start_ns) / 1e9
    apart = [(begin, end) for begin, end in apart if begin < times[-1] and end > times[0]]
    gaps = (
        later - one for one, later in pairwise(times) if not any(one <= begin and later >= end for begin, end in apart)
    )
    return max(gaps, default=0) / 1e9


def decoding(flow: Flow, begin: int, end: int) -> bool:
    """Whether a request was in flight through all of a silence that had had tokens before, and was due more."""
    more = (flow.last >= end) | ~flow.done
    return bool(((flow.first >= 0) & (flow.first <= begin) & (flow.end >= end) & more).any())


def prompts_of(flow: Flow, begin: int, end: int) -> tuple[int, int]:
    """Prompt tokens that may explain a silence: of all requests whose first token came right after it, and of the
    largest prompt whose request waited for its first token at some time of it."""
    waiting = (flow.start < end) & (flow.end > begin) & ((flow.first < 0) | (flow.first >= end))
    soon = min(OWN_SHARE * (end - begin), SOON_S * 1e9)
    served = waiting & (flow.first >= 0) & (flow.first <= end + soon)
    return int(flow.inputs[served].sum()), int(flow.inputs[waiting].max(initial=0))


def pace(flows: Sequence[Flow]) -> float:
    """Seconds that a request waits for its first token, per token of its prompt, where it queues little."""
    import numpy as np

    known = [(flow.first >= 0) & (flow.inputs > 0) for flow in flows]
    waits = np.concatenate(
        [(flow.first - flow.start)[some] / flow.inputs[some] for flow, some in zip(flows, known, strict=True)]
    )
    return float(np.percentile(waits, LITTLE)) / 1e9 if len(waits) else 0.0


def client_stood(trial: Trial, begin: int, end: int) -> bool:
    """Whether it was the load generator that took nothing for most of that time, which it says itself."""
    facts = trial.serving
    client = None if facts is None else facts.client
    if client is None:
        return False
    return covered(client.stalls, begin, end) > (end - begin) / 2
