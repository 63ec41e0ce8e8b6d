"""Metrics against a known power, known counts and known times."""

from __future__ import annotations

import math

import attrs
import pytest

from llem.findings import REASONS
from llem.meters.base import Domain
from llem.metrics.catalogue import METRICS, compute_metrics
from llem.metrics.domains import domain_metrics
from llem.metrics.energies import headline, output_energy
from llem.metrics.metric import Measured
from llem.metrics.setup import setup_of
from llem.metrics.work import window_work

LATENCIES = [
    f"{name}{end}_s" for name in ("ttft", "tpot", "itl_chunk", "e2el") for end in ("", "_p50", "_p90", "_p95", "_p99")
]
NAMES = {
    *("energy_j", "energy_net_j", "energy_per_output_token_j", "energy_per_token_j", "energy_per_request_j", "power_w"),
    *(
        "output_tokens_per_s",
        "total_tokens_per_s",
        "requests_per_s",
        "duration_s",
        "prefill_energy_j",
        "decode_energy_j",
    ),
    *("prefill_energy_per_token_j", "decode_energy_per_token_j", "phase_closure"),
    *("fit_batch_j", "fit_prompt_token_j", "fit_decoded_token_j", "fit_context_token_j"),
    *("prefill_mfu", "prefill_mbu", "decode_mfu", "decode_mbu"),
    *("flops_per_token", "prefill_flops_per_token", "decode_flops_per_token", "mfu", "mbu", "peak_memory_bytes"),
    *("request_rate", "arrival_rate", "in_flight_mean", "lag_p99_s", "capacity_requests_per_s", "capacity_share"),
    *("client_delay_p99_s", "client_busy_share", "cached_tokens_share"),
    "max_request_rate",
    *("goodput_requests_per_s", "slo_attainment", "energy_per_good_request_j"),
    *("energy_per_request_p50_j", "energy_per_request_p99_j", "queued_s", "queued_p99_s"),
    *LATENCIES,
}


class Case:
    """Some trials with what the metrics need beside them."""

    def __init__(self, make, count=1, *, config=None, engine=None, **trial):
        self.make, self.trials, self.rows, self.baselines = make, [], [], []
        shape = {name: trial.pop(name) for name in ("token_times", "outputs") if name in trial}
        for i in range(count):
            t0, t1 = make.window(i)
            rows = make.trace(make.WATTS[i % 5], t0, t1)
            requests = make.request_rows(i, t0, t1, **shape)
            self.rows.append(requests)
            self.trials.append(make.make_trial(i, rows, requests, t0, t1, **trial))
        self.setup = setup_of(make.experiment_document(**(config or {})), [engine or make.engine_document()])

    def metrics(self):
        return compute_metrics(Measured(self.setup, self.trials, self.baselines, self.rows.__getitem__))


def test_every_promised_name_is_there(make):
    """All names of the contract come back, with a value or with a known reason; also with no trial at all."""
    for case in (Case(make), Case(make, 0), Case(make, token_times=True, config={"token_times": True})):
        found = case.metrics()
        assert set(found) == NAMES
        for name, quantity in found.items():
            assert (quantity.value is None) == (quantity.reason in REASONS), name


def test_each_metric_is_better_one_way_or_known_to_be_neither():
    """A metric that comes is one that `--metric` knows, and the other way round."""
    assert set(METRICS) == NAMES
    neither = {name for name, metric in METRICS.items() if metric.direction is None}
    load = {"request_rate", "arrival_rate", "in_flight_mean", "capacity_share", "cached_tokens_share"}
    client = {"lag_p99_s", "client_delay_p99_s", "client_busy_share"}
    assert neither == {*load, *client, "phase_closure", "energy_j", "energy_net_j", "duration_s"}  # a longer has more


