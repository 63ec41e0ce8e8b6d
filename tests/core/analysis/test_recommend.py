"""Which configuration to take, from stored results: the choice, ties, limits, what is left out and why."""

from __future__ import annotations

import json

import attrs
import pytest

from llem.analysis.collection import Results
from llem.errors import ConfigError, StoreError
from llem.evaluators.base import Item, Score
from llem.metrics.result import recompute
from llem.store.store import Store

ENERGY, SPEED = "energy_per_output_token_j", "output_tokens_per_s"
#: In the warning of loads that differ.
LOADS = "different loads"
AXES = {"load.batch_size": [1, 8, 32]}


def given(energies, **more):
    """By batch size: joules per token, and what else a result has."""
    return lambda point: {"energy": energies[point["load.batch_size"]], **more.get(str(point["load.batch_size"]), {})}


def results(grid_store, energies, half=0.001, **more):
    return Results.open(grid_store(AXES, given({1: energies[0], 8: energies[1], 32: energies[2]}, **more), half))


def test_the_cheapest_is_taken_where_it_is_far_ahead(grid_store):
    """Half the energy of the next one: P is 1, nothing is tied, and each other one says by how much it costs more."""
    choice = results(grid_store, (4.0, 2.0, 1.0)).recommend()

    assert choice.best == choice.choice == "02" + "0" * 14
    assert choice.probability == 1.0
    assert choice.ties == (choice.best,)
    assert [one.standing for one in choice.contenders] == ["choice", "worse", "worse"]
    first, second, third = choice.contenders
    assert first.values == {"load.batch_size": 32}
    assert first.objective.value == pytest.approx(1.0, rel=0.02)
    assert second.excess.value == pytest.approx(1.0, rel=0.1)
    assert third.excess.value == pytest.approx(3.0, rel=0.1)
    assert "costs" in second.why
    assert choice.separations == ()


def test_the_study_is_read_once(grid_store, monkeypatch):
    """That of ten thousand points is long: once by whoever lists the results, for all that is asked of them."""
    store, read = grid_store(AXES, given({1: 4.0, 8: 2.0, 32: 1.0})), []
    study = Store.study
    monkeypatch.setattr(Store, "study", lambda self: [read.append(self), study(self)][1])
    found = Results.open(store)

    assert found.recommend().contenders[0].values == {"load.batch_size": 32}
    assert found.pareto(ENERGY, SPEED).dominated
    assert sorted(found.columns()["load.batch_size"]) == [1, 8, 32]
    assert len(read) == 1


def test_what_is_alike_is_tied(grid_store):
    """Three of equal energy: each may be the best, none is out, and what the choice would lose is small."""
    choice = results(grid_store, (1.0, 1.0, 1.0)).recommend()

    assert len(choice.ties) == 3
    assert {one.standing for one in choice.contenders} == {"choice", "tie"}
    assert choice.probability == pytest.approx(1 / 3, abs=0.05)
    assert 0 < choice.regret < 0.03


def test_the_fastest_where_more_is_better(grid_store):
    """The same by speed; an objective the wrong way round is refused with the right word."""
    speeds = {"1": {"speed": 100.0}, "8": {"speed": 200.0}, "32": {"speed": 50.0}}
    ranked = results(grid_store, (1.0, 1.0, 1.0), **speeds)

    choice = ranked.recommend(maximise=SPEED)
    assert choice.best[:2] == "01"
    assert ranked.recommend(maximise="speed") == choice
    assert not choice.lower_is_better
    with pytest.raises(ConfigError, match="more is better") as caught:
        ranked.recommend(minimise=SPEED)
    assert "--maximise" in caught.value.hint
    with pytest.raises(ConfigError, match="both"):
        ranked.recommend(minimise=ENERGY, maximise=SPEED)
    with pytest.raises(StoreError) as caught:
        ranked.recommend(minimise="enery")
    assert caught.value.code == "metric_unknown"


def test_a_limit_excludes_the_cheapest(grid_store):
    """The cheapest is too slow: the next one is taken, and the cheapest says which limit it breaks."""
    speeds = {"1": {"speed": 300.0}, "8": {"speed": 200.0}, "32": {"speed": 50.0}}
    choice = results(grid_store, (4.0, 2.0, 1.0), **speeds).recommend(slo="output_tokens_per_s>100")

    assert choice.best[:2] == "01"
    out = choice.contenders[-1]
    assert (out.id[:2], out.standing, out.feasible) == ("02", "out", 0.0)
    [outcome] = out.limits
    assert outcome.probability == 0.0
    assert outcome.found.value == pytest.approx(50, rel=0.05)
    assert "output_tokens_per_s>100" in out.why


