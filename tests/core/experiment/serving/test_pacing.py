"""What each kind of serving load sends and when, above all a replay: which part of a trace is whose window."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llem.config.arrival import ClosedLoad, OpenLoad, ReplayLoad
from llem.experiment.serving.pacing import STRIDE, PaceClosed, PaceOpen, PaceReplay
from llem.workloads.arrivals import Timetable, arrivals, trial_seed

#: Ten requests in ten seconds, the second half twice as dense; begins again after 10 s.
TIMES = Timetable((0.0, 2.0, 4.0, 5.0, 5.5, 6.0, 6.5, 7.0, 8.0, 9.0), 10.0)


class Sent:
    """Stands in for a Traffic, and keeps what it is told to send."""

    def open(self, offsets) -> None:
        self.offsets = offsets

    def until(self, seconds: float) -> list[float]:
        return list(itertools.takewhile(lambda at: at < seconds, self.offsets))


def replay(window_s: float = 2.0, speed: float = 1.0, times: Timetable = TIMES) -> PaceReplay:
    return PaceReplay(ReplayLoad(speed=speed), times, window_s)


def sent(pace: PaceReplay, trial: int | None, lead_s: float, first: int) -> Sent:
    traffic = Sent()
    pace.begin(traffic, trial, lead_s, first)
    return traffic


@pytest.mark.parametrize(
    ("speed", "parts"),
    [
        (1.0, [{0: 0.0}, {1: 0.0}, {2: 0.0, 3: 1.0, 4: 1.5}, {5: 0.0, 6: 0.5, 7: 1.0}, {8: 0.0, 9: 1.0}, {0: 0.0}]),
        (2.0, [{0: 0.0, 1: 1.0}, {2: 0.0, 3: 0.5, 4: 0.75, 5: 1.0, 6: 1.25, 7: 1.5}]),
    ],
)
def test_windows_are_parts_of_the_trace_in_order(speed, parts) -> None:
    """Window after window without a gap, the first at the first row; `speed` halves the gaps and widens the part."""
    pace, lead_s = replay(speed=speed), 1.0
    for trial, part in enumerate(parts):
        first = pace.first(trial, lead_s)
        offsets = sent(pace, trial, lead_s, first).until(lead_s + 2.0 - 1e-6)
        due = {(first + number) % 10: offset - lead_s for number, offset in enumerate(offsets)}
        assert {row: at for row, at in due.items() if at >= -1e-6} == pytest.approx(part, abs=1e-6)


@given(lead_s=st.floats(0.5, 30), window_s=st.floats(0.5, 30), speed=st.sampled_from([0.5, 1.0, 3.0]))
def test_the_part_does_not_hang_on_the_lead(lead_s, window_s, speed) -> None:
    """A slow engine needs a longer lead; what is scheduled within the window stays, at the same times."""
    pace = replay(window_s, speed)

    def within(lead: float) -> list[tuple[int, float]]:
        first = pace.first(3, lead)
        offsets = sent(pace, 3, lead, first).until(lead + window_s - 1e-6)
        found = [(first + number, offset - lead) for number, offset in enumerate(offsets)]
        return [(index, at) for index, at in found if at >= 1e-6]

    short, long = within(0.25), within(lead_s)
    assert [index for index, _ in short] == [index for index, _ in long]
    assert [at for _, at in short] == pytest.approx([at for _, at in long], abs=1e-6)


@pytest.mark.parametrize("count", [2, 3, 1000, STRIDE + 1])
def test_no_request_is_of_two_trials(count) -> None:
    """Though the lead of one trial is in the window of another, and whatever the number of rows: no cache can help."""
    times = Timetable(tuple(map(float, range(count))), float(count))
    pace = replay(20.0, times=times)
    spans = [(first := pace.first(trial, 10.0), first + 35) for trial in range(4)]

    assert all(end < begin for (_, end), (begin, _) in itertools.pairwise(spans))
    assert [first % count for first, _ in spans] == [(20 * trial - 10) % count for trial in range(4)]


def test_the_warm_up_replays_from_where_it_is() -> None:
    """Its first request goes at once, and the next ones at their distance."""
    assert sent(replay(), None, 1.0, 4).until(2.0) == pytest.approx([0.0, 0.5, 1.0, 1.5])
    assert sent(replay(speed=0.5), None, 1.0, 0).until(9.0) == pytest.approx([0.0, 4.0, 8.0])


def test_the_rate_is_that_of_the_trials_part() -> None:
    """Requests that are due within the window, over its length."""
    assert [replay().request_rate(trial) for trial in range(5)] == [0.5, 0.5, 1.5, 1.5, 1.0]
    assert replay(speed=2.0).request_rate(1) == 3.0


def test_enough_requests_are_made_ready() -> None:
    """All that are due within the time ahead, and a reserve."""
    pace = replay(window_s=10.0)
    due = sum(1 for _ in sent(pace, 0, 1.0, pace.first(0, 1.0)).until(1.0 + 15.0))

    assert due <= pace.needed(0, 1.0, 0, 1.0, 15.0, 0.0) <= due + 65
    assert pace.needed(0, 1.0, due, 1.0, 15.0, 0.0) <= 65


def test_a_trace_that_is_used_up_begins_again_and_that_is_told() -> None:
    """From the trial on whose window goes past the end; with the numbers, the same in every trial."""
    found = [replay(4.0).findings(trial) for trial in range(4)]

    assert [len(each) for each in found] == [0, 0, 1, 1]
    [told] = found[2]
    assert (told.code, told.severity) == ("trace_repeated", "info")
    assert told.message == "the trace lasts 10 s at this speed; windows of 4 s reach past its end"
    assert told == found[3][0]
    assert replay(10.0).findings(0) == ()
    assert replay(10.0, speed=1.1).findings(0) != ()
    assert PaceOpen(OpenLoad(request_rate=1.0), 1.0).findings(99) == ()


def test_open_and_closed_loads() -> None:
    """The seed is the trial's own; requests of a trial begin at its stride; clients need no schedule."""
    opened, closed = (
        PaceOpen(OpenLoad(request_rate=9.0, seed=3), 9.0),
        PaceClosed(ClosedLoad(concurrency=7, ramp_s=4.0)),
    )
    traffic = Sent()
    opened.begin(traffic, 2, 1.0, 0)

    schedule = itertools.takewhile(lambda at: at < 3.0, arrivals(9.0, 1.0, trial_seed(3, 2)))
    assert traffic.until(3.0) == list(schedule)
    assert (opened.seed(2), opened.request_rate(2), opened.concurrency) == (trial_seed(3, 2), 9.0, None)
    assert (closed.seed(2), closed.request_rate(2), closed.concurrency) == (0, None, 7)
    assert opened.first(2, 9.9) == closed.first(2, 0.5) == 3 * STRIDE
    assert (opened.lead_s(0.1), opened.lead_s(5.0), closed.lead_s(5.0)) == (0.5, 5.0, 4.0)
