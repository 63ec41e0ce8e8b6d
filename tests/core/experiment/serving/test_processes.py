"""Client processes: what they send and keep, how they fail, and that none is left."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from llem.backends.base import Request
from llem.backends.wire import Asked, WireReference
from llem.errors import ExperimentFailed
from llem.experiment.serving.processes import Clients, client_processes
from llem.experiment.serving.remote import RemoteTraffic
from llem.experiment.serving.stock import Stock
from llem.experiment.serving.traffic import Played

pytestmark = [pytest.mark.process, pytest.mark.paced]

TOKENS = 4


def made(start: int, number: int) -> list[Request]:
    return [Request(index, (1, 2, 3), TOKENS) for index in range(start, start + number)]


def lines(first_s: float = 0.02, token_s: float = 0.01, **modes: Any) -> Callable[[Request], bytes]:
    """What is written for a request; `modes` by index ("i3": …), or for all ("every": …)."""

    def message(request: Request) -> bytes:
        more = modes.get(f"i{request.index}", modes.get("every", {}))
        asked = {"tokens": request.output_tokens, "first_s": first_s, "token_s": token_s, **more}
        return json.dumps(asked).encode() + b"\n"

    return message


def play(
    reference: WireReference,
    act: Callable[[RemoteTraffic], Coroutine[Any, Any, Any]],
    message: Callable[[Request], bytes] | None = None,
    *,
    processes: int = 1,
    loads: int = 1,
    make: Callable[[int, int], list[Request]] = made,
    check: Callable[[], None] = lambda: None,
) -> Played:
    """Loads in one loop, with the processes that stay between them; the last load."""
    clients = Clients(reference)

    async def whole() -> Played:
        for _ in range(loads):
            traffic = RemoteTraffic(await clients.have(processes, lambda: None), message or lines(), Stock(make), check)
            try:
                await act(traffic)
                await traffic.abort()
                found = await traffic.played()
            finally:
                await traffic.close()
        return found

    try:
        return asyncio.run(whole())
    finally:
        clients.close()


async def closed(traffic: RemoteTraffic, clients: int = 6, seconds: float = 0.5, ramp_s: float = 0.0) -> None:
    traffic.closed(clients, ramp_s)
    await traffic.rest(seconds)
    await traffic.drain(5.0)


@pytest.mark.parametrize("processes", [1, 3])
def test_a_closed_load_is_whole_whatever_the_number_of_processes(line_server, processes) -> None:
    """Every request is a flight once, with its tokens at their times; clients are shared out."""
    played = play(line_server(processes=processes), closed)
    flights = played.flights

    assert (played.processes, len(played.ticks)) == (processes, processes)
    assert {flight.outcome for flight in flights} == {"done"}
    assert len({flight.request.index for flight in flights}) == len(flights) >= 6
    for flight in flights:
        assert [chunk.tokens for chunk in flight.chunks] == [1] * TOKENS + [0]
        assert [chunk.token_ids for chunk in flight.chunks] == [(0,), (1,), (2,), (3,), ()]
        assert flight.chunks[-1].finish_reason == "length"
        assert flight.chunks[-1].engine_metrics == {"queued_s": 0.5}
        times = [flight.sent_ns, *(chunk.time_ns for chunk in flight.chunks), flight.ended_ns]
        assert times == sorted(times)
        assert 0.02 <= (flight.chunks[0].time_ns - flight.sent_ns) / 1e9 < 1.0
    assert max(_in_flight(flights)) == 6


def _in_flight(flights) -> list[int]:
    edges = sorted([(f.sent_ns, 1) for f in flights] + [(f.ended_ns, -1) for f in flights])
    found, now = [], 0
    for _, step in edges:
        now += step
        found.append(now)
    return found


def test_an_open_load_goes_out_on_time_from_several_processes(line_server) -> None:
    """Schedules are shared out by index, none is early, and answers are not waited for."""
    offsets = [0.01 * number for number in range(2000)]

    async def act(traffic: RemoteTraffic) -> None:
        traffic.open(offsets)
        await traffic.rest(1.0)
        await traffic.drain(5.0)

    flights = play(line_server(processes=2), act, lines(first_s=0.3)).flights
    first = min(flight.scheduled_ns for flight in flights)
    flights = [flight for flight in flights if flight.scheduled_ns < first + 0.9e9]  # they do not stop at one moment
    due = sorted(flight.scheduled_ns for flight in flights)

    assert [flight.request.index for flight in sorted(flights, key=lambda one: one.scheduled_ns)] == list(
        range(len(flights))
    )
    assert all(later - earlier == pytest.approx(1e7, abs=2) for earlier, later in pairwise(due))
    assert all(flight.sent_ns >= flight.scheduled_ns for flight in flights)
    assert max(_in_flight(flights)) > 10


def test_clients_start_one_by_one(line_server) -> None:
    """Over the ramp, also where they are shared out."""

    async def act(traffic: RemoteTraffic) -> None:
        await closed(traffic, 4, 0.6, ramp_s=0.4)

    sent = [f.sent_ns for f in play(line_server(processes=2), act, lines(first_s=30.0)).flights]

    assert len(sent) == 4
    assert all(later - earlier >= 0.02e9 for earlier, later in pairwise(sorted(sent)))  # 0.1 s, less what one is late


def test_processes_serve_one_load_after_the_other(line_server) -> None:
    """Nothing of a load is in the next."""
    played = play(line_server(), lambda traffic: _sequence(traffic, 3), loads=3)

    assert [flight.request.index for flight in played.flights] == [0, 1, 2]
    assert all(later.sent_ns >= earlier.ended_ns for earlier, later in pairwise(played.flights))


async def _sequence(traffic: RemoteTraffic, number: int) -> None:
    traffic.sequence(number)
    await traffic.finish()


def test_what_is_unanswered_after_the_drain_is_told(line_server) -> None:
    """It is unfinished, with the tokens that came."""

    async def act(traffic: RemoteTraffic) -> None:
        traffic.closed(3, 0.0)
        await traffic.rest(0.3)
        await traffic.drain(0.2)

    flights = play(line_server(), act, lines(every={"mode": "hang"})).flights

    assert [flight.outcome for flight in flights] == ["unfinished"] * 3
    assert all(len(flight.chunks) == 1 and flight.ended_ns > flight.chunks[0].time_ns for flight in flights)


@pytest.mark.parametrize("mode", ["hang", "comments"])
def test_silence_is_a_failure_whatever_keeps_the_connection_alive(line_server, mode) -> None:
    """One request without tokens fails in its time; the others go on."""

    async def act(traffic: RemoteTraffic) -> None:
        await closed(traffic, 2, 1.5)

    flights = play(line_server(silence_s=0.5), act, lines(i1={"mode": mode})).flights
    failed = [flight for flight in flights if flight.outcome == "error"]

    assert [flight.request.index for flight in failed] == [1]
    assert failed[0].failure == "no token came for 0.5 s"
    assert 0.5 <= (failed[0].ended_ns - failed[0].chunks[-1].time_ns) / 1e9 < 5.0
    assert len(failed[0].chunks) == 1
    assert len(flights) > 6


def test_a_request_has_a_deadline_though_tokens_come(line_server) -> None:
    """Tokens alone do not keep it alive for ever."""

    async def act(traffic: RemoteTraffic) -> None:
        await closed(traffic, 1, 1.2)

    flights = play(
        line_server(deadline_s=0.4, silence_s=0.3),
        act,
        lines(every={"token_s": 0.05}),
        make=lambda start, number: [Request(i, (1,), 10_000) for i in range(start, start + number)],
    ).flights

    assert flights[0].outcome == "error"
    assert flights[0].failure == "the answer was not complete within 0.4 s of the request"
    assert len(flights[0].chunks) > 3


def test_an_answer_that_breaks_off_costs_a_request(line_server, capfd) -> None:
    """The load goes on, and what the server said is kept."""
    played = play(
        line_server(),
        lambda traffic: closed(traffic, 2, 0.6),
        lines(
            i1={"mode": "truncate"}, i3={"mode": "error", "why": "no such adapter"}, i5={"mode": "late", "why": "late"}
        ),
    )
    failed = {f.request.index: f.failure for f in played.flights if f.outcome == "error"}

    assert failed == {1: "the answer broke off", 3: "no such adapter", 5: "late"}  # the last is seen when it is read
    assert sorted(played.messages) == ["late", "no such adapter", "the answer broke off"]
    assert len(played.flights) > 8
    assert "a request failed: no such adapter" in capfd.readouterr().err


def test_a_server_that_refuses_everything_is_dead(line_server) -> None:
    """After enough failures in a row the load ends, with the last one's words."""
    every = {"mode": "error", "why": "go away"}

    with pytest.raises(ExperimentFailed, match=r"requests failed in a row, the last with go away"):
        play(line_server(), lambda traffic: closed(traffic, 4, 60.0), lines(every=every))