def test_one_trial_carries_the_instruments_bound(make):
    """With one trial the interval is the error budget of its window, divided like the value."""
    case = Case(make)
    found = case.metrics()
    bound = case.trials[0].energies[0].budget.bound_j
    energy, per_token = found["energy_j"], found["energy_per_output_token_j"]
    assert energy.value == pytest.approx(6000.0, rel=1e-3)
    assert (energy.method, energy.n) == ("instrument", 1)
    assert (energy.high - energy.low) / 2 == pytest.approx(bound)
    assert per_token.value == pytest.approx(6000.0 / 512, rel=1e-3)
    assert (per_token.high - per_token.low) / 2 == pytest.approx(bound / 512)
    assert found["power_w"].value == pytest.approx(600.0, rel=1e-3)
    assert found["output_tokens_per_s"].method == "single_trial"
    assert found["output_tokens_per_s"].low is None


def test_several_trials_have_student_intervals(make):
    """With five trials the interval is Student's over trials."""
    case = Case(make, 5)
    found = case.metrics()["energy_j"]
    assert (found.method, found.n, found.confidence) == ("student_t", 5, 0.95)
    assert found.value == pytest.approx(6000.0, rel=1e-4)
    # standard deviation of the five powers is 0.79 W, so of the energies 7.9 J; all windows have their edges off alike
    edges = math.fsum(trial.energies[0].budget.tick_j for trial in case.trials) / 5
    assert edges > 0
    assert (found.high - found.low) / 2 == pytest.approx(math.hypot(1.2417 * 7.906, edges), rel=1e-3)


def test_headline_is_labelled(make):
    """The headline says what it covers and that it is measured."""
    found = Case(make).metrics()["energy_per_output_token_j"]
    assert (found.scope, found.kind) == ("gpu", "measured")


def test_denominators(make):
    """Per token divides by input and output, per request by requests."""
    found = Case(make).metrics()
    energy = found["energy_j"].value
    assert found["energy_per_token_j"].value == pytest.approx(energy / (512 + 1024))
    assert found["energy_per_request_j"].value == pytest.approx(energy / 8)
    assert found["requests_per_s"].value == pytest.approx(0.8)
    assert found["total_tokens_per_s"].value == pytest.approx((512 + 1024) / 10)


def test_prompts_that_nobody_counted(make):
    """What counts prompts is None, and not as if they had no tokens; the rest stands."""
    case = Case(make)
    case.trials = [attrs.evolve(trial, input_tokens=None) for trial in case.trials]
    found = case.metrics()
    for name in ("energy_per_token_j", "total_tokens_per_s"):
        assert (found[name].value, found[name].reason) == (None, "prompt_not_told")
    assert found["energy_per_output_token_j"].value == Case(make).metrics()["energy_per_output_token_j"].value


def test_net_uses_the_same_process(make):
    """Net subtracts the idle power of the engine process the trial ran in."""
    case = Case(make, 1, process=1)
    case.baselines = [make.baseline(100.0)[0], make.baseline(123.0, process=1)[0]]
    assert case.metrics()["energy_net_j"].value == pytest.approx(6000.0 - 1230.0, rel=1e-3)


def test_net_is_not_clamped(make):
    """An idle above the load gives a negative net energy, because that is what was measured."""
    case = Case(make)
    case.baselines = [make.baseline(650.0)[0]]
    assert case.metrics()["energy_net_j"].value == pytest.approx(-500.0, rel=1e-2)


def test_net_without_baseline(make):
    """Without a baseline before the trials there is no net energy; one after them does not stand in."""
    case = Case(make)
    assert case.metrics()["energy_net_j"].reason == "no_baseline"
    case.baselines = [make.baseline(123.0, phase="after")[0]]
    assert case.metrics()["energy_net_j"].reason == "no_baseline"
    assert case.metrics()["energy_j"].value is not None


def test_measured_and_modelled_are_never_summed(make):
    """A measured CPU beside a modelled RAM gives the measured CPU alone."""
    extra = (
        make.modelled("cpu:0", 400.0, "cpu"),
        make.modelled("dram", 100.0, "dram"),
        attrs.evolve(make.modelled("cpu:0", 300.0, "cpu"), meter="rapl", kind="measured"),
    )
    found = Case(make, domains=(), extra=extra).metrics()["energy_j"]
    assert (found.value, found.scope, found.kind) == (300.0, "cpu", "measured")


