"""Trials of one experiment on several boards: each counts what it ran on, nothing is left out, and it is told."""

from __future__ import annotations

import attrs
import pytest

from llem.analysis.sides import trial_values
from llem.findings import FINDINGS, REASONS
from llem.meters.window import energy_readings
from llem.metrics.domains import domain_metrics
from llem.metrics.energies import gross, headline, output_energy
from llem.metrics.metric import Measured
from llem.metrics.result import compute_result, place_of, recompute
from llem.metrics.setup import setup_of
from llem.metrics.verify import verify
from llem.store.store import Store

A, B, C = (f"gpu:GPU-{letter * 8}-0000" for letter in "abc")


class Mixed:
    """An experiment whose engine processes ran on boards that a test names; trial i is of process `processes[i]`."""

    def __init__(self, make, boards, processes, watts=(600.0, 600.0, 600.0, 630.0, 630.0), names=None):
        self.make, self.boards, self.processes = make, boards, processes
        self.domains = [[(m, attrs.evolve(d, name=name)) for m, d in [make.NVML] for name in one] for one in boards]
        self.engines = [
            make.engine_document(
                process,
                domains=self.domains[process],
                device={
                    "device": "cuda" if one else "cpu",
                    "gpus": [name[4:] for name in one],
                    "names": [(names or {}).get(name, "NVIDIA H200") for name in one],
                },
            )
            for process, one in enumerate(boards)
        ]
        self.trials, self.traces, self.requests, self.baselines = [], {}, {}, []
        for index, process in enumerate(processes):
            t0, t1 = make.window(index)
            self.traces[index] = tuple(
                row for name in boards[process] for row in make.trace(watts[index], t0, t1, domain=name)
            )
            self.requests[index] = make.request_rows(index, t0, t1, batch_size=128, outputs=512)
            health = {name: {"utilisation_percent": {"mean": 99.0}} for name in boards[process]}
            self.trials.append(
                make.make_trial(
                    index,
                    self.traces[index],
                    self.requests[index],
                    t0,
                    t1,
                    process=process,
                    domains=self.domains[process],
                    health=health,
                )
            )

    def idle(self, process, watts, phase="before"):
        """A baseline of all boards of an engine process."""
        one, _ = self.make.baseline(watts, process=process, phase=phase)
        rows = [r for name in self.boards[process] for r in self.make.trace(watts, one.t0_ns, one.t1_ns, domain=name)]
        readings = energy_readings(rows, self.domains[process], one.t0_ns, one.t1_ns)
        self.baselines.append(attrs.evolve(one, readings=readings))

    def without(self, index, *domains):
        """The trial as if these domains had not been read at all."""
        trial = self.trials[index]
        kept = tuple(reading for reading in trial.energies if reading.domain not in domains)
        self.trials[index] = attrs.evolve(trial, energies=kept)

    def result(self):
        experiment = self.make.experiment_document(processes=1)
        outcomes = [self.make.outcome_document(process) for process in range(len(self.boards))]
        return compute_result(
            experiment, self.engines, self.trials, self.baselines, self.requests, outcomes, self.traces
        )

    def measured(self):
        setup = setup_of(self.make.experiment_document(processes=1), self.engines)
        return Measured(setup, self.trials, self.baselines, self.requests.__getitem__)

    def energy(self):
        return self.result().metrics["energy_j"]


@pytest.fixture
def moved(make) -> Mixed:
    """Three trials on one board, and two on another where the study went on."""
    return Mixed(make, [[A], [B]], [0, 0, 0, 1, 1])


def test_each_trial_counts_the_board_it_ran_on(moved):
    """Energy and what derives from it are there, over all five trials."""
    found = moved.result().metrics
    tokens = moved.trials[0].output_tokens

    assert found["energy_j"].value == pytest.approx((6000 + 6300) / 2, rel=1e-3)  # the mean of two engine processes
    assert (found["energy_j"].n, found["energy_j"].scope, found["energy_j"].kind) == (5, "gpu", "measured")
    assert output_energy(moved.trials)[3] == pytest.approx(6300 / tokens, rel=1e-3)
    assert trial_values(moved.measured(), "power_w") == pytest.approx([600, 600, 600, 630, 630], rel=1e-3)


def test_net_subtracts_the_idle_power_of_that_board(moved):
    """Each engine process has its own baseline; where the second board lacks one there is no net energy."""
    moved.idle(0, 120.0)
    assert moved.result().metrics["energy_net_j"].reason == "no_baseline"
    moved.idle(1, 150.0)
    assert moved.result().metrics["energy_net_j"].value == pytest.approx((3 * 4800 + 2 * 4800) / 5, rel=1e-3)


