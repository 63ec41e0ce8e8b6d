"""A real Docker, started by hand without systemd and apart from any other, with images made here: nothing is pulled.

`python tests/docker/daemon.py FOLDER WHEELS -- COMMAND …` runs a command with it (DOCKER_HOST and the images' names are
set for it) and stops it again. Needs root, `dockerd` and `debootstrap`. WHEELS holds llem-core, llem-pytorch and all
that they require; the images are built without a network. FOLDER keeps the base system; the daemon's data are removed.

`python tests/docker/daemon.py FOLDER` only tries whether this machine lets Docker run a container; prints why not.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
#: Its Python is 3.11, for which the wheels have to be.
SUITE = "bookworm"
BASE, IMAGE = "llem-debian:test", "llem-pytorch:test"
#: Of Docker's own package, and without any library: the smallest container that there can be.
STATIC = "docker-init"


class Refused(Exception):
    """The machine does not let Docker do its work; nothing of llem is at fault."""


@contextlib.contextmanager
def daemon(folder: Path) -> Iterator[dict[str, str]]:
    """A daemon with its data below `folder`; the environment in which `docker` talks to it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    host = f"unix://{folder}/socket"
    command = ["dockerd", "--data-root", str(folder / "data"), "--exec-root", str(folder / "exec"), "--host", host]
    command += ["--pidfile", str(folder / "pid"), "--bridge=none", "--iptables=false", "--ip6tables=false"]
    environ = {**os.environ, "DOCKER_HOST": host, "DOCKER_BUILDKIT": "0"}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        _wait_for(process, environ, folder / "log")
        os.chmod(folder / "socket", 0o666)  # the tests also run as another user
        yield environ
    finally:
        process.terminate()  # it ends its containers and takes down their mounts
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _wait_for(process: subprocess.Popen[bytes], environ: dict[str, str], log: Path) -> None:
    until = time.monotonic() + 60
    while subprocess.run(["docker", "version"], env=environ, capture_output=True).returncode != 0:
        if process.poll() is not None or time.monotonic() > until:
            raise Refused(f"dockerd does not start: {_end(log.read_text())}")
        time.sleep(0.2)


def try_out(folder: Path) -> None:
    """Run a container of one program. Raises Refused when this machine does not let it."""
    program = shutil.which(STATIC)
    if program is None:
        raise Refused(f"there is no `{STATIC}` beside dockerd")
    with daemon(folder / "daemon") as environ:
        root = folder / "one"
        root.mkdir(exist_ok=True)
        shutil.copy(program, root / STATIC)
        archive = f"{root}.tar"
        commands = [
            ("tar", "-C", str(root), "-cf", archive, "."),
            ("docker", "import", archive, "one"),
            ("docker", "run", "--rm", "--network=none", "one", f"/{STATIC}", "--version"),
        ]
        for command in commands:
            done = subprocess.run(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            if done.returncode != 0:
                raise Refused(f"`{' '.join(command[:2])}` says: {_end(done.stdout)}")


def _end(said: str) -> str:
    """The last lines of what a program said, as one."""
    return " | ".join(said.split("\n")[-4:]).strip(" |")


def build(folder: Path, wheels: Path, environ: dict[str, str]) -> None:
    """The base from the distribution's packages, and on it the image of the repository's own Dockerfile."""
    begun = time.monotonic()
    archive = folder / f"{SUITE}.tar"
    if not archive.exists():
        root = folder / "root"
        shutil.rmtree(root, ignore_errors=True)
        _run("debootstrap", "--variant=minbase", "--include=python3,python3-venv", SUITE, str(root))
        _run("tar", "-C", str(root), "-cf", f"{archive}.part", ".")
        os.replace(f"{archive}.part", archive)
        shutil.rmtree(root)
    made = time.monotonic()
    _run("docker", "import", str(archive), BASE, environ=environ)
    arguments = {"BASE": BASE, "PIP_NO_INDEX": "1", "APT": ""}
    options = [text for name, value in arguments.items() for text in ("--build-arg", f"{name}={value}")]
    dockerfile = str(REPOSITORY / "containers" / "pytorch" / "Dockerfile")
    _run("docker", "build", "--network=none", "-t", IMAGE, "-f", dockerfile, *options, str(wheels), environ=environ)
    print(f"base system {made - begun:.0f} s, images {time.monotonic() - made:.0f} s", flush=True)


def _run(*command: str, environ: dict[str, str] | None = None) -> None:
    done = subprocess.run(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-3000:]}")


def main(folder: Path, wheels: Path, command: list[str]) -> int:
    """The command's status."""
    with daemon(folder / "daemon") as environ:
        build(folder, wheels, environ)
        told = {**environ, "LLEM_TEST_IMAGE": IMAGE, "LLEM_TEST_BARE_IMAGE": BASE}
        return subprocess.run(command, env=told).returncode


if __name__ == "__main__":
    place = Path(sys.argv[1]).absolute()
    place.mkdir(parents=True, exist_ok=True)
    if len(sys.argv) == 2:
        try:
            try_out(place)
        except Refused as refused:
            print(refused)
        raise SystemExit(0)
    at = sys.argv.index("--")
    raise SystemExit(main(place, Path(sys.argv[2]).absolute(), sys.argv[at + 1 :]))
