"""The trace of a trial that has parts: each window where it was, and leads that end at the next one."""

from __future__ import annotations

import attrs
import numpy as np
import pytest

from llem.reports.page.trace import traces_of
from llem.store.models import Part

S = 1_000_000_000


def test_windows_of_a_trial_with_parts(make):
    """From 4 s before the whole window to 14 s after its beginning, with a part on either side."""
    t0, t1 = make.window(0)
    requests = make.request_rows(0, t0, t1)
    trial = make.make_trial(0, make.trace(600.0, t0, t1), requests, t0, t1)
    end = (t1 - t0) / S
    spans = {"prefill": (t0 - 4 * S, t0 - S), "both": (t1 + S, t1 + 4 * S)}
    parts = tuple(Part(name, 1, *span, 1, 1, 1, 1, (), ()) for name, span in spans.items())
    times = np.arange(t0 - 5 * S, t1 + 5 * S, S // 10, dtype=float)
    columns = {("nvml", make.GPU, "power_w"): np.stack([times, times, np.full(len(times), 600.0)], axis=1)}

    [alone], [beside] = (traces_of(one, columns) for one in (trial, attrs.evolve(trial, parts=parts)))

    assert "parts" not in alone
    assert (alone["lead"], alone["after"]) == ([-5.0, 0], [end, pytest.approx(end + 4.9)])
    assert beside["parts"] == [("prefill", -4.0, -1.0), ("both", end + 1, end + 4)]
    assert (beside["lead"], beside["after"]) == ([-1.0, 0], [end, end + 1])
