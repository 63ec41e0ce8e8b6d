"""What each kind of serving load sends and when, above all a replay: which part of a trace is whose window."""

from __future__ import annotations

import asyncio
import itertools

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llem.config.arrival import ClosedLoad, OpenLoad, ReplayLoad
from llem.experiment.serving.pacing import EARLY_S, LATE_S, STRIDE, PaceClosed, PaceOpen, PaceReplay
from llem.experiment.serving.stationary import RequestTimes
from llem.experiment.serving.traffic import Answered
from llem.workloads.arrivals import Timetable, arrivals, trial_seed

#: Ten requests in ten seconds, the second half twice as dense; begins again after 10 s.
TIMES = Timetable((0.0, 2.0, 4.0, 5.0, 5.5, 6.0, 6.5, 7.0, 8.0, 9.0), 10.0)

TIMES_OF_ONE = RequestTimes(0.1, 0.0, (1,), 0.1)


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
    pace.begin(traffic, trial, lead_s, first, TIMES_OF_ONE)
    return traffic


@pytest.mark.parametrize(
    ("speed", "parts"),
    [
        (1.0, [{0: 0.0}, {1: 0.0}, {2: 0.0, 3: 1.0, 4: 1.5}, {5: 0.0, 6: 0.5, 7: 1.0}, {8: 0.0, 9: 1.0}, {0: 0.0}]),
        (2.0, [{0: 0.0, 1: 1.0}, {2: 0.0, 3: 0.5, 4: 0.75, 5: 1.0, 6: 1.25, 7: 1.5}]),
    ],
)
def test_windows_are_parts_of_the_trace_in_order(speed, parts) -> None:
    """Window after window without a gap, the first right before the first row; `speed` halves the gaps and widens the
    part."""
    pace, lead_s = replay(speed=speed), 1.0
    for trial, part in enumerate(parts):
        first = pace.first(trial, lead_s)
        offsets = sent(pace, trial, lead_s, first).until(lead_s + 2.0 - 1e-6)
        due = {(first + number) % 10: offset - lead_s for number, offset in enumerate(offsets)}
        due = {row: at - EARLY_S for row, at in due.items() if at >= -1e-6}
        assert due == pytest.approx(part, abs=1e-6)


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
    found = [replay(4.0).findings(trial, 0.0) for trial in range(4)]

    assert [len(each) for each in found] == [0, 0, 1, 1]
    [told] = found[2]
    assert (told.code, told.severity) == ("trace_repeated", "info")
    assert told.message == "the trace lasts 10 s at this speed; windows of 4 s reach past its end"
    assert told == found[3][0]
    assert not replay(10.0).findings(0, LATE_S)
    assert replay(10.0, speed=1.1).findings(0, 0.0)
    assert not PaceOpen(OpenLoad(request_rate=1.0), 1.0).findings(99, 9.0)


def test_a_window_that_opens_late_in_its_part_is_told() -> None:
    """Other requests are in it than were asked for."""
    [told] = replay(4.0).findings(1, 1.04)
    assert (told.code, told.evidence) == ("window_off_plan", {"late_s": 1.04, "trial": 1})


