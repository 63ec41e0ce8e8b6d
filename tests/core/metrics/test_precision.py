"""Whether there are trials enough: one quantity decides, and the finding is about the same one."""

from __future__ import annotations

import attrs
import pytest

from llem.metrics.energies import is_narrow, output_energy, precision
from llem.metrics.result import compute_result
from llem.metrics.statistics import relative_half_width


@pytest.fixture
def trials(make):
    """Three trials of 600 W or a little less, with a meter."""
    found = []
    for index, watts in enumerate((600.0, 590.0, 595.0)):
        t0, t1 = make.window(index, 10)
        rows = make.request_rows(index, t0, t1)
        found.append(make.make_trial(index, make.trace(watts, t0, t1), rows, t0, t1))
    return found


@pytest.fixture
def without_energy(trials):
    """No meter read, and they differ so widely in speed that time per token has another interval than speed."""
    tokens = (400, 512, 700)
    return [
        attrs.evolve(trial, energies=(), output_tokens=count, expected_output_tokens=count)
        for trial, count in zip(trials, tokens, strict=True)
    ]


def test_the_headline_decides(trials):
    """Energy per output token, where it is read."""
    found = precision(trials)
    assert found.of == "energy per output token"
    assert found.half_width == relative_half_width(output_energy(trials))


def test_without_energy_it_is_speed(without_energy):
    """Tokens per second, and not the time per token."""
    found = precision(without_energy)
    times = [trial.duration_s / trial.output_tokens for trial in without_energy]

    assert found.of == "output tokens per second"
    assert found.half_width == relative_half_width([1 / seconds for seconds in times])
    assert found.half_width != pytest.approx(relative_half_width(times), rel=0.01)


@pytest.mark.parametrize("off", [-1e-9, 1e-9])
def test_who_asks_for_further_trials_is_who_says_that_the_interval_is_wide(make, without_energy, off):
    """A target just above the interval ends the trials and leaves no finding; one just below does neither."""
    target = precision(without_energy).half_width + off
    experiment = make.experiment_document()
    experiment["config"]["target_half_width"] = target
    outcomes, engines = [make.outcome_document()], [make.engine_document()]
    result = compute_result(experiment, engines, without_energy, [], {}, outcomes, {})
    told = [found for found in result.findings if found.code == "interval_wide"]

    assert is_narrow(without_energy, target) == (off > 0) == (not told)
    assert all("of output tokens per second is" in found.message for found in told)


def test_one_trial_has_no_interval(trials):
    """So it is never enough by itself."""
    assert precision(trials[:1]).half_width is None
    assert not is_narrow(trials[:1], 1.0)