def test_modelled_only(make):
    """With nothing measured the headline is the modelled CPU and RAM, labelled so, without an interval."""
    extra = (make.modelled("cpu:0", 400.0, "cpu"), make.modelled("dram", 100.0, "dram"))
    found = Case(make, domains=(), extra=extra).metrics()["energy_j"]
    assert (found.value, found.scope, found.kind, found.low) == (500.0, "cpu+dram", "modelled", None)


def test_no_meter(make):
    """Without any meter there is no energy and it says so; speed is there all the same."""
    found = Case(make, domains=()).metrics()
    assert found["energy_per_output_token_j"].reason == "no_meter"
    assert found["output_tokens_per_s"].value == pytest.approx(51.2)


def test_first_meter_covers_the_domain(make):
    """Of two meters on one GPU the first is reported; a failure of the first is not papered over by the second."""
    zeus = attrs.evolve(make.modelled(make.GPU, 9999.0, "gpu"), meter="zeus", kind="measured")
    case = Case(make, extra=(zeus,))
    assert headline(case.trials).of(case.trials[0]) == (("nvml", make.GPU),)
    broken = attrs.evolve(case.trials[0].energies[0], energy_j=None, budget=None, reason="meter_failed")
    case.trials[0] = attrs.evolve(case.trials[0], energies=(broken, zeus))
    assert case.metrics()["energy_j"] == attrs.evolve(case.metrics()["energy_j"], value=None, reason="meter_failed")
    assert output_energy(case.trials) is None


def test_two_gpus_add_up(make):
    """Two GPUs of one experiment are summed; one that was not read makes the sum absent."""
    other = attrs.evolve(make.modelled("gpu:GPU-2", 1000.0, "gpu"), meter="nvml", kind="measured")
    assert Case(make, extra=(other,)).metrics()["energy_j"].value == pytest.approx(7000.0, rel=1e-3)
    lost = attrs.evolve(other, energy_j=None, reason="counter_missing")
    assert Case(make, extra=(lost,)).metrics()["energy_j"].reason == "counter_missing"


def test_a_failed_trial_is_not_dropped_from_the_mean(make):
    """One unreadable trial of three makes the mean absent rather than a mean of two."""
    case = Case(make, 3)
    broken = attrs.evolve(case.trials[1].energies[0], energy_j=None, budget=None, reason="meter_failed")
    case.trials[1] = attrs.evolve(case.trials[1], energies=(broken,))
    found = case.metrics()
    assert found["energy_j"].reason == "meter_failed"
    assert found["duration_s"].n == 3
    gpu = domain_metrics(case.trials, [])[0]
    assert gpu.budget is None


def test_latencies_from_token_times(make):
    """TTFT, TPOT and gaps follow from the token times: 64 tokens at equal distances in 2.5 s."""
    found = Case(make, token_times=True, config={"token_times": True}).metrics()
    for name in ("ttft_s", "tpot_s", "itl_chunk_s", "ttft_p50_s", "itl_chunk_p50_s", "itl_chunk_p99_s"):
        assert found[name].value == pytest.approx(2.5 / 64, rel=1e-6), name
    assert found["e2el_s"].value == pytest.approx(2.5)
    assert (found["ttft_p50_s"].method, found["ttft_p50_s"].n) == ("single_trial", 1)
    assert found["ttft_p99_s"].reason == "too_few_values"


def test_reasons_of_absent_latencies(make):
    """Not asked for, not supported and not defined are three reasons."""
    asked = {"token_times": True}
    assert Case(make).metrics()["ttft_s"].reason == "not_requested"
    assert Case(make, config=asked).metrics()["tpot_p90_s"].reason == "not_supported"
    one = Case(make, token_times=True, outputs=1, config=asked).metrics()
    assert one["ttft_s"].value is not None
    assert (one["tpot_s"].reason, one["itl_chunk_p99_s"].reason) == ("one_output_token", "one_output_token")
    assert Case(make).metrics()["e2el_p50_s"].value == pytest.approx(2.5)


