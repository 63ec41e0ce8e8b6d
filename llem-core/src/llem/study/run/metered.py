"""A command as an experiment: `llem meter`. Checked here, run in this process, stored without its secrets."""

from __future__ import annotations

import os
import shlex
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from llem.backends.base import Placement
from llem.backends.command import GIVEN, Given, find_program
from llem.config.layers import Layer
from llem.config.load import COMMAND
from llem.config.models import DEFAULT_METERS, Experiment
from llem.config.user import load_user_config
from llem.errors import LlemError, MachineError
from llem.experiment.placement import candidates, place
from llem.foreign.secrets import redacted
from llem.launchers.inline import InlineLauncher
from llem.models.resolve import NO_MODEL
from llem.plugins.registry import Registry
from llem.protocol.events import Emit
from llem.store.names import following
from llem.store.store import Store
from llem.study.plan.expand import load
from llem.study.plan.study import Study
from llem.study.run.folder import default_folder, joinable
from llem.study.run.preflight import check_study, try_meter
from llem.study.run.ran import Ran
from llem.study.run.study_run import run_all

__all__ = ["Metered", "prepare_metered"]

#: Characters of a command that make the name of its experiment.
NAMED = 48
#: Seconds of the idle baseline that are left out while power settles, at most.
DISCARD_S = 2.0
#: What experiments of one store differ in.
AXIS = "load.name"


class CommandLauncher(InlineLauncher):
    """Runs the command as it was typed, which is nowhere stored."""

    def __init__(self, given: Given) -> None:
        super().__init__()
        self._given = given

    def launch(self, order: Path, emit: Emit, stop: threading.Event) -> int:
        token = GIVEN.set(self._given)
        try:
            return super().launch(order, emit, stop)
        finally:
            GIVEN.reset(token)


@attrs.frozen
class Metered:
    """A command that can be measured here, and the store that its result goes to."""

    study: Study
    folder: Path
    given: Given
    registry: Registry

    @property
    def id(self) -> str:
        """Of the experiment."""
        return self.study.experiments[0].id

    @property
    def exit_code(self) -> int:
        """Of the first run that failed, as a shell tells it; 0 where none did."""
        failed = next((code for code in self.given.codes if code), 0)
        return failed if failed >= 0 else 128 - failed

    def run(self, emit: Emit, stop: threading.Event) -> Ran:
        """Run the command so many times. Raises as `run_all`."""
        return run_all(
            self.study, self.folder, lambda: CommandLauncher(self.given), self.registry,
            emit=emit, stop=stop, joins=True,
        )  # fmt: skip


def prepare_metered(
    argv: Sequence[str],
    registry: Registry,
    *,
    out: str | Path | None = None,
    name: str | None = None,
    trials: int = 1,
    requests: str | None = None,
    baseline_s: float = 10.0,
    server_pids: Sequence[int] = (),
    overrides: Sequence[Layer] = (),
    output: int | None = None,
) -> Metered:
    """Check everything before anything is written or runs.

    Args:
        argv: the program and its arguments.
        out: a folder; one that holds metered commands gets a further one, or further trials of the same.
        name: of the experiment. Default: the beginning of the command.
        trials: runs of the command.
        requests: the file of requests that the command writes.
        baseline_s: length of the idle baseline before the runs, and half of it after them; 0 for none.
        server_pids: processes that run already and are part of what is measured.
        overrides: settings above these.
        output: file descriptor for the command's standard output; None for that of this process.

    Raises:
        ConfigError: the command is not found, or a setting is wrong.
        StoreError: `out` holds something else.
        MachineError: no meter reads any energy here (no_meter), or one that was named does not.
    """
    words = redacted(argv)
    label = name or _short(shlex.join(words))
    settings: dict[str, Any] = {
        "model": NO_MODEL,
        "backend": COMMAND,
        "load": {"kind": COMMAND, "argv": list(words), "requests": requests, "server_pids": list(server_pids)},
        "warmup": {"batches": 0, "seconds": 0},
        "baseline": {"seconds": baseline_s, "discard_seconds": min(DISCARD_S, baseline_s / 5)},
        "trials": trials,
        "max_trials": trials,
    }
    find_program(argv)
    study = _study(label, settings, overrides, registry)
    if gpus := _visible(study.experiments[0].experiment):
        settings["gpus"] = gpus
        study = _study(label, settings, overrides, registry)
    folder = Path(out) if out is not None else default_folder(load_user_config().results_dir, "meter")
    if measured := _measured(folder, study.experiments[0].id):
        settings |= {"trials": measured + trials, "max_trials": measured + trials}
        study = _study(label, settings, overrides, registry)
    given = Given(tuple(argv), dict(os.environ), output)
    check_study(study, registry, CommandLauncher(given))
    _require_meter(study.experiments[0].experiment, registry)
    return Metered(study, folder, given, registry)


def _study(name: str, settings: Mapping[str, Any], overrides: Sequence[Layer], registry: Registry) -> Study:
    document = {"name": "meter", "base": settings, "axes": {AXIS: [name]}}
    return load(document, overrides, registry, unmet=False)


def _short(text: str) -> str:
    return text if len(text) <= NAMED else f"{text[: NAMED - 1]}…"


def _visible(experiment: Experiment) -> int:
    """How many GPUs a command may use, where nobody said which: all that are visible; 0 for one or none."""
    if experiment.gpus is not None or experiment.device == "cpu":
        return 0
    there = len(candidates(experiment, spread=True).uuids)
    return there if there > 1 else 0


def _measured(folder: Path, experiment_id: str) -> int:
    """Trials of the same command that a store has already. Raises StoreError for a folder of something else."""
    if not (folder / "study.json").is_file():
        return 0
    store = Store.open(folder)
    joinable(store)
    return following(store.trial_indices(experiment_id), f"trials of {experiment_id}")


def _require_meter(experiment: Experiment, registry: Registry) -> None:
    """Raise MachineError where none of the built-in meters reads anything; those that were named were tried before."""
    if experiment.meters is not None:
        return
    placement, why = place(experiment), []
    for name in DEFAULT_METERS:
        if (error := _fails(name, placement, registry)) is None:
            return
        why.append(f"{name}: {error.message}")
    told = "; ".join(why)
    hint = (
        "`llem doctor` shows what this machine can measure and how to get the permission; "
        "`--meters codecarbon` models the energy of the CPU and memory (pip install llem-codecarbon)"
    )
    raise MachineError(f"no meter reads any energy on this machine ({told})", hint, "no_meter")


def _fails(name: str, placement: Placement, registry: Registry) -> LlemError | None:
    try:
        try_meter(registry.load("meter", name), None, placement)
    except LlemError as error:
        return error
    return None