def test_what_every_request_would_meet_ends_the_load_at_once(line_server) -> None:
    """The error of the wire arrives as it was: message, hint and code."""
    fatal = {"mode": "fatal", "why": "no such model"}

    with pytest.raises(ExperimentFailed) as end:
        play(line_server(), lambda traffic: closed(traffic, 1, 60.0), lines(i2=fatal))

    assert (end.value.message, end.value.hint, end.value.code) == ("no such model", "ask another server", "invalid")


def test_a_stall_of_the_client_is_seen(line_server) -> None:
    """A loop that stood still for 0.3 s is in the ticks, with its time."""
    played = play(line_server(stall_at=12, stall_s=0.3), lambda traffic: closed(traffic, 2, 1.0))
    [ticks] = played.ticks
    begin, end = played.flights[0].sent_ns, played.flights[-1].ended_ns
    stalls = [(b, e) for b, e in ticks.stalls(begin, end) if e - b > 0.25e9]

    assert len(stalls) == 1
    assert max(ticks.delays(begin, end)) >= 0.25e9
    assert ticks.busy_share(begin, end) is not None


def test_a_client_process_that_dies_ends_the_load_with_a_word(line_server) -> None:
    """It is told, within a second or two, and nothing hangs."""
    since = time.monotonic()
    with pytest.raises(ExperimentFailed, match="a client process of the load generator has ended by itself"):
        play(line_server(dies_at=5), lambda traffic: closed(traffic, 2, 60.0))

    assert time.monotonic() - since < 30.0


