"""A confirmation as a whole: what was stated is stored before the first trial; the original store stays as it is."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import llem
from llem.analysis.decision import Contender, Estimated, Recommendation
from llem.analysis.limits import Limit
from llem.api import confirm, prepare_confirmation
from llem.errors import ConfigError, ExperimentFailed, StoreError
from llem.metrics.verify import verify
from llem.plugins.registry import registry
from llem.protocol.events import Event, Phase
from llem.store.store import Store
from llem.study.run.confirm import FILE, confirmation_study, outcome, read_statement

pytestmark = pytest.mark.process

#: Echo's tokens take this long, so speeds are known without measuring.
TOKEN_S = 0.002
METRIC = "output_tokens_per_s"
#: Of a serving load: each request's eight tokens take 16 ms.
KEPT = Limit("attainment", "slo_attainment", False, 0.9, each={"e2el_s": 5.0})


class Draws:
    """A posterior that is sure of these means within a factor of 7 or so, and of their ratio within one of 2.5: a busy
    machine is still inside.
    """

    def __init__(self, **means: float) -> None:
        self.ids, self._means = tuple(means), list(means.values())

    def predicted(self, metric: str, processes: int):
        steps = np.linspace(-1, 1, 401)[:, None] * np.linspace(2.0, 3.0, len(self.ids))
        return np.log(self._means) + steps


def recommended(ids: tuple[str, ...], *limits: Limit) -> Recommendation:
    one = Estimated(1.0, 1.0, 1.0)
    rows = tuple(Contender(name, {}, one, 0.5, 1.0, (), "choice" if name == ids[0] else "tie") for name in ids)
    return Recommendation(METRIC, "tokens/s", False, limits, ids[0], 0.9, None, ids, ids, None, rows)


@pytest.fixture
def measured(tmp_path: Path, lab: Any) -> Callable[..., tuple[Store, tuple[str, ...], Draws]]:
    """A store of two batch sizes, and what is known of their speeds."""

    def make(axis: str = "load.batch_size", **settings: Any) -> tuple[Store, tuple[str, ...], Draws]:
        base = {**lab, "lab": {"token_seconds": TOKEN_S}, "meters": ["steady"], "trials": 2, **settings}
        study = {"name": "mine", "base": base, "axes": {axis: [1, 4]}}
        results = llem.run_study(study, tmp_path / "out", launcher="inline")
        speed = {result.id: result.metrics[METRIC].value for result in results.values()}
        ids = tuple(sorted(speed, key=lambda name: -speed[name]))
        return Store.open(tmp_path / "out"), ids, Draws(**{name: speed[name] for name in ids})

    return make


def files(folder: Path) -> dict[str, bytes]:
    """Every file below a folder and what it holds."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.paced
def test_choice_and_runner_up_are_measured_again(tmp_path: Path, measured) -> None:
    """New processes, as many trials each, in a folder of their own; the statement comes before the first phase."""
    store, ids, posterior = measured()
    before, seen = files(store.path), []

    def on_event(event: Event) -> None:
        if isinstance(event, Phase):
            seen.append((tmp_path / "out-confirm-1" / FILE).exists())

    found = confirm(store, recommended(ids), posterior, 2, on_event=on_event)
    again = Store.open(tmp_path / "out-confirm-1")

    assert seen
    assert all(seen)
    assert found.confirmed is True
    assert set(again.experiment_ids()) == set(ids)
    for name in ids:
        trials = again.trials(name)
        assert sorted((trial.process, trial.index) for trial in trials) == [(0, 0), (0, 2), (1, 1), (1, 3)]
    assert found.configurations[0].measured == pytest.approx(4 / TOKEN_S, rel=0.6)
    assert found.ratio.measured == pytest.approx(0.25, rel=0.6)
    assert again.study()["order"]["kind"] == "blocks"
    assert files(store.path) == before
    assert list(verify(again)) == []
    assert read_statement(again.path) == found.statement
    assert found.statement.store == str(store.path)
    assert found.warnings == ()
    assert found.statement.software["llem"] == llem.__version__


@pytest.mark.paced
def test_a_wrong_statement_is_not_confirmed(measured) -> None:
    """Speeds that are stated a thousand times too high are outside, and so is nothing of their ratio."""
    store, ids, posterior = measured()
    wrong = Draws(**{name: 1000 * value for name, value in zip(posterior.ids, posterior._means, strict=True)})
    found = confirm(store, recommended(ids), wrong, 1, launcher="inline")

    assert [one.inside for one in found.intervals] == [False, False, True]
    assert found.confirmed is False


