"""Prefill and decode apart, off traces whose true power in each phase is known."""

from __future__ import annotations

import attrs
import pytest

from llem.config.models import WINDOWS
from llem.devices.pulse import Beats, Gap
from llem.meters.base import ErrorBudget
from llem.meters.trace import TraceRow
from llem.meters.window import energy_readings
from llem.metrics.catalogue import METRICS, compute_metrics
from llem.metrics.designs import ALL, DESIGNS, part_counts
from llem.metrics.metric import Measured
from llem.metrics.setup import setup_of
from llem.metrics.statistics import mean_interval
from llem.store.models import Part, RequestRow
from llem.testing.fakes import Load

S = 1_000_000_000
#: Of a batch of 2 requests with 128 tokens in and 64 out: seconds and watts of its prefill, and of its decoding.
PREFILL, DECODE = (0.2, 600.0), (0.8, 300.0)
BATCHES, ROUNDS = 5, 6
SHARES = ("prefill_mfu", "prefill_mbu", "decode_mfu", "decode_mbu")
ENERGIES = (
    "prefill_energy_j", "decode_energy_j", "prefill_energy_per_token_j", "decode_energy_per_token_j", "phase_closure",
)  # fmt: skip


def traced(steps, t0):
    """Ticks of a counter, and power, over a course of power that begins at `t0`; and when it ends."""
    load, end = Load(steps), round(sum(seconds for seconds, _ in steps) * S)
    rows = []
    for tick in range(-5, end // (S // 10) + 6):
        t = tick / 10
        at, joules = t0 + tick * S // 10, load.joules(t) if t > 0 else steps[0][1] * t
        rows.append(TraceRow("nvml", GPU_NAME, "counter_j", at, at, 1e6 + t0 / S * 700 + joules))
        rows.append(TraceRow("nvml", GPU_NAME, "power_w", at, at, load.watts(max(t, 0.0))))
    return rows, t0 + end


GPU_NAME = "gpu:GPU-0a1b2c3d-0000-1111-2222-333344445555"


def phased(make, count=1, *, prefill=PREFILL, decode=DECODE, amid=1.0, config=None, watts=lambda index: 1.0, **more):
    """Trials of the differential design.

    Args:
        amid: how many times its energy a prefill takes where decodes come before and after it, and no other prefill.
        watts: what all power is multiplied by in a trial.
    """
    trials, requests = [], []
    for index in range(count):
        factor, begin = watts(index), 100 * S * (index + 1)
        first, rest = ((seconds, power * factor) for seconds, power in (prefill, decode))
        between = (first[0], first[1] * amid)
        rows, windows, at = [], {}, begin
        steps = {
            "whole": [first, rest] * BATCHES,
            "prefill": [first] * (BATCHES * ROUNDS),
            "both": [between, first, rest] * BATCHES,
        }
        for name, course in steps.items():
            found, end = traced(course, at)
            windows[name] = (at, end)
            rows += found
            at = end + 5 * S
        whole = make.request_rows(index, *windows["whole"], batches=BATCHES)
        trial = make.make_trial(index, rows, whole, *windows["whole"])
        parts = tuple(part(make, trial, name, *windows[name], rows) for name in ("prefill", "both"))
        trials.append(attrs.evolve(trial, parts=parts, **more))
        requests.append(whole)
    asked = make.experiment_document(phases="differential", **(config or {}))
    setup = setup_of(asked, [make.engine_document()])
    return Measured(setup, trials, (), requests.__getitem__)


def part(make, trial, name, t0, t1, rows):
    rounds, passes = (ROUNDS, 1) if name == "prefill" else (1, 2)
    outputs = trial.requests * rounds + (trial.output_tokens if name == "both" else 0)
    return Part(
        name, rounds, t0, t1, trial.batches * rounds * passes, trial.requests * rounds * passes,
        trial.input_tokens * rounds * passes, outputs, (0.1,) * (trial.batches * rounds * passes),
        energy_readings(rows, (make.NVML,), t0, t1),
    )  # fmt: skip


def test_energies_are_those_of_the_phases(make):
    """120 J of prefill and 240 J of decoding for a batch of two, whose 128 + 128 and 63 + 63 tokens they are for."""
    metrics = compute_metrics(phased(make, 3))

    expected = {
        "prefill_energy_j": 60.0,
        "decode_energy_j": 120.0,
        "prefill_energy_per_token_j": 60 / 128,
        "decode_energy_per_token_j": 120 / 63,
        "phase_closure": 1.0,
    }
    found = {name: metrics[name] for name in ENERGIES}
    assert {name: one.value for name, one in found.items()} == pytest.approx(expected, rel=1e-6)
    assert all(one.low <= expected[name] <= one.high for name, one in found.items())
    assert {(one.n, one.covers) for one in found.values()} == {(3, "within one process")}
    assert {(found[name].scope, found[name].kind) for name in ENERGIES[:4]} == {("gpu", "measured")}
    whole = metrics["energy_per_request_j"].value
    assert found["prefill_energy_j"].value + found["decode_energy_j"].value == pytest.approx(whole)


def test_closure_shows_a_prefill_that_costs_more_between_decodes(make):
    """A quarter more of 120 J is 30 J, of the 360 J of a whole batch: the sum of the phases is 8.3 % too much."""
    assert compute_metrics(phased(make, amid=1.25))["phase_closure"].value == pytest.approx(1 + 30 / 360, rel=1e-6)


def test_intervals_are_over_trials(make):
    """Student's t over the trials, widened by what the instrument may be off by in all of them alike."""
    factors = (1.0, 1.02, 0.99, 1.01)
    measured = phased(make, 4, watts=factors.__getitem__)
    found = compute_metrics(measured)["decode_energy_j"]

    scatter = mean_interval([120.0 * factor for factor in factors])
    shared = found.half_width**2 - scatter.half_width**2
    assert found.value == pytest.approx(scatter.value)
    assert found.half_width >= scatter.half_width
    assert shared <= max(value.bound for value in METRICS["decode_energy_j"].each(measured)) ** 2


def test_processes_are_clusters(make):
    """Trials of one process count as one, as in every other metric."""
    measured = phased(make, 4, watts=(1.0, 1.0, 1.1, 1.1).__getitem__)
    apart = [attrs.evolve(trial, process=number // 2) for number, trial in enumerate(measured.trials)]
    [inside, over] = (compute_metrics(attrs.evolve(measured, trials=one)) for one in (measured.trials, apart))

    assert (over["prefill_energy_j"].covers, over["prefill_energy_j"].processes) == ("over processes", 2)
    assert over["prefill_energy_j"].half_width > 2 * inside["prefill_energy_j"].half_width


def test_shares_of_the_peak_are_of_each_phase(make):
    """Operations and bytes of the phase over its seconds: 1 s of prefill and 4 s of decoding in a window of 5 s."""
    measured = phased(make)
    metrics, [work], ceiling = compute_metrics(measured), measured.works, measured.setup.ceiling

    moved = sum(batch.prefill_bytes for batch in work.batches), sum(batch.decode_bytes for batch in work.batches)
    expected = {
        "prefill_mfu": work.prefill_flops / 1.0 / ceiling.flops,
        "prefill_mbu": moved[0] / 1.0 / ceiling.bytes_per_s,
        "decode_mfu": work.decode_flops / 4.0 / ceiling.flops,
        "decode_mbu": moved[1] / 4.0 / ceiling.bytes_per_s,
    }
    assert {name: metrics[name].value for name in SHARES} == pytest.approx(expected)
    whole = 0.2 * metrics["prefill_mfu"].value + 0.8 * metrics["decode_mfu"].value
    assert whole == pytest.approx(metrics["mfu"].value)


def reasons(measured, names=ENERGIES):
    metrics = compute_metrics(measured)
    assert all(metrics[name].value is None for name in names)
    return {metrics[name].reason for name in names}


def test_not_asked_for(make):
    """Parts alone say nothing: what was asked for does."""
    measured = phased(make)
    config = {**measured.setup.config, "phases": "none"}
    unasked = attrs.evolve(measured, setup=attrs.evolve(measured.setup, config=config))
    assert reasons(unasked, (*ENERGIES, *SHARES)) == {"not_requested"}


def test_a_serving_load_has_none(make):
    """Whether the setting is there or not."""
    config = {**make.experiment_document()["config"], "load": {"kind": "closed", "concurrency": 4}}
    measured = phased(make)
    assert reasons(attrs.evolve(measured, setup=attrs.evolve(measured.setup, config=config))) == {"phases_side_by_side"}


def test_without_a_meter_times_are_known(make):
    """Energies are not; shares of the peak need seconds alone."""
    measured = phased(make)
    bare = [
        attrs.evolve(trial, energies=(), parts=tuple(attrs.evolve(one, energies=()) for one in trial.parts))
        for trial in measured.trials
    ]
    without = attrs.evolve(measured, trials=bare)
    assert reasons(without) == {"no_meter"}
    assert compute_metrics(without)["decode_mbu"].value == pytest.approx(compute_metrics(measured)["decode_mbu"].value)


def test_a_modelled_energy_has_none(make):
    """A share of a model's energy is no measurement."""
    measured = phased(make)
    modelled = [
        attrs.evolve(trial, energies=tuple(attrs.evolve(one, kind="modelled") for one in trial.energies))
        for trial in measured.trials
    ]
    assert reasons(attrs.evolve(measured, trials=modelled)) == {"modelled_energy"}


def test_one_output_token_leaves_nothing_to_decode(make):
    """Its prefill is all there is."""
    measured = phased(make)
    one = [attrs.evolve(trial, output_tokens=trial.requests) for trial in measured.trials]
    short = attrs.evolve(measured, trials=one)
    assert reasons(short, ("decode_energy_j", "decode_energy_per_token_j", "decode_mfu")) == {"one_output_token"}
    assert compute_metrics(short)["prefill_energy_j"].value == pytest.approx(60.0)


def test_a_difference_within_the_instruments_error_is_none(make):
    """2 ms of decoding after 0.998 s of prefill: 3 J of 3,000, which edges of windows at 100 ms may be off by."""
    measured = phased(make, prefill=(0.998, 600.0), decode=(0.002, 300.0))
    assert reasons(measured, ("decode_energy_j", "decode_energy_per_token_j")) == {"difference_too_small"}


def test_a_pause_in_a_part_is_told(make):
    """A second in which a signal had stopped the worker is energy of no phase."""
    measured = phased(make)
    [trial] = measured.trials
    first, both = trial.parts
    gap = Gap(both.t0_ns + S, both.t0_ns + 2 * S, cpu_s=0.0, stopped=True)
    paused = attrs.evolve(trial, parts=(first, attrs.evolve(both, beats=Beats(0.05, (gap,)))))
    assert reasons(attrs.evolve(measured, trials=[paused])) == {"part_paused"}


def test_a_meter_that_failed_in_a_part(make):
    """Its reason is that of the phases."""
    measured = phased(make)
    [trial] = measured.trials
    failed = tuple(attrs.evolve(one, energy_j=None, reason="counter_stuck") for one in trial.parts[0].energies)
    broken = attrs.evolve(trial, parts=(attrs.evolve(trial.parts[0], energies=failed), trial.parts[1]))
    assert reasons(attrs.evolve(measured, trials=[broken])) == {"counter_stuck"}


def test_counts_of_parts_follow_from_the_rows(make):
    """A request of one output token is not cut, and none has more than it had."""
    [trial] = phased(make).trials
    first, both = trial.parts
    rows = [RequestRow(n, 0, 128, outputs, 0, 1) for n, outputs in enumerate((64, 1, 0))]
    assert part_counts(trial, first, rows * 3)["output_tokens"] == 6 * ROUNDS
    assert part_counts(trial, both, rows) == {
        "batches": 10, "requests": 20, "input_tokens": 6 * 128, "output_tokens": 65 + 2, "batch_s": 10,
    }  # fmt: skip
    assert part_counts(trial, attrs.evolve(both, name="unheard"), rows) is None
    halves = part_counts(trial, attrs.evolve(both, name="halves"), [attrs.evolve(rows[0], input_tokens=5)])
    assert (halves["input_tokens"], halves["output_tokens"]) == (3, 32)
    assert part_counts(trial, first, [attrs.evolve(rows[0], input_tokens=None)])["input_tokens"] is None


def test_every_design_says_how_many_windows_it_has():
    """Plans count them before anything knows what they run."""
    assert {name: 1 + len(parts) for name, parts in DESIGNS.items()} == dict(WINDOWS)


def test_segregated_windows(make):
    """240 J of decoding in a loop of its own is the decoding; that and 120 J of prefill are what a batch takes."""
    measured = phased(make, 2)
    config = {**measured.setup.config, "phases": "segregated"}
    trials = []
    for trial in measured.trials:
        first, other = trial.parts
        decode = attrs.evolve(other, name="decode", rounds=4, energies=told(other.energies, 4 * BATCHES * 250.0))
        trials.append(attrs.evolve(trial, parts=(first, decode)))
    metrics = compute_metrics(attrs.evolve(measured, trials=trials, setup=attrs.evolve(measured.setup, config=config)))

    assert metrics["prefill_energy_j"].value == pytest.approx(60.0)
    assert metrics["decode_energy_j"].value == pytest.approx(125.0)
    assert metrics["phase_closure"].value == pytest.approx(370 / 360)
    rows = measured.rows[0]
    assert part_counts(trials[0], trials[0].parts[1], rows)["output_tokens"] == 4 * 10 * 63


# the regression

#: Joules of a batch, a prompt token, a decoded token, and a token of context of a decoded token.
A, B, C, D = 4.0, 0.5, 1.5, 0.002


def true_joules(rows, one, bend=0.0):
    """What all batches take in one pass; `bend` joules more for each pair of tokens of a prompt."""
    total = A * len({row.batch for row in rows})
    for row in rows:
        given, decoded = one.input_tokens(row.input_tokens), one.output_tokens(row.output_tokens) - 1
        total += B * given + bend * given**2 + sum(C + D * (given + step) for step in range(1, decoded + 1))
    return total


def fitted(make, count=1, *, outputs=64, inputs=128, factors=lambda index, name: 1.0, bend=0.0):
    """Trials of the regression, each energy what is true times a factor."""
    base = phased(make, count)
    trials, requests = [], []
    for index, trial in enumerate(base.trials):
        rows = make.request_rows(index, trial.t0_ns, trial.t1_ns, batches=BATCHES, outputs=outputs, inputs=inputs)
        parts = []
        for name, [one] in DESIGNS["regression"].items():
            energies = told(trial.energies, 2 * true_joules(rows, one, bend) * factors(index, name))
            parts.append(attrs.evolve(trial.parts[0], name=name, rounds=2, energies=energies))
        counts = {name: sum(getattr(row, name) for row in rows) for name in ("input_tokens", "output_tokens")}
        whole = told(trial.energies, true_joules(rows, ALL, bend) * factors(index, "whole"))
        trials.append(attrs.evolve(trial, **counts, energies=whole, parts=tuple(parts)))
        requests.append(rows)
    config = {**base.setup.config, "phases": "regression"}
    return Measured(attrs.evolve(base.setup, config=config), trials, (), requests.__getitem__)


def told(energies, joules):
    return tuple(attrs.evolve(one, energy_j=joules, budget=ErrorBudget(0.001, 0.0, 0.0)) for one in energies)


def test_the_regression_finds_what_is_true(make):
    """Coefficients, phases and the whole window, which the fit has not seen, of energies that follow the model."""
    metrics = compute_metrics(fitted(make, 2))

    expected = {"fit_batch_j": A, "fit_prompt_token_j": B, "fit_decoded_token_j": C, "fit_context_token_j": D}
    assert {name: metrics[name].value for name in expected} == pytest.approx(expected, rel=1e-6)
    assert metrics["prefill_energy_j"].value == pytest.approx(A / 2 + 128 * B)
    assert metrics["decode_energy_j"].value == pytest.approx(63 * C + D * (63 * 128 + 63 * 64 / 2))
    assert metrics["phase_closure"].value == pytest.approx(1.0)
    assert all(metrics[name].low <= value <= metrics[name].high for name, value in expected.items())


def test_prefill_that_grows_with_the_square_of_its_prompt(make):
    """As attention does. The grid has whole prompts, so that phases are theirs; b is the slope from half to whole."""
    metrics = compute_metrics(fitted(make, bend=0.002))
    assert metrics["prefill_energy_j"].value == pytest.approx(A / 2 + 128 * B + 0.002 * 128**2, rel=0.01)
    assert metrics["phase_closure"].value == pytest.approx(1.0, rel=0.01)
    assert metrics["fit_prompt_token_j"].value == pytest.approx(B + 0.002 * 1.5 * 128, rel=0.05)


def test_a_whole_window_that_takes_more_than_its_parts_say(make):
    """Closure alone has the whole window in it."""
    metrics = compute_metrics(fitted(make, factors=lambda _, name: 1.1 if name == "whole" else 1.0))
    assert metrics["phase_closure"].value == pytest.approx(1 / 1.1)
    assert metrics["decode_energy_j"].value == pytest.approx(63 * C + D * (63 * 128 + 63 * 64 / 2))


@pytest.mark.parametrize(("inputs", "outputs"), [(1, 64), (128, 2)])
def test_lengths_that_cannot_be_halved(make, inputs, outputs):
    """One prompt token, or one decoded token, is one point: no line goes through it."""
    names = ("prefill_energy_j", "decode_energy_j", "phase_closure", "fit_prompt_token_j")
    assert reasons(fitted(make, inputs=inputs, outputs=outputs), names) == {"too_few_lengths"}


def test_coefficients_are_of_the_regression_alone(make):
    """The differential design has none."""
    names = ("fit_batch_j", "fit_prompt_token_j", "fit_decoded_token_j", "fit_context_token_j")
    assert reasons(phased(make), names) == {"not_requested"}