def test_a_wire_that_cannot_begin_is_told(line_server) -> None:
    """Before any load."""
    with pytest.raises(ExperimentFailed, match="this wire refuses to begin"):
        play(line_server(refuses=True), closed)


def test_a_sealed_window_that_runs_out_says_so(line_server) -> None:
    """No request is made or moved while a window is open."""

    async def act(traffic: RemoteTraffic) -> None:
        traffic.closed(2, 0.0)
        await traffic.rest(0.2)
        traffic.seal(True)
        await traffic.rest(60.0)

    with pytest.raises(ExperimentFailed, match="used up the requests"):
        play(line_server(), act, lines(first_s=0.0, token_s=0.0))


@pytest.mark.parametrize(("processes", "clients"), [(2, 2), (4, 5), (4, 1)])
def test_requests_are_there_before_they_are_needed(line_server, processes, clients) -> None:
    """`ready` waits until each process has what its clients take of them; a sealed load then lasts."""

    async def act(traffic: RemoteTraffic) -> None:
        traffic.closed(clients, 0.0)
        await traffic.rest(0.2)
        await traffic.ready(100)
        left = [side.received - side.sent for side in traffic._sides]
        assert all(one >= 0.9 * 100 * side.clients / clients for one, side in zip(left, traffic._sides, strict=True))
        traffic.seal(True)
        await traffic.rest(0.5)
        traffic.seal(False)
        await traffic.drain(5.0)

    assert {f.outcome for f in play(line_server(processes=processes), act).flights} == {"done"}


def test_no_more_processes_send_than_there_are_clients(line_server) -> None:
    """One that has nobody to send for would eat up requests."""
    played = play(line_server(processes=4), lambda traffic: closed(traffic, 2))

    assert (played.processes, len(played.ticks)) == (2, 2)
    indices = sorted(flight.request.index for flight in played.flights)
    assert len(indices) > 4
    assert indices[-1] < len(indices) + 4  # but for what one of the two is ahead of the other


def slowly(request: Request) -> bytes:
    time.sleep(0.02)
    return lines()(request)


def test_a_schedule_that_llem_cannot_keep_is_refused(line_server, monkeypatch) -> None:
    """Requests of 20 ms at 100 a second: said so, and not made for ever."""
    monkeypatch.setattr("llem.experiment.serving.feed.AHEAD_S", 0.2)
    monkeypatch.setattr("llem.experiment.serving.feed.JUDGED_S", 0.3)

    async def act(traffic: RemoteTraffic) -> None:
        traffic.open(number / 100 for number in itertools.count())
        await traffic.rest(60.0)

    with pytest.raises(ExperimentFailed, match=r"cannot make more than \d\S* requests/s here: the last"):
        play(line_server(), act, slowly)


