"""How often the reference of a study shows a drift that is none, and finds one that is there. Seeded."""

from __future__ import annotations

import attrs
import numpy
import pytest

from llem.analysis.reference import reference_runs
from llem.metrics.metric import Measured
from llem.metrics.setup import setup_of

STUDIES = 400


@pytest.fixture
def p_values(make):
    """`p_values(processes, drift)`: of simulated references with two trials a process, whose speeds differ by 1 %
    within a process and by 1 % between processes, and rise by `drift` in all."""
    t0, t1 = make.window(0)
    rows = make.trace(600.0, t0, t1)
    template = attrs.evolve(make.make_trial(0, rows, make.request_rows(0, t0, t1), t0, t1), energies=())

    def _p_values(processes, drift):
        setup = setup_of(make.experiment_document(processes=processes), [make.engine_document()])
        generator, found = numpy.random.default_rng(processes), []
        for _ in range(STUDIES):
            trials = []
            for process, between in enumerate(generator.normal(0.0, 0.01, processes)):
                for n, within in enumerate(generator.normal(0.0, 0.01, 2)):
                    tokens = round(1e7 * (1 + between + within + drift * process / (processes - 1)))
                    trials.append(
                        attrs.evolve(
                            template, index=n * processes + process, process=process, output_tokens=tokens,
                            started_at=f"2026-11-24T10:0{process}:0{n}Z",
                        )
                    )  # fmt: skip
            runs = reference_runs(Measured(setup, sorted(trials, key=lambda trial: trial.index)), "ref")
            found.append(runs.p_value)
        return found

    return _p_values


@pytest.mark.parametrize("processes", [3, 5])
def test_without_drift_the_alarm_is_false_as_often_as_stated(p_values, processes):
    """5 % of 400 within 3 standard errors: 7 to 33. Trials taken for independent would give 44 to 54."""
    assert 7 <= sum(p < 0.05 for p in p_values(processes, 0.0)) <= 33


def test_a_drift_of_ten_standard_deviations_is_found(p_values):
    """By five processes nearly always; three processes have one degree of freedom and find it in a minority."""
    found = {processes: sum(p < 0.05 for p in p_values(processes, 0.12)) / STUDIES for processes in (3, 5)}

    assert found[5] > 0.9
    assert 0.1 < found[3] < 0.7
