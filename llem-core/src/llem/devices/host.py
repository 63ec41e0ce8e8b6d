"""The host: processor, memory, operating system, container, Docker and Slurm; and which container a worker runs in.

Every probe tells what it found, and raises nothing for what is not there.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from llem.errors import MachineError

__all__ = [
    "VARIABLE",
    "Answer",
    "Container",
    "Docker",
    "Host",
    "Slurm",
    "ask_program",
    "boot_id",
    "probe_docker",
    "probe_host",
    "probe_slurm",
    "told_container",
]


@attrs.frozen
class Host:
    """What the computer is, apart from its GPUs. None where the system does not tell.

    Attributes:
        cores, threads: physical and logical processors.
        governor: frequency governor of the first processor.
        container: "docker", "podman" or another name, where the process runs in one.
        virtual: whether the processor says that a hypervisor runs it.
    """

    cpu: str | None
    cores: int | None
    threads: int | None
    memory_bytes: int
    system: str
    kernel: str
    python: str
    governor: str | None
    container: str | None
    virtual: bool


@attrs.frozen
class Answer:
    """What a program said: its exit status, None where it is not there or did not end in time."""

    status: int | None
    output: str
    error: str


@attrs.frozen
class Docker:
    """Docker's client and daemon.

    Attributes:
        client: whether the `docker` program is there.
        server: the daemon's version, None when it cannot be reached.
        engine: "docker", or "podman" where that answers in its place.
        nvidia: whether the daemon has the NVIDIA runtime.
        error: why the daemon cannot be reached.
    """

    client: bool
    server: str | None = None
    engine: str = "docker"
    nvidia: bool = False
    error: str = ""


@attrs.frozen
class Slurm:
    """Slurm's programs, and the controller behind them."""

    installed: bool
    version: str | None = None
    partitions: tuple[str, ...] = ()
    error: str = ""


def ask_program(command: Sequence[str], timeout_s: float = 5.0) -> Answer:
    """Run a short command. Never raises for a program that is missing, hangs or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired:
        return Answer(None, "", f"{command[0]} did not answer within {timeout_s:g} s")
    except OSError as error:
        return Answer(None, "", str(error))
    return Answer(done.returncode, done.stdout.strip(), done.stderr.strip())


def probe_host(root: Path = Path("/"), environ: Mapping[str, str] = os.environ) -> Host:
    """Look at the files below `root` and ask the operating system."""
    import psutil

    cpuinfo = _read(root / "proc/cpuinfo") or ""
    return Host(
        cpu=_cpuinfo_value(cpuinfo, "model name") or platform.processor() or None,
        cores=psutil.cpu_count(logical=False),
        threads=psutil.cpu_count(logical=True),
        memory_bytes=int(psutil.virtual_memory().total),
        system=_system(root),
        kernel=f"{platform.system()} {platform.release()}",
        python=f"{platform.python_implementation()} {platform.python_version()}",
        governor=_read(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        container=_container(root, environ),
        virtual="hypervisor" in (_cpuinfo_value(cpuinfo, "flags") or "").split(),
    )


def probe_docker(ask: Callable[[Sequence[str]], Answer] = ask_program, which: Any = shutil.which) -> Docker:
    """Is Docker there, does its daemon answer, and can it give a container the GPU?"""
    if which("docker") is None:
        return Docker(client=False)
    version = ask(["docker", "version", "--format", "{{json .Server}}"])
    server = _json(version.output)
    if version.status != 0 or not isinstance(server, dict):
        return Docker(client=True, error=_first_line(version.error) or "no answer from the daemon")
    components = [str(part.get("Name", "")) for part in server.get("Components") or () if isinstance(part, dict)]
    engine = "podman" if any("podman" in name.lower() for name in components) else "docker"
    runtimes = _json(ask(["docker", "info", "--format", "{{json .Runtimes}}"]).output)
    nvidia = isinstance(runtimes, dict) and "nvidia" in runtimes
    return Docker(client=True, server=str(server.get("Version", "?")), engine=engine, nvidia=nvidia)


def probe_slurm(ask: Callable[[Sequence[str]], Answer] = ask_program, which: Any = shutil.which) -> Slurm:
    """Are Slurm's programs there, and does its controller answer?"""
    if which("sbatch") is None or which("sinfo") is None:
        return Slurm(installed=False)
    version = ask(["sinfo", "--version"]).output or None
    answer = ask(["sinfo", "--noheader", "--format", "%P"])
    if answer.status != 0:
        return Slurm(True, version, error=_first_line(answer.error) or "no answer from the controller")
    return Slurm(True, version, partitions=tuple(dict.fromkeys(answer.output.split())))


def _system(root: Path) -> str:
    for line in (_read(root / "etc/os-release") or "").splitlines():
        key, _, value = line.partition("=")
        if key == "PRETTY_NAME":
            return value.strip('"')
    return platform.platform(terse=True)


def _container(root: Path, environ: Mapping[str, str]) -> str | None:
    if (root / ".dockerenv").exists():
        return "docker"
    if (root / "run/.containerenv").exists():
        return "podman"
    if environ.get("APPTAINER_CONTAINER") or environ.get("SINGULARITY_CONTAINER"):
        return "apptainer"
    return environ.get("container") or None


def _cpuinfo_value(cpuinfo: str, key: str) -> str | None:
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return None


def boot_id() -> str:
    """Which start of the machine this is, by the kernel's word; "" where it has none."""
    return _read(Path("/proc/sys/kernel/random/boot_id")) or ""


def _read(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:  # the file is not there on this system, or not for us: the fact is unknown
        return None


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:  # an older or another program answers in another form: the fact is unknown
        return None


def _first_line(text: str) -> str:
    return text.splitlines()[0] if text else ""


#: Environment variable by which a launcher tells the worker its container, as JSON.
VARIABLE = "LLEM_CONTAINER"


@attrs.frozen
class Container:
    """What of a container changes what is measured in it.

    Attributes:
        runtime: "docker" or "apptainer", with its version.
        image: as the configuration names it.
        digest: `sha256:…` of the image's content on this machine; this, not the name, is what ran.
        repo_digests: under which digests registries know the image; none for one that was built here.
        network: how it is connected.
        env: names of the variables that the configuration sets in it; no values, which may be secrets.
    """

    runtime: str
    image: str
    digest: str
    repo_digests: Sequence[str] = ()
    network: str | None = None
    env: Sequence[str] = ()

    def told(self) -> str:
        """The value of the variable."""
        return json.dumps(attrs.asdict(self), sort_keys=True)


def told_container(environ: Mapping[str, str] = os.environ) -> dict[str, Any] | None:
    """What the launcher told; None where it started no container. Raises MachineError for what no launcher wrote."""
    text = environ.get(VARIABLE)
    if text is None:
        return None
    try:
        return attrs.asdict(Container(**json.loads(text)))
    except (ValueError, TypeError) as error:
        raise MachineError(f"the variable {VARIABLE} holds no container: {error}", f"unset {VARIABLE}") from error