@pytest.mark.paced
def test_an_interrupted_confirmation_goes_on_with_its_statement(tmp_path: Path, measured) -> None:
    """The figures stay as they were stated, whatever the posterior says now; trials that are stored are kept."""
    store, ids, posterior = measured()
    out = tmp_path / "again"
    prepared = prepare_confirmation(store, recommended(ids), posterior, 2, out, launcher="inline")

    stop = threading.Event()

    def on_event(event: Event) -> None:
        if isinstance(event, Phase) and event.phase == "trial":
            stop.set()

    with pytest.raises(ExperimentFailed, match="stopped by the user"):
        prepared.run(on_event, stop)
    first = read_statement(out)
    other = Draws(**{name: 7 * value for name, value in zip(posterior.ids, posterior._means, strict=True)})
    found = confirm(store, recommended(ids), other, 2, out, resume=True, launcher="inline")

    assert found.statement == first == prepared.statement
    assert found.confirmed is True
    with pytest.raises(ConfigError, match="its processes is 2, and 3 is asked for"):
        confirm(store, recommended(ids), posterior, 3, out, resume=True, launcher="inline")
    with pytest.raises(StoreError, match="not an empty folder"):
        confirm(store, recommended(ids), posterior, 2, out, launcher="inline")


def test_a_changed_statement_is_seen(tmp_path: Path, measured) -> None:
    """The document carries a digest, like all others."""
    store, ids, posterior = measured()
    out = tmp_path / "again"
    confirm(store, recommended(ids[:1]), posterior, 1, out, launcher="inline")
    document = json.loads((out / FILE).read_text())
    document["expected"][0]["high"] *= 2
    (out / FILE).write_text(json.dumps(document, sort_keys=True, indent=2, ensure_ascii=False) + "\n")

    assert [one for one in verify(Store.open(out)) if FILE in str(one)]


def test_one_that_fails_is_not_decided(tmp_path: Path, measured) -> None:
    """The other one is judged all the same; the reason stands with the one that failed."""
    store, ids, posterior = measured()
    out = tmp_path / "again"
    confirm(store, recommended(ids), posterior, 1, out, launcher="inline")
    again = Store.open(out)
    document = again.outcomes(ids[1])[-1]
    for path in again.folder(ids[1]).glob("trial-*"):
        path.unlink()
    (again.folder(ids[1]) / "result.json").unlink()
    again.write_outcome(ids[1], {**document, "process": 9, "outcome": "oom", "error": "no memory"})
    found = outcome(again, read_statement(out))

    assert [one.inside for one in found.intervals] == [True, None, None]
    assert found.configurations[1].why == "oom: no memory"


def test_limits_on_requests_are_judged_again(measured) -> None:
    """They become the confirmation's own objective, which changes no id; a change of quality is not measured again."""
    loss = Limit("gsm8k>=-0.01", "quality.gsm8k", False, -0.01, against="difference")
    store, ids, posterior = measured("load.concurrency", load={"kind": "closed"}, slo={"ttft_s": 1e-9}, window_s=0.4)
    study = confirmation_study(
        store, prepare_confirmation(store, recommended(ids, KEPT), posterior, 1).statement, registry()
    )
    found = confirm(store, recommended(ids[:1], KEPT, loss), posterior, 1, launcher="inline")

    assert study["base"]["slo"] == {"e2el_s": 5.0}
    assert [(one.found, one.kept) for one in found.limits] == [(1.0, True), (None, None)]
    assert "reference" in found.limits[1].why


def test_an_experiment_that_is_another_one_now_is_refused(tmp_path: Path, measured, monkeypatch) -> None:
    """A file of the configuration has changed: its id is not the one that was recommended."""
    text = tmp_path / "prompts.txt"
    text.write_text("one prompt of words\n")
    store, ids, posterior = measured(workload={"kind": "file", "path": str(text), "output_tokens": 8})
    text.write_text("another one\n")

    with pytest.raises(ConfigError, match="cannot be measured again") as refused:
        prepare_confirmation(store, recommended(ids), posterior, 1)
    assert refused.value.code == "experiment_changed"
    assert not (tmp_path / "out-confirm-1").exists()


def test_resuming_needs_the_folder(measured) -> None:
    store, ids, posterior = measured()
    with pytest.raises(ConfigError, match="resuming needs the folder"):
        confirm(store, recommended(ids), posterior, 1, resume=True, launcher="inline")