def test_nothing_keeps_all_limits(grid_store):
    """The limit that blocks is named, and the configuration that comes nearest."""
    speeds = {"1": {"speed": 90.0}, "8": {"speed": 50.0}, "32": {"speed": 20.0}}
    ranked = results(grid_store, (4.0, 2.0, 1.0), **speeds)
    choice = ranked.recommend(slo="output_tokens_per_s>100;energy_per_output_token_j<10J")

    assert choice.choice is None
    assert choice.probability == 0.0
    assert choice.blocking.text == "output_tokens_per_s>100"
    assert choice.nearest[:2] == "00"
    assert choice.ties == choice.guaranteed == ()


def test_what_is_not_measured_keeps_no_limit(grid_store):
    """Nothing says that a latency is kept: its probability is 0, with the reason."""
    choice = results(grid_store, (4.0, 2.0, 1.0)).recommend(slo="ttft:p99<500ms")

    assert choice.choice is None
    [outcome] = choice.contenders[0].limits
    assert (outcome.found, outcome.probability) == (None, 0.0)
    assert outcome.reason


def test_fakes_and_invalid_results_are_left_out_with_why(grid_store):
    """The two cheapest are a fake and an invalid one."""
    more = {"32": {"config": {"backend": "echo"}}, "8": {"valid": False}}
    choice = results(grid_store, (4.0, 2.0, 1.0), **more).recommend()

    assert choice.best[:2] == "00"
    assert {name[:2] for name in choice.excluded} == {"01", "02"}
    assert "fake" in choice.excluded["02" + "0" * 14]
    assert "not valid" in choice.excluded["01" + "0" * 14]


def test_another_rate_of_arrivals_is_no_configuration(grid_store):
    """The more requests come, the less energy each token takes: that one is no choice."""
    rates = {"1": {"request_rate": 1.0}, "8": {"request_rate": 2.0}, "32": {"request_rate": 4.0}}
    more = {size: {"config": {"load": {"kind": "open", **load}}} for size, load in rates.items()}
    [warning] = [
        one for one in results(grid_store, (4.0, 2.0, 1.0), **more).recommend().warnings if "different loads" in one
    ]

    assert "`--load`" in warning


def test_an_open_load_beside_batches_is_warned_of(grid_store):
    """One of three is sent at its own rate; batches are always there."""
    more = {"8": {"config": {"load": {"kind": "open", "request_rate": 2.0}}}}

    assert [
        one for one in results(grid_store, (4.0, 2.0, 1.0), **more).recommend().warnings if "different loads" in one
    ]


def test_the_same_rate_of_arrivals_is_no_warning(grid_store):
    """Nor are other batch sizes."""
    more = {size: {"config": {"load": {"kind": "open", "request_rate": 4.0}}} for size in ("1", "8", "32")}

    assert not [
        one for one in results(grid_store, (4.0, 2.0, 1.0), **more).recommend().warnings if "different loads" in one
    ]


def test_energies_of_different_kinds_are_not_ranked(grid_store):
    """Measured and modelled joules are different things."""
    gpu, cpu = {"scope": "gpu", "kind": "measured"}, {"scope": "cpu", "kind": "modelled"}
    more = {"1": {"basis": gpu}, "8": {"basis": gpu}, "32": {"basis": cpu}}
    with pytest.raises(StoreError) as caught:
        results(grid_store, (4.0, 2.0, 1.0), **more).recommend()
    assert caught.value.code == "energies_differ"


def test_the_same_results_give_the_same_recommendation(grid_store):
    """Draws are seeded."""
    ranked = results(grid_store, (1.0, 1.01, 1.02))

    assert ranked.recommend() == ranked.recommend()


def scores(share, count=200):
    """A score of so many right answers of 200."""
    items = tuple(Item(str(n), float(n < share * count)) for n in range(count))
    return [Score("arc", "acc", share, None, count, True, items)]


def test_a_floor_of_quality_excludes_what_gets_worse(quality_store):
    """Less energy by worse answers is no saving: 12 of 100 fewer right, 1 of 100 allowed, against the first one."""
    right = {1: 0.90, 8: 0.895, 32: 0.78}
    energy = {1: 4.0, 8: 2.0, 32: 1.0}
    store: Store = quality_store(
        AXES,
        lambda point: scores(right[point["load.batch_size"]]),
        lambda point: {"energy": energy[point["load.batch_size"]]},
    )
    ranked = Results.open(store)

    assert ranked.recommend().best[:2] == "02"
    assert ranked.recommend(quality="arc>=-0.05").best[:2] == "01"
    absolute = ranked.recommend(quality="arc>=0.95")
    assert absolute.choice is None
    assert absolute.nearest[:2] == "00"
    with pytest.raises(StoreError):
        ranked.recommend(quality="gsm>=0.5")


# what is exact, and what is 0


