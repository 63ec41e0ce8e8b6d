"""What the load generator has added to the figures is told, in proportion to them."""

from __future__ import annotations

import time

import attrs
import pytest

from llem.store.models import ClientFacts

S = 1_000_000_000
MS = S // 1000
QUIET = ClientFacts(1, 0.0, 0.0, 0.0)


def with_client(make, client, *, kind="open", **shape):
    """An experiment of one window of ten seconds with these facts of its client."""
    study = make.Served(make, kind=kind, **shape)
    trial = study.trials[0]
    study.trials[0] = attrs.evolve(trial, serving=attrs.evolve(trial.serving, client=client))
    return study


@pytest.mark.parametrize("kind", ["open", "replay"])
@pytest.mark.parametrize(
    ("lag", "ttft", "told"), [(2, 50, False), (3, 50, True), (30, 700, False), (40, 700, True), (0.9, 5, False)]
)
def test_lag_in_proportion(make, lag, ttft, told, kind):
    """More than 5 % of the TTFT that is reported, and more than 1 ms."""
    study = make.Served(make, lag=int(lag * MS), ttft=ttft * MS, kind=kind)
    assert ("client_lag" in study.codes()) == told
    if told:
        [off] = study.found("client_lag").evidence["figures"]
        assert off["off_s"] == pytest.approx(lag / 1e3)
        assert off["reported_s"] == pytest.approx(ttft / 1e3)


