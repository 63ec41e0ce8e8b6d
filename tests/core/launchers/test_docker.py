"""The launcher `docker` against a client that records: its command line, and what becomes of each refusal.

That real containers do what is expected of them is tested in tests/docker, where there is a daemon.
"""

from __future__ import annotations

import itertools
import json
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from llem import __version__
from llem.config.models import Experiment
from llem.devices.host import VARIABLE
from llem.errors import MachineError
from llem.launchers.docker import DockerLauncher, _user, refusal
from llem.launchers.options import DockerOptions
from llem.protocol.events import Outcome

pytestmark = pytest.mark.process

#: How a worker's program tells an event: `tell('warning', message='ready')`.
TELL = (
    "import json\n"
    "at = {'monotonic_ns': 1, 'utc': '2026-01-01T00:00:00+00:00'}\n"
    "def tell(kind, **fields): print(json.dumps({'event': kind, 'at': at, **fields}), flush=True)\n"
)
ENDS = TELL + "tell('outcome', id='a', outcome='done')"


@pytest.fixture
def docker(recorder: Any) -> Any:
    """A client whose daemon answers and has every image."""
    made = recorder("docker")
    made.answer(["version"], out=json.dumps({"Version": "20.10.24", "Components": [{"Name": "Engine"}]}))
    made.answer(["image", "inspect"], out=json.dumps([{"Id": "sha256:feed", "RepoDigests": ["r/llem@sha256:cafe"]}]))
    made.answer(["info", "--format", "{{json .SecurityOptions}}"], out='["name=seccomp,profile=default"]')
    made.program(ENDS)
    _user.cache_clear()
    yield made
    _user.cache_clear()


def launch(order: Path, options: DockerOptions | None = None, stop: threading.Event | None = None) -> Any:
    """Run; status and events."""
    seen: list[Any] = []
    return DockerLauncher(options).launch(order, seen.append, stop or threading.Event()), seen


def after(arguments: list[str], option: str) -> list[str]:
    """Values of an option that may stand several times."""
    return [value for name, value in itertools.pairwise(arguments) if name == option]


def test_the_worker_runs_by_digest_without_privilege(docker, ordered, tmp_path: Path) -> None:
    """The image that was looked at is the one that runs; nothing is pulled, no capability is left, no network."""
    order = ordered()
    status, seen = launch(order)
    arguments = docker.started

    assert (status, seen) == (0, [Outcome(id="a", outcome="done")])
    assert arguments[-4:] == ["sha256:feed", "worker", "--lifeline", str(tmp_path / "out/workers/0/order.json")]
    assert {"--rm", "--init", "--interactive"} <= set(arguments)
    assert not {"--privileged", "--pid", "--ipc", "--gpus", "--tty"} & set(arguments)
    for option, value in {
        "--entrypoint": "llem",
        "--pull": "never",
        "--network": "none",
        "--cap-drop": "ALL",
        "--security-opt": "no-new-privileges",
        "--shm-size": "8g",
        "--workdir": str(tmp_path),
        "--mount": f"type=bind,source={tmp_path}/out,destination={tmp_path}/out",
    }.items():
        assert after(arguments, option) == [value]
    assert "NVIDIA_VISIBLE_DEVICES=void" in after(arguments, "--env")


def test_the_worker_is_told_its_container(docker, ordered) -> None:
    """Name, digest and names of variables; what they hold is not told."""
    launch(ordered(), DockerOptions(image={"echo": "mine:2"}, env={"NCCL_DEBUG": "INFO"}))
    [told] = [text for text in after(docker.started, "--env") if text.startswith(VARIABLE)]

    assert json.loads(told.partition("=")[2]) == {
        "runtime": "docker 20.10.24",
        "image": "mine:2",
        "digest": "sha256:feed",
        "repo_digests": ["r/llem@sha256:cafe"],
        "network": "none",
        "env": ["NCCL_DEBUG"],
    }
    assert ["image", "inspect", "mine:2"] in docker.calls
    assert "NCCL_DEBUG=INFO" in after(docker.started, "--env")


def test_a_secret_is_not_on_the_command_line(docker, ordered, monkeypatch) -> None:
    """A variable that is passed on stands there by its name alone."""
    monkeypatch.setenv("TOKEN", "hf_0815")
    launch(ordered(), DockerOptions(env={"TOKEN": None}))

    assert "TOKEN" in after(docker.started, "--env")
    assert not any("hf_0815" in argument for argument in docker.started)


