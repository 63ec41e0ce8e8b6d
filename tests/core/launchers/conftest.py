"""A client in the place of `docker` or `apptainer`: it records what it is asked, and answers as it is told to."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from llem.config.load import Layer, resolve, to_document
from llem.plugins.registry import registry
from llem.protocol.order import WorkOrder
from llem.store.store import Store

#: Runs below the name of a container runtime. What starts a container (`run`, `exec`) becomes program.py.
CLIENT = """
import json, os, sys
from pathlib import Path

here = Path(__file__).parent
with (here / "calls.jsonl").open("a") as calls:
    calls.write(json.dumps(sys.argv[1:]) + "\\n")
if sys.argv[1] in ("run", "exec"):
    (here / "environ.json").write_text(json.dumps(dict(os.environ)))
    os.execv(sys.executable, [sys.executable, str(here / "program.py"), *sys.argv[1:]])
answers = json.loads((here / "answers.json").read_text())
status, out, err = next((answer for words, answer in answers if sys.argv[1:][: len(words)] == words), (0, "", ""))
print(out)
print(err, file=sys.stderr)
raise SystemExit(status)
"""


class Recorder:
    """A program of another name, in a folder that is searched first."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self._answers: list[Any] = []
        folder.mkdir()
        (folder / "client.py").write_text(CLIENT)
        started = folder / name
        started.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{folder}/client.py" "$@"\n')
        started.chmod(0o755)
        self.program("")
        self.answer([])

    def answer(self, words: list[str], status: int = 0, out: str = "", err: str = "") -> None:
        """What to answer when the arguments begin with these words; the last answer that fits counts."""
        self._answers.insert(0, (words, (status, out, err)))
        (self.folder / "answers.json").write_text(json.dumps(self._answers))

    def program(self, text: str) -> None:
        """What runs in the worker's place; its arguments are the client's."""
        (self.folder / "program.py").write_text(text)

    @property
    def calls(self) -> list[list[str]]:
        """Arguments of each call so far."""
        path = self.folder / "calls.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    @property
    def started(self) -> list[str]:
        """Arguments of the one call that started a container."""
        [call] = [call for call in self.calls if call[0] in ("run", "exec")]
        return call

    @property
    def environ(self) -> dict[str, str]:
        """The client's environment when it started the container."""
        found: dict[str, str] = json.loads((self.folder / "environ.json").read_text())
        return found


@pytest.fixture
def recorder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`recorder("docker")` makes one and puts it in the place of that program."""

    def made(name: str) -> Recorder:
        one = Recorder(tmp_path / f"{name}-bin", name)
        monkeypatch.setenv("PATH", os.pathsep.join([str(one.folder), os.environ["PATH"]]))
        return one

    return made


@pytest.fixture
def ordered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`ordered(model=…)` makes a store in the working folder with one experiment and a worker's order for it.

    The home is empty, so that no Hugging Face cache of this machine is seen.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("HF_HOME", "HF_HUB_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)

    def made(gpus: tuple[str, ...] | None = (), **settings: Any) -> Path:
        resolved = resolve([Layer("test", {"backend": "echo", "device": "cpu", **settings})], registry())
        store = Store.create("out", {"name": "test"})
        store.write_experiment(
            "abc", {"id": "abc", "config": to_document(resolved.experiment), "model": {"weights": "random"}}
        )
        path = store.worker_dir(0) / "order.json"
        WorkOrder("out", 0, 0, ("abc",), (("abc", 0),), gpus=gpus).write(path)
        return path

    return made
