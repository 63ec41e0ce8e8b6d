"""What a study's reference shows: how its engine processes differ, and whether they drift."""

from __future__ import annotations

import attrs
import pytest

from llem.analysis.collection import Results
from llem.analysis.reference import ReferenceRuns, reference_of
from llem.metrics.metric import Basis
from llem.reports.notes import reference_note
from llem.store.store import Store


@pytest.fixture
def kept(tmp_path, make):
    """`kept(watts, trials)`: a store whose reference has processes of these watts in the order of time."""

    def _kept(watts, trials=2, **study) -> Store:
        store = Store.create(tmp_path / "kept", {"name": "s", "reference": "ref", "experiments": ["ref"], **study})
        store.write_environment({"machine": "test"})
        store.write_experiment("ref", make.experiment_document("ref", processes=3))
        for process, power in enumerate(watts):
            store.write_engine("ref", make.engine_document(process))
            for n in range(trials):
                index = n * 3 + process
                t0, t1 = make.window(process * trials + n)
                rows = make.trace(power + ((-0.5, 0.5)[n] if trials > 1 else 0.0), t0, t1)
                requests = make.request_rows(index, t0, t1, first=index * 8)
                trial = make.make_trial(index, rows, requests, t0, t1, process=process, experiment_id="ref")
                store.write_trial(attrs.evolve(trial, started_at=f"2026-11-24T1{process}:00:0{n}Z"), rows, requests)
            store.write_outcome("ref", make.outcome_document(process))
        return store

    return _kept


def test_means_come_by_time_with_their_spread_and_drift(kept) -> None:
    """600, 606 and 612 W: a sd of 6 of 606, a rise of 12 of 606; two trials of sd 0.71 W each give means of sd 0.5."""
    runs = reference_of(kept([600.0, 606.0, 612.0]))

    assert runs is not None
    assert (runs.id, runs.metric, runs.basis) == ("ref", "energy_per_output_token_j", Basis("gpu", "measured"))
    assert [one / runs.means[0] for one in runs.means] == pytest.approx([1.0, 1.01, 1.02])
    assert runs.sd == pytest.approx(6 / 606)
    assert runs.sd_of_scatter == pytest.approx(0.5 / 606)
    assert runs.drift == pytest.approx(12 / 606)
    assert runs.p_value == pytest.approx(0.0, abs=1e-6)


def test_a_drift_that_may_be_chance_says_so(kept) -> None:
    """600, 606, 603 W: t = 1.5 / (4.5 / sqrt(3) / sqrt(2)) with one degree of freedom, p = 1 - 2 atan(t) / pi = 2/3."""
    runs = reference_of(kept([600.0, 606.0, 603.0]))

    assert runs is not None
    assert runs.drift == pytest.approx(3 / 603)
    assert runs.p_value == pytest.approx(2 / 3, abs=1e-3)


@pytest.mark.parametrize(("watts", "drift"), [([600.0], None), ([600.0, 606.0], 6 / 603)])
def test_few_processes_say_less(kept, watts, drift) -> None:
    """One shows no variation; two show a difference and no chance of it."""
    runs = reference_of(kept(watts, trials=1))

    assert runs is not None
    assert (runs.asked, len(runs.means), runs.p_value, runs.sd_of_scatter) == (3, len(watts), None, None)
    assert runs.drift == (drift if drift is None else pytest.approx(drift))
    assert (runs.sd is None) == (drift is None)


def test_without_a_reference_there_is_none(store, kept) -> None:
    """Nor before it has a trial. `Results` gives the same."""
    assert reference_of(store) is None
    assert reference_of(kept([])) is None
    assert Results.open(store).reference() is None


GPU = Basis("gpu", "measured")
J, TOKENS = "energy_per_output_token_j", "output_tokens_per_s"


@pytest.mark.parametrize(
    ("runs", "line"),
    [
        (ReferenceRuns("0123456789abcdef", J, GPU, (1.0, 1.0, 1.0), 3, 0.004, 0.001, 0.002, 0.3),
         "reference 01234567: 3 processes, sd between processes 0.40 %, of which scatter of trials 0.10 %, "
         "drift +0.20 % from first to last (p 0.30), in J/output token (gpu, measured)"),
        (ReferenceRuns("ab", TOKENS, None, (1.0, 1.0), 3, 0.004, None, -0.002),
         "reference ab: 2 of 3 processes, sd between processes 0.40 %, drift −0.20 % from first to last, "
         "in output token/s"),
        (ReferenceRuns("ab", TOKENS, None, (1.0, 1.0, 1.0), 3, 0.02, 0.001, 0.04, 0.01),
         "reference ab: 3 processes, sd between processes 2.0 %, of which scatter of trials 0.10 %, drift +4.0 % from "
         "first to last (p 0.010), in output token/s; the machine may have changed while the study ran"),
        (ReferenceRuns("ab", TOKENS, None, (1.0,), 3),
         "reference ab: 1 of 3 processes; two at least show what varies between them"),
    ],
)  # fmt: skip
def test_the_line_below_the_table(runs, line) -> None:
    """What is shown of it."""
    assert reference_note(runs) == line


def test_it_stands_below_the_table_of_the_study(kept, make, run_llem) -> None:
    """In `llem show`; a damaged trial is told there and hides nothing else."""
    store = kept([600.0, 606.0, 612.0], experiments=["ref", "other"])
    make.fill(store, "other")
    shown = run_llem("show", store.path).stdout

    assert "reference ref: 3 processes, sd between processes 0.99 %, of which scatter of trials 0.083 %, " in shown
    (store.folder("ref") / "result.json").write_bytes((store.folder("other") / "result.json").read_bytes())
    (store.folder("ref") / "trial-0.json").write_text("{")
    assert "\nreference: " in run_llem("show", store.path).stdout
