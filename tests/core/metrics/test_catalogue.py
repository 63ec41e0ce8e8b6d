"""The catalogue: each row is whole, and a row that is added is seen wherever metrics are."""

from __future__ import annotations

import csv
import io
import typing

import pytest

from llem.analysis.collection import Results
from llem.analysis.sides import side_of, trial_values
from llem.metrics.catalogue import GROUPS, METRICS, PRICED, compute_metrics, metric_of, shown
from llem.metrics.metric import Measured, Metric, Place, mean_over_trials
from llem.metrics.quality import FAMILIES
from llem.metrics.quantity import Value
from llem.metrics.result import recompute
from llem.metrics.setup import setup_of
from llem.metrics.statistics import mean
from llem.store.models import SCHEMA_VERSION

BATCHES = Metric(
    "batches_per_s", "batch/s", "batches", "higher", "speed", "Batches that ended in the window over its time.",
    each=lambda measured: [Value(trial.batches / trial.duration_s) for trial in measured.trials],
    shown=("result", "study", "compare", "effects"), since=SCHEMA_VERSION,
)  # fmt: skip
ENDINGS = {"_j": "J", "_w": "W", "_bytes": "B", "tokens_per_s": "token/s", "requests_per_s": "request/s"}


@pytest.fixture
def batches(monkeypatch):
    """One more row in the catalogue."""
    monkeypatch.setitem(METRICS, BATCHES.name, BATCHES)


@pytest.mark.parametrize(
    "metric", [*METRICS.values(), *(family("arc_easy") for family in FAMILIES.values())], ids=lambda metric: metric.name
)
def test_each_row_is_whole(metric):
    """Unit by the name's ending, a known group, places that there are, one paragraph, a scope for energies alone."""
    stem = metric.name.partition(".")[0]
    expected = next((unit for ending, unit in ENDINGS.items() if stem.endswith(ending)), None)
    assert expected in (None, metric.unit)
    assert metric.group in GROUPS
    assert set(metric.shown) <= set(typing.get_args(Place))
    assert metric.doc.endswith(".")
    assert "\n" not in metric.doc
    assert metric.label
    assert metric.scoped == (metric.unit in ("J", "W", "1/J"))
    assert metric.since <= SCHEMA_VERSION
    assert metric_of(metric.name).name == metric.name


def test_labels_tell_metrics_apart():
    """No two rows that are shown at one place have one label."""
    for place in typing.get_args(Place):
        priced = [metric for metric in PRICED.values() if place in metric.shown]
        labels = [metric.label for metric in (*shown(place), *priced)]
        assert len(set(labels)) == len(labels), place


def test_a_row_that_is_added_is_computed_and_shown(batches, store, make, run_llem):
    """In results, on a terminal, in comparisons, in the effects of axes, in frames and in exports; it verifies."""
    make.fill(store, "exp-two", power=1.1)
    for name in store.experiment_ids():
        store.write_result(recompute(store, name), replace=True)
    results = Results.open(store)

    assert results["exp-one"].metrics["batches_per_s"].value == pytest.approx(0.4)
    assert "0.4000 ± 0 batch/s" in run_llem("show", store.path, "exp-one").stdout
    assert "batches" in run_llem("show", store.path).stdout
    assert any(
        line.startswith("batches/s") for line in run_llem("compare", store.path, "exp-o", "exp-t").stdout.split("\n")
    )
    assert [metric.name for metric in shown("effects")][-1] == "batches_per_s"
    row = next(csv.DictReader(io.StringIO(run_llem("export", store.path).stdout)))
    assert (row["batches_per_s"], row["batches_per_s_n"]) == ("0.4", "5")
    assert "batches_per_s_scope" not in row
    assert results.columns()["batches_per_s"] == [0.4, 0.4]
    assert run_llem("verify", store.path).exit_code == 0


def test_values_per_trial_are_what_the_mean_is_of(make):
    """Of every metric that is a mean over trials, offline and served."""
    study = make.Served(make, 3)
    offline = [
        make.make_trial(i, make.trace(600.0, *make.window(i)), make.request_rows(i, *make.window(i)), *make.window(i))
        for i in range(3)
    ]
    measured = (
        Measured(setup_of(study.experiment, study.engines), study.trials, (), study.requests.__getitem__),
        Measured(
            setup_of(make.experiment_document(), study.engines),
            offline,
            (),
            lambda i: make.request_rows(i, *make.window(i)),
        ),
    )
    seen = set()
    for one in measured:
        found = compute_metrics(one)
        for name, metric in METRICS.items():
            values = metric.per_trial(one)
            assert (values is None) or len(values) == 3
            if values is not None and (metric.over is mean_over_trials or metric.name in ("ttft_s", "e2el_s")):
                assert found[name].value == pytest.approx(mean(values)), name
                seen.add(name)
    assert seen >= {"power_w", "output_tokens_per_s", "mfu", "ttft_s", "e2el_s", "in_flight_mean"}


def test_a_metric_of_requests_is_compared_like_one_of_windows(make):
    """Latencies have a value per trial; energies and speeds are compared without a request being read."""
    study = make.Served(make, 3)
    setup = setup_of(study.experiment, study.engines)
    served = Measured(setup, study.trials, (), study.requests.__getitem__)

    assert trial_values(served, "ttft_p99_s") == pytest.approx([0.05] * 3)

    def unread(index):
        raise AssertionError(f"the requests of trial {index} were read")

    assert set(side_of(Measured(setup, study.trials, (), unread)).values) == {m.name for m in shown("compare")}


def test_a_metric_that_trials_do_not_have_is_no_value_of_theirs(make):
    """What is absent, what is of the engine process, and what is of an evaluator."""
    study = make.Served(make, 2)
    measured = Measured(setup_of(study.experiment, study.engines), study.trials, (), study.requests.__getitem__)

    for name in ("prefill_energy_j", "capacity_requests_per_s", "goodput_requests_per_s", "quality.arc_easy"):
        assert trial_values(measured, name) is None
