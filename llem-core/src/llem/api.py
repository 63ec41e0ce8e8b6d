"""The library: what `import llem` gives. The command line is a thin layer over it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from llem.config.load import Layer, experiment_values, read_yaml, resolve
from llem.config.user import load_user_config
from llem.experiment.events import Event, silent
from llem.plugins.registry import registry
from llem.results.models import Result
from llem.results.store import Store
from llem.study.preflight import Planned, plan_experiment
from llem.study.runner import default_folder, run_planned, stop_on_interrupt

__all__ = ["Ready", "load_results", "prepare", "run"]


@attrs.frozen
class Ready:
    """An experiment that is planned, its study's name, and the folder its results will go to."""

    planned: Planned
    name: str
    folder: Path


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
        study: a YAML file; settings given here lie on top of it.
        out: folder for the results; must not hold anything. Default: a new folder in the user's results folder.
        launcher: "process" (the engine in a process of its own) or "inline".
        on_event: called with each event between phases and trials, never inside a window. With the launcher "inline"
            the call is made in the measuring process and delays what comes next.
        settings: fields of `llem.config.models.Experiment` and plugins' sections:
            `run(model="shape:tiny", backend="pytorch", load={"batch_size": 4}, pytorch={"torch_compile": True})`.

    Raises:
        LlemError: with what is wrong, where, and what would be right.
    """
    layers = [Layer("python", settings)] if settings else []
    ready = prepare(study, layers, out)
    made = registry().load("launcher", launcher)()
    with stop_on_interrupt() as stop:
        return run_planned(ready.planned, ready.folder, made, registry(), name=ready.name, emit=on_event, stop=stop)


def prepare(study: str | Path | None, layers: Sequence[Layer], out: str | Path | None) -> Ready:
    """Read, resolve and check everything that can be checked before anything is written or loaded."""
    user = load_user_config()
    below: list[Layer] = [] if user.gpus is None else [Layer("user config", {"gpus": list(user.gpus)})]
    name = "llem"
    if study is not None:
        document = read_yaml(Path(study))
        below.append(Layer(f"file {Path(study).name}", experiment_values(document, str(study))))
        name = str(document.get("name", Path(study).stem))
    planned = plan_experiment(resolve([*below, *layers], registry()), registry())
    return Ready(planned, name, Path(out) if out is not None else default_folder(user.results_dir, name))


def load_results(folder: str | Path) -> Mapping[str, Result]:
    """Every stored result of a folder, by experiment id. Raises StoreError for a folder that is no store."""
    store = Store.open(folder)
    found = {name: store.read_result(name) for name in store.experiment_ids()}
    return {name: result for name, result in found.items() if result is not None}
