"""`llem run --launcher docker` with a real daemon."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from llem.config.load import Layer, resolve, to_document
from llem.errors import MachineError
from llem.launchers.docker import DockerLauncher
from llem.launchers.options import DockerOptions
from llem.metrics.verify import verify
from llem.plugins.registry import registry
from llem.protocol.events import Phase
from llem.protocol.order import WorkOrder
from llem.store.store import Store

pytestmark = pytest.mark.process

#: Batches of 0.4 s.
ECHO = ("--set=echo.token_seconds=0.05", "--set=workload.output_tokens=8", "--set=workload.input_tokens=8")
LAB = tuple(text.replace("echo.", "lab.") for text in ECHO)
IMAGE = os.environ.get("LLEM_TEST_IMAGE", "")


def stored(folder: Path) -> tuple[Store, Any]:
    """A store and its one result."""
    store = Store.open(folder)
    [name] = store.experiment_ids()
    return store, store.read_result(name)


def work_done(folder: Path) -> list[Any]:
    """What each trial did, apart from when and how fast."""
    store, result = stored(folder)
    return [
        (trial.index, trial.first_index, trial.input_tokens, trial.output_tokens, trial.output_digest)
        for trial in store.trials(result.id)
    ]


@pytest.mark.parametrize(
    ("backend", "settings"),
    [
        ("echo", ECHO),
        ("pytorch", ("-m", "shape:tiny", "--set=dtype=float32", "--set=workload.output_tokens=256")),
    ],
)
def test_a_container_does_what_a_process_does(machine, backend: str, settings: tuple[str, ...]) -> None:
    """The same experiment has the same id, token counts and tokens on both sides, and the environment tells which."""
    code, out, err = machine.run(*settings, backend=backend)
    assert (code < 2, json.loads(out)["outcome"]) == (True, "done"), err + machine.log()  # 1: a busy machine stalls
    code, _, err = machine.run(*settings, "--launcher", "process", "-o", "plain", backend=backend)
    assert code < 2, err

    (inside, result), (plain, other) = stored(machine.folder / "out"), stored(machine.folder / "plain")
    assert result.id == other.id
    assert len(work_done(machine.folder / "out")) == 2
    assert work_done(machine.folder / "out") == work_done(machine.folder / "plain")
    assert verify(inside) == verify(plain) == []


def test_the_environment_is_that_of_the_container(machine) -> None:
    """The digest is the image's; operating system and packages are those inside; values of variables are not kept."""
    machine.configure(env={"PYTHONPATH": None, "SECRET": "hf_0815"})
    code, _, err = machine.run(*ECHO)
    assert code == 0, err
    store, result = stored(machine.folder / "out")
    facts = store.read_environment(result.environment)

    assert facts["container"]["digest"] == machine.docker("image", "inspect", "--format", "{{.Id}}", IMAGE)
    assert (facts["container"]["image"], facts["container"]["network"]) == (IMAGE, "none")
    assert facts["container"]["env"] == ["PYTHONPATH", "SECRET"]
    assert facts["host"]["container"] == "docker"
    assert "bookworm" in facts["host"]["system"]
    assert "llem-pytorch" in facts["plugins"]
    assert not any("hf_0815" in path.read_text() for path in (machine.folder / "out").rglob("*.json*"))


@pytest.mark.parametrize("user", [None, 12345])
def test_files_belong_to_the_caller(monkeypatch, tmp_path: Path, user: int | None) -> None:
    """Who runs `llem` owns what the worker writes; a user who need not exist in the image, too."""
    monkeypatch.chdir(tmp_path)
    order = ordered(tmp_path, "echo", {"trials": 1, "max_trials": 1, "window_s": 0.1})
    before = set(tmp_path.rglob("*"))
    owner = os.getuid() if user is None else user
    for path in before:
        os.chown(path, owner, owner)
    options = DockerOptions(image={"echo": IMAGE}, user=None if user is None else f"{user}:{user}")
    status = DockerLauncher(options).launch(order, print, threading.Event())
    written = set(tmp_path.rglob("*.json")) - before

    assert status == 0
    assert len(written) >= 3
    assert {path.stat().st_uid for path in written} == {owner}


@pytest.mark.parametrize("error", ["runtime", "exit", "kill"])
def test_a_backend_that_crashes(machine, error: str) -> None:
    """By an exception, by ending the process, by a signal: the outcome is a crash, and the log has what there is."""
    code, _, err = machine.run(*LAB, "--set=lab.fail_in=generate", f"--set=lab.error={error}", backend="lab")
    _, result = stored(machine.folder / "out")

    assert code == 1, err
    assert result.outcome == "crash"
    assert "Traceback (most recent call last)" not in err
    assert ("device lost" in machine.log()) == (error == "runtime")


def test_a_first_interrupt_ends_after_the_trial(machine) -> None:
    """It reaches the worker inside, which finishes its trial and says how it ended."""
    process = machine.start(*LAB, "--set=trials=500", backend="lab")
    machine.wait_for("trial")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    store, result = stored(machine.folder / "out")

    assert process.returncode == 130, err
    assert (result.outcome, result.trials >= 1) == ("interrupted", True)
    assert verify(store) == []


