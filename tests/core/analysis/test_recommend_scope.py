"""What a recommendation compares only with a word: loads, GPUs, other energies, what may break a limit."""

from __future__ import annotations

import numpy as np
import pytest
import yaml

from llem.analysis.collection import Results
from llem.analysis.confirm import Remeasured, judged
from llem.analysis.decision import Estimated
from llem.analysis.demand import parse_rates, read_load
from llem.analysis.limits import Limit, parse_slo
from llem.analysis.prices import Prices
from llem.analysis.serving import serve_load
from llem.analysis.statement import Statement
from llem.errors import ConfigError
from llem.metrics.result import Place, recompute
from llem.reports.emit import study_yaml
from llem.store.store import Store

AXES = {"load.batch_size": [1, 8]}
SPEED = "output_tokens_per_s"


def given(first, second):
    return lambda point: {"energy": 1.0, **{1: first, 8: second}[point["load.batch_size"]]}


def warnings(store, **asked):
    return "\n".join(Results.open(store).recommend(**asked).warnings)


@pytest.mark.parametrize(
    ("loads", "told"),
    [
        (({"kind": "open", "request_rate": 5}, {"kind": "open", "request_rate": 9}), "(open: request_rate)"),
        (({"kind": "open", "request_rate": 5}, {"kind": "closed", "concurrency": 8}), "(closed and open)"),
        (({"kind": "closed", "concurrency": 4}, {"kind": "closed", "concurrency": 8}), None),
        (({"kind": "offline", "batch_size": 1}, {"kind": "offline", "batch_size": 8}), None),
    ],
)
def test_another_load_is_told(grid_store, loads, told):
    """How often requests come is nothing that a configuration chooses; how many are served at once is."""
    store = grid_store(AXES, given(*({"config": {"load": load}} for load in loads)))
    assert ("get different loads" in warnings(store)) == (told is not None)
    assert told is None or told in warnings(store)


def test_a_limit_on_energies_that_cover_different_things_is_told(grid_store):
    """Joules of a GPU and modelled ones of a CPU stand against one bound."""
    gpu, cpu = {"scope": "gpu", "kind": "measured"}, {"scope": "cpu", "kind": "modelled"}
    limit = {"maximise": SPEED, "slo": "energy_per_output_token_j<5J"}
    assert "(cpu, modelled; gpu, measured)" in warnings(
        grid_store(AXES, given({"basis": gpu}, {"basis": cpu})), **limit
    )


def test_limits_on_energies_that_cover_the_same_are_not_told(grid_store):
    gpu = {"scope": "gpu", "kind": "measured"}
    limit = {"maximise": SPEED, "slo": "energy_per_output_token_j<5J"}
    assert "covers" not in warnings(grid_store(AXES, given({"basis": gpu}, {"basis": gpu})), **limit)


def _fill(make, store, name, watts, gpus=1, **more):
    """Three trials on so many GPUs."""
    store.write_experiment(name, make.experiment_document(name))
    boards = [f"GPU-{number}" for number in range(gpus)]
    device = {"device": "cuda", "gpus": boards, "names": ["NVIDIA H200"] * gpus}
    store.write_engine(name, make.engine_document(device=device))
    for index in range(3):
        t0, t1 = make.window(index)
        rows, requests = make.trace(watts + index, t0, t1), make.request_rows(index, t0, t1)
        store.write_trial(make.make_trial(index, rows, requests, t0, t1, experiment_id=name, **more), rows, requests)
    store.write_outcome(name, make.outcome_document())
    store.write_result(recompute(store, name))


def _store(tmp_path, *names):
    points = {name: {"number": n, "values": {"dtype": name}} for n, name in enumerate(names)}
    store = Store.create(tmp_path / "s", {"name": "s", "experiments": list(names), "axes": ["dtype"], "points": points})
    store.write_environment({"machine": "test"})
    return store


def test_other_numbers_of_gpus_are_told(make, tmp_path):
    """The speed of two GPUs is not that of one."""
    store = _store(tmp_path, "a1", "b2")
    _fill(make, store, "a1", 600.0)
    _fill(make, store, "b2", 500.0, gpus=2)
    assert "run on 1 and 2 GPUs" in warnings(store, maximise=SPEED)


def test_what_may_break_a_limit_rules_nothing_out(make, tmp_path):
    """The cheapest keeps the power limit with about one half: without a prior, the next one may be the best as well."""
    store = _store(tmp_path, "a1", "b2")
    _fill(make, store, "a1", 500.0)
    _fill(make, store, "b2", 600.0, gpus=1)
    results = Results.open(store)
    ranked = results.recommend(power="700W")
    assert (ranked.choice, ranked.guaranteed) == ("a1", ("a1",))
    posterior = _posterior(results)
    assert posterior.guaranteed("power_w", True, ("a1", "b2"), ("b2",)) == ("a1", "b2")
    assert posterior.guaranteed("power_w", True, ("a1", "b2"), ()) == ("a1", "b2")
    assert posterior.guaranteed("power_w", True, ("a1", "b2"), ("a1",)) == ("a1",)


