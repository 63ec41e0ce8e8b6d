"""A real study of vLLM on an H200, its recommendation, and what was measured again to confirm it."""

from __future__ import annotations

from pathlib import Path

import pytest

from llem.analysis.collection import Results
from llem.metrics.verify import verify
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
