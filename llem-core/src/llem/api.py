"""The library: what `import llem` gives. The command line is a thin layer over it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from llem.config.layers import Layer
from llem.config.user import load_user_config
from llem.errors import ConfigError
from llem.experiment.events import Event, silent
from llem.plugins.registry import registry
from llem.results.models import Result
from llem.results.store import Store
from llem.study.document import study_document
from llem.study.expand import Study
from llem.study.load import load
from llem.study.preflight import Planned, plan_study
from llem.study.runner import default_folder, run_all, run_planned, stop_on_interrupt

__all__ = ["Ready", "load_results", "load_study", "prepare", "run", "run_study"]


@attrs.frozen
class Ready:
    """A study whose experiments can run here, and the folder their results will go to."""

    study: Study
    planned: Sequence[Planned]
    folder: Path

    @property
    def document(self) -> Mapping[str, Any]:
        """What `study.json` will hold."""
        return study_document(self.study)


def run(
    study: str | Path | None = None,
    /,
    *,
    out: str | Path | None = None,
    launcher: str = "process",
    on_event: Callable[[Event], None] = silent,
    **settings: Any,
) -> Result:
    """Measure one configuration.

    Args:
        study: a YAML file of one experiment; settings given here lie on top of it.
        out: folder for the results; must not hold anything. Default: a new folder in the user's results folder.
        launcher: "process" (the engine in a process of its own) or "inline".
        on_event: called with each event between phases and trials, never inside a window. With the launcher "inline"
            the call is made in the measuring process and delays what comes next.
        settings: fields of `llem.config.models.Experiment` and plugins' sections:
            `run(model="shape:tiny", backend="pytorch", load={"batch_size": 4}, pytorch={"torch_compile": True})`.

    Raises:
        LlemError: with what is wrong, where, and what would be right.
    """
    ready = prepare(study, _layers(settings), out)
    if not ready.study.file.single:
        raise ConfigError(
            f"{study} is a study of {len(ready.planned)} experiments, and `llem.run` measures one",
            "call llem.run_study",
        )
    [planned] = ready.planned
    made = registry().load("launcher", launcher)()
    with stop_on_interrupt() as stop:
        return run_planned(planned, ready.folder, made, registry(), study=ready.document, emit=on_event, stop=stop)


def load_study(study: str | Path | Mapping[str, Any], /, **settings: Any) -> Study:
    """The experiments of a study, in running order, and every point that will not run with its reason.

    Runs nothing; the engines need not be installed, and no device is looked at.

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
    on_event: Callable[[Event], None] = silent,
) -> Mapping[str, Result]:
    """Measure every experiment of a study, one after the other, into one folder.

    One that fails does not end the study: its Result says so in `outcome` and `error`.

    Args:
        study: what `load_study` gave, or what it takes.
        out, launcher, on_event: as of `run`.

    Returns:
        Results by experiment id, in running order.

    Raises:
        ExperimentFailed: interrupted by the user; what was measured is in the folder.
        LlemError: with what is wrong, where, and what would be right.
    """
    loaded = study if isinstance(study, Study) else load(study, (), registry(), unmet=False)
    ready = _ready(loaded, out)
    made = registry().load("launcher", launcher)()
    with stop_on_interrupt() as stop:
        ran = run_all(ready.planned, ready.folder, made, registry(), study=ready.document, emit=on_event, stop=stop)
    if ran.interrupted is not None:
        raise ran.interrupted
    return {result.id: result for result in ran.results}


def prepare(study: str | Path | Mapping[str, Any] | None, layers: Sequence[Layer], out: str | Path | None) -> Ready:
    """Read, resolve and check everything that can be checked before anything is written or loaded."""
    return _ready(load(study, layers, registry(), unmet=False), out)


def _ready(study: Study, out: str | Path | None) -> Ready:
    folder = Path(out) if out is not None else default_folder(load_user_config().results_dir, study.name)
    return Ready(study, plan_study(study, registry()), folder)


def _layers(settings: Mapping[str, Any]) -> list[Layer]:
    return [Layer("python", settings)] if settings else []


def load_results(folder: str | Path) -> Mapping[str, Result]:
    """Every stored result of a folder, by experiment id. Raises StoreError for a folder that is no store."""
    store = Store.open(folder)
    found = {name: store.read_result(name) for name in store.experiment_ids()}
    return {name: result for name, result in found.items() if result is not None}
