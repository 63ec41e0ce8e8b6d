"""Which experiments are one engine configuration, what a study says of serving a load, and what is left out."""

from __future__ import annotations

import math

import numpy as np
import pytest

from llem.analysis.collection import Results
from llem.analysis.demand import read_load
from llem.analysis.limits import Limit
from llem.analysis.measured_loads import idle_of, needed_metrics
from llem.analysis.overview import overview_of
from llem.analysis.serving import serve_load, served
from llem.analysis.sides import Run, Side
from llem.findings import Finding
from llem.metrics.metric import Basis
from llem.metrics.result import Place, recompute
from llem.store.models import DomainMetrics, Quantity, Result
from llem.store.store import Store

COUNT = 50
TTFT = Limit("ttft:p99<400ms", "ttft_p99_s", True, 0.4)
SCORE = Limit("gsm8k>=0.5", "quality.gsm8k", False, 0.5)
GPU = "gpu:GPU-0a1b2c3d"


def quantity(value, unit, half=0.0, **more):
    return Quantity(value, unit, value - half, value + half, 0.95, 5, 1, "within one process", "student_t", **more)


class Study:
    """Experiments as they are stored, and a stand-in for the posterior whose draws are certain."""

    def __init__(self):
        self.results, self.sides, self.metrics, self.values = {}, {}, {}, {}

    @property
    def ids(self):
        return tuple(self.sides)

    def logs(self, metric):
        """As `Posterior.logs`."""
        if not any(metric in one for one in self.metrics.values()):
            raise KeyError(metric)
        row = [math.log(one[metric]) if metric in one else math.nan for one in self.metrics.values()]
        return np.tile(row, (COUNT, 1))

    def add(
        self, name, load, rate, watts, *, idle=100.0, idle_half=0.0, boards=("H200",), findings=(), valid=True,
        basis=("gpu", "measured"), values=None, ttft=None, energy=None, **config,
    ):  # fmt: skip
        scope, kind = basis
        config = {"backend": "vllm", "model": "m", "load": load, "gpus": None, **config}
        config.setdefault("workload", {"kind": "synthetic", "input_tokens": 128, "output_tokens": 128, "seed": 1})
        seconds = 10.0
        net = (
            Quantity(None, "J", reason="no_baseline", scope=scope, kind=kind)
            if idle is None
            else quantity(seconds * (watts - idle), "J", scope=scope, kind=kind)
        )
        metrics = {
            "requests_per_s": quantity(rate, "request/s"),
            "energy_j": quantity(seconds * watts, "J", scope=scope, kind=kind),
            "energy_net_j": net,
            "duration_s": quantity(seconds, "s"),
            "power_w": quantity(watts, "W", scope=scope, kind=kind),
        }
        if "request_rate" in load:
            metrics["request_rate"] = quantity(load["request_rate"], "request/s")
        self.results[name] = Result(
            id=name, outcome="done", config=config, sources={}, effective={}, environment="e", weights="random",
            trials=5, metrics=metrics, domains=() if idle is None else (domain(idle, idle_half, scope, kind),),
            findings=tuple(Finding(code, "warning", "m", {}) for code in findings), valid=valid, publishable=True,
        )  # fmt: skip
        run = Run(0, 0, "2026-11-24T10:00:00+00:00", 0, 10)
        place = Place(tuple(f"GPU-{n}" for n in range(len(boards))), tuple(boards), "" if boards else "env")
        work = {name: value for name, value in config["workload"].items() if name != "seed"}
        self.sides[name] = Side((run,), {}, Basis(scope, kind), frozenset([place]), config["backend"], work)
        self.metrics[name] = {"requests_per_s": rate, "power_w": watts}
        if ttft is not None:
            self.metrics[name]["ttft_p99_s"] = ttft
        if energy is not None:
            self.metrics[name]["energy_per_request_j"] = energy
        self.values[name] = values or {}

    def served(self, load="50/s", limits=(), prices=None, **more):
        rows = [overview_of(one) for one in self.results.values()]
        return served(self.results, rows, self.sides, self, read_load(load), limits, prices, values=self.values, **more)


def domain(idle, half, scope="gpu", kind="measured", meter="nvml", name=GPU):
    none = Quantity(None, "J", reason="no_meter")
    watts = quantity(idle, "W", half, scope=scope, kind=kind)
    return DomainMetrics(meter, name, scope, kind, "counter", none, none, none, watts, None, none)


def open_load(rate, **more):
    return {"kind": "open", "request_rate": float(rate), "capacity_share": None, "burstiness": 1.0, "seed": 0, **more}


@pytest.fixture
def study():
    """A: 2, 4 and 8/s, 200, 300 and 500 W, latency 0.1, 0.2 and 0.8 s. B, eager: 50 W more."""
    made = Study()
    for eager, more in ((False, 0), (True, 50)):
        for rate, watts, ttft in ((2, 200, 0.1), (4, 300, 0.2), (8, 500, 0.8)):
            made.add(
                f"{'b' if eager else 'a'}{rate}", open_load(rate), rate * 0.99, watts + more, ttft=ttft,
                vllm={"enforce_eager": eager}, values={"vllm.enforce_eager": eager, "load.request_rate": rate},
            )  # fmt: skip
    return made