def test_requests_that_share_prompts_stay_of_one_pass() -> None:
    """Window after window of the same pass, so that what was cached of earlier ones is there; after its end another."""
    pace = replay(times=attrs.evolve(TIMES, related=True))
    firsts = [pace.first(trial, 0.0) for trial in range(6)]

    assert firsts == sorted(firsts)
    assert len({first // 10 for first in firsts[:5]}) == 1
    assert firsts[5] == firsts[0] + 10


def test_windows_of_closed_loads_open_at_all_times_of_a_request() -> None:
    """One client, requests of 4 s, windows of 10 s: each begins elsewhere in a request, evenly."""
    pace, times = PaceClosed(ClosedLoad(concurrency=1)), RequestTimes(2.0, 0.02, (101,), 4.0)
    phases = []
    for trial in range(8):
        traffic = Settling(rounds=lambda waited: 1, begun=lambda waited: 1)
        asyncio.run(pace.settle(traffic, trial, times, pace.lead_s(times)))
        phases.append(traffic.waited % 4.0 / 4.0)

    ordered = sorted(phases)
    gaps = [after - one for one, after in itertools.pairwise([*ordered, ordered[0] + 1])]
    assert max(gaps) < 0.25


def test_open_and_closed_loads() -> None:
    """The seed is the trial's own; requests of a trial begin at its stride; clients need no schedule."""
    opened, closed = (
        PaceOpen(OpenLoad(request_rate=9.0, seed=3), 9.0),
        PaceClosed(ClosedLoad(concurrency=7, ramp_s=4.0)),
    )
    traffic = Sent()
    opened.begin(traffic, 2, 1.0, 0, TIMES_OF_ONE)

    schedule = itertools.takewhile(lambda at: at < 3.0, arrivals(9.0, 1.0, trial_seed(3, 2)))
    assert traffic.until(3.0) == list(schedule)
    assert (opened.seed(2), opened.request_rate(2), opened.concurrency) == (trial_seed(3, 2), 9.0, None)
    assert (closed.seed(2), closed.request_rate(2), closed.concurrency) == (0, None, 7)
    assert opened.first(2, 9.9) == closed.first(2, 0.5) == 3 * STRIDE
    short, long = RequestTimes(0.1, 0.0, (1,), 0.1), RequestTimes(5.0, 0.0, (1,), 5.0)
    assert (opened.lead_s(short), opened.lead_s(long), closed.lead_s(long)) == (0.5, 5.0, 9.0)
    assert (opened.in_flight(long), closed.in_flight(long)) == (45.0, 7)


def test_clients_are_staggered_unless_they_are_told_otherwise() -> None:
    """By default over the usual time of a request, so that they do not ask in step; 0 starts them all at once."""
    times = RequestTimes(1.0, 0.1, (11,), 2.0)

    assert PaceClosed(ClosedLoad(concurrency=4)).ramp_s(times) == 2.0
    assert PaceClosed(ClosedLoad(concurrency=4, ramp_s=0.0)).ramp_s(times) == 0.0
    assert PaceClosed(ClosedLoad(concurrency=4, ramp_s=9.0)).ramp_s(times) == 9.0


class Settling:
    """Stands in for a Traffic whose course is known: functions of the seconds waited."""

    def __init__(self, **course) -> None:
        self.course, self.waited, self.answered = course, 0.0, Answered()

    def __getattr__(self, name):
        return self.course[name](self.waited)

    async def until(self, settled) -> None:
        while not settled(self.waited):
            self.waited = round(self.waited + 0.02, 9)

    async def rest(self, seconds: float) -> None:
        self.waited += seconds


@pytest.mark.parametrize(
    ("in_flight", "expected"),
    [
        (lambda waited: 20, 5.0),  # as many as Little's law says
        (lambda waited: 20 if waited > 7 else 2, 7.4),  # not before they are there
        (lambda waited: 2, 10.0),  # a load that never settles is measured nevertheless, and the figures say so
    ],
)
def test_an_open_load_settles_when_littles_law_holds(in_flight, expected) -> None:
    """The lead is over and the number in flight is what the rate and the time of a request make of it."""
    pace, times = PaceOpen(OpenLoad(request_rate=4.0), 4.0), RequestTimes(5.0, 0.0, (1,), 5.0)
    traffic = Settling(in_flight=in_flight, begun=lambda waited: round(4 * waited))
    asyncio.run(pace.settle(traffic, 0, times, pace.lead_s(times)))

    assert traffic.waited == pytest.approx(expected, abs=0.8)


def test_an_open_load_that_is_slower_than_the_warm_up_gets_a_longer_lead() -> None:
    """What is answered in the lead tells that the tail is longer."""
    pace, times = PaceOpen(OpenLoad(request_rate=4.0), 4.0), RequestTimes(1.0, 0.1, (41,), 5.0)
    traffic = Settling(in_flight=lambda waited: 40, begun=lambda waited: round(4 * waited))
    for _ in range(30):
        traffic.answered.add(0, 1_000_000_000, 8_000_000_000, 41)
    asyncio.run(pace.settle(traffic, 0, times, pace.lead_s(times)))

    assert 7.9 <= traffic.waited < 8.6


@pytest.mark.parametrize(
    ("rounds", "begun", "expected"),
    [
        (lambda waited: 3 if waited >= 2 else 0, lambda waited: 3, 2.0),  # each has ended one
        (lambda waited: 2, lambda waited: 3, 4.0),  # one takes long: it has begun, and the lead is over
        (lambda waited: 2, lambda waited: 3 if waited >= 6 else 2, 6.0),  # none is measured before it has begun
    ],
)
def test_a_closed_load_settles_when_every_client_has_ended_a_request(rounds, begun, expected) -> None:
    """Or when the rule of the tail says that waiting for the last one is no use."""
    pace, times = PaceClosed(ClosedLoad(concurrency=3)), RequestTimes(2.0, 0.0, (1,), 2.0)
    traffic = Settling(rounds=rounds, begun=begun)
    asyncio.run(pace.settle(traffic, 0, times, pace.lead_s(times)))

    assert traffic.waited == pytest.approx(expected + 0.618 * 2.0, abs=0.05)
