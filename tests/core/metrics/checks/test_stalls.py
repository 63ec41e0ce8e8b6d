"""Engines that stood still within a window, from requests whose times are chosen."""

from __future__ import annotations

import random

import attrs
import pytest

from llem.findings import Finding
from llem.metrics.checks.stalls import alike, stalls
from llem.metrics.metric import Measured
from llem.metrics.setup import Setup
from llem.store.models import Beats, ClientFacts, Gap, RequestRow, ServingFacts, Trial

S = 1_000_000_000
T0 = 100 * S
FACTS = ServingFacts("closed", 4, None, 0, 1, 1, 0, 0, None, None, None, 1.0, 1.0, 1.0, 1, 1)


def trial(index: int, **more) -> Trial:
    """A window of 5 s."""
    fields = {"serving": FACTS, "planned_s": 5.0, "batch_s": (), **more}
    return Trial(
        experiment_id="one", index=index, process=0, started_at="2026-01-01T00:00:00+00:00",
        t0_ns=T0, t1_ns=T0 + 5 * S, batches=0, requests=1,
        input_tokens=1, output_tokens=1, expected_output_tokens=1, first_index=0, energies=(), peak_memory_bytes=None,
        memory_covers="", memory_reason=None, output_digest="", health={}, **fields,
    )  # fmt: skip


def served(
    seed: int, *, clients: int = 4, tokens: int = 100, step: float = 0.01, prefill: float = 0.05, stop=(0.0, 0.0)
) -> list[RequestRow]:
    """Clients one after another at an engine of their own each, which stands still from `stop[0]` to `stop[1]`.

    Times in seconds after the window opened; the load runs from 2 s before it to 1 s after it.
    """
    noise, rows = random.Random(seed), []
    for client in range(clients):
        now = -2 - noise.random()
        while now < 6:
            sent, times = now, []
            for number in range(tokens):
                now += (prefill if number == 0 else step) * noise.uniform(0.9, 1.1)
                if stop[0] < now < stop[1]:
                    now = stop[1] + 0.0001 * client
                times.append(T0 + round(now * S))
            if times[-1] >= T0 and sent < 5:
                start = T0 + round(sent * S)
                rows.append(RequestRow(len(rows), 0, 100, tokens, start, times[-1], tuple(times)))
            now += 0.0005
    return rows


def found(rows: list[list[RequestRow]], trials: list[Trial] | None = None, **config) -> list[Finding]:
    """Of trials with these rows."""
    made = trials or [trial(index) for index in range(len(rows))]
    setup = Setup({"load": {"kind": "closed", **config}}, "cpu", None, None, None, {})
    return list(stalls(Measured(setup, made, (), lambda index: rows[index])))


@pytest.mark.parametrize("trials", [1, 2, 5])
@pytest.mark.parametrize("shape", [{}, {"clients": 1}, {"clients": 1, "tokens": 600, "prefill": 0.8}, {"tokens": 1}])
def test_an_engine_that_goes_on_has_none(trials: int, shape) -> None:
    """Also where a single client waits for a long prompt now and then."""
    for seed in range(0, 30, 10):
        assert found([served(seed + index, **shape) for index in range(trials)]) == []


@pytest.mark.parametrize("trials", [1, 2, 5])
@pytest.mark.parametrize("shape", [{}, {"clients": 1}, {"clients": 1, "tokens": 600, "prefill": 0.8}])
def test_a_stop_of_a_second_is_found(trials: int, shape) -> None:
    """With its length and its place, in the trial that had it."""
    rows = [served(index, **shape) for index in range(trials - 1)]
    [one] = found([*rows, served(77, stop=(2.0, 3.2), **shape)])

    assert (one.code, one.severity) == ("stalled", "error")
    assert one.evidence["trials"] == [trials - 1]
    assert one.evidence["stalled_s"] == pytest.approx(1.2, abs=0.1)
    assert one.evidence["at_s"] == pytest.approx(2.0, abs=0.1)
    assert one.message.startswith("no token came, with requests in flight, for 1.2")


def test_a_stop_that_lasts_to_the_end_is_found() -> None:
    """No token ends it."""
    rows = [served(0), served(1, stop=(3.5, 7.0))]

    assert found(rows)[0].evidence["stalled_s"] == pytest.approx(1.5, abs=0.1)


@pytest.mark.parametrize("trials", [2, 3, 5])
@pytest.mark.parametrize("shape", [{"clients": 1}, {"clients": 16, "tokens": 64, "step": 0.011, "prefill": 0.1}])
def test_a_stop_in_every_window_is_a_warning(trials: int, shape) -> None:
    """No window is without one, so that it may be the engine's own way; but no figure is given without a word."""
    rows = [served(index, stop=(1.0 + 0.3 * index, 3.0 + 0.3 * index), **shape) for index in range(trials)]
    [one] = found(rows)

    assert (one.code, one.severity) == ("stalls_recur", "warning")
    assert one.evidence["trials"] == list(range(trials))
    assert one.evidence["times"] == trials
    assert one.evidence["stalled_s"] == pytest.approx(2.0, abs=0.1)
    assert one.evidence["share"] == pytest.approx(0.4, abs=0.02)
    assert f"{trials} times within {trials} of {trials} windows and 40% of their time" in one.message


