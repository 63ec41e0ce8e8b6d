"""Closed loads in which some clients wait while others are served again and again."""

from __future__ import annotations

import random

import attrs
import pytest

from llem.config.slo import Slo

S = 1_000_000_000


def row_of(make, index, start, end, outputs=32):
    """A request that was in flight from start to end, in seconds of a window, and whose tokens came evenly."""
    t0, _ = make.window(0)
    step = round((end - start) * S / outputs)
    return make.served_row(index, t0 + round(start * S), ttft=step, tpot=step, outputs=outputs, kind="closed")


def study_of(make, spans, *, seconds=10, slo=None):
    """One window of the requests of these spans."""
    study = make.Served(make, kind="closed")
    rows = [row_of(make, i, start, end) for i, (start, end) in enumerate(spans) if end >= 0 and start < seconds]
    study.put(0, [silent(row) if row.end_ns >= row.start_ns + 60 * S else row for row in rows], kind="closed",
              seconds=seconds)  # fmt: skip
    if slo is not None:
        study.experiment["config"]["slo"] = attrs.asdict(slo)
    return study


def silent(row):
    """As one that got no token before its load ended."""
    return attrs.evolve(row, token_times_ns=(row.end_ns,), chunk_tokens=(row.output_tokens,))


def newest_first(clients, slots, mean_s=0.14, begin=-5.0, seconds=10.0):
    """Spans of requests that a server answers, the newest first; who waits does so for a hundred seconds."""
    noise = random.Random(1)
    free = min(clients, slots)
    served = []
    for _ in range(free):
        at = begin
        while at < seconds:
            served.append((at, at := at + noise.uniform(0.9, 1.1) * mean_s))
    return [*served, *((begin, begin + 100.0) for _ in range(clients - free))]


def clients(count, draw, seconds, *, lock_step=False, seed=1, before=30.0):
    """Spans of a healthy server's requests, of clients that each wait for their last."""
    noise, found = random.Random(seed), []
    for _ in range(count):
        each = random.Random(seed) if lock_step else noise
        at = -before - (0.0 if lock_step else each.random() * draw(each))
        while at < seconds:
            found.append((at, at := at + draw(each)))
    return found


def test_a_server_that_answers_the_newest_first_is_told(make):
    """Of eight clients three are served: the others end in no window, and the mean time is theirs alone."""
    found = study_of(make, newest_first(8, 3)).found("not_stationary")
    assert found.evidence["in_flight"] == pytest.approx(8.0, rel=0.01)
    assert found.evidence["ended"] == pytest.approx(3.0, rel=0.05)
    assert found.evidence["waiting"] == 5
    assert "where Little's law asks for 0.37" in found.message
    assert "5 waited through a whole window without a token (trial 0)" in found.message


def test_one_client_of_many_that_is_never_served_is_told(make):
    """Too little for Little's law."""
    assert study_of(make, newest_first(33, 32)).found("not_stationary").evidence["waiting"] == 1


@pytest.mark.parametrize(("slots", "attainment"), [(8, 1.0), (3, 0.977)])
def test_who_waits_through_a_window_keeps_no_limit(make, slots, attainment):
    """Five clients were late before the window, and count in it."""
    study = study_of(make, newest_first(8, slots), slo=Slo(ttft_s=1.0))
    assert study.metrics()["slo_attainment"].value == pytest.approx(attainment, abs=0.001)


@pytest.mark.parametrize("count", [1, 16])
@pytest.mark.parametrize("seconds", [2, 5, 20])
@pytest.mark.parametrize(
    ("draw", "lock_step"),
    [
        (lambda _: 1.0, True),
        (lambda noise: noise.uniform(0.95, 1.05), False),
        (lambda noise: 10.0 if noise.random() < 0.1 else 1.0, False),
        (lambda noise: noise.lognormvariate(-0.5, 1.0), False),
    ],
    ids=["lock-step", "alike", "two kinds", "lognormal"],
)
def test_a_healthy_closed_load_is_not_told(make, count, seconds, draw, lock_step):
    """Windows of two requests of each client, and of twenty; the same edges for all, and lengths that differ."""
    spans = clients(count, draw, seconds, lock_step=lock_step)
    assert "not_stationary" not in study_of(make, spans, seconds=seconds).codes()