def test_mean_latency_over_trials_uses_trials(make):
    """Over several trials of one process the mean latency and its percentiles have the interval of the trials."""
    found = Case(make, 3).metrics()
    for name in ("e2el_s", "e2el_p50_s"):
        assert (found[name].method, found[name].n, found[name].processes) == ("student_t", 3, 1)
        assert found[name].covers == "within one process"
    assert (found["e2el_p90_s"].value, found["e2el_p90_s"].reason) == (None, "too_few_values")


def test_utilisation(make):
    """MFU and MBU are work over time over the peaks of an H200."""
    case = Case(make)
    found = case.metrics()
    work = window_work(make.ARCHITECTURE, case.rows[0])
    assert found["mfu"].value == pytest.approx(work.flops / 10 / 989.4e12)
    assert found["mbu"].value == pytest.approx(work.least_bytes / 10 / 4.8e12)
    assert found["flops_per_token"].method == "exact"


def test_utilisation_reasons(make):
    """No GPU, an unknown GPU and an unknown architecture are told apart."""
    assert Case(make, engine=make.engine_document(cuda=False)).metrics()["mfu"].reason == "no_gpu"
    unknown = {"device": "cuda", "gpus": ["x"], "names": ["NVIDIA X1"]}
    assert Case(make, engine=make.engine_document(device=unknown)).metrics()["mbu"].reason == "peak_unknown"
    blind = Case(make, engine=make.engine_document(architecture=None)).metrics()
    assert {blind[n].reason for n in ("flops_per_token", "mfu", "mbu")} == {"architecture_unknown"}


def test_peak_memory_is_the_greatest(make):
    """Peak memory is the maximum over trials; one trial without makes it absent."""
    case = Case(make, 2)
    case.trials[1] = attrs.evolve(case.trials[1], peak_memory_bytes=18_000_000_000)
    assert case.metrics()["peak_memory_bytes"].value == 18e9
    case.trials[0] = attrs.evolve(case.trials[0], peak_memory_bytes=None, memory_reason="not_supported")
    assert case.metrics()["peak_memory_bytes"].reason == "not_supported"


def test_domain_metrics(make):
    """A domain carries gross, net, idle, its budget with the scatter between trials, and the cross ratio."""
    case = Case(make, 5)
    case.baselines = [make.baseline(123.0)[0]]
    (gpu,) = domain_metrics(case.trials, case.baselines)
    assert gpu.idle_power_w.value == pytest.approx(123.0, rel=1e-6)
    assert gpu.energy_net_j.value == pytest.approx(6000.0 - 1230.0, rel=1e-4)
    half = (gpu.energy_j.high - gpu.energy_j.low) / 2
    assert math.hypot(gpu.budget.repeat_j, gpu.budget.tick_j + gpu.budget.gap_j) == pytest.approx(half)
    assert gpu.budget.sensor_j == pytest.approx(0.05 * gpu.energy_j.value)
    assert gpu.cross_ratio.value == pytest.approx(1.0, abs=1e-3)


def test_domain_of_a_library(make):
    """A library that states no error has no budget and no cross ratio, each with its reason."""
    case = Case(make, 2, domains=(), extra=(make.modelled("cpu:0", 400.0, "cpu"),))
    (cpu,) = domain_metrics(case.trials, [])
    assert cpu.budget is None
    assert (cpu.cross_ratio.reason, cpu.idle_power_w.reason) == ("no_meter", "no_baseline")
    assert cpu.kind == cpu.energy_j.kind == "modelled"


def test_power_meter_without_counter(make):
    """A meter that gives watts alone is integrated, and has no second instrument."""
    t0, t1 = make.window(0)
    rows = tuple(row for row in make.trace(50.0, t0, t1, meter="wall", domain="node") if row.reading == "power_w")
    wall = ("wall", Domain("node", "node", "measured", "wall meter", method="power", period_s=0.1))
    requests = make.request_rows(0, t0, t1)
    trial = make.make_trial(0, rows, requests, t0, t1, domains=(wall,))
    chosen = headline([trial])
    assert (chosen.scope, chosen.kind) == ("node", "measured")
    assert domain_metrics([trial], [])[0].energy_j.value == pytest.approx(500.0)
