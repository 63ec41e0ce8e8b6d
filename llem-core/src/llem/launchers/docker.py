"""The worker in a Docker container: one for each engine process, gone when it ends, with no privilege."""

from __future__ import annotations

import functools
import json
import os
import threading
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llem import __version__
from llem.devices.host import VARIABLE, Container, Docker, ask_program, probe_docker
from llem.errors import LlemError, MachineError
from llem.experiment.placement import VISIBLE_DEVICES
from llem.launchers.container import ContainerLauncher, Needs, ended_by_signal, needs_of, variables
from llem.launchers.options import DockerOptions
from llem.protocol.events import Emit

__all__ = ["DockerLauncher", "refusal"]

#: How long the daemon may take to answer, and to kill and remove a container.
ANSWER_S, REMOVAL_S = 20.0, 60.0
#: What `docker run` ends with when it was not the worker that ended: the daemon, the image's program, its absence.
NOT_THE_WORKER = (125, 126, 127)
UNPRIVILEGED = ("--cap-drop", "ALL", "--security-opt", "no-new-privileges")
#: Backends whose Dockerfile is in the repository.
DOCKERFILES = ("pytorch", "vllm", "tensorrt")
CHOOSE_ANOTHER = "or choose another launcher with `--launcher process`"


class DockerLauncher(ContainerLauncher):
    """`docker run --rm IMAGE llem worker ORDER`. Docker keeps standard output apart, so events come as from a process.

    Nothing is pulled: the image is looked up by its name, and run by the digest that was found and is recorded.
    """

    name = "docker"

    def __init__(self, options: DockerOptions | None = None) -> None:
        super().__init__(options or DockerOptions())

    def check_image(self, backend: str) -> Sequence[str]:
        _ = self._daemon
        found = _inspect(self._image(backend), backend)
        none = ["--network", "none", "--log-driver", "none", *UNPRIVILEGED]
        return ["docker", "run", "--rm", "--pull", "never", *none, "--entrypoint", "llem", str(found["Id"])]

    def contain(self, order: Path, emit: Emit, stop: threading.Event) -> int:
        options: DockerOptions = self.options
        daemon = self._daemon
        needs = needs_of(order, options.mounts, online=options.network != "none")
        image = self._image(needs.backend)
        found = _inspect(image, needs.backend)
        container = Container(
            runtime=f"docker {daemon.server}",
            image=image,
            digest=found["Id"],
            repo_digests=sorted(found.get("RepoDigests") or ()),
            network=options.network,
            env=sorted(options.env),
        )
        inside = {**variables(needs, options.env), **_gpu_variables(needs.gpus), VARIABLE: container.told()}
        name = f"llem-{uuid.uuid4().hex[:16]}"
        command = run_command(name, order, needs, container.digest, inside, options)
        try:
            status, told = self.attend(command, os.environ, order.parent / "log.txt", emit, stop)
        finally:
            _remove(name)
        if status in NOT_THE_WORKER and not stop.is_set():  # told to stop, the client may give up before it began
            raise refusal(status, told, image)
        return ended_by_signal(status)

    def _image(self, backend: str) -> str:
        options: DockerOptions = self.options
        return options.image.get(backend, f"llem-{backend}:{__version__}")

    @functools.cached_property
    def _daemon(self) -> Docker:
        """Docker as it answers here. Raises MachineError where it cannot run a worker."""
        docker = probe_docker(functools.partial(ask_program, timeout_s=ANSWER_S))
        if not docker.client:
            raise MachineError("docker is not installed", f"install Docker, {CHOOSE_ANOTHER}", "docker_missing")
        if docker.server is None:
            raise _unreachable(docker.error)
        if docker.engine == "podman":  # it loses the worker's exit status and takes `--gpus` in silence
            hint = f"install Docker itself, {CHOOSE_ANOTHER}"
            raise MachineError("what answers as docker is Podman, which loses exit codes", hint, "docker_is_podman")
        return docker


