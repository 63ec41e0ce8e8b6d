"""Findings: each appears when its cause is there, and not otherwise."""

from __future__ import annotations

import random

import attrs
import pytest

from llem.findings import finding
from llem.metrics.result import compute_result
from llem.store.models import Result


class Study:
    """An experiment whose parts a test changes before it computes the result."""

    def __init__(self, make, count=5, seconds=10, **shape):
        self.make = make
        self.experiment = make.experiment_document()
        self.engines = [make.engine_document()]
        self.outcomes = [make.outcome_document()]
        self.baselines = [make.baseline(123.0)[0], make.baseline(123.0, phase="after")[0]]
        self.trials, self.traces, self.requests = [], {}, {}
        for i in range(count):
            self.add(i, make.WATTS[i % 5], seconds, **shape)

    def add(self, index, watts, seconds=10, *, rise=0.0, integrated=None, health=None, **shape):
        t0, t1 = self.make.window(index, seconds)
        self.traces[index] = self.make.trace(watts, t0, t1, rise=rise, integrated=integrated)
        self.requests[index] = self.make.request_rows(index, t0, t1, **shape)
        trial = self.make.make_trial(index, self.traces[index], self.requests[index], t0, t1, health=health)
        self.trials.append(trial)

    def change(self, index, **values):
        self.trials[index] = attrs.evolve(self.trials[index], **values)

    def result(self) -> Result:
        return compute_result(
            self.experiment,
            self.engines,
            self.trials,
            self.baselines,
            self.requests,
            self.outcomes,
            self.traces,
        )

    def codes(self):
        return [found.code for found in self.result().findings]

    def found(self, code):
        return next(found for found in self.result().findings if found.code == code)


#: Four batches of 128 requests, 512 tokens each: within what an H200 can do in 10 s, and not host bound.
BUSY = {"batches": 4, "batch_size": 128, "outputs": 512}


@pytest.fixture
def study(make):
    """Five steady trials of a busy GPU."""
    return Study(make, **BUSY)


def test_a_good_study_has_no_findings(study):
    """Steady, agreeing, busy: no finding, valid and publishable."""
    result = study.result()
    assert result.findings == ()
    assert (result.valid, result.publishable, result.outcome) == (True, True, "done")


def test_deterministic(study):
    """Computed twice, the result is the same to the bit."""
    assert study.result() == study.result()


def test_quick_and_single(make):
    """A quick study of one trial is valid, says why it has no repetition, and is not publishable."""
    study = Study(make, 1, **BUSY)
    study.experiment["config"]["preset"] = "quick"
    result = study.result()
    assert [found.code for found in result.findings] == ["not_publishable_preset", "single_trial"]
    assert (result.valid, result.publishable) == (True, False)


def test_four_trials_are_too_few_to_publish(make):
    """Four trials without any finding are valid and not publishable."""
    result = Study(make, 4, **BUSY).result()
    assert (result.findings, result.valid, result.publishable) == ((), True, False)


def test_short_window(make):
    """Windows below 5 s are named."""
    study = Study(make, 5, 2, **{**BUSY, "outputs": 64})
    found = study.found("short_window")
    assert found.evidence == {"least_s": 2.0, "trials": [0, 1, 2, 3, 4]}
    assert not study.result().publishable


def test_token_times_are_said_to_slow(study):
    """Recording token times is remarked upon, and does not make the result doubtful."""
    study.experiment["config"]["token_times"] = True

    assert study.found("token_times_on").severity == "info"


def test_a_gap_in_a_power_meter_is_a_warning(study):
    """What a gap may hide is told, with the trial."""
    reading = study.trials[1].energies[0]
    gappy = attrs.evolve(reading, budget=attrs.evolve(reading.budget, gap_j=12.5))
    study.change(1, energies=(gappy, *study.trials[1].energies[1:]))

    assert study.found("sample_gap").evidence == {"gap_j": 12.5, "trials": [1]}


def test_interval_wide(study):
    """An interval wider than the target is said with both figures, and the result may be published all the same.

    To publish only narrow intervals is to choose the lucky ones: those cover 58 to 94 % where 95 % is stated.
    """
    study.experiment["config"]["target_half_width"] = 0.001
    result = study.result()
    found, energy = study.found("interval_wide"), result.metrics["energy_per_output_token_j"]
    assert found.evidence["relative_half_width"] == pytest.approx((energy.high - energy.low) / 2 / energy.value)
    assert 0.001 < found.evidence["relative_half_width"] < 0.01
    assert found.evidence["target"] == 0.001
    assert (found.severity, result.publishable) == ("info", True)