def test_lag_is_of_the_requests_whose_latencies_count(make):
    """Ten requests that were due before the window and sent 750 ms late ended within it: their p99 is the client's."""
    study = make.Served(make, ttft=50 * MS)
    t0, _ = make.window(0)
    late = [make.served_row(9000 + i, t0 - S // 2, ttft=S - i * MS, tpot=MS, lag=750 * MS) for i in range(10)]
    study.put(0, [*late, *study.requests[0]])

    found = study.found("client_lag")
    assert study.metrics()["lag_p99_s"].value == pytest.approx(0.75)
    assert found.evidence["figures"][0]["off_s"] > 0.5
    assert "requests were sent late: TTFT p9" in found.message


@pytest.mark.parametrize(
    ("client", "figure"),
    [
        (attrs.evolve(QUIET, delay_p50_s=0.002), None),  # 4 % of 50 ms
        (attrs.evolve(QUIET, delay_p50_s=0.003), "TTFT p50"),
        (attrs.evolve(QUIET, delay_p99_s=0.0009), None),
        (attrs.evolve(QUIET, delay_p99_s=0.0012), "ITL p99"),  # of 10 ms; 2.4 % of the p99 TTFT
    ],
)
@pytest.mark.parametrize("kind", ["open", "closed"])
def test_delay_of_the_event_loop(make, client, figure, kind):
    """Against the figures that it is in, for every load."""
    study = with_client(make, client, kind=kind)
    assert ("client_lag" in study.codes()) == (figure is not None)
    if figure:
        assert study.found("client_lag").evidence["figures"][0]["figure"] == figure


def test_delay_is_in_a_time_per_further_token_by_its_part(make):
    """Of 4 ms, over the three tokens after the first, 1.33 ms are in a TPOT of 10 ms; over 63 tokens it is nothing."""
    client, slow = attrs.evolve(QUIET, delay_p99_s=0.004), {"ttft": S, "tpot": 10 * MS}
    short = with_client(make, client, outputs=4, **slow).found("client_lag").evidence["figures"][0]
    assert short["figure"] == "ITL p99"  # more of that
    chunky = with_client(make, client, outputs=64, chunk=63, **slow)
    assert "client_lag" not in chunky.codes()  # a gap of 630 ms


@pytest.mark.parametrize(
    ("begin", "length", "told"),
    [
        (3.0, 0.9, True),  # in the window
        (3.0, 0.004, False),
        (-1.0, 0.9, True),  # before it, while requests ran that ended within
        (-3.0, 0.5, False),  # before any of them
        (30.0, 1.0, False),  # after
    ],
)
@pytest.mark.parametrize("kind", ["open", "closed"])
def test_stalls_that_touch_a_measured_request(make, begin, length, told, kind):
    """The event loop stood still for 0.9 s, by which the window and the p99 are off; requests take 0.68 s."""
    t0, _ = make.window(0)
    stall = (t0 + int(begin * S), t0 + int((begin + length) * S))
    study = with_client(make, attrs.evolve(QUIET, stalls=(stall,)), kind=kind)
    assert ("client_lag" in study.codes()) == told
    if told:
        said = "stood still for 900 ms in all, 9% of the window, and for 900 ms at once (trial 0)"
        assert said in study.found("client_lag").message
        assert "paused" not in study.codes()  # something ran


def test_stalls_of_several_processes_count_once(make):
    """Two processes that stand still at the same time stand still for that time."""
    t0, _ = make.window(0)
    stalls = tuple((t0 + 3 * S + i * MS, t0 + 3 * S + i * MS + 90 * MS) for i in range(3))
    assert "client_lag" not in with_client(make, attrs.evolve(QUIET, stalls=stalls), ttft=S).codes()


@pytest.mark.parametrize(("length", "told"), [(2.0, True), (0.3, True), (0.2, False)])
def test_a_client_process_that_was_frozen_is_a_pause(make, length, told):
    """As a worker's is: for so long nothing was sent, and nothing read; a fifth of a second may be the scheduler's."""
    t0, _ = make.window(0)
    stall = (t0 + 3 * S, t0 + 3 * S + int(length * S))
    study = with_client(make, attrs.evolve(QUIET, stalls=(stall,), still=(stall,)), ttft=S)
    assert ("paused" in study.codes()) == told
    if told:
        found = study.found("paused")
        assert found.evidence["paused_s"] == pytest.approx(length)
        assert "what sends the requests frozen: nothing of it ran" in found.message


@pytest.mark.parametrize(("processes", "device", "told"), [(1, "cuda", True), (0, "cpu", True), (0, "cuda", False)])
def test_a_pause_before_the_window_holds_up_the_requests_in_it(make, processes, device, told):
    """Its requests were sent before; a library may wait beside a GPU with the lock of the interpreter held."""
    t0, _ = make.window(0)
    stall = (t0 - 2 * S, t0 - S)
    client = attrs.evolve(QUIET, processes=processes, stalls=(stall,), still=(stall,))
    study = with_client(make, client, ttft=S, engine=make.engine_document(cuda=device == "cuda"))
    assert ("paused" in study.codes()) == told
    if told:
        said = "llem stood still for 1.00 s of a window of 10.00 s and the requests that reach into it"
        assert said in study.found("paused").message


def test_stalls_that_are_not_kept_count(make):
    """Their sum is stored beside the longest."""
    t0, _ = make.window(0)
    stalls = ((t0 + 3 * S, t0 + 3 * S + 30 * MS),)
    found = with_client(make, attrs.evolve(QUIET, stalls=stalls, stalled_s=4.0), ttft=S).found("client_lag")
    assert "stood still for 4 s in all, 40% of the window, and for 30 ms at once" in found.message


def test_many_stalls_are_looked_at_fast(make):
    """24,000, as an older llem stored them."""
    t0, _ = make.window(0)
    stalls = tuple((t0 + i * 400_000, t0 + i * 400_000 + 300_000) for i in range(24_000))
    study, since = with_client(make, attrs.evolve(QUIET, stalls=stalls)), time.monotonic()
    assert "7.2 s in all" in study.found("client_lag").message
    assert time.monotonic() - since < 5.0


def test_facts_of_the_client_are_metrics(make):
    """Delay and busy share; why there is none of a client that shares its process, and of an older trial."""
    found = with_client(make, attrs.evolve(QUIET, delay_p99_s=0.0004, busy_share=0.4)).metrics()
    assert (found["client_delay_p99_s"].value, found["client_busy_share"].value) == (0.0004, 0.4)
    assert with_client(make, QUIET).metrics()["client_busy_share"].reason == "no_client_process"
    older = make.Served(make).metrics()
    assert (older["client_delay_p99_s"].reason, older["client_busy_share"].reason) == ("not_recorded", "not_recorded")
