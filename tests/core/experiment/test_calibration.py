"""Which batches of the warm-up tell how long a batch takes."""

from __future__ import annotations

import pytest

from llem.devices.pulse import Beats, Gap
from llem.experiment.calibration import LAST, Timed, batch_times, enough, lost_s, untold, usable

S = 1_000_000_000
USUAL = Timed(0.04)
PAUSED = Timed(3.04, 2.95, ("stopped by a signal",))
DOUBTFUL = Timed(3.04, doubtful=True)


@pytest.mark.parametrize(
    ("gap", "device", "stood_s", "doubtful"),
    [
        (Gap(0, 3 * S, 0.0, 0.0, stopped=True), "cpu", 2.95, False),
        (Gap(0, 3 * S, 0.0, 0.0, stopped=True), "cuda", 2.95, False),
        (Gap(0, 3 * S, 0.0, 0.0), "cpu", 2.95, False),
        (Gap(0, 3 * S, 0.0, 0.0), "cuda", 0.0, True),  # frozen, or a library waits with the lock held
        (Gap(0, 3 * S, 2.9, 0.0), "cpu", 0.0, False),  # something computed
        (Gap(-S, S // 25, 0.0, 0.0, stopped=True), "cpu", 0.0, False),  # before it: the next beat was due
        (None, "cpu", 0.0, False),
    ],
)
def test_a_batch_is_judged_by_the_beats_that_touch_it(gap, device: str, stood_s: float, doubtful: bool) -> None:
    """As a window is; where the reader of the meters is no witness, the batch is doubtful."""
    batch = Timed.of(device, Beats(0.05, () if gap is None else (gap,)), 0, 3 * S)

    assert batch.seconds == 3.0
    assert batch.stood_s == pytest.approx(stood_s)
    assert batch.paused is (stood_s > 0)
    assert batch.doubtful is doubtful


def test_a_paused_batch_tells_nothing_of_the_time() -> None:
    """Neither in the least time nor in the mean, and other ones take its place among the last."""
    assert batch_times([*[USUAL] * LAST, PAUSED]) == (0.04, pytest.approx(0.04))
    assert batch_times([Timed(0.06), USUAL, *[PAUSED] * LAST]) == (0.04, pytest.approx(0.05))
    assert lost_s([USUAL, PAUSED, PAUSED]) == pytest.approx(5.9)


@pytest.mark.parametrize(
    ("batches", "kept", "is_enough"),
    [
        ([USUAL], [USUAL], True),
        ([PAUSED], [], False),
        ([PAUSED, USUAL], [USUAL], True),
        ([DOUBTFUL], [DOUBTFUL], False),
        ([DOUBTFUL, USUAL], [USUAL], True),
        ([DOUBTFUL, DOUBTFUL], [DOUBTFUL, DOUBTFUL], True),  # the engine's own way
        ([USUAL, DOUBTFUL, DOUBTFUL], [USUAL, DOUBTFUL, DOUBTFUL], True),
    ],
)
def test_a_doubtful_batch_is_believed_where_most_are(batches, kept, is_enough: bool) -> None:
    """One alone is not: another has to agree."""
    assert usable(batches) == kept
    assert enough(batches) is is_enough


def test_a_warm_up_of_pauses_alone_is_told() -> None:
    """It still gives a time, for there is no better one."""
    [told] = untold([PAUSED, PAUSED])

    assert (told.code, told.severity) == ("window_off_plan", "warning")
    assert told.evidence == {"stood_s": 2.95, "batches": 2, "reasons": ["stopped by a signal"]}
    assert batch_times([PAUSED, PAUSED]) == (3.04, 3.04)
    assert untold([PAUSED, USUAL]) == untold([DOUBTFUL]) == []