@pytest.mark.parametrize(
    ("integrated", "code"),
    [(595.0, None), (615.0, "meters_disagree"), (585.0, "meters_disagree"), (660.0, "meters_disagree")],
)
def test_cross_meter(make, integrated, code):
    """Under a steady load more than 2 % between the two instruments is a warning; the counter stays valid at 10 %."""
    study = Study(make, 0)
    for i in range(5):
        study.add(i, 600.0, integrated=integrated, **BUSY)
    assert study.codes() == ([code] if code else [])
    assert study.result().valid
    assert study.result().publishable == (code is None)


def aliased(make, study, index, phase, beat):
    """A trial of steady mean power whose instantaneous samples show 690 or 124 W: a square wave of nearly 100 ms."""
    study.add(index, 407.0, **BUSY)
    samples = (690.0 if (phase + k * beat) % 1.0 < 0.5 else 124.0 for k in range(10_000))
    trace = tuple(
        attrs.evolve(row, value=next(samples)) if row.reading == "power_w" else row for row in study.traces[index]
    )
    study.traces[index] = trace
    trial = study.trials[index]
    study.trials[index] = make.make_trial(index, trace, study.requests[index], trial.t0_ns, trial.t1_ns)


@pytest.mark.parametrize("beat", [0.0, 0.004, 0.37])
def test_an_aliasing_reading_says_nothing_about_the_counter(make, beat):
    """Samples that meet one phase throughout a trial, or wander slowly or fast: the difference is unresolved."""
    study = Study(make, 0)
    for i in range(5):
        aliased(make, study, i, random.Random(i).random(), beat)
    result = study.result()
    codes = {found.code for found in result.findings}
    assert codes <= {"cross_unresolved", "no_steady_state"}  # a slow wander of the samples looks like drift
    assert "cross_unresolved" in codes or abs(result.domains[0].cross_ratio.value - 1) <= 0.02
    assert result.valid


def test_a_phase_met_throughout_one_trial_is_known_by_the_batches(make):
    """One trial whose samples stand still shows no scatter; periods of batches or steps say that they may alias."""
    for batches, outputs, code in (
        (100, 20, "cross_unresolved"),
        (4, 64, "cross_unresolved"),
        (4, 512, "meters_disagree"),
    ):
        study = Study(make, 0)
        study.add(0, 407.0, integrated=690.0, batches=batches, batch_size=8, outputs=outputs)
        assert study.found(code).evidence["ratio"] == pytest.approx(407 / 690, rel=1e-3)
        assert study.result().valid


def test_power_drift(make):
    """Power that rises by 2 % within each window is not a steady state; noise without a trend is one."""
    study = Study(make, 0)
    for i in range(5):
        study.add(i, 600.0, rise=12.0, **BUSY)
    found = study.found("no_steady_state")
    assert found.evidence["share"] == pytest.approx(0.02, rel=0.05)
    assert found.evidence["trials"] == [0, 1, 2, 3, 4]


def test_small_drift_is_no_drift(make):
    """A clear trend of 0.2 % is below what matters."""
    study = Study(make, 0)
    for i in range(5):
        study.add(i, 600.0, rise=1.2, **BUSY)
    assert "no_steady_state" not in study.codes()


def test_speed_drift(study):
    """Batches that get slower by 5 % over the window are not a steady state."""
    study.change(2, batch_s=tuple(0.25 * (1 + 0.05 * i / 40) for i in range(40)))
    found = study.found("no_steady_state")
    assert found.evidence["what"] == "time per batch"
    assert found.evidence["trials"] == [2]


def test_noisy_speed_is_steady(study):
    """Batches that vary by 5 % without a trend raise no alarm."""
    noise = random.Random(3)
    for i in range(5):
        study.change(i, batch_s=tuple(noise.gauss(0.25, 0.0125) for _ in range(40)))
    assert "no_steady_state" not in study.codes()


def test_idle_drift(study):
    """Idle power that differs by 5 % before and after is said with both figures."""
    study.baselines[1] = study.make.baseline(130.0, phase="after")[0]
    evidence = study.found("idle_drift").evidence
    assert (evidence["before_w"], evidence["after_w"]) == (pytest.approx(123.0), pytest.approx(130.0))


def test_idle_drift_is_per_process(study):
    """Two engine processes may idle at different power: only before and after of one are compared."""
    study.baselines += [study.make.baseline(140.0, process=1, phase=phase)[0] for phase in ("before", "after")]
    assert "idle_drift" not in study.codes()