def _with_memory(make, tmp_path, **peaks):
    """A store of one experiment for each keyword, with the peak of each of its trials; the later, the more power."""
    points = {name: {"number": n, "values": {"dtype": name}} for n, name in enumerate(peaks)}
    store = Store.create(
        tmp_path / "memory", {"name": "m", "experiments": list(peaks), "axes": ["dtype"], "points": points}
    )
    store.write_environment({"machine": "test"})
    for number, (name, bytes_) in enumerate(peaks.items()):
        store.write_experiment(name, make.experiment_document(name))
        store.write_engine(name, make.engine_document())
        for index, peak in enumerate(bytes_):
            t0, t1 = make.window(index)
            rows, requests = make.trace(500.0 + 50 * number + index, t0, t1), make.request_rows(index, t0, t1)
            trial = make.make_trial(index, rows, requests, t0, t1, experiment_id=name, peak=peak)
            store.write_trial(trial, rows, requests)
        store.write_outcome(name, make.outcome_document())
        store.write_result(recompute(store, name))
    return store


def test_memory_at_the_bound_keeps_the_limit(make, tmp_path):
    """It is counted, not estimated: exactly the bound is kept for certain, a byte more is broken for certain."""
    store = _with_memory(make, tmp_path, a1=[17_000_000_000] * 3, b2=[16_000_000_000] * 3)

    at = Results.open(store).recommend(memory="17GB")
    assert (at.choice, at.contender("a1").feasible) == ("a1", 1.0)
    assert at.contender("a1").limits[0].found.value == 17e9
    below = Results.open(store).recommend(memory="16999999999B")
    assert (below.choice, below.contender("a1").feasible) == ("b2", 0.0)


def test_the_greatest_memory_of_all_trials_is_limited(make, tmp_path):
    """One trial of three took 20 GB: so much memory is needed, whatever the others took."""
    store = _with_memory(make, tmp_path, a1=[10_000_000_000, 10_000_000_000, 20_000_000_000], b2=[16_000_000_000] * 3)

    found = Results.open(store).recommend(memory="17GB")
    assert found.choice == "b2"
    assert found.contender("a1").limits[0].found.value == 20e9
    assert found.contender("a1").feasible == 0.0
    assert Results.open(store).recommend(minimise="peak_memory_bytes").choice == "b2"


def test_half_the_speed_is_worse_by_half(grid_store):
    """Where more is better, nothing is worse by more than 100 %."""
    speeds = {"1": {"speed": 100.0}, "8": {"speed": 200.0}, "32": {"speed": 20.0}}
    found = results(grid_store, (1.0, 1.0, 1.0), **speeds).recommend(maximise=SPEED)

    assert [one.excess.value for one in found.contenders[1:]] == pytest.approx([0.5, 0.9], rel=0.02)
    assert found.contenders[1].why.startswith("gives 50")


def _served_store(make, tmp_path, **latencies):
    """A store of one open load for each keyword, with the TTFT of each trial in seconds; limited to 0.1 s."""
    points = {name: {"number": n, "values": {"dtype": name}} for n, name in enumerate(latencies)}
    store = Store.create(
        tmp_path / "served", {"name": "s", "experiments": list(latencies), "axes": ["dtype"], "points": points}
    )
    store.write_environment({"machine": "test"})
    load = {"kind": "open", "request_rate": 10.0}
    for name, seconds in latencies.items():
        store.write_experiment(name, make.experiment_document(name, load=load, slo={"ttft_s": 0.1}))
        store.write_engine(name, make.engine_document())
        for index, one in enumerate(seconds):
            t0, t1 = make.window(index)
            rows = make.trace(600.0, t0, t1)
            requests = make.served_rows(t0, t1, first=index * 1000, ttft=int(one * 1e9))
            store.write_trial(make.served_trial(index, rows, requests, t0, t1, experiment_id=name), rows, requests)
        store.write_outcome(name, make.outcome_document())
        store.write_result(recompute(store, name))
    return store


def test_a_share_of_0_is_the_worst(make, tmp_path):
    """It has no logarithm, and neither has a trial without a good request: all is finite, and no share is above 1."""
    store = _served_store(make, tmp_path, a1=[0.05, 0.05, 0.05], b2=[0.2, 0.2, 0.2], c3=[0.09, 0.11, 0.09])
    found = Results.open(store).recommend(maximise="slo_attainment")

    assert (found.choice, found.contenders[-1].id) == ("a1", "b2")
    worst = found.contender("b2")
    assert (worst.objective.value, worst.probability) == (0.0, 0.0)
    assert worst.excess.value == pytest.approx(1.0)
    assert found.contender("c3").objective.high <= 1.0
    assert found.regret < 1e-4
    assert json.dumps(attrs.asdict(attrs.evolve(found, results=None)), allow_nan=False)
    assert Results.open(store).recommend(maximise="goodput_requests_per_s").choice == "a1"
