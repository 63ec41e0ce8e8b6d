"""A real study of vLLM on an H200, its recommendation, and what was measured again to confirm it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from llem.analysis.collection import Results
from llem.metrics.verify import verify
from llem.store.files import write_json
from llem.store.store import Store
from llem.study.run.confirm import outcome, read_statement

CHOICE, RUNNER_UP, QUANTISED, HALF, FEW = "c1f347c7", "38c59f00", "5f04f500", "26af74cb", "f0432b36"
SLO = "ttft:p99<350ms;tpot:p99<20ms"


@pytest.fixture(scope="module")
def folder(h200: Path) -> Path:
    return h200


@pytest.fixture(scope="module")
def study(folder: Path) -> Results:
    return Results.open(Store.open(folder / "store"))


@pytest.mark.parametrize("name", ["store", "confirm"])
def test_results_are_what_their_trials_give(folder: Path, name: str) -> None:
    """Whoever computes them again gets the same."""
    assert verify(Store.open(folder / name)) == []


def test_the_choice_keeps_both_limits_and_one_is_tied(study: Results) -> None:
    """Prompts in one step each, which TTFT of 192 ms against 314 ms favours; the default is not told from it."""
    found = study.recommend(slo=SLO)

    assert found.best is not None
    assert found.best[:8] == CHOICE
    assert [name[:8] for name in found.ties] == [CHOICE, RUNNER_UP]
    assert 0.6 < found.probability < 0.9
    standing = {one.id[:8]: one.standing for one in found.contenders}
    assert standing == {CHOICE: "choice", RUNNER_UP: "tie", QUANTISED: "out", HALF: "out", FEW: "out"}
    [slow] = [one for one in found.contenders if one.id[:8] == FEW]
    assert slow.limits[0].found is not None
    assert slow.limits[0].found.value == pytest.approx(1.18, abs=0.05)
    assert slow.limits[0].probability < 0.01
    assert slow.limits[1].probability > 0.99


def test_a_limit_that_nothing_keeps_names_itself(study: Results) -> None:
    """One millisecond to the first token."""
    found = study.recommend(slo="ttft:p99<1ms;tpot:p99<20ms")

    assert (found.choice, found.nearest and found.nearest[:8]) == (None, CHOICE)
    assert found.blocking is not None
    assert found.blocking.metric == "ttft_p99_s"


def test_what_was_measured_again_lies_where_it_was_stated(folder: Path) -> None:
    """Energy of both and their ratio are inside; the runner-up, which kept TTFT with P 0.80, broke it this time."""
    statement = read_statement(folder / "confirm")
    assert statement is not None
    found = outcome(Store.open(folder / "confirm"), statement)

    assert [one.inside for one in found.intervals] == [True, True, True]
    assert [one.kept for one in found.limits] == [True, True, False, True]
    assert found.confirmed is False


@pytest.fixture
def damaged(folder: Path, tmp_path: Path) -> Path:
    """A copy in which one result and a trial of another experiment cannot be read."""
    copied = tmp_path / "damaged"
    shutil.copytree(folder / "store", copied)
    broken, torn = (next(copied.glob(f"experiments/{name}*")) for name in (HALF, RUNNER_UP))
    (broken / "result.json").write_text('{"broken')
    (torn / "trial-0.json").write_text("[]")
    return copied


@pytest.mark.parametrize(
    ("command", "left_out"),
    [
        (("show",), [HALF, RUNNER_UP]),  # an older llem computed the results: their trials are read
        (("show", "--json"), [HALF, RUNNER_UP]),
        (("export",), [HALF, RUNNER_UP]),
        (("recommend",), [HALF, RUNNER_UP]),
        (("pareto", "energy", "speed"), [HALF, RUNNER_UP]),
        (("compare", CHOICE, QUANTISED), [HALF, RUNNER_UP]),
    ],
    ids=lambda one: " ".join(one),
)
def test_one_damaged_experiment_keeps_no_other_from_an_answer(
    damaged: Path, run_llem, command: tuple[str, ...], left_out: list[str]
) -> None:
    """It is named with its file and what to do, once; the answer is of the others."""
    done = run_llem(command[0], damaged, *command[1:])
    told = [line for line in done.stderr.splitlines() if " is left out: " in line]

    assert done.exit_code == 0
    assert CHOICE in done.stdout
    assert sorted(line.split()[1][:8] for line in told) == sorted(left_out)
    assert all(f"{damaged}/experiments/" in line and line.endswith(")") for line in told)


def test_a_damaged_experiment_alone_is_an_error(damaged: Path, run_llem) -> None:
    """Who asks for it gets no other's answer."""
    for command in (("show", damaged, HALF), ("compare", damaged, CHOICE, RUNNER_UP)):
        done = run_llem(*command)
        assert done.exit_code == 2
        assert "Traceback" not in done.stderr


def test_numbers_beyond_floats_are_a_message(damaged: Path, run_llem) -> None:
    """Energies of 1e200 overflow where they are squared: their experiment is left out, and alone it is an error."""
    [home] = damaged.glob(f"experiments/{QUANTISED}*")
    for number, joules in enumerate((1e200, 2e200, -1e200)):
        path = home / f"trial-{number}.json"
        document = json.loads(path.read_text())
        del document["digest"]
        for reading in document["energies"]:
            reading["energy_j"] = joules
        write_json(path, document, replace=True)
    (home / "result.json").unlink()
    alone, others = run_llem("show", damaged, QUANTISED), run_llem("show", damaged)

    assert (alone.exit_code, "Traceback" in alone.stderr) == (2, False)
    assert "nothing can be computed from it (OverflowError" in alone.stderr
    assert others.exit_code == 0
    assert f"warning: {home.name} is left out" in others.stderr


def test_the_variance_is_measured_before_results_are_computed(folder: Path, tmp_path: Path) -> None:
    """With workers side by side a result comes late; its trials say from the first moment how processes vary."""
    copied = tmp_path / "early"
    shutil.copytree(folder / "store", copied)
    whole = Results.open(Store.open(copied))
    before = whole.compare(CHOICE, RUNNER_UP)
    for name in (CHOICE, RUNNER_UP, FEW):
        next(copied.glob(f"experiments/{name}*/result.json")).unlink()

    after = Results.open(Store.open(copied)).compare(CHOICE, RUNNER_UP)
    assert [(one.prior, one.between) for one in after] == [(one.prior, one.between) for one in before]
    assert "of 5 configurations" in after[0].prior
    assert after[0].probability_better == pytest.approx(before[0].probability_better)