def test_a_second_interrupt_ends_at_once(machine) -> None:
    """A window of many minutes is not waited for."""
    process = machine.start(*LAB, "--set=window_s=900", backend="lab")
    machine.wait_for("phase", phase="trial")
    process.send_signal(signal.SIGINT)
    line = ""
    while "stopping" not in line:
        line = process.stderr.readline()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    _, result = stored(machine.folder / "out")

    assert (process.returncode, result.outcome) == (130, "interrupted")
    assert machine.is_empty(within_s=0)


def test_a_container_does_not_outlive_llem(machine) -> None:
    """Killed without a word, `llem` cannot clean up: the worker notices that its lifeline ended, and ends."""
    process = machine.start(*LAB, "--set=window_s=900", backend="lab")
    machine.wait_for("phase", phase="trial")
    process.kill()
    process.communicate(timeout=60)

    assert machine.is_empty()


def test_kill_ends_the_container_at_once(machine, monkeypatch, tmp_path: Path) -> None:
    """What a timeout does: `launch` returns, and nothing runs on."""
    monkeypatch.chdir(tmp_path)
    order = ordered(tmp_path, "echo", {"window_s": 900.0, "echo": {"token_seconds": 0.05}})
    launcher = DockerLauncher(DockerOptions(image={"echo": IMAGE}))

    def told(event: Any) -> None:
        if isinstance(event, Phase) and event.phase == "trial":
            threading.Thread(target=launcher.kill).start()

    assert launcher.launch(order, told, threading.Event()) == -signal.SIGKILL
    assert machine.is_empty(within_s=5)  # the daemon, which is told to remove it, may have begun so by itself


def test_a_study_that_takes_too_long_is_ended(machine) -> None:
    """Its limit on a worker's time is kept, and the outcome says so."""
    study = {"base": {"backend": "echo"}, "limits": {"timeout_s": 8}}
    (machine.folder / "study.yaml").write_text(json.dumps(study))
    code, _, err = machine.run("study.yaml", *ECHO, "--set=window_s=900")
    _, result = stored(machine.folder / "out")

    assert (code, result.outcome) == (1, "timeout"), err
    assert machine.is_empty(within_s=0)


def test_an_image_that_is_not_there(machine) -> None:
    """The machine's state: exit code 3, and how to get it. Nothing is pulled."""
    machine.images["echo"] = "llem-nowhere:1"
    machine.configure()
    code, _, err = machine.run(*ECHO)

    assert code == 3
    assert "there is no image llem-nowhere:1 for backend 'echo'" in err
    assert "Traceback" not in err


def test_an_image_without_llem(machine) -> None:
    """Docker's or its init's complaint becomes what to do."""
    machine.images["echo"] = os.environ["LLEM_TEST_BARE_IMAGE"]
    machine.configure()
    code, _, err = machine.run(*ECHO)

    assert code == 3
    assert "has no program `llem`" in err


def test_a_daemon_that_does_not_answer(machine) -> None:
    """Nobody listens at the socket."""
    machine.environ["DOCKER_HOST"] = f"unix://{machine.folder}/nobody"
    code, _, err = machine.run(*ECHO)

    assert code == 3
    assert "the Docker daemon does not answer" in err


def ordered(folder: Path, backend: str, settings: dict[str, Any], gpus: tuple[str, ...] = ()) -> Path:
    """A worker's order in a new store."""
    quick = {"preset": "quick", "device": "cpu", "warmup": {"seconds": 0}, "baseline": {"seconds": 0}, "meters": []}
    document = to_document(resolve([Layer("test", {"backend": backend, **quick, **settings})], registry()).experiment)
    store = Store.create(folder / "out", {"name": "test"})
    store.write_experiment("abc", {"id": "abc", "config": document, "model": {"weights": "random"}})
    path = store.worker_dir(0) / "order.json"
    WorkOrder(str(store.path), 0, 0, ("abc",), (("abc", 0),), gpus=gpus).write(path)
    return path


def test_gpus_where_docker_has_none_to_give(monkeypatch, tmp_path: Path) -> None:
    """A daemon without NVIDIA's toolkit refuses, which is told; the quoted UUIDs are one list to it."""
    monkeypatch.chdir(tmp_path)
    launcher = DockerLauncher(DockerOptions(image={"echo": IMAGE}))
    with pytest.raises(MachineError) as caught:
        launcher.launch(ordered(tmp_path, "echo", {}, ("GPU-a", "GPU-b")), print, threading.Event())

    assert caught.value.code == "docker_no_gpu"


def test_the_worker_has_no_privilege(machine, monkeypatch, tmp_path: Path) -> None:
    """No capability, no network, and of this machine's files none but those that are mounted."""
    from llem.launchers.container import needs_of, variables
    from llem.launchers.docker import run_command

    monkeypatch.chdir(tmp_path)
    order = ordered(tmp_path, "echo", {})
    options = DockerOptions()
    needs = needs_of(order)
    command = run_command("llem-look", order, needs, IMAGE, variables(needs, {}), options)
    at = command.index("--entrypoint")
    script = f"grep CapEff /proc/self/status; ls /sys/class/net; ls {tmp_path}; ls /proc | grep -c '^[0-9]'"
    shown = machine.docker(*command[1:at], "--entrypoint", "sh", IMAGE, "-c", script).splitlines()

    assert shown[0].split() == ["CapEff:", "0000000000000000"]
    assert shown[1:3] == ["lo", "out"]
    assert int(shown[3]) < 8  # none of the machine's other processes