def test_a_stop_in_all_windows_but_one_is_a_warning() -> None:
    """Two of three are most."""
    rows = [served(0), served(1, stop=(1.0, 3.0)), served(2, stop=(1.5, 3.5))]

    assert [one.code for one in found(rows)] == ["stalls_recur"]
    assert found(rows)[0].evidence["trials"] == [1, 2]


def test_two_stops_in_the_only_window_are_an_error() -> None:
    """There is no other window to compare with."""
    one = served(1, stop=(0.5, 1.5))
    rows = [attrs.evolve(row, token_times_ns=shifted(row.token_times_ns)) for row in one]
    [told] = found([[attrs.evolve(row, end_ns=row.token_times_ns[-1]) for row in rows]])

    assert (told.code, told.severity) == ("stalled", "error")


def shifted(times: tuple[int, ...]) -> tuple[int, ...]:
    """Another stop of 1.2 s, 3 s after the window opened."""
    return tuple(time + 1_200_000_000 if time > T0 + 3 * S else time for time in times)


@pytest.mark.parametrize("trials", [1, 2, 5])
@pytest.mark.parametrize(
    "shape",
    [
        {"clients": 1, "tokens": 2, "prefill": 1.5},  # nothing but prompts
        {"clients": 2, "tokens": 400, "prefill": 1.0},
        {"clients": 4, "tokens": 2, "step": 1.5},  # all in one piece, after a first token
        {"clients": 1, "tokens": 4, "step": 1.0},
    ],
)
def test_long_waits_by_themselves_are_no_stop(trials: int, shape) -> None:
    """Each request has its own."""
    for seed in range(0, 50, 10):
        assert found([served(seed + index, **shape) for index in range(trials)]) == []


def test_a_prompt_that_all_wait_for_is_no_stop() -> None:
    """One client at an engine that answers all others only when a prompt of 20,000 tokens is done, once per window."""
    rows = []
    for index in range(3):
        others = served(index, stop=(2.0, 3.2))
        begin, end = T0 + 2 * S, T0 + round(3.2 * S)
        rows.append([*others, RequestRow(len(others), 0, 20_000, 1, begin, end, (end,))])

    assert found(rows) == []


def test_a_stop_in_a_window_of_eight_seconds_that_is_the_only_one() -> None:
    """Sixteen clients, two seconds."""
    rows = served(3, clients=16, tokens=64, step=0.011, prefill=0.1, stop=(4.0, 6.0))
    long = attrs.evolve(trial(0, planned_s=8.0), t1_ns=T0 + 8 * S)
    [one] = found([rows], [long])

    assert one.code == "stalled"
    assert one.evidence["stalled_s"] == pytest.approx(2.0, abs=0.1)


def test_a_window_of_no_length_is_no_trial() -> None:
    """So nothing divides by it."""
    with pytest.raises(ValueError, match="is not after t0_ns"):
        attrs.evolve(trial(0), t1_ns=T0)


def test_prompts_that_an_edge_cuts_off_say_nothing_of_prompts() -> None:
    """A prompt takes 1.8 s, and most windows open a tenth of a second before it is done."""
    rows = []
    for trial_ in range(5):
        first, start = T0 + S // 10, T0 - round(1.7 * S)
        times = [first + round(0.01 * S * n) for n in range(1, 450)]
        more = []
        if trial_ == 0:  # another one is worked on after it, and holds up the first
            second = first + round(1.8 * S)
            times = [second + round(0.01 * S * n) for n in range(1, 250)]
            more = [RequestRow(1, 0, 20_000, 250, start, times[-1], (second, *times))]
        rows.append([RequestRow(0, 0, 20_000, len(times) + 1, start, times[-1], (first, *times)), *more])

    assert found(rows) == []


def whole_answers(seed: int, *, clients: int = 2, stop=(9.0, 9.0)) -> list[RequestRow]:
    """Answers that come at once, 8 ms a token: one in 131 has 400 tokens, the others 10."""
    noise, rows = random.Random(seed), []
    for client in range(clients):
        now, number = -2 - noise.random(), client * 65
        while now < 6:
            tokens, sent = 400 if number % 131 == 70 else 10, now
            now += 0.008 * tokens * noise.uniform(0.9, 1.1)
            if stop[0] < now < stop[1] or sent < stop[0] <= now:
                now += stop[1] - stop[0]
            if now >= 0 and sent < 5:
                start, end = T0 + round(sent * S), T0 + round(now * S)
                rows.append(RequestRow(len(rows), 0, 100, tokens, start, end, (end,), chunk_tokens=(tokens,)))
            now, number = now + 0.0005, number + 1
    return rows


@pytest.mark.parametrize("clients", [1, 2])
@pytest.mark.parametrize("seed", range(4))
def test_a_long_answer_that_comes_at_once_is_no_stall(clients: int, seed: int) -> None:
    """Nothing is seen of it for 3 s, because nothing of it is sent."""
    rows = whole_answers(seed, clients=clients)
    assert any(row.output_tokens == 400 for row in rows)
    assert found([rows]) == []