def run_command(
    name: str, order: Path, needs: Needs, digest: str, inside: Mapping[str, str | None], options: DockerOptions
) -> list[str]:
    """`docker run` with all that the worker may see, and no more."""
    # interactive: the worker holds on to our standard input as its lifeline; init: it reaps what the engine leaves
    command = ["docker", "run", "--rm", "--init", "--interactive", "--name", name]
    command += ["--pull", "never", "--log-driver", "none", "--network", options.network]
    command += UNPRIVILEGED
    command += ["--user", options.user or _user(), "--workdir", os.getcwd()]
    command += ["--shm-size", options.shm_size] if options.shm_size else []
    for one in needs.mounts:
        command += ["--mount", one]
    for variable, value in sorted(inside.items()):  # by name alone Docker passes on the value that it has itself
        command += ["--env", variable if value is None else f"{variable}={value}"]
    if needs.gpus:  # the quotes are for Docker, which reads the value as CSV and would split it at the commas
        command += ["--gpus", f'"device={",".join(needs.gpus)}"']
    return [*command, "--entrypoint", "llem", digest, "worker", "--lifeline", os.path.abspath(order)]


def _gpu_variables(gpus: Sequence[str]) -> dict[str, str | None]:
    """An image may ask for all GPUs of its own accord: without any it is told so."""
    if not gpus:
        return {"NVIDIA_VISIBLE_DEVICES": "void"}
    return {VISIBLE_DEVICES: ",".join(gpus), "NVIDIA_DRIVER_CAPABILITIES": "compute,utility"}


@functools.cache
def _user() -> str:
    """Whose files a container's user writes: with a rootless daemon root stands for the caller."""
    security = ask_program(["docker", "info", "--format", "{{json .SecurityOptions}}"], ANSWER_S).output
    return "0:0" if "name=rootless" in security else f"{os.getuid()}:{os.getgid()}"


def _inspect(image: str, backend: str) -> dict[str, Any]:
    """What Docker knows of an image. Raises MachineError when it has none of that name."""
    answer = ask_program(["docker", "image", "inspect", image], ANSWER_S)
    if answer.status == 0:
        found: dict[str, Any] = json.loads(answer.output)[0]
        return found
    if "no such image" in answer.error.lower():
        build = f"build it, as with containers/{backend}/Dockerfile" if backend in DOCKERFILES else "build it"
        name_it = f"or name another in the user configuration, launchers.docker.image.{backend}"
        hint = f"{build}, {name_it}; none is pulled"
        raise MachineError(f"there is no image {image} for backend {backend!r}", hint, "docker_image_missing")
    raise _unreachable(answer.error)


def _unreachable(error: str) -> MachineError:
    if "permission denied" in error.lower():
        hint = f"have yourself added to the group that owns Docker's socket, {CHOOSE_ANOTHER}"
        return MachineError("no permission to talk to the Docker daemon", hint, "docker_permission")
    return MachineError(f"the Docker daemon does not answer: {error}", f"start it, {CHOOSE_ANOTHER}", "docker_down")


def refusal(status: int, told: str, image: str) -> LlemError:
    """The error for a container that never got to run the worker, from what Docker wrote."""
    lines = [line for line in told.splitlines() if line.strip() and "--help" not in line] or [f"status {status}"]
    message = lines[-1].removeprefix("docker: ").removeprefix("Error response from daemon: ").rstrip(".")
    if "could not select device driver" in told:
        hint = "install the NVIDIA Container Toolkit and restart Docker, or set `device: cpu`"
        return MachineError("Docker cannot give a container the GPU", hint, "docker_no_gpu")
    if status == 127 or "executable file not found" in told or "exec llem failed" in told:
        hint = "install llem-core in the image, so that `llem` is on its PATH; see containers/"
        return MachineError(f"image {image} has no program `llem`", hint, "docker_image_unfit")
    return MachineError(f"docker run failed ({status}): {message}", "see the worker's log", "docker_failed")


def _remove(name: str) -> None:
    """Kill and remove a container, if it is still there. Raises MachineError when it stays."""
    answer = ask_program(["docker", "rm", "--force", "--volumes", name], REMOVAL_S)
    gone = ("no such container", "is already in progress")
    if answer.status != 0 and not any(text in answer.error.lower() for text in gone):
        raise MachineError(f"container {name} could not be removed: {answer.error}", f"docker rm --force {name}")
