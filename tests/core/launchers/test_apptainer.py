"""The launcher `apptainer` against a client that records: Apptainer itself has not been run."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from llem.config.models import Experiment
from llem.devices.host import VARIABLE
from llem.errors import MachineError
from llem.launchers.apptainer import ApptainerLauncher
from llem.launchers.options import ApptainerOptions
from llem.protocol.events import Outcome
from llem.protocol.lines import to_json

pytestmark = pytest.mark.process


@pytest.fixture
def apptainer(recorder: Any, tmp_path: Path) -> Any:
    """A client that is there, and an image."""
    made = recorder("apptainer")
    made.answer(["--version"], out="apptainer version 1.3.4")
    line = to_json(Outcome(id="a", outcome="done"))
    made.program(f"print({line!r}, end='')")
    (tmp_path / "echo.sif").write_text("image")
    return made


def launch(order: Path, **options: Any) -> Any:
    """Run; status and events."""
    seen: list[Any] = []
    chosen = ApptainerOptions(**{"image": {"echo": "echo.sif"}, **options})
    return ApptainerLauncher(chosen).launch(order, seen.append, threading.Event()), seen


def test_the_command_line(apptainer, ordered, tmp_path: Path) -> None:
    """As Apptainer documents it: contained, nothing evaluated, mounts as CSV, a place for what it does not keep."""
    status, seen = launch(ordered())
    arguments = apptainer.started
    scratch = arguments[arguments.index("--workdir") + 1]

    assert (status, seen) == (0, [Outcome(id="a", outcome="done")])
    assert arguments == [
        *("exec", "--containall", "--no-eval", "--no-privs", "--workdir", scratch, "--pwd", str(tmp_path)),
        *("--mount", f"type=bind,source={tmp_path}/out,destination={tmp_path}/out"),
        *(str(tmp_path / "echo.sif"), "llem", "worker", str(tmp_path / "out/workers/0/order.json")),
    ]
    assert not Path(scratch).exists()


def test_gpus_are_chosen_by_variable(apptainer, ordered) -> None:
    """`--nv` shows every GPU of the machine, so that the worker has to be told which are its own."""
    launch(ordered(gpus=("GPU-a", "GPU-b")), network="none")

    assert "--nv" in apptainer.started
    assert apptainer.started[apptainer.started.index("--net") + 1 :][:2] == ["--network", "none"]
    assert apptainer.environ["APPTAINERENV_CUDA_VISIBLE_DEVICES"] == "GPU-a,GPU-b"


def test_variables_go_by_apptainers_own(apptainer, ordered, monkeypatch) -> None:
    """Not on the command line, whose values are split at commas; those that Apptainer sets itself are left to it."""
    monkeypatch.setenv("TOKEN", "hf_0815")
    launch(ordered(), env={"TOKEN": None, "NCCL_DEBUG": "a,b"})
    found = apptainer.environ

    assert (found["APPTAINERENV_TOKEN"], found["APPTAINERENV_NCCL_DEBUG"]) == ("hf_0815", "a,b")
    assert "APPTAINERENV_HOME" not in found
    assert not any("hf_0815" in argument for argument in apptainer.started)
    told = json.loads(found[f"APPTAINERENV_{VARIABLE}"])
    assert told["runtime"] == "apptainer 1.3.4"
    assert told["digest"] == f"sha256:{hashlib.sha256(b'image').hexdigest()}"


def test_an_image_that_was_written_anew_has_its_own_digest(apptainer, ordered, tmp_path: Path) -> None:
    """The digest is kept for as long as the file is the same one."""
    order = ordered()
    launch(order)
    (tmp_path / "echo.sif").write_text("other")
    os.utime(tmp_path / "echo.sif", ns=(1, 1))
    launch(order)
    told = json.loads(apptainer.environ[f"APPTAINERENV_{VARIABLE}"])

    assert told["digest"] == f"sha256:{hashlib.sha256(b'other').hexdigest()}"


@pytest.mark.parametrize(("status", "told"), [(1, 1), (137, -9)])
def test_the_workers_status_is_kept_by_apptainer(apptainer, ordered, status: int, told: int) -> None:
    """As with Docker."""
    apptainer.program(f"raise SystemExit({status})")

    assert launch(ordered())[0] == told


def test_apptainers_own_failure_is_told(apptainer, ordered) -> None:
    """It ends with 255 and a line that begins with FATAL."""
    apptainer.program(
        "import sys; print('INFO: x\\nFATAL:   container creation failed', file=sys.stderr); sys.exit(255)"
    )
    with pytest.raises(MachineError, match=r"FATAL: +container creation failed") as caught:
        launch(ordered())

    assert caught.value.code == "apptainer_failed"


def test_apptainer_is_not_installed(ordered, monkeypatch, tmp_path: Path) -> None:
    """Nothing of that name is on the path."""
    order = ordered()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MachineError, match="apptainer is not installed"):
        launch(order)


@pytest.mark.parametrize("image", [{}, {"echo": "nowhere.sif"}])
def test_an_image_has_to_be_named_and_be_there(apptainer, ordered, image: dict[str, str]) -> None:
    """The error says how one is made from Docker's."""
    with pytest.raises(MachineError) as caught:
        launch(ordered(), image=image)

    assert caught.value.code == "apptainer_image_missing"
    assert "apptainer build" in caught.value.hint


def test_an_image_file_needs_this_llem(apptainer, ordered, tmp_path: Path) -> None:
    """Asked before a study is begun."""
    ordered()
    launcher = ApptainerLauncher(ApptainerOptions(image={"echo": str(tmp_path / "echo.sif")}))
    apptainer.program("print('llem, version 0.0.9')")
    with pytest.raises(MachineError, match=r"has llem 0\.0\.9"):
        launcher.check([Experiment(backend="echo")])
    assert apptainer.started[-3:] == [str(tmp_path / "echo.sif"), "llem", "--version"]
