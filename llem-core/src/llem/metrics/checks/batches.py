"""The batches of an offline window: when each ran and what it had to do, so that more work is not taken for drift."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from llem.store.models import RequestRow, Trial

__all__ = ["Batch", "batches_of", "columns_of", "differ"]

#: Work of batches, or its mean over trials, that spreads by less of its mean is the same.
SAME = 0.001


@attrs.frozen
class Batch:
    """One batch: monotonic nanoseconds; and what its time is made of.

    Attributes:
        work: steps of decoding, output tokens, input tokens, and the context that its output tokens attend to, summed.
    """

    start_ns: int
    end_ns: int
    work: tuple[float, float, float, float]


def batches_of(trial: Trial, rows: Sequence[RequestRow]) -> list[Batch]:
    """The batches of one window, in order; none for a serving load."""
    if trial.serving is not None:
        return []
    found: dict[int, list[RequestRow]] = {}
    for row in rows:
        found.setdefault(row.batch, []).append(row)
    return [
        Batch(min(row.start_ns for row in there), max(row.end_ns for row in there), _work(there))
        for _, there in sorted(found.items())
    ]


def _work(rows: Sequence[RequestRow]) -> tuple[float, float, float, float]:
    inputs = [row.input_tokens or 0 for row in rows]  # not known: then this kind of work tells nothing
    context = sum(
        row.output_tokens * given + row.output_tokens * (row.output_tokens - 1) // 2
        for row, given in zip(rows, inputs, strict=True)
    )
    return (
        float(max(row.output_tokens for row in rows)),
        float(sum(row.output_tokens for row in rows)),
        float(sum(inputs)),
        float(context),
    )


def differ(work: Sequence[Sequence[float]]) -> bool:
    """Whether any kind of work differs between batches (or trials)."""
    return any(max(kind) - min(kind) > SAME * max(kind) for kind in zip(*work, strict=True))


def columns_of(batches: Sequence[Batch]) -> list[list[float]]:
    """One column per kind of work, one value per batch; none where all batches do the same."""
    work = [batch.work for batch in batches]
    return [list(kind) for kind in zip(*work, strict=True)] if differ(work) else []
