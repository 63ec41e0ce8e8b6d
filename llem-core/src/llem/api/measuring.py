"""Measuring: one configuration, or every experiment of a study."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from llem.analysis.collection import Results
from llem.config.layers import Layer
from llem.config.user import load_user_config
from llem.errors import ConfigError
from llem.launchers.base import Launcher, make_launcher
from llem.plugins.registry import registry
from llem.protocol.events import Emit, Event, silent
from llem.store.models import Result
from llem.store.store import Store
from llem.study.plan.expand import load
from llem.study.plan.memory import this_gpu
from llem.study.plan.study import Study
from llem.study.run.folder import default_folder
from llem.study.run.preflight import check_study
from llem.study.run.ran import Ran
from llem.study.run.stopping import stop_on_interrupt
from llem.study.run.study_run import run_all

__all__ = ["Ready", "load_study", "prepare", "run", "run_study"]


@attrs.frozen
class Ready:
    """A study whose experiments can run here, and the folder their results will go to."""

    study: Study
    folder: Path
    make_launcher: Callable[[], Launcher]
    resume: bool = False

    def run(self, emit: Emit, stop: threading.Event) -> Ran:
        """Measure all experiments, as `llem.study.run.study_run.run_all`."""
        made, where = self.make_launcher, self.folder
        return run_all(self.study, where, made, registry(), emit=emit, stop=stop, resume=self.resume)


def run(
    study: str | Path | None = None,
    /,
    *,
    out: str | Path | None = None,
    launcher: str = "process",
    resume: bool = False,
    on_event: Callable[[Event], None] = silent,
    **settings: Any,
) -> Result:
    """Measure one configuration.

    Args:
        study: a YAML file of one experiment; settings given here lie on top of it.
        out: folder for the results; must not hold anything, but with `resume`. Default: a new folder in the user's
            results folder.
        launcher: "process" (the engine in a process of its own), "inline", or another that is installed.
        resume: go on with what `out` holds: trials that are stored are kept, the others measured.
        on_event: called with each event (`llem.protocol.events`, `llem.protocol.study_events`) between phases and
            trials; within a window with `power` alone. With the launcher "inline" the call is made in the measuring
            process and delays what comes next.
        settings: fields of `llem.config.models.Experiment` and plugins' sections:
            `run(model="shape:tiny", backend="pytorch", load={"batch_size": 4}, pytorch={"torch_compile": True})`.

    Raises:
        LlemError: with what is wrong, where, and what would be right.
    """
    ready = prepare(study, _layers(settings), out, launcher=launcher, resume=resume)
    if not ready.study.file.single:
        raise ConfigError(
            f"{study} is a study of {len(ready.study.experiments)} experiments, and `llem.run` measures one",
            "call llem.run_study",
        )
    with stop_on_interrupt() as stop:
        return ready.run(on_event, stop).only()


def load_study(study: str | Path | Mapping[str, Any], /, **settings: Any) -> Study:
    """The experiments of a study, in running order, and every point that will not run with its reason.

    Runs nothing; the engines need not be installed. Devices are looked at only to choose a backend that nobody named.

    Args:
        study: a YAML file, or a mapping of the same shape.
        settings: as of `run`; they lie over every point.

    Raises:
        ConfigError: the study is wrong, or none of its points can run.
        UnknownPlugin, BrokenPlugin: something that a point names is not installed, or is broken.
    """
    return load(study, _layers(settings), registry())


def run_study(
    study: Study | str | Path | Mapping[str, Any],
    /,
    out: str | Path | None = None,
    *,
    launcher: str = "process",
    resume: bool = False,
    on_event: Callable[[Event], None] = silent,
) -> Results:
    """Measure every experiment of a study into one folder; those that can share an engine take turns at it.

    One that fails does not end the study: its Result says so in `outcome` and `error`.

    Args:
        study: what `load_study` gave, or what it takes.
        out, launcher, resume, on_event: as of `run`. What failed before is tried again with `resume`.

    Returns:
        Results by experiment id, in running order. Experiments whose files cannot be read are in `damaged`.

    Raises:
        ExperimentFailed: interrupted by the user, or stopped after many failures in a row with one cause; what was
            measured is in the folder.
        LlemError: with what is wrong, where, and what would be right.
    """
    loaded = study if isinstance(study, Study) else _load(study, (), launcher)
    ready = _ready(loaded, out, launcher, resume)
    with stop_on_interrupt() as stop:
        ran = ready.run(on_event, stop)
    if ran.stopped is not None:
        raise ran.stopped
    if ran.damaged and not ran.results:
        raise next(iter(ran.damaged.values()))
    held = {result.id: result for result in ran.results}
    found = Results(Store.open(ready.folder), tuple(held), held)
    found.damaged.update(ran.damaged)
    return found


def prepare(
    study: str | Path | Mapping[str, Any] | None,
    layers: Sequence[Layer],
    out: str | Path | None,
    *,
    launcher: str = "process",
    resume: bool = False,
) -> Ready:
    """Read, resolve and check everything that can be checked before anything is written or loaded."""
    return _ready(_load(study, layers, launcher), out, launcher, resume)


def _load(study: str | Path | Mapping[str, Any] | None, layers: Sequence[Layer], launcher: str) -> Study:
    """A study to be run: engines have to be here, and to fit, as far as workers will be here."""
    kind: type[Launcher] = registry().load("launcher", launcher)
    gpu = this_gpu if kind.same_machine else lambda: None
    own = kind.same_packages
    return load(study, layers, registry(), unmet=not own, gpu=gpu, here=own and kind.same_machine)


def _ready(study: Study, out: str | Path | None, launcher: str, resume: bool) -> Ready:
    if resume and out is None:
        raise ConfigError("resuming needs the folder of the results", "name it with `-o DIR`, in Python with `out`")
    user = load_user_config()
    folder = Path(out) if out is not None else default_folder(user.results_dir, study.name)
    make = functools.partial(make_launcher, launcher, registry(), user.launchers)
    check_study(study, registry(), make())
    return Ready(study, folder, make, resume)


def _layers(settings: Mapping[str, Any]) -> list[Layer]:
    return [Layer("python", settings)] if settings else []
