"""A user's machine with Docker: their configuration, and `llem` as they run it. `nox -s docker` brings the daemon."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

IMAGE = os.environ.get("LLEM_TEST_IMAGE")
LAB = Path(__file__).parents[1] / "core" / "lab"
#: A run of a second or two, whose windows hold one batch each, so that its tokens are the same every time.
SHORT = (
    "preset=quick",
    "device=cpu",
    "meters=[]",
    "window_s=0.1",
    "warmup.seconds=0",
    "baseline.seconds=0",
    "trials=2",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Without an image there is nothing to test; the reason is in the summary."""
    if IMAGE is None:
        skip = pytest.mark.skip(reason="no LLEM_TEST_IMAGE: run `nox -s docker`, as root")
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker(skip)


def docker(*arguments: str) -> str:
    """What `docker` prints."""
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=True).stdout.strip()


def containers() -> list[str]:
    """Names of all containers there are, running or not."""
    return docker("ps", "--all", "--format", "{{.Names}}").splitlines()


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    """However a test ends, it leaves no container."""
    yield
    assert containers() == []


class Machine:
    """Runs `llem` in a folder of its own, in which the plugin of the core's tests is installed too."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.images = dict.fromkeys(("echo", "pytorch", "lab"), IMAGE)
        info = folder / "site" / "llem_lab-1.2.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: llem-lab\nVersion: 1.2\n")
        (info / "entry_points.txt").write_text("[llem]\nlab = llem_lab_hooks\n")
        shutil.copytree(LAB, info.parent, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
        self.environ = {
            **os.environ,
            "LLEM_CONFIG": str(folder / "config.yaml"),
            "PYTHONPATH": str(info.parent),
            "PYTHONDONTWRITEBYTECODE": "1",
            "HOME": str(folder),
        }
        self.configure()

    def configure(self, **settings: Any) -> None:
        """Write the user configuration: the image, and the plugin, which the container sees as this machine does."""
        site = self.environ["PYTHONPATH"]
        section = {"image": self.images, "mounts": [site], "env": {"PYTHONPATH": None}, **settings}
        (self.folder / "config.yaml").write_text(json.dumps({"launchers": {"docker": section}}))

    def start(self, *arguments: str, backend: str = "echo", **options: Any) -> subprocess.Popen[str]:
        """Start `llem run --launcher docker` into the folder `out`; more of the same replaces what stands before."""
        command = [sys.executable, "-m", "llem", "run", "-b", backend, "--launcher", "docker", "-o", "out", "--json"]
        command += [f"--set={setting}" for setting in SHORT]
        return subprocess.Popen(
            [*command, *arguments],
            cwd=self.folder,
            env=self.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            **options,
        )

    def run(self, *arguments: str, **options: Any) -> tuple[int, str, str]:
        """Exit code, standard output and error."""
        process = self.start(*arguments, **options)
        out, err = process.communicate(timeout=100)
        return process.returncode, out, err

    def docker(self, *arguments: str) -> str:
        """What `docker` prints."""
        return docker(*arguments)

    def is_empty(self, within_s: float = 15.0) -> bool:
        """Whether there is no container any more within this time."""
        until = time.monotonic() + within_s
        while containers() and time.monotonic() < until:
            time.sleep(0.1)
        return containers() == []

    def log(self, out: str = "out") -> str:
        """What the first worker wrote."""
        return (self.folder / out / "workers" / "0" / "log.txt").read_text()

    def wait_for(self, kind: str, **fields: object) -> None:
        """Until the first worker has told of this."""
        path = self.folder / "out" / "workers" / "0" / "events.jsonl"
        until = time.monotonic() + 60
        while time.monotonic() < until:
            lines = path.read_text().splitlines() if path.exists() else []
            events = [json.loads(line) for line in lines if line.endswith("}")]
            if any(event["event"] == kind and fields.items() <= event.items() for event in events):
                return
            time.sleep(0.05)
        raise AssertionError(f"no {kind} in time")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine of its own for each test."""
    return Machine(tmp_path)