def test_host_bound_by_utilisation(make):
    """A GPU that is idle for a third of the window waits for the host."""
    study = Study(make, 0)
    health = {make.GPU: {"utilisation_percent": {"mean": 66.0}, "power_limit_w": 700.0}}
    for i in range(5):
        study.add(i, 600.0, health=health, **BUSY)
    evidence = study.found("host_bound").evidence
    assert evidence["utilisation_percent"] == pytest.approx(66.0)
    assert {"step_s", "roofline_step_s", "step_ratio", "power_share"} <= set(evidence)


def test_host_bound_by_slow_steps(make):
    """Batch 1 in plain PyTorch: steps of 39 ms where 3.1 would do, at a quarter of the limit."""
    study = Study(make, 0)
    for i in range(5):
        study.add(i, 174.0, batches=2, batch_size=1, outputs=128)
    evidence = study.found("host_bound").evidence
    assert evidence["step_s"] == pytest.approx(10 / 256)
    assert evidence["step_ratio"] == pytest.approx(12.5, rel=0.02)
    assert evidence["power_share"] == pytest.approx(174 / 700, rel=1e-3)


@pytest.mark.parametrize(
    "sizes", [{"unfit": "speculative"}, {"experts": 8}, {"read_bytes": None, "weight_bytes": 10**9}]
)
def test_steps_of_unknown_length_bind_no_host(make, sizes):
    """With speculation, experts or unknown bytes, what a step needs is not known from above: slow steps say nothing."""
    study = Study(make, 0)
    study.engines = [make.engine_document(architecture=attrs.evolve(make.ARCHITECTURE, **sizes))]
    for i in range(5):
        study.add(i, 174.0, batches=2, batch_size=1, outputs=128)
    assert "host_bound" not in study.codes()


def test_slow_steps_at_full_power_are_not_host_bound(make):
    """Slow steps at high power are the device's own work."""
    study = Study(make, 0)
    for i in range(5):
        study.add(i, 600.0, batches=2, batch_size=1, outputs=128)
    assert "host_bound" not in study.codes()


def test_host_bound_needs_a_gpu(make):
    """On a CPU there is no host to wait for."""
    study = Study(make, 0)
    health = {make.GPU: {"utilisation_percent": {"mean": 10.0}}}
    for i in range(5):
        study.add(i, 600.0, health=health, **BUSY)
    study.engines = [make.engine_document(cuda=False)]
    assert "host_bound" not in study.codes()


def test_token_count_mismatch(study):
    """One token too few with end-of-sequence ignored makes the result invalid; without it, lengths are free."""
    study.change(3, expected_output_tokens=study.trials[3].output_tokens + 1)
    assert study.found("token_count_mismatch").evidence["trials"] == [3]
    assert not study.result().valid
    study.experiment["config"]["sampling"]["ignore_eos"] = False
    assert "token_count_mismatch" not in study.codes()


def test_more_power_than_the_limit(make):
    """A mean of 800 W on a board limited to 700 W is not believed; 710 W is within the sensor's calibration."""
    study = Study(make, 0)
    for i in range(5):
        study.add(i, 800.0 if i == 4 else 710.0, **BUSY)
    assert [f.evidence["trials"] for f in study.result().findings if f.code == "energy_suspect"] == [[4]]


def test_utilisation_above_one_condemns_no_energy(make):
    """Work that is counted as more than the device can do is a wrong count: no share, a remark, the energy stands."""
    study = Study(make, **{**BUSY, "outputs": 2048})
    result = study.result()
    told = [found for found in result.findings if found.code == "utilisation_model"]
    assert [found.evidence["metric"] for found in told] == ["mfu", "mbu"]
    assert {found.severity for found in told} == {"info"}
    assert {result.metrics[name].reason for name in ("mfu", "mbu")} == {"model_does_not_fit"}
    assert "energy_suspect" not in study.codes()
    assert result.valid
    assert result.metrics["energy_per_output_token_j"].value is not None


def test_workers_findings_are_told_once(study):
    """The same throttling in two trials is one finding that names both; it makes the result invalid."""
    for index in (1, 3):
        study.change(index, findings=(finding("throttled", "thermal slowdown", gpu=study.make.GPU),))
    found = study.found("throttled")
    assert found.evidence == {"gpu": study.make.GPU, "trials": [1, 3]}
    assert found.message == "thermal slowdown (trials 1, 3)"
    assert study.codes().count("throttled") == 1
    assert not study.result().valid