def test_a_study_in_full(study):
    """Three open loads each are one configuration; the rate is what arrives. 50/s: 9 replicas of 6/s."""
    found = study.served(limits=[TTFT])

    first, second = found.rows
    assert first.experiments == ("a2", "a4", "a8")
    assert second.experiments == ("b2", "b4", "b8")
    assert (first.values, second.values) == ({"vllm.enforce_eager": False}, {"vllm.enforce_eager": True})
    assert (first.capacity.value, first.replicas, first.gpus, first.kind) == (pytest.approx(6.0), 9, 9, "open")
    assert first.kwh_a_day.value == pytest.approx(81.6)
    assert (first.cheapest, second.cheapest) == (1.0, 0.0)
    [one] = found.break_evens
    assert (one.a, one.b, one.throughout) == (first.id, second.id, {first.id: 1.0, second.id: 0.0})
    assert found.excluded == {}


def test_runs_of_another_length_are_the_same_configuration(study):
    """So are another seed, evaluated tasks, a baseline and the number of engine processes."""
    study.add(
        "a6", open_load(6, seed=9), 6, 400, ttft=0.4, vllm={"enforce_eager": False}, trials=9, processes=3,
        window_s=60.0, preset="publication", warmup={"seconds": 1}, quality={"evaluator": "e", "tasks": ["t"]},
        slo={"ttft_s": 1.0}, workload={"kind": "synthetic", "input_tokens": 128, "output_tokens": 128, "seed": 5},
    )  # fmt: skip

    assert study.served().rows[0].experiments == ("a2", "a4", "a6", "a8")


@pytest.mark.parametrize(
    "other",
    [
        {"load": open_load(6, burstiness=0.25)},
        {"load": {"kind": "closed", "concurrency": 8}},
        {"vllm": {"enforce_eager": None}},
        {"dtype": "float16"},
        {"boards": ("A100",)},
        {"boards": ("H200", "H200")},
        {"basis": ("gpu", "modelled")},
        {"workload": {"kind": "synthetic", "input_tokens": 256, "output_tokens": 128, "seed": 1}},
    ],
)
def test_what_is_another_configuration(study, other):
    """Another engine, workload, GPU or kind of energy; and another kind of load, whose latencies say something else."""
    study.add("x", **{"load": open_load(6), "rate": 6, "watts": 400, "vllm": {"enforce_eager": False}, **other})

    assert ("x",) in [row.experiments for row in study.served().rows]


def test_gpus_of_a_replica_are_those_it_ran_on(study):
    study.add("two", open_load(4), 4, 600, boards=("H200", "H200"), vllm={"tensor_parallel_size": 2})
    study.add("cpu", open_load(4), 4, 60, boards=(), vllm={"enforce_eager": None})
    rows = {row.experiments: row for row in study.served("8/s").rows}

    assert (rows["two",].replicas, rows["two",].gpus) == (2, 4)
    assert rows["cpu",].gpus == 0


def test_workloads_are_not_mixed(study):
    """50 long requests a second are no 50 short ones: cheapest is said within each workload."""
    study.add(
        "long", open_load(4), 4, 300, vllm={"enforce_eager": False},
        workload={"kind": "synthetic", "input_tokens": 4096, "output_tokens": 128, "seed": 1},
    )  # fmt: skip
    found = study.served()

    assert {row.experiments[0]: row.cheapest for row in found.rows} == {"a2": 1.0, "b2": 0.0, "long": 1.0}
    assert "2 workloads: configurations are compared within one" in found.notes


def test_what_is_left_out(study):
    study.add("fake", open_load(2), 2, 100, backend="echo")
    study.add("bad", open_load(2), 2, 100, valid=False)
    study.add("none", open_load(2), 2, 100)
    del study.metrics["none"]["requests_per_s"]
    found = study.served()

    assert set(found.excluded) == {"fake", "bad", "none"}
    assert "echo" in found.excluded["fake"]
    assert "not valid" in found.excluded["bad"]
    assert "requests_per_s is not measured" in found.excluded["none"]
    assert len(found.rows) == 2


def test_a_load_beyond_the_engine_counts_what_it_completed(study):
    """16/s arrive and 9/s are completed: never kept, so that the capacity without limits is 8/s."""
    study.add("a16", open_load(16), 9, 520, ttft=30.0, vllm={"enforce_eager": False}, findings=("over_saturated",))
    row = next(one for one in study.served().rows if "a16" in one.experiments)

    assert row.capacity.value == 8.0
    assert "over_saturated" in row.blocked_by