def test_gpus_go_by_uuid_in_quotes(docker, ordered) -> None:
    """Docker reads the value as CSV: without the quotes the second GPU would be an unknown option."""
    launch(ordered(gpus=("GPU-a", "GPU-b")))

    assert after(docker.started, "--gpus") == ['"device=GPU-a,GPU-b"']
    assert "CUDA_VISIBLE_DEVICES=GPU-a,GPU-b" in after(docker.started, "--env")
    assert not any("void" in value for value in after(docker.started, "--env"))


@pytest.mark.parametrize(
    ("security", "user"), [('["name=seccomp"]', None), ('["name=seccomp","name=rootless"]', "0:0")]
)
def test_files_belong_to_the_caller(docker, ordered, security: str, user: str | None) -> None:
    """By the caller's own ids; with a rootless daemon those stand for strangers, and root for the caller."""
    docker.answer(["info", "--format", "{{json .SecurityOptions}}"], out=security)
    launch(ordered())

    assert after(docker.started, "--user") == [user or f"{os.getuid()}:{os.getgid()}"]


@pytest.mark.parametrize("how", ["ends", "raises", "fails"])
def test_the_container_is_removed_in_any_case(docker, ordered, how: str) -> None:
    """Whether the worker ends, the caller gives up, or Docker refuses."""
    docker.program("raise SystemExit(125)" if how == "fails" else ENDS)
    order = ordered()

    def told(_: Any) -> None:
        if how == "raises":
            raise KeyboardInterrupt

    if how == "ends":
        DockerLauncher().launch(order, told, threading.Event())
    else:
        with pytest.raises((KeyboardInterrupt, MachineError)):
            DockerLauncher().launch(order, told, threading.Event())

    [name] = after(docker.started, "--name")
    assert docker.calls[-1] == ["rm", "--force", "--volumes", name]


def test_a_container_that_stays_is_reported(docker, ordered) -> None:
    """Going on would measure beside it."""
    docker.answer(["rm"], status=1, err="Error response from daemon: device or resource busy")
    with pytest.raises(MachineError, match="could not be removed"):
        launch(ordered())


@pytest.mark.parametrize("error", ["Error: No such container: llem-x", "removal of container x is already in progress"])
def test_a_container_that_is_gone_already_is_no_error(docker, ordered, error: str) -> None:
    """`--rm` was faster."""
    docker.answer(["rm"], status=1, err=error)

    assert launch(ordered())[0] == 0


@pytest.mark.parametrize(("status", "told"), [(1, 1), (3, 3), (137, -9)])
def test_the_workers_status_is_kept(docker, ordered, status: int, told: int) -> None:
    """What the worker ends with is what the launcher returns; 137 is SIGKILL."""
    docker.program(f"raise SystemExit({status})")

    assert launch(ordered())[0] == told


def test_stop_reaches_the_client_which_may_finish(docker, ordered) -> None:
    """SIGTERM, which `docker run` hands on; events that come afterwards still arrive."""
    docker.program(
        f"{TELL}import signal, threading\nstop = threading.Event()\n"
        "signal.signal(signal.SIGTERM, lambda *_: stop.set())\n"
        "tell('started', pid=1)\nstop.wait(20)\n"
        "tell('ended')\n"
    )
    stop, seen = threading.Event(), []

    def told(event: Any) -> None:
        seen.append(event.kind)
        stop.set()

    assert DockerLauncher().launch(ordered(), told, stop) == 0
    assert seen == ["started", "ended"]


def test_kill_ends_a_hanging_worker(docker, ordered) -> None:
    """From another thread; `launch` returns and the container is removed. Without anything running it does nothing."""
    docker.program(f"{TELL}import time\ntell('started', pid=1)\ntime.sleep(60)")
    launcher = DockerLauncher()
    launcher.kill()
    begun = time.monotonic()

    def told(_: Any) -> None:
        threading.Thread(target=launcher.kill).start()

    assert launcher.launch(ordered(), told, threading.Event()) == -9
    assert time.monotonic() - begun < 30
    assert docker.calls[-1][0] == "rm"


