"""What launchers that put the worker into a container share: what it needs to see, and a process that stands for it."""

from __future__ import annotations

import csv
import io
import os
import re
import signal
import threading
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import attrs

from llem import __version__
from llem.config.identity import EXECUTION, file_settings
from llem.config.load import stored_experiment
from llem.config.models import Experiment
from llem.devices.host import ask_program
from llem.errors import ConfigError, MachineError, Problem
from llem.experiment.placement import place
from llem.foreign.files import end_of
from llem.launchers.base import Launcher
from llem.launchers.options import ApptainerOptions, DockerOptions
from llem.launchers.process import Child
from llem.models.resolve import resolve_model
from llem.models.spec import ModelSpec
from llem.plugins.registry import registry
from llem.protocol.events import Emit
from llem.protocol.order import WorkOrder
from llem.store.store import Store

__all__ = ["ContainerLauncher", "Needs", "ended_by_signal", "mount", "needs_of", "variables"]

#: How long a container may take to start and to say its version.
VERSION_S = 120.0
NO_LLEM, OTHER_LLEM = "image_without_llem", "image_version"
#: Where a container writes what it does not keep: its user need have no home in the image.
HOME = "/tmp"


@attrs.frozen
class Needs:
    """What one worker has to see of this machine.

    Attributes:
        backend: whose image it wants.
        store: the folder its results go to, the only one it may write.
        read: folders and files that it reads: models, files of the workload, what the launcher's settings name.
        hub: the Hugging Face cache of models, where there is one that has all of them.
        gpus: UUIDs of its GPUs.
    """

    backend: str
    store: Path
    read: tuple[Path, ...] = ()
    hub: Path | None = None
    gpus: tuple[str, ...] = ()

    @property
    def mounts(self) -> list[str]:
        """A value of `--mount` for each folder and file."""
        return [mount(self.store, writable=True), *(mount(path) for path in self.read)]


def needs_of(
    order: Path, mounts: Sequence[str] = (), *, online: bool = False, environ: Mapping[str, str] = os.environ
) -> Needs:
    """Read a worker's needs off its order and the experiments that this names.

    Where the order leaves the choice of GPUs to the worker, they are chosen here and written into it: in the container
    an index means another card.

    Args:
        mounts: what the launcher's settings add.
        online: the container has a network, by which it may fetch a model that is not in the Hugging Face cache.

    Raises:
        ConfigError: `mounts` names what is not there.
        MachineError: a GPU that the experiment names is not there, or a model that the container cannot fetch.
    """
    _check_mounts(mounts)
    asked = WorkOrder.read(order)
    store = Store.open(asked.store)
    experiments = [stored_experiment(store.read_experiment(name), registry()) for name in asked.experiments]
    gpus = asked.gpus
    if gpus is None:
        gpus = place(experiments[0]).gpu_uuids
        attrs.evolve(asked, gpus=gpus).write(order)
    models = [_model(experiment) for experiment in experiments]
    hub = _hub_for(models, online, environ)
    read = [*map(Path, mounts), *([hub] if hub else [])]
    read += [Path(model.name) for model in models if model.source == "folder"]
    fields = (*EXECUTION, "quality")
    files = [file_settings(experiment, os.path.exists, fields) for experiment in experiments]
    read += [Path(name) for found in files for name in found.values()]
    # absolute, not resolved: the worker opens them by the names that the configuration has
    unique = dict.fromkeys(Path(os.path.abspath(path.expanduser())) for path in read)
    return Needs(experiments[0].backend, Path(os.path.abspath(asked.store)), tuple(unique), hub, gpus)


def _model(experiment: Experiment) -> ModelSpec:
    return resolve_model(experiment.model, revision=experiment.revision, seed=experiment.weights_seed)


def _check_mounts(mounts: Sequence[str]) -> None:
    missing = [name for name in mounts if not Path(name).expanduser().exists()]
    if missing:
        problems = tuple(Problem("mounts", f"no file or folder {name}") for name in missing)
        raise ConfigError("the launcher's `mounts` name files or folders that do not exist", problems=problems)


def _hub_for(models: Sequence[ModelSpec], online: bool, environ: Mapping[str, str]) -> Path | None:
    """The cache of models, where it has all of these: it is read only, so nothing can be fetched into it."""
    hub = _hub(environ)
    uncached = [model.name for model in models if model.source == "hub" and not _is_cached(model, hub)]
    if uncached and not online:
        hint = f"`hf download {uncached[0]}` first, or give the container a network"
        what = f"model {uncached[0]} is not in this machine's Hugging Face cache, and the container has no network"
        raise MachineError(what, hint, "model_not_cached")
    return None if uncached else hub


def _is_cached(model: ModelSpec, hub: Path | None) -> bool:
    return hub is not None and (hub / f"models--{model.name.replace('/', '--')}").is_dir()