@pytest.mark.parametrize("load", ["ready", "open", "closed", "sequence"])
def test_the_wish_to_stop_is_heard_while_requests_are_made(line_server, load) -> None:
    """However many are to be made yet."""
    since, stops = time.monotonic(), []

    def check() -> None:
        if time.monotonic() - since > 1.0 and stops:
            raise ExperimentFailed("stopped by the user", "", "interrupted")

    async def act(traffic: RemoteTraffic) -> None:
        stops.append(load)
        if load == "ready":
            await traffic.ready(100_000)
        elif load == "open":
            traffic.open(0.0 for _ in itertools.count())
        elif load == "closed":
            traffic.closed(100_000, 0.0)
        else:
            traffic.sequence(100_000)
        await traffic.rest(60.0)

    with pytest.raises(ExperimentFailed, match="stopped by the user"):
        play(line_server(), act, slowly, check=check)

    assert time.monotonic() - since < 30.0


def test_a_load_that_is_stopped_before_its_requests_are_made_ends(line_server) -> None:
    """It has sent nothing, and its process serves the next one."""

    async def act(traffic: RemoteTraffic) -> None:
        traffic.closed(100, 0.0)
        await traffic.drain(5.0)

    assert play(line_server(), act, slowly, loads=2).flights == []


def test_what_ended_early_is_known_by_its_outcome(line_server) -> None:
    """Its tokens are left where they came, and the rest are whole; prompts are not kept."""

    async def act(traffic: RemoteTraffic) -> None:
        traffic.closed(2, 0.0)
        await traffic.rest(0.4)
        traffic.since_ns = time.monotonic_ns()
        await traffic.rest(0.2)
        await traffic.drain(5.0)
        since.append(traffic.since_ns)

    since: list[int] = []
    flights = play(line_server(), act, lines(i1={"mode": "error", "why": "no"})).flights
    early = [flight for flight in flights if flight.ended_ns < since[0]]

    assert {flight.outcome for flight in early} == {"done", "error"}
    assert not any(flight.chunks for flight in early)
    assert all(len(flight.chunks) == TOKENS + 1 for flight in flights if flight.ended_ns >= since[0])
    assert flights[0].request == Asked(0, 3, TOKENS)


def test_one_worker_that_is_killed_leaves_no_client_process(line_server, tmp_path: Path) -> None:
    """Their input ends with it."""
    program = (
        "import asyncio, sys, json, time\n"
        "from llem.backends.wire import WireReference\n"
        "from llem.experiment.serving.processes import Clients\n"
        "async def main():\n"
        "    clients = Clients(WireReference(**json.loads(sys.argv[1])))\n"
        "    found = await clients.have(2, lambda: None)\n"
        "    print(*[one._process.pid for one in found], flush=True)\n"
        "    await asyncio.sleep(600)\n"
        "asyncio.run(main())\n"
    )
    reference = line_server()
    told = json.dumps(
        {"wire": reference.wire, "settings": dict(reference.settings), "silence_s": 1.0, "deadline_s": 1.0}
    )
    with subprocess.Popen([sys.executable, "-c", program, told], stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        pids = [int(pid) for pid in worker.stdout.readline().split()]
        os.kill(worker.pid, signal.SIGKILL)

    assert len(pids) == 2
    until = time.monotonic() + 20
    while any(_lives(pid) for pid in pids) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(_lives(pid) for pid in pids)


def _lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


@pytest.mark.parametrize(
    ("in_flight", "cores", "expected"), [(1, 1, 1), (512, 2, 1), (512, 8, 2), (512, 64, 2), (5000, 64, 16), (0.1, 4, 1)]
)
def test_how_many_processes(in_flight: float, cores: int, expected: int) -> None:
    """One for 256 requests in flight, a quarter of the cores at most, and one at least."""
    assert client_processes(in_flight, cores) == expected


def test_a_client_process_is_light(line_server) -> None:
    """It imports no numpy, no backend, no settings."""
    program = "import sys, llem.experiment.serving.client; print(sorted(set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)

    for heavy in ("numpy", "scipy", "yaml", "rich", "llem.config.models", "llem.store.models", "llem.backends.base"):
        assert f"'{heavy}'" not in done.stdout
