"""The worker in an Apptainer container, by its command line. Not yet run without root, or with GPUs."""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from llem.devices.host import VARIABLE, Container, ask_program
from llem.errors import MachineError
from llem.experiment.placement import VISIBLE_DEVICES
from llem.launchers.container import ContainerLauncher, Needs, ended_by_signal, needs_of, variables
from llem.launchers.options import ApptainerOptions
from llem.protocol.events import Emit

__all__ = ["ApptainerLauncher"]

CONTAINED = ("--containall", "--no-eval", "--no-privs")
#: Variables with this prefix are set inside without it.
PREFIX = "APPTAINERENV_"
#: What Apptainer ends with when it could not start the container.
FATAL = 255
#: Variables that Apptainer sets itself.
NOT_OURS = ("HOME", "USER", "LOGNAME")


class ApptainerLauncher(ContainerLauncher):
    """`apptainer exec IMAGE.sif llem worker ORDER`: a process of the caller's own, so results belong to the caller."""

    name = "apptainer"

    def __init__(self, options: ApptainerOptions | None = None) -> None:
        super().__init__(options or ApptainerOptions())

    def check_image(self, backend: str) -> Sequence[str]:
        _version()
        return ["apptainer", "exec", *CONTAINED, str(_image(self.options, backend)), "llem"]

    def contain(self, order: Path, emit: Emit, stop: threading.Event) -> int:
        options: ApptainerOptions = self.options
        version = _version()
        needs = needs_of(order, options.mounts, online=options.network != "none")
        image = _image(options, needs.backend)
        container = Container(
            runtime=f"apptainer {version}",
            image=str(image),
            digest=f"sha256:{_digest(image, image.stat().st_mtime_ns)}",
            network=options.network,
            env=sorted(options.env),
        )
        environ = {**os.environ, **_inside(needs, options, container)}
        # Apptainer's own space for /tmp and the home is 64 MB, which what engines compile does not fit into.
        with tempfile.TemporaryDirectory(prefix="llem-apptainer-", ignore_cleanup_errors=True) as scratch:
            command = exec_command(order, needs, image, Path(scratch), options)
            status, told = self.attend(command, environ, order.parent / "log.txt", emit, stop)
        if status == FATAL:
            last = next((line for line in reversed(told.splitlines()) if "FATAL" in line), f"status {status}")
            raise MachineError(f"apptainer exec failed: {last}", "see the worker's log", "apptainer_failed")
        return ended_by_signal(status)


def exec_command(order: Path, needs: Needs, image: Path, scratch: Path, options: ApptainerOptions) -> list[str]:
    """`apptainer exec` with all that the worker may see, and no more."""
    command = ["apptainer", "exec", *CONTAINED, "--workdir", str(scratch)]
    command += ["--pwd", os.getcwd()]
    if options.network == "none":
        command += ["--net", "--network", "none"]
    if needs.gpus:
        command += ["--nv"]
    for one in needs.mounts:
        command += ["--mount", one]
    return [*command, str(image), "llem", "worker", os.path.abspath(order)]


def _inside(needs: Needs, options: ApptainerOptions, container: Container) -> Mapping[str, str]:
    """Variables of the container, as Apptainer takes them from its own. `--nv` shows all GPUs, so these choose."""
    told = {**variables(needs, options.env), VISIBLE_DEVICES: ",".join(needs.gpus), VARIABLE: container.told()}
    return {
        f"{PREFIX}{name}": os.environ[name] if value is None else value
        for name, value in told.items()
        if name not in NOT_OURS
    }


def _version() -> str:
    """Apptainer's version. Raises MachineError where it is not installed."""
    if shutil.which("apptainer") is None:
        hint = "install Apptainer, or choose another launcher with `--launcher process`"
        raise MachineError("apptainer is not installed", hint, "apptainer_missing")
    return ask_program(["apptainer", "--version"]).output.removeprefix("apptainer version ")


def _image(options: ApptainerOptions, backend: str) -> Path:
    name = options.image.get(backend)
    build = f"apptainer build llem-{backend}.sif docker-daemon:llem-{backend}:VERSION"
    if name is None:
        hint = f"build one ({build}) and name it in the user configuration, launchers.apptainer.image.{backend}"
        raise MachineError(f"no image is named for backend {backend!r}", hint, "apptainer_image_missing")
    path = Path(name).expanduser().absolute()
    if not path.is_file():  # a sandbox folder has no digest that could be recorded
        raise MachineError(f"there is no image file {path} for backend {backend!r}", build, "apptainer_image_missing")
    return path


@functools.cache
def _digest(image: Path, _: int) -> str:
    """SHA-256 of an image file, read once for each time it was written."""
    with image.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