def _hub(environ: Mapping[str, str]) -> Path | None:
    """The Hugging Face cache of models, where there is one. Not its parent, which holds the user's token."""
    home = environ.get("HF_HOME") or f"{environ.get('XDG_CACHE_HOME') or '~/.cache'}/huggingface"
    hub = Path(os.path.abspath(Path(environ.get("HF_HUB_CACHE") or f"{home}/hub").expanduser()))
    return hub if hub.is_dir() else None


def mount(path: Path, *, writable: bool = False) -> str:
    """A value of `--mount`, at the same path inside; Docker and Apptainer both read it as a line of CSV."""
    fields = ["type=bind", f"source={path}", f"destination={path}", *([] if writable else ["ro"])]
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(fields)
    return line.getvalue()


def variables(
    needs: Needs, own: Mapping[str, str | None], environ: Mapping[str, str] = os.environ
) -> dict[str, str | None]:
    """Variables of the worker; None stands for the value here. Of the caller's it gets only what `own` asks for.

    Raises ConfigError for one that shall be passed on and is not set.
    """
    _check_passed_on(own, environ)
    # Caches are named after a user, who need not exist in the image.
    home = {"HOME": HOME, "USER": "llem", "LOGNAME": "llem"}
    # Read only, so it must not be refreshed either; what a model's own code compiles goes where it can be written.
    hub = {"HF_HUB_CACHE": str(needs.hub), "HF_HUB_OFFLINE": "1"} if needs.hub else {}
    return {**home, **hub, **own}


def _check_passed_on(own: Mapping[str, str | None], environ: Mapping[str, str]) -> None:
    unset = [name for name, value in own.items() if value is None and name not in environ]
    if unset:
        problems = tuple(Problem(f"env.{name}", "is not set here, so it cannot be passed on") for name in unset)
        raise ConfigError("the launcher's `env` passes on variables that are not set", problems=problems)


def ended_by_signal(status: int) -> int:
    """A container's status as Python tells a process's: minus the signal's number where one ended it (137 is -9)."""
    return 128 - status if 128 < status < 128 + signal.NSIG else status


class ContainerLauncher(Launcher):
    """A launcher whose worker is on the other side of a client, which hands on its output and the signals for it."""

    same_packages: ClassVar[bool] = False

    def __init__(self, options: Any = None) -> None:
        super().__init__(options)
        self._client = Child()

    def check(self, experiments: Sequence[Experiment]) -> None:
        """The runtime, an image for each backend, and what a container has to see of this machine."""
        options: DockerOptions | ApptainerOptions = self.options
        inside = [self.check_image(backend) for backend in sorted({one.backend for one in experiments})]
        _check_mounts(options.mounts)
        _check_passed_on(options.env, os.environ)
        _hub_for([_model(one) for one in experiments], options.network != "none", os.environ)
        for command in inside:  # last, since it takes a second or two
            _check_llem(command)

    @abstractmethod
    def check_image(self, backend: str) -> Sequence[str]:
        """How the `llem` in the image for this backend is run, with no access to anything; options for it come after.

        Raises MachineError: the runtime is not to be had, or it has no image for this backend.
        """

    def launch(self, order: Path, emit: Emit, stop: threading.Event) -> int:
        self._client = Child()  # before the image is looked up: a kill may come meanwhile
        return self.contain(order, emit, stop)

    @abstractmethod
    def contain(self, order: Path, emit: Emit, stop: threading.Event) -> int:
        """What `launch` does."""

    def attend(
        self, command: Sequence[str], environ: Mapping[str, str], log: Path, emit: Emit, stop: threading.Event
    ) -> tuple[int, str]:
        """Run the client to its end; see `Child`. It hands the SIGTERM of a stop on to the worker.

        Returns:
            Its exit status, and what was written to the log meanwhile.
        """
        start = log.stat().st_size if log.exists() else 0
        status = self._client.run(command, log, emit, stop, environ=environ, contained=True)
        return status, end_of(log, since=start)

    def kill(self) -> None:
        """End the client; what it stood for is removed by `launch`, which then returns."""
        self._client.kill()


def _check_llem(inside: Sequence[str]) -> None:
    """Whether the image has this llem: a worker of another one may measure differently, or not understand its order.

    Raises MachineError: it has another (image_version), or none that answers (image_without_llem).
    """
    answer = ask_program([*inside, "--version"], VERSION_S)
    found = re.search(r"^llem, version (\S+)$", answer.output, re.MULTILINE)
    asked = f"asked with `{' '.join(inside)}`"
    if found is None:
        lines = [line for line in (answer.error or answer.output).splitlines() if line.strip() and "--help" not in line]
        said = (lines or [f"status {answer.status}"])[-1].strip()
        hint = f"install llem-core {__version__} in it, so that `llem` is on its PATH; see containers/; {asked}"
        raise MachineError(f"the image has no program `llem` that says its version: {said}", hint, NO_LLEM)
    if found[1] != __version__:
        what = f"the image has llem {found[1]}, and this is {__version__}, which may measure differently"
        hint = f"build it with llem-core {__version__}, or run llem {found[1]} here; {asked}"
        raise MachineError(what, hint, OTHER_LLEM)