def test_kill_is_not_forgotten_before_there_is_a_container(docker, ordered, monkeypatch) -> None:
    """While Docker is still asked for the image nothing runs; what then starts is ended."""
    docker.program("import time; time.sleep(60)")
    launcher = DockerLauncher()
    monkeypatch.setattr("llem.launchers.docker._inspect", lambda *_: launcher.kill() or {"Id": "sha256:feed"})

    assert launcher.launch(ordered(), print, threading.Event()) == -9


def test_docker_is_not_installed(ordered, monkeypatch, tmp_path: Path) -> None:
    """Nothing of that name is on the path."""
    order = ordered()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MachineError, match="docker is not installed") as caught:
        launch(order)

    assert caught.value.code == "docker_missing"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ("Cannot connect to the Docker daemon at unix:///var/run/docker.sock.", "docker_down"),
        ("permission denied while trying to connect to the Docker daemon socket", "docker_permission"),
    ],
)
def test_the_daemon_does_not_answer(docker, ordered, error: str, code: str) -> None:
    """It is not running, or not for this user."""
    docker.answer(["version"], status=1, err=error)
    with pytest.raises(MachineError) as caught:
        launch(ordered())

    assert caught.value.code == code


def test_podman_is_not_taken_for_docker(docker, ordered) -> None:
    """It loses exit codes and takes `--gpus` in silence."""
    docker.answer(["version"], out=json.dumps({"Version": "4.3.1", "Components": [{"Name": "Podman Engine"}]}))
    with pytest.raises(MachineError, match="Podman") as caught:
        launch(ordered())

    assert caught.value.code == "docker_is_podman"
    assert [call for call in docker.calls if call[0] == "run"] == []


def test_an_image_that_is_not_there_is_not_pulled(docker, ordered) -> None:
    """The error names the image and how to get it."""
    docker.answer(["image", "inspect"], status=1, out="[]", err="Error: No such image: llem-echo:0.1.0")
    with pytest.raises(MachineError, match="there is no image llem-echo") as caught:
        launch(ordered())

    assert caught.value.code == "docker_image_missing"
    assert "launchers.docker.image.echo" in caught.value.hint
    assert [call for call in docker.calls if call[0] in ("run", "pull")] == []


@pytest.mark.parametrize(
    ("status", "told", "code"),
    [
        (125, 'could not select device driver "" with capabilities: [[gpu]].', "docker_no_gpu"),
        (127, "[FATAL tini (7)] exec llem failed: No such file or directory", "docker_image_unfit"),
        (127, 'OCI runtime create failed: exec: "llem": executable file not found in $PATH', "docker_image_unfit"),
        (125, "docker: Error response from daemon: invalid mount config.\nSee 'docker run --help'.", "docker_failed"),
        (126, "", "docker_failed"),
    ],
)
def test_dockers_own_failures_are_told(status: int, told: str, code: str) -> None:
    """Each with what to do; an unknown one with Docker's own words."""
    error = refusal(status, told, "mine:2")

    assert (error.code, error.exit_code) == (code, 3)
    assert error.hint
    if "invalid mount" in told:
        assert error.message == "docker run failed (125): invalid mount config"


@pytest.mark.parametrize(
    ("program", "code", "told"),
    [
        ("print('llem, version 0.0.9')", "image_version", "has llem 0.0.9"),
        (
            "import sys; sys.exit('exec: \"llem\": executable file not found in $PATH')",
            "image_without_llem",
            "executable",
        ),
        ("print('hello')", "image_without_llem", "hello"),
    ],
)
def test_an_image_needs_this_llem(docker, ordered, program: str, code: str, told: str) -> None:
    """Seen before a study is begun, by asking it, with no network and no privilege."""
    ordered()
    docker.program(program)
    with pytest.raises(MachineError, match=told) as caught:
        DockerLauncher().check([Experiment(backend="echo")])
    assert caught.value.code == code
    assert docker.started[-4:] == ["--entrypoint", "llem", "sha256:feed", "--version"]
    assert after(docker.started, "--network") == ["none"]


def test_an_image_with_this_llem_is_taken(docker, ordered) -> None:
    """What else it prints when it starts does not matter."""
    ordered()
    docker.program(f"print('CUDA 12'); print('llem, version {__version__}')")
    DockerLauncher().check([Experiment(backend="echo")])