def test_a_share_is_told_of_the_trial_that_had_most(study):
    """Seen in three trials, it is told once, with the figures of the worst and its number."""
    for index, share in ((0, 0.2), (1, 0.5), (3, 0.1)):
        told = finding("power_capped", f"held in {share:.0%}", domain=study.make.GPU, share=share, readings=10)
        study.change(index, findings=(told,))
    found = study.found("power_capped")
    assert found.message == "held in 50% (trials 0, 1, 3; the most in trial 1)"
    assert found.evidence == {"domain": study.make.GPU, "share": 0.5, "readings": 10, "trials": [0, 1, 3]}
    study.change(0, findings=())
    study.change(3, findings=())
    assert study.found("power_capped").message == "held in 50% (trial 1)"


def test_findings_of_engine_and_outcome(study):
    """What the engine process found is in the result, once for all processes."""
    raw = {"code": "token_times_on", "severity": "info", "message": "on", "evidence": {}}
    study.engines = [study.make.engine_document(r, findings=[raw]) for r in (0, 1)]
    assert study.codes() == ["token_times_on"]
    assert study.result().publishable


@pytest.mark.parametrize("outcome", ["oom", "timeout", "crash", "interrupted", "invalid"])
def test_failed_experiments(make, outcome):
    """A failed experiment has its outcome and error, no number, and is not valid."""
    study = Study(make, 0)
    study.outcomes = [make.outcome_document(outcome=outcome, error="what happened")]
    result = study.result()
    assert (result.outcome, result.error, result.valid, result.trials) == (outcome, "what happened", False, 0)
    assert {quantity.value for quantity in result.metrics.values()} == {None}
    assert result.metrics["energy_j"].reason == "no_trials"


def test_before_anything_loaded(make):
    """A backend's refusal leaves no engine document; the result still says which experiment it was."""
    study = Study(make, 0)
    study.engines = []
    raw = {"code": "backend_check", "severity": "error", "message": "no such cache", "evidence": {}}
    study.outcomes = [make.outcome_document(outcome="invalid", error="refused", findings=[raw])]
    result = study.result()
    assert (result.id, result.weights, result.environment) == ("exp-one", "random", "")
    assert [found.code for found in result.findings] == ["backend_check"]


def test_restarts_that_are_missing(study):
    """Of two engine processes asked for only one has trials: the experiment was interrupted."""
    study.experiment["config"]["processes"] = 2
    assert study.result().outcome == "interrupted"
    study.outcomes.append(study.make.outcome_document(1))
    assert study.result().outcome == "interrupted"
    study.trials[-1] = attrs.evolve(study.trials[-1], process=1)
    assert study.result().outcome == "done"


def test_trials_that_are_missing(study):
    """An engine process that ended well does not make up for trials that are not there."""
    study.experiment["config"]["trials"] = len(study.trials) + 1
    result = study.result()
    assert (result.outcome, result.valid) == ("interrupted", False)
    assert result.error == f"{len(study.trials)} of {len(study.trials) + 1} trials are stored"


def test_a_failure_after_success_is_a_failure(study):
    """Further trials were asked for, and their engine process crashed: that is not told as done."""
    study.outcomes.append(study.make.outcome_document(1, "crash", "it fell"))
    assert (study.result().outcome, study.result().error) == ("crash", "it fell")


def test_a_second_attempt_counts(study):
    """An interrupted engine process followed by one that ended well is done."""
    study.outcomes = [study.make.outcome_document(0, "interrupted", "stopped"), study.make.outcome_document(1)]
    assert (study.result().outcome, study.result().error) == ("done", None)


@pytest.mark.parametrize("code", ["counter_stuck", "counter_reset", "meter_failed"])
def test_a_headline_without_an_energy_is_not_valid(study, code):
    """Why it is missing and in which trials; once where the worker told it, and not of what is beside the headline."""
    broken = attrs.evolve(study.trials[1].energies[0], energy_j=None, budget=None, reason=code)
    beside = attrs.evolve(broken, domain="dram", scope="dram")
    study.change(0, energies=(*study.trials[0].energies, beside))
    assert code not in study.codes()
    study.change(1, energies=(broken,))
    study.change(3, energies=(broken,))
    found = study.found(code)
    assert (found.severity, found.evidence["domain"], found.evidence["trials"]) == ("error", broken.domain, [1, 3])
    assert not study.result().valid
    told = finding("meter_failed", "nvml failed", meter=broken.meter, domain=broken.domain)
    for index in (1, 3):
        study.change(index, findings=(told,))
    assert [one.message for one in study.result().findings if one.code == code] == (
        ["nvml failed (trials 1, 3)"] if code == "meter_failed" else []
    )
