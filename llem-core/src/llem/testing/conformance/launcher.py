"""What llem relies on in a launcher."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest

from llem.config.load import to_document
from llem.config.models import Baseline, Experiment, Warmup
from llem.errors import MachineError
from llem.launchers.base import Launcher
from llem.protocol.events import Event, Outcome
from llem.protocol.order import WorkOrder
from llem.store.store import Store
from llem.testing.conformance.plugin import PluginConformance
from llem.testing.conformance.told import expect

__all__ = ["LauncherConformance"]

ID = "conformance"
#: Trials of a worker that does not end by itself.
MANY = 1000


class LauncherConformance(PluginConformance):
    """Inherit, and return the launcher's reference. Workers run the backend `echo` on the CPU for a second.

    Where the launcher says that this machine cannot launch, the checks that launch are skipped.

    Attributes:
        patience_s: within this time a worker must have ended.
    """

    patience_s: float = 120.0

    @pytest.fixture
    def launcher(self, options: Any, experiment: Experiment) -> Launcher:
        """A new launcher, which can launch here."""
        made = self._made(options)
        try:
            made.check([experiment])
        except MachineError as error:
            pytest.skip(f"this machine: {error.message}")
        return made

    @pytest.fixture
    def experiment(self) -> Experiment:
        """What the worker measures."""
        return Experiment(
            model="shape:tiny",
            backend="echo",
            device="cpu",
            meters=(),
            window_s=0.2,
            warmup=Warmup(seconds=0.0),
            baseline=Baseline(seconds=0.0),
        )

    @pytest.fixture
    def order(self, tmp_path: Path, experiment: Experiment) -> Callable[[int], Path]:
        """`order(trials)`: a worker's order in a new store, for so many trials of a fraction of a second."""

        def made(trials: int) -> Path:
            store = Store.create(tmp_path / "store", {"name": ID, "experiments": [ID]})
            document = to_document(attrs.evolve(experiment, trials=trials, max_trials=trials))
            store.write_experiment(ID, {"id": ID, "config": document, "model": {"weights": "random"}})
            path = store.worker_dir(0) / "order.json"
            turns = tuple((ID, index) for index in range(trials))
            WorkOrder(str(store.path), 0, 0, (ID,), turns, gpus=()).write(path)
            return path

        return made

    def test_constructed_without_settings(self, options: Any) -> None:
        """A launcher without a section of its own is made with None, or with nothing, and starts nothing."""
        target = self.reference().load()
        expect([isinstance(made, Launcher) for made in (target(), target(None))], [True, True])

    def test_where_it_runs_is_said(self, options: Any) -> None:
        """Whether workers run on this machine, with its packages, and beside one another: True or False."""
        made = self._made(options)
        told = {name: getattr(made, name) for name in ("same_machine", "same_packages", "side_by_side")}
        expect([name for name, value in told.items() if type(value) is not bool], [])

    def test_kill_when_nothing_runs(self, options: Any) -> None:
        """Killing is safe before anything was launched, and twice."""
        made = self._made(options)
        made.kill()
        made.kill()

    def test_a_worker_runs_to_its_end(
        self, launcher: Launcher, order: Callable[[int], Path], capfd: pytest.CaptureFixture[str]
    ) -> None:
        """Its status is 0, its events are passed on in their order and to the last, and standard output stays clean."""
        path = order(1)
        status, events = self._launched(launcher, path)
        expect(status, 0, "the status of a worker that measured")
        expect([type(one).__name__ for one in events if not isinstance(one, Event)], [], "what is no event")
        expect([one.outcome for one in events if isinstance(one, Outcome)], ["done"])
        expect([one.kind for one in events][-1:], ["ended"], "the last event")
        times = [one.at.monotonic_ns for one in events]
        expect(times, sorted(times), "times of the events")
        expect([trial.index for trial in Store.open(path.parents[2]).trials(ID)], [0], "trials in the store")
        expect(capfd.readouterr().out, "", "standard output")

    def test_stop_ends_a_worker(self, launcher: Launcher, order: Callable[[int], Path]) -> None:
        """Once `stop` is set, the worker is asked to end its trial; `launch` returns with a status that is not 0."""
        stop = threading.Event()
        status, events = self._launched(launcher, order(MANY), stop, then=stop.set)
        expect(status == 0, False, "whether the status is 0")
        expect([one.outcome for one in events if isinstance(one, Outcome)], ["interrupted"])

    def test_kill_ends_a_worker(self, launcher: Launcher, order: Callable[[int], Path]) -> None:
        """`kill`, from another thread, ends the worker at once, and `launch` returns with a status that is not 0."""
        if type(launcher).kill is Launcher.kill:
            pytest.skip("the launcher has no kill: a worker that hangs is waited for")
        status, events = self._launched(launcher, order(MANY), then=launcher.kill)
        expect(status == 0, False, "whether the status is 0")
        expect([one.outcome for one in events if isinstance(one, Outcome)], [], "outcomes")

    def _made(self, options: Any) -> Launcher:
        made: Launcher = self.reference().load()(options)
        return made

    def _launched(
        self,
        launcher: Launcher,
        order: Path,
        stop: threading.Event | None = None,
        then: Callable[[], None] = lambda: None,
    ) -> tuple[int, Sequence[Event]]:
        """Status and events of a worker; once its trial has begun, `then` is called, from another thread."""
        events: list[Event] = []
        begun, ended = threading.Event(), threading.Event()

        def emit(event: Event) -> None:
            events.append(event)
            if getattr(event, "phase", None) == "trial":
                begun.set()

        def watch() -> None:
            if begun.wait(self.patience_s):
                then()
            if not ended.wait(self.patience_s):
                launcher.kill()

        watching = threading.Thread(target=watch, daemon=True)
        watching.start()
        status = launcher.launch(order, emit, stop or threading.Event())
        ended.set()
        begun.set()
        watching.join(self.patience_s)
        expect(type(status), int, "the type of the status")
        return status, events
