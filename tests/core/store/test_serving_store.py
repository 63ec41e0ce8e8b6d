"""A store of a serving load: it verifies as written, and every altered count, time or metric is seen."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from llem.analysis.overview import overview_of
from llem.metrics.result import recompute
from llem.metrics.verify import verify
from llem.reports.console import render_result
from llem.reports.tables import render_study
from llem.reports.views import study_view
from llem.store.files import DIGEST, write_json
from llem.store.models import ClientFacts
from llem.store.store import Store


@pytest.fixture
def served(tmp_path, make):
    """Three open-loop experiments that differ in their rate, two trials each."""
    store = Store.create(tmp_path / "served", {})
    for rate in (5, 10, 20):
        name = f"rate-{rate}"
        load = {"kind": "open", "request_rate": float(rate), "capacity_share": None}
        slo = {"preset": None, "ttft_s": 0.5, "tpot_s": None, "e2el_s": None, "attainment": 0.99}
        store.write_experiment(name, make.experiment_document(name, load=load, slo=slo))
        store.write_engine(name, make.engine_document())
        for index in range(2):
            t0, t1 = make.window(index)
            rows, trace = make.served_rows(t0, t1, rate=rate, lag=1_000_000, chunk=4), make.trace(600.0, t0, t1)
            trial = make.served_trial(index, trace, rows, t0, t1, rate=float(rate), experiment_id=name)
            store.write_trial(trial, trace, rows)
        store.write_outcome(name, make.outcome_document())
        store.write_result(recompute(store, name))
    return store


def render_results(results, console):
    """A line for each."""
    render_study(study_view(map(overview_of, results), {}), console)


def text(render, value, width=110):
    out = io.StringIO()
    render(value, Console(file=out, width=width, highlight=False))
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def test_untouched(served):
    """A serving store as written verifies without a difference; rows, chunks and schedule round-trip."""
    assert verify(served) == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("sent", 99), ("completed", 99), ("failed", 1), ("in_flight_start", 3.0), ("in_flight_end", 3.0)),
        *(("in_flight_mean", 6.0), ("lag_p99_s", 0.002), ("completed_output_tokens", 1), ("failed_output_tokens", 5)),
    ],
)
def test_altered_facts(served, field, value):
    """A changed fact of a trial, digest renewed, is found by counting its rows."""
    path = served.folder("rate-10") / "trial-1.json"
    data = json.loads(path.read_text())
    data.pop(DIGEST)
    data["serving"][field] = value
    write_json(path, data, replace=True)
    found = [difference.path for difference in verify(served)]
    assert f"serving.{field}" in found
    counts = ("sent", "completed", "failed", "in_flight_start", "in_flight_end")
    assert any("in_flight_start + sent" in path for path in found) == (field in counts)


def test_a_trial_of_an_older_llem_is_read_and_counted_by_its_rows(served):
    """Schema 4: tokens of failed requests are not stored, lag is of others; what it counts alike is compared."""
    path = served.folder("rate-10") / "trial-1.json"
    before = recompute(served, "rate-10")
    data = json.loads(path.read_text())
    data.pop(DIGEST)
    for name in ("failed_output_tokens", "lead_s", "client"):
        del data["serving"][name]
    data["serving"].update(lag_p99_s=0.5, in_flight_start=7.0)
    write_json(path, {**data, "schema_version": 4}, replace=True)

    trial = served.trials("rate-10")[1]
    assert (trial.serving.failed_output_tokens, trial.serving.lead_s, trial.serving.client) == (None, None, None)
    assert verify(served) == []
    assert recompute(served, "rate-10").metrics == before.metrics
    data["serving"]["sent"] += 1
    write_json(path, {**data, "schema_version": 4}, replace=True)
    assert [difference.path for difference in verify(served)] == ["serving.sent"]


def test_how_the_load_generator_fared_is_stored(served, make):
    """Facts of the client, its stalls and the lead come back as they were, and no row can tell them."""
    client = ClientFacts(2, 0.0001, 0.001, 0.2, ((5, 9), (20, 40)), 0.5)
    t0, t1 = make.window(2)
    rows, trace = make.served_rows(t0, t1), make.trace(600.0, t0, t1)
    trial = make.served_trial(2, trace, rows, t0, t1, experiment_id="rate-10", lead_s=1.5, client=client)
    served.write_trial(trial, trace, rows)
    served.write_result(recompute(served, "rate-10"), replace=True)

    assert served.trials("rate-10")[2].serving == trial.serving
    assert verify(served) == []


def test_altered_goodput(served):
    """A changed metric of the result is found."""
    path = served.folder("rate-10") / "result.json"
    data = json.loads(path.read_text())
    data.pop(DIGEST)
    data["metrics"]["goodput_requests_per_s"]["value"] = 11.0
    write_json(path, data, replace=True)
    assert [difference.path for difference in verify(served)] == ["metrics.goodput_requests_per_s.value"]


def test_one_result_on_a_terminal(served):
    """Load, goodput and a table of percentiles stand beside the energies."""
    shown = text(render_result, served.read_result("rate-10"))
    assert "pytorch · shape:llama-3.1-8b · bfloat16 · 10 requests/s" in shown
    lines = {line.split("  ")[0].strip(): line.split() for line in shown.splitlines() if line}
    assert "10.00" in lines["arrivals asked"]
    assert "10.00" in lines["arrivals seen"]
    assert "100" in lines["goodput"] or "10.00" in lines["goodput"]
    assert lines["latency"][1:] == ["mean", "p50", "p90", "p95", "p99"]
    assert shown.splitlines()[[line.startswith("latency") for line in shown.splitlines()].index(True) + 2].split() == [
        "time", "to", "first", "token", *["50.00", "ms"] * 5,
    ]  # fmt: skip


def test_offline_results_have_no_table_of_percentiles(store):
    """An offline load is shown as it was."""
    shown = text(render_result, store.read_result("exp-one"))
    assert "p95" not in shown
    assert "batch 2" in shown
    assert "offline_load" not in shown


def test_several_rates_give_a_curve(served, store):
    """A store of one configuration at several rates ends with its latency-energy curve, by rate; others do not."""
    results = [served.read_result(name) for name in served.experiment_ids()]
    shown = text(render_results, results).splitlines()
    at = next(i for i, line in enumerate(shown) if "arrivals/s" in line)
    assert [line.split()[0] for line in shown[at + 2 : at + 5]] == ["5.000", "10.00", "20.00"]
    assert "arrivals/s" not in text(render_results, [results[0], store.read_result("exp-one")])


def test_curve_fits_eighty_columns(served):
    """No line is longer than the terminal."""
    results = [served.read_result(name) for name in served.experiment_ids()]
    assert max(map(len, text(render_results, results, width=80).splitlines())) <= 80