def test_idle_drift_is_of_one_board(moved):
    """Before and after on each board by itself: two boards that idle differently have not drifted."""
    for process, watts in ((0, 120.0), (1, 150.0)):
        moved.idle(process, watts)
        moved.idle(process, watts, "after")
    assert "idle_drift" not in {found.code for found in moved.result().findings}
    moved.baselines.pop()
    moved.idle(1, 160.0, "after")
    [drift] = [found for found in moved.result().findings if found.code == "idle_drift"]
    assert (drift.evidence["domain"], drift.evidence["process"]) == (B, 1)


def test_a_domain_is_of_the_trials_that_ran_there(moved):
    """By itself each board has its own trials, says how many, and has an error budget and a cross ratio."""
    moved.idle(0, 120.0)
    moved.idle(1, 150.0)
    one, other = domain_metrics(moved.trials, moved.baselines)

    assert [(domain.domain, domain.energy_j.n) for domain in (one, other)] == [(A, 3), (B, 2)]
    assert other.energy_j.value == pytest.approx(6300, rel=1e-3)
    assert other.energy_net_j.value == pytest.approx(4800, rel=1e-3)
    assert (one.idle_power_w.value, other.idle_power_w.value) == pytest.approx((120, 150), rel=1e-3)
    assert other.cross_ratio.value == pytest.approx(1.0, abs=1e-3)
    assert None not in (one.budget, other.budget)


def test_several_boards_are_told(moved):
    """Which boards, how many trials on each, and what lies between them; the result is valid, not publishable."""
    result = moved.result()
    [found] = [one for one in result.findings if one.code == "several_boards"]

    assert found.message == (
        "trials ran on 2 sets of GPUs: 3 on GPU-aaaaaaaa (NVIDIA H200); 2 on GPU-bbbbbbbb (NVIDIA H200); "
        "their mean energy per output token differs by 5.0%"
    )
    assert [(one["gpus"], one["trials"]) for one in found.evidence["boards"]] == [
        ([A[4:]], [0, 1, 2]),
        ([B[4:]], [3, 4]),
    ]
    assert found.evidence["difference"] == pytest.approx(0.05, rel=1e-3)
    assert (result.valid, result.publishable) == (True, False)


def test_without_an_energy_the_boards_are_told_all_the_same(moved):
    """There is then no difference to tell."""
    broken = attrs.evolve(moved.trials[4].energies[0], energy_j=None, budget=None, reason="counter_stuck")
    moved.trials[4] = attrs.evolve(moved.trials[4], energies=(broken,))
    result = moved.result()
    [found] = [one for one in result.findings if one.code == "several_boards"]

    assert "differs" not in found.message
    assert "difference" not in found.evidence
    assert result.metrics["energy_j"].reason == "counter_stuck"
    first, second = domain_metrics(moved.trials, [])
    assert (first.energy_j.n, second.energy_j.reason) == (3, "counter_stuck")


def test_two_processes_on_the_same_boards_are_no_mixture(make):
    """In whatever order the boards are listed."""
    case = Mixed(make, [[A, B], [B, A]], [0, 0, 0, 1, 1], watts=(300.0,) * 5)
    assert "several_boards" not in {found.code for found in case.result().findings}
    assert case.energy().value == pytest.approx(6000, rel=1e-3)


def test_boards_of_several_gpus_add_up_on_each_machine(make):
    """Two GPUs here and two others there: each trial is the sum of its own two."""
    case = Mixed(make, [[A, B], [C, A]], [0, 0, 0, 1, 1], watts=(300.0,) * 5)
    assert case.energy().value == pytest.approx(6000, rel=1e-3)
    [found] = [one for one in case.result().findings if one.code == "several_boards"]
    assert "3 on GPU-aaaaaaaa + GPU-bbbbbbbb (NVIDIA H200)" in found.message


@pytest.mark.parametrize("process", [0, 1])
def test_a_domain_that_the_same_boards_should_have_is_missing(make, process):
    """A GPU that another trial of the process, or of another one on the same boards, read: None, not a smaller sum."""
    case = Mixed(make, [[A, B], [A, B]], [0, 0, process], watts=(300.0,) * 3)
    case.without(2, B)

    assert case.energy().reason == "meter_failed"
    assert [gross(trial, headline(case.trials).of(trial)).value is None for trial in case.trials] == [0, 0, 1]
    assert {domain.domain: domain.energy_j.n for domain in domain_metrics(case.trials, [])} == {A: 3, B: 0}


def test_a_process_that_read_fewer_gpus_than_another_lacks_one(make):
    """An experiment has one number of GPUs: one reading of two boards elsewhere is no whole energy."""
    case = Mixed(make, [[A, B], [C]], [0, 0, 1], watts=(300.0,) * 3)
    assert case.energy().reason == "no_meter"
    assert headline(case.trials).of(case.trials[2]) == ()
    assert trial_values(case.measured(), "energy_per_output_token_j") is None