def test_a_stop_of_whole_answers_is_found() -> None:
    """2 s, where each answer takes 80 ms."""
    [one] = found([[row for row in whole_answers(1, stop=(1.0, 3.0)) if row.output_tokens == 10]])
    assert one.code == "stalled"


def test_nobody_asked_is_no_stall() -> None:
    """Between two requests of one who comes seldom, no token comes by right."""
    rows = [row for row in served(1, clients=1) if not T0 + S < row.start_ns < T0 + 4 * S]

    assert found([served(2, clients=1), rows]) == []


def test_a_worker_that_was_paused_says_so_itself() -> None:
    """One finding for one cause; so does a client that took nothing."""
    rows = [served(0), served(1, stop=(2.0, 3.2))]
    gap = Gap(T0 + 2 * S, T0 + 2 * S + 1_200_000_000, 0.0, 0.0, stopped=True)
    paused = trial(1, beats=Beats(0.05, (gap,)))
    client = ClientFacts(1, 0.0, 0.0, 1.2, ((T0 + 2 * S, T0 + 2 * S + 1_200_000_000),))
    late = trial(1, serving=attrs.evolve(FACTS, client=client))

    assert len(found(rows)) == 1
    assert found(rows, [trial(0), paused]) == []
    assert found(rows, [trial(0), late]) == []


# batches


def batches(seconds: list[float], outputs: list[int] | None = None) -> list[RequestRow]:
    """One request for each batch, back to back."""
    rows, now = [], T0
    for number, length in enumerate(seconds):
        end = now + round(length * S)
        rows.append(RequestRow(number, number, 100, (outputs or [64] * len(seconds))[number], now, end))
        now = end
    return rows


def offline(rows: list[list[RequestRow]]) -> list[Finding]:
    """Of offline trials with these batches."""
    made = [trial(index, serving=None, batch_s=(1.0,) * len(there)) for index, there in enumerate(rows)]
    setup = Setup({"load": {"kind": "offline"}}, "cpu", None, None, None, {})
    return list(stalls(Measured(setup, made, (), lambda index: rows[index])))


def noisy(seed: int, count: int, sigma: float) -> list[float]:
    """Times of batches that fill 5 s, with a lognormal scatter."""
    noise = random.Random(seed)
    return [5.0 / count * noise.lognormvariate(0, sigma) for _ in range(count)]


@pytest.mark.parametrize("trials", [1, 2, 5])
@pytest.mark.parametrize("count", [1, 5, 50])
@pytest.mark.parametrize("sigma", [0.002, 0.02, 0.1])
def test_batches_that_scatter_have_none(trials: int, count: int, sigma: float) -> None:
    """Of 60 experiments with so many trials, none."""
    alarms = [bool(offline([batches(noisy(n * 7 + t, count, sigma)) for t in range(trials)])) for n in range(60)]

    assert not any(alarms)


@pytest.mark.parametrize("count", [2, 5, 50])
def test_one_batch_far_beyond_the_others_is_found(count: int) -> None:
    """The engine's process was stopped for four seconds, in one trial of three."""
    rows = [noisy(seed, count, 0.02) for seed in range(3)]
    rows[1][1] += 4.0
    [one] = offline([batches(each) for each in rows])

    assert one.evidence["trials"] == [1]
    assert one.evidence["stalled_s"] == pytest.approx(4.0 + 5.0 / count, rel=0.1)
    assert one.message.startswith("one batch went on for")


def test_one_long_batch_in_every_window_is_a_warning() -> None:
    """Of twenty batches, one took twelve times as long."""
    rows = [noisy(seed, 20, 0.02) for seed in range(3)]
    for number, times in enumerate(rows):
        times[3 + number] += 3.0
    [one] = offline([batches(each) for each in rows])

    assert (one.code, one.severity) == ("stalls_recur", "warning")
    assert one.evidence["times"] == 3
    assert one.evidence["trials"] == [0, 1, 2]
    assert one.message.startswith("one batch went on for up to 3.2")


def test_more_work_in_every_window_is_no_stall() -> None:
    """One batch of each has ten times the tokens."""
    times, outputs = [0.1] * 20 + [1.0], [64] * 20 + [640]

    assert offline([batches(times, outputs)] * 4) == []


def test_more_work_is_no_stall() -> None:
    """A batch of ten times the tokens may take ten times as long."""
    times, outputs = [0.1] * 20 + [1.0], [64] * 20 + [640]

    assert offline([batches(times, outputs), batches(times, outputs)]) == []
    assert offline([batches(times), batches([0.1] * 21)]) != []


@pytest.mark.parametrize(("outputs", "same"), [([64, 64], True), ([64, 65], False)])
def test_whether_all_batches_do_the_same(outputs: list[int], same: bool) -> None:
    """Then the warm-up says how long they take."""
    rows = batches([1.0, 1.0], outputs)
    setup = Setup({"load": {"kind": "offline"}}, "cpu", None, None, None, {})
    measured = Measured(setup, [trial(0, serving=None, batch_s=(1.0, 1.0))], (), lambda index: rows)

    assert alike(measured) is same