def _posterior(results):
    from llem.analysis.recommend import ranked_of

    return ranked_of(results, ("power_w", True), ()).posterior


def test_a_limit_at_its_bound_is_kept_again():
    """As in the recommendation itself: 0.75 less 0.76 is a loss of 0.01, though not to the last bit."""
    limit = Limit("x>=-0.01", "quality.x", False, -0.01, "difference")
    one = Estimated(1.0, 0.9, 1.1)
    statement = Statement("power_w", "W", True, 1, ("a",), (one,), limits=(limit,), places=((Place("e", (), ()),),))
    [kept] = judged(statement, {"a": Remeasured(1.0, 1, limits=(0.75 - 0.76,), whys=("",))}).limits
    assert kept.kept is True


@pytest.mark.parametrize("text", ["x" * 300, "a\0b"])
def test_a_load_that_can_be_no_path_is_refused(text):
    with pytest.raises(ConfigError):
        read_load(text)


def test_a_cell_too_long_for_a_csv_is_refused():
    with pytest.raises(ConfigError, match="not a CSV"):
        parse_rates("day.csv", "seconds,requests_per_s\n" + "0" * 200_000 + ",1\n5,2\n")


def test_a_cost_is_limited_by_a_number_alone():
    """Its currency is that of the prices."""
    [limit] = parse_slo("cost_per_million_output_tokens<5")
    assert (limit.metric, limit.bound) == ("cost_per_million_output_tokens", 5.0)
    with pytest.raises(ConfigError) as caught:
        parse_slo("mfu>101%")
    assert "%%" not in str(caught.value.problems)
    assert np.isfinite(limit.bound)


def test_what_never_differs_between_trials_has_no_error(make, tmp_path):
    """Two of one speed, exactly: the one that takes more energy is dominated, and no deviation is assumed."""
    store = _store(tmp_path, "a1", "b2")
    _fill(make, store, "a1", 500.0)
    _fill(make, store, "b2", 690.0)
    results = Results.open(store)

    assert list(results.pareto(SPEED, "energy_per_output_token_j")) == ["a1"]
    fastest = results.recommend(maximise=SPEED)
    assert fastest.contenders[0].objective.low == fastest.contenders[0].objective.high
    assert not any("is assumed" in line for line in fastest.rests_on)
    assert any("is assumed" in line for line in results.recommend().rests_on)
    assert fastest.probability == 0.5


def test_a_note_on_break_even_names_experiments(make, tmp_path):
    """Ids of configurations are nothing that `llem show` knows."""
    store = _store(tmp_path, "a1", "b2")
    _fill(make, store, "a1", 500.0)
    _fill(make, store, "b2", 690.0, gpus=2)
    [note] = [one for one in serve_load(Results.open(store), "1/s").notes if "no break-even" in one]
    assert note.startswith(("a1, b2: ", "b2, a1: "))


@pytest.mark.parametrize("name", ["gpu_hour", "machine_hour", "kwh", "grid_g_per_kwh", "pue"])
def test_prices_whose_products_are_not_finite_are_refused(name):
    with pytest.raises(ValueError, match="above"):
        Prices(**{name: 1e308})


def test_where_a_limit_is_in_doubt_more_processes_tell_nothing(make, tmp_path):
    """The cheaper one is told in the objective, and keeps the limit with 0.4: no number of processes is named."""
    store = _store(tmp_path, "a1", "b2")
    load = {"kind": "open", "request_rate": 10.0}
    for name, watts, ttft in (("a1", 600.0, 0.05), ("b2", 550.0, 0.08)):
        store.write_experiment(name, make.experiment_document(name, load=load))
        store.write_engine(name, make.engine_document())
        for index in range(3):
            t0, t1 = make.window(index)
            late = int((ttft + 0.001 * (index == 1)) * 1e9)
            rows, requests = make.trace(watts + index, t0, t1), make.served_rows(t0, t1, first=index * 1000, ttft=late)
            store.write_trial(make.served_trial(index, rows, requests, t0, t1, experiment_id=name), rows, requests)
        store.write_outcome(name, make.outcome_document())
        store.write_result(recompute(store, name))
    found = Results.open(store).recommend(slo="ttft:p99<80ms")

    assert found.ties == ("a1", "b2")
    assert found.separations == ()
    assert 0 < found.regret < found.contender("b2").feasible * 0.1


@pytest.mark.backends("pytorch")
def test_comments_of_what_is_emitted_hold_no_commands(make, tmp_path):
    """A file's name with an escape is named in a comment; YAML could not be read with it, and a terminal would obey."""
    store = _store(tmp_path, "a1")
    _fill(make, store, "a1", 500.0)
    document = store.read_experiment("a1")
    workload = {"kind": "file", "path": "/nowhere/p\x1b[31m.txt"}
    store.write_experiment("a1", {**document, "config": {**document["config"], "workload": workload}}, replace=True)
    text = study_yaml(store, ["a1"])

    assert "\x1b" not in text
    assert yaml.safe_load(text)["workload"]["path"] == workload["path"]