def test_a_process_without_a_gpu_has_no_gpu_energy(make):
    """`device: auto` on a node without one: its trials are not taken for cheap ones."""
    case = Mixed(make, [[A], []], [0, 0, 1])
    case.trials[2] = attrs.evolve(case.trials[2], energies=(make.modelled("cpu:0", 400.0, "cpu"),))
    assert (case.energy().value, case.energy().reason, case.energy().scope) == (None, "no_meter", "gpu")


def test_machines_may_have_other_numbers_of_sockets(make):
    """Without a GPU each process sums the sockets of its machine; a socket that one of its trials lost is missing."""
    case = Mixed(make, [[], []], [0, 0, 1])
    one, two = (make.modelled(f"cpu:{n}", 400.0, "cpu") for n in (0, 1))
    for index, readings in enumerate([(one, two), (one, two), (one,)]):
        case.trials[index] = attrs.evolve(case.trials[index], energies=readings)
    assert case.energy().value == pytest.approx((800 + 400) / 2)  # the mean of two engine processes
    case.trials[1] = attrs.evolve(case.trials[1], energies=(one,))
    assert case.energy().reason == "meter_failed"


def test_a_scope_that_one_machine_lacks_is_missing(make):
    """Processor and memory here, the processor alone there: the two sums are not of the same things."""
    case = Mixed(make, [[], []], [0, 1])
    cpu, dram = make.modelled("cpu:0", 400.0, "cpu"), make.modelled("dram", 100.0, "dram")
    for index, readings in enumerate([(cpu, dram), (cpu,)]):
        case.trials[index] = attrs.evolve(case.trials[index], energies=readings)
    assert (case.energy().reason, case.energy().scope) == ("no_meter", "cpu+dram")


def test_without_gpus_environments_are_told_apart(make):
    """Another machine, or other software, under trials of one experiment."""
    case = Mixed(make, [[], []], [0, 0, 1])
    assert "several_boards" not in {found.code for found in case.result().findings}
    case.engines = [{**one, "environment": name} for one, name in zip(case.engines, ("abc", "other"), strict=True)]
    [found] = [one for one in case.result().findings if one.code == "several_boards"]
    assert found.message == "trials ran on 2 environments: 2 on abc; 1 on other"
    assert [one["environment"] for one in found.evidence["boards"]] == ["abc", "other"]


def test_kinds_of_gpus_have_no_common_peak(make):
    """An H100 after an H200: what share of the peak was reached is not said, with its reason; energy is."""
    case = Mixed(make, [[A], [B]], [0, 0, 1], names={B: "NVIDIA H100 80GB HBM3"})
    found = case.result().metrics

    assert (found["mfu"].reason, found["mbu"].reason) == ("several_kinds", "several_kinds")
    assert found["mfu"].reason in REASONS
    assert found["energy_j"].value is not None
    assert "several_boards" in {one.code for one in case.result().findings}


def test_a_process_without_trials_is_no_board(moved):
    """It loaded on another board and measured nothing there."""
    moved.trials = moved.trials[:3]
    assert "several_boards" not in {found.code for found in moved.result().findings}


def test_places_are_equal_where_the_boards_are(make):
    """The order of the GPUs and the software do not matter; without a GPU the environment does."""
    device = {"device": "cuda", "gpus": ["GPU-2", "GPU-1"], "names": ["X", None]}
    turned = {"device": "cuda", "gpus": ["GPU-1", "GPU-2"], "names": [None, "X"]}
    one = place_of(make.engine_document(device=device))

    assert one == place_of(make.engine_document(device=turned, environment="new"))
    assert str(one) == "GPU-1 + GPU-2 (X)"
    assert place_of(make.engine_document(cuda=False)) == place_of(make.engine_document(1, cuda=False))
    assert FINDINGS["several_boards"].severity == "warning"


def test_stored_and_computed_again(moved, tmp_path):
    """What such an experiment stores passes verification."""
    store = Store.create(tmp_path / "out", {"name": "moved"})
    store.write_experiment("exp-one", moved.make.experiment_document())
    for engine in moved.engines:
        store.write_engine("exp-one", engine)
        store.write_outcome("exp-one", moved.make.outcome_document(engine["process"]))
    for trial in moved.trials:
        store.write_trial(trial, moved.traces[trial.index], moved.requests[trial.index])
    store.write_result(recompute(store, "exp-one"))

    assert verify(store) == []
    assert store.read_result("exp-one").metrics["energy_j"].n == 5
