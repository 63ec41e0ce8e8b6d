"""The requests of one window: as columns, who was in flight when, which tokens came within it, how many it was worth.

Rows hold every request that touches the window, so each quantity here states which of them it is about. A request
ends within the window [t0, t1) when its last token arrives there; a token belongs to the window in which its chunk
arrived. A request arrives at its scheduled time in an open load, and when it is sent in a closed one.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import chain
from typing import Any

import attrs

from llem.store.models import RequestRow, Trial

__all__ = [
    "FAILED",
    "HIDDEN_SHARE",
    "UNFINISHED",
    "Flow",
    "edge_factor",
    "flow_of",
    "flow_within",
    "head_of",
    "is_hidden",
]

#: `finish_reason` of requests that did not run to their end.
FAILED, UNFINISHED = "error", "unfinished"
#: Share of a request's tokens that the server may hide before nothing is known of the time of a token.
HIDDEN_SHARE = 0.05
#: No engine makes the tokens of one request faster than one in so many nanoseconds: what comes faster was held back on
#: its way. The fastest that are sold make some 3,000 a second.
AT_ONCE_NS = 100_000


@attrs.frozen(eq=False)
class Flow:
    """Columns over the rows of one window (int64 nanoseconds and counts), and over their chunks that bring tokens.

    Attributes:
        rows: as stored; the columns are in their order.
        t0, t1: the window, nanoseconds.
        start, arrival, end, inputs, outputs: of each row; -1 for inputs that are not known.
        done: bool, ended well within the window.
        failed: bool, failed within the window.
        lost: bool, failed at any time.
        stopped: bool, aborted because it had not ended in time.
        owner, at, tokens: of each chunk: its row, when it came and how many tokens it brought; in order of arrival
            within each row.
    """

    rows: Sequence[RequestRow]
    t0: int
    t1: int
    start: Any
    arrival: Any
    end: Any
    inputs: Any
    outputs: Any
    done: Any
    failed: Any
    lost: Any
    stopped: Any
    owner: Any
    at: Any
    tokens: Any

    @property
    def seconds(self) -> float:
        return (self.t1 - self.t0) / 1e9

    @cached_property
    def inside(self) -> Any:
        """Of each chunk: whether it came within the window."""
        return (self.at >= self.t0) & (self.at < self.t1)

    @cached_property
    def emitted(self) -> Any:
        """Of each row: tokens that came within the window."""
        import numpy as np

        found = np.zeros(len(self.rows), dtype=np.int64)
        np.add.at(found, self.owner[self.inside], self.tokens[self.inside])
        return found

    @cached_property
    def unscheduled(self) -> Any:
        """Of each row: bool, it was sent when its client's last request had ended, as in a closed load."""
        import numpy as np

        return np.array([row.scheduled_ns is None for row in self.rows], dtype=bool)

    @cached_property
    def silent(self) -> Any:
        """Of each row: bool, in flight through the whole window without a token in it."""
        return (self.arrival <= self.t0) & (self.end >= self.t1) & (self.emitted == 0)

    @cached_property
    def first(self) -> Any:
        """Of each row: when its first token came; -1 for a request without one."""
        import numpy as np

        found = np.full(len(self.rows), -1, dtype=np.int64)
        owners, places = np.unique(self.owner, return_index=True)
        found[owners] = self.at[places]
        return found

    @cached_property
    def last(self) -> Any:
        """Of each row: when its last token came; -1 for a request without one."""
        import numpy as np

        found = np.full(len(self.rows), -1, dtype=np.int64)
        found[self.owner] = self.at  # in order of arrival, so the last one stays
        return found

    @cached_property
    def head(self) -> Any:
        """Of each row: tokens that came with its first one, in one read or in several that follow too closely for an
        engine to have made the tokens between them."""
        import numpy as np

        found = np.zeros(len(self.rows), dtype=np.int64)
        before = np.concatenate(([0], np.cumsum(self.tokens)))
        so_far = before[1:] - before[np.searchsorted(self.owner, self.owner)]
        with_first = self.at - self.first[self.owner] <= AT_ONCE_NS * (so_far - 1)
        np.maximum.at(found, self.owner[with_first], so_far[with_first])
        return found

    @cached_property
    def together(self) -> Any:
        """Of each row: bool, it has several tokens, and all of them came at once, or nobody saw when they came."""
        return (self.outputs > 1) & ((self.head >= self.outputs) | self.hidden)

    @cached_property
    def hidden(self) -> Any:
        """Of each row: bool, the server hid more than 5 % of its tokens, such as those of its reasoning."""
        import numpy as np

        return np.array([is_hidden(row) for row in self.rows], dtype=bool)

    @cached_property
    def arrived(self) -> Any:
        """Of each row: bool, it arrived within the window, that is, was due then or, without a schedule, sent."""
        return (self.arrival >= self.t0) & (self.arrival < self.t1)

    @cached_property
    def completed(self) -> Any:
        """Indices of the rows that ended well within the window, by arrival: who judges latency judges these."""
        import numpy as np

        found = np.flatnonzero(self.done)
        return found[np.argsort(self.arrival[found], kind="stable")]

    def in_flight(self, begin: int, end: int) -> float:
        """Requests that had arrived and not ended, averaged over the time from `begin` to `end`."""
        import numpy as np

        spans = np.minimum(self.end, end) - np.maximum(self.arrival, begin)
        return float(np.maximum(spans, 0).sum()) / (end - begin)

    @cached_property
    def busy_share(self) -> float:
        """Share of the window in which at least one request was in flight."""
        import numpy as np

        order = np.argsort(self.arrival, kind="stable")
        begins = np.clip(self.arrival[order], self.t0, self.t1)
        reached = np.maximum.accumulate(np.clip(self.end[order], self.t0, self.t1)) if len(order) else begins
        before = np.concatenate(([self.t0], reached[:-1])) if len(order) else reached
        return float(np.maximum(reached - np.maximum(begins, before), 0).sum()) / (self.t1 - self.t0)

    @property
    def gaps_s(self) -> Any:
        """Seconds between successive chunks of the requests that ended well within the window."""
        import numpy as np

        same = (self.owner[1:] == self.owner[:-1]) & self.done[self.owner[1:]]
        return (np.diff(self.at) / 1e9)[same]

    @property
    def gaps_of_none(self) -> tuple[int, int]:
        """Chunks within the window that came with the one before in their request, and all that had one.

        No engine makes chunks that fast: they were held back on their way and read together, or one after the other.
        """
        import numpy as np

        same = (self.owner[1:] == self.owner[:-1]) & self.inside[1:]
        gaps, tokens = np.diff(self.at)[same], self.tokens[1:][same]
        return int((gaps < AT_ONCE_NS * tokens).sum()), len(gaps)

    @property
    def median_token_gap_s(self) -> float | None:
        """Median time between a chunk within the window and the one before it, per token that it brought."""
        import numpy as np

        same = (self.owner[1:] == self.owner[:-1]) & self.inside[1:]
        gaps = (np.diff(self.at) / self.tokens[1:])[same]
        return float(np.median(gaps)) / 1e9 if len(gaps) else None

    def token_rates(self, parts: int) -> list[float]:
        """Output tokens per second in each of so many equal parts of the window."""
        import numpy as np

        edges = [self.t0 + (self.t1 - self.t0) * i // parts for i in range(parts + 1)]
        places = np.searchsorted(edges, self.at[self.inside], side="right") - 1
        counts = np.bincount(places, weights=self.tokens[self.inside], minlength=parts)
        return [float(n) * 1e9 / (end - begin) for n, begin, end in zip(counts, edges, edges[1:], strict=False)]


def head_of(times: Sequence[int]) -> int:
    """Tokens that came with the first, of one time each: `Flow.head` of a request in a batch."""
    return max((i + 1 for i, at in enumerate(times) if at - times[0] <= AT_ONCE_NS * i), default=0)


def is_hidden(row: RequestRow) -> bool:
    """Whether a server hid more than 5 % of a request's tokens, by its own count (`tokens_hidden`)."""
    return (row.engine_metrics or {}).get("tokens_hidden", 0.0) > HIDDEN_SHARE * row.output_tokens


def flow_of(trial: Trial, rows: Sequence[RequestRow]) -> Flow:
    """Columns of the rows of one serving trial."""
    return flow_within(rows, trial.t0_ns, trial.t1_ns)


def flow_within(rows: Sequence[RequestRow], t0: int, t1: int) -> Flow:
    """Columns of rows that touch the window [t0, t1), monotonic nanoseconds."""
    import numpy as np

    def column(values: Any) -> Any:
        return np.fromiter(values, dtype=np.int64)

    end = column(row.end_ns for row in rows)
    within = (end >= t0) & (end < t1)
    reasons = [row.finish_reason for row in rows]
    lost = np.array([reason == FAILED for reason in reasons], dtype=bool)
    stopped = np.array([reason == UNFINISHED for reason in reasons], dtype=bool)
    times = [row.token_times_ns or () for row in rows]
    counts = [
        row.chunk_tokens if row.chunk_tokens is not None else (1,) * len(at)
        for row, at in zip(rows, times, strict=True)
    ]
    tokens = column(chain.from_iterable(counts))
    some = tokens > 0  # an empty last chunk only ends its request
    return Flow(
        rows=rows,
        t0=t0,
        t1=t1,
        start=column(row.start_ns for row in rows),
        arrival=column(row.start_ns if row.scheduled_ns is None else row.scheduled_ns for row in rows),
        end=end,
        inputs=column(-1 if row.input_tokens is None else row.input_tokens for row in rows),
        outputs=column(row.output_tokens for row in rows),
        done=within & ~lost & ~stopped,
        failed=within & lost,
        lost=lost,
        stopped=stopped,
        owner=np.repeat(np.arange(len(rows)), [len(at) for at in times])[some],
        at=column(chain.from_iterable(times))[some],
        tokens=tokens[some],
    )


def edge_factor(trial: Trial, flow: Flow | None = None) -> float:
    """What a count of requests that ended within a window is multiplied by, for those that its edges cut.

    Clients that began together end together, so that how many ends fall within a window is a matter of where its edges
    lie: a window of 4.9 times as long as a request holds the ends of four or of five of each client, the same in every
    trial. What was done within the window is known by the token, so the rule is

        factor = output tokens that came within the window, of requests that did not fail
                 / output tokens of the requests that completed within it

    that is, a request is worth the mean output of those that completed. Tokens of requests that failed, then or later,
    belong to none that will complete. 1 for batches, which no edge cuts, and where nothing completed.

    Args:
        flow: of the trial; needed where an older llem stored it, which did not count the tokens of failed requests.
    """
    facts = trial.serving
    if facts is None or not facts.completed_output_tokens:
        return 1.0
    failed = facts.failed_output_tokens
    if failed is None:
        if flow is None:
            raise ValueError(f"trial {trial.index} does not tell the tokens of failed requests: its rows are needed")
        failed = int(flow.emitted[flow.lost].sum())
    return (trial.output_tokens - failed) / facts.completed_output_tokens