def test_a_score_of_one_load_holds_for_all(study):
    """It is of the engine and evaluated once. B breaks the limit, so that it serves nothing."""
    scores = {"a4": 0.6, "b8": 0.4}

    def bounded(name, limit):
        return np.full(COUNT, scores[name]) if limit is SCORE and name in scores else None

    a, b = study.served(limits=[TTFT, SCORE], bounded=bounded).rows
    assert (a.experiments[0], a.capacity.value) == ("a2", pytest.approx(6.0))
    assert (b.capacity.value, b.replicas, b.blocking) == (0.0, None, SCORE)


def test_limits_that_trials_have_need_no_other_source(study):
    """Without draws of the score the limit is not kept, and says that it is not measured."""
    a, _ = study.served(limits=[SCORE]).rows

    assert (a.replicas, a.blocking) == (None, SCORE)
    assert "not measured at 3 of 3 loads" in a.blocked_by


# idle power


def test_idle_is_gross_less_net(study):
    """Its error is that of the domains of the headline, as a share; other meters' are left out."""
    study.add("i", open_load(2), 2, 300, idle=120.0, idle_half=2.4)
    result = study.results["i"]
    watts, error = idle_of(result)

    assert watts == pytest.approx(120.0)
    assert error == pytest.approx(2.4 / 1.959964, rel=1e-5)


def test_idle_draws_have_the_error_of_the_baselines():
    """1/s is half way from idle to 2/s: the interval is half that of idle."""
    made = Study()
    made.add("i", open_load(2), 2, 300, idle=120.0, idle_half=24.0)
    [row] = made.served("1/s").rows

    assert row.kwh_a_day.value == pytest.approx(24 * 0.210, rel=0.02)
    assert row.kwh_a_day.high - row.kwh_a_day.low == pytest.approx(24 * 0.024, rel=0.4)


def test_without_a_baseline_there_is_a_reason():
    made = Study()
    made.add("i", open_load(2), 2, 300, idle=None)
    [row] = made.served("1/s").rows

    assert (row.replicas, row.kwh_a_day) == (1, None)
    assert "no_baseline" in row.lacking["kwh_a_day"]


# output lengths


def test_break_even_over_output_length():
    """Two engines at batch 32, 100 and 500 output tokens: 10 and 50 J against 20 and 40 J meet at 300 tokens."""
    made = Study()
    for engine, joules in (("a", (10, 50)), ("b", (20, 40))):
        for length, energy in zip((100, 500), joules, strict=True):
            work = {"kind": "synthetic", "input_tokens": 128, "output_tokens": length, "seed": 0}
            load = {"kind": "offline", "batch_size": 32}
            made.add(f"{engine}{length}", load, 10, 300, energy=energy, dtype=engine, workload=work)
    found = made.served("1/s")

    [one] = found.by_length
    assert (one.at.value, one.over, one.quantity) == (pytest.approx(300), "output tokens", "energy_per_request_j")
    assert one.above == one.b


def test_metrics_that_draws_are_needed_of():
    assert needed_metrics([TTFT, SCORE]) == ("requests_per_s", "power_w", "energy_per_request_j", "ttft_p99_s")


def test_an_empty_study():
    assert Study().served().rows == ()


# a folder


def test_a_folder(tmp_path, make):
    """Open loads of 5 and 10/s at 300 and 500 W, 100 W at rest: 20/s takes two replicas of at least 10/s."""
    store = Store.create(tmp_path / "out", {"name": "loads", "order": {"kind": "blocks"}})
    store.write_environment({"machine": "test"})
    for name, rate, watts in (("five", 5, 300.0), ("ten", 10, 500.0)):
        load = {"kind": "open", "request_rate": float(rate)}
        document = make.experiment_document(name, load=load, workload={"kind": "synthetic", "output_tokens": 64})
        store.write_experiment(name, document)
        store.write_engine(name, make.engine_document())
        for phase in ("before", "after"):
            store.write_baseline(name, *make.baseline(100.0, phase=phase))
        for index in range(3):
            t0, t1 = make.window(index)
            rows = make.trace(watts + index, t0, t1)
            requests = make.served_rows(t0, t1, rate=rate, first=index * 1000)
            trial = make.served_trial(index, rows, requests, t0, t1, rate=float(rate), experiment_id=name)
            store.write_trial(trial, rows, requests)
        store.write_outcome(name, make.outcome_document())
        store.write_result(recompute(store, name))
    found = serve_load(Results.open(store), "20/s", [TTFT])

    [row] = found.rows
    assert row.experiments == ("five", "ten")
    assert (row.capacity.value, row.at_least, row.replicas, row.gpus) == (10.0, 1.0, 2, 2)
    assert row.kwh_a_day.low < 2 * 24 * 0.501 < row.kwh_a_day.high
    half = serve_load(Results.open(store), "2.5/s", [TTFT]).rows[0]
    assert half.kwh_a_day.value == pytest.approx(24 * 0.2005, rel=0.02)  # half way from idle to 5/s
