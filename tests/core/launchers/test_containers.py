"""What a container has to see: mounts, GPUs, variables, and what it is told of itself."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llem import __version__
from llem.devices.host import VARIABLE, Container, told_container
from llem.errors import ConfigError, LlemError, MachineError
from llem.launchers.apptainer import ApptainerLauncher
from llem.launchers.container import ended_by_signal, mount, needs_of, variables
from llem.launchers.docker import DockerLauncher
from llem.launchers.options import ApptainerOptions, DockerOptions
from llem.protocol.order import WorkOrder


@given(st.text(st.characters(blacklist_categories=("Cs", "Cc")), min_size=1))
def test_any_path_survives_the_way_into_a_mount(name: str) -> None:
    """Commas and quotes in a path do not make further options of it."""
    path = Path("/data") / name.replace("/", "_")
    [fields] = csv.reader([mount(path)])

    assert fields == ["type=bind", f"source={path}", f"destination={path}", "ro"]


def test_a_shape_needs_the_store_alone(ordered, tmp_path: Path) -> None:
    """The results folder is the only one that is mounted, to be written."""
    needs = needs_of(ordered(model="shape:tiny"))

    assert needs.mounts == [f"type=bind,source={tmp_path}/out,destination={tmp_path}/out"]
    assert (needs.backend, needs.gpus, needs.hub) == ("echo", (), None)


def test_what_the_configuration_names_is_read_only(ordered, tmp_path: Path) -> None:
    """A model's folder, a file of prompts and the launcher's own mounts, by the names they were given."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text('{"model_type": "llama"}')
    (tmp_path / "prompts.txt").write_text("one\n")
    (tmp_path / "more").mkdir()
    order = ordered(model="./model", workload={"kind": "file", "path": "prompts.txt"})
    needs = needs_of(order, ["more"])

    assert set(needs.read) == {tmp_path / "model", tmp_path / "prompts.txt", tmp_path / "more"}
    assert [text.endswith(",ro") for text in needs.mounts] == [False, True, True, True]


def test_files_that_quality_is_scored_on_are_read_only(ordered, tmp_path: Path) -> None:
    """They are no part of an experiment's identity, and the container has to see them."""
    (tmp_path / "wiki.txt").write_text("one\n")
    quality = {"evaluator": "perplexity", "tasks": ["wiki.txt"], "force": True}

    assert needs_of(ordered(model="shape:tiny", quality=quality)).read == (tmp_path / "wiki.txt",)


def test_a_mount_that_is_not_there_is_refused(ordered) -> None:
    """Docker would make an empty folder of it, or fail with a message of its own."""
    with pytest.raises(ConfigError, match="no file or folder nowhere"):
        needs_of(ordered(), ["nowhere"])


def test_a_model_of_the_hub_comes_from_the_cache(ordered, tmp_path: Path) -> None:
    """Which is read only, so it must not be refreshed; its parent, which may hold a token, stays outside."""
    hub = tmp_path / "cache" / "hub"
    (hub / "models--org--name").mkdir(parents=True)
    needs = needs_of(ordered(model="org/name"), environ={"HF_HOME": str(hub.parent)})

    assert needs.read == (hub,)
    assert variables(needs, {})["HF_HUB_CACHE"] == str(hub)
    assert variables(needs, {})["HF_HUB_OFFLINE"] == "1"


def test_a_model_that_is_not_in_the_cache(ordered, tmp_path: Path) -> None:
    """Without a network that is said before a container starts; with one it is fetched, into no cache of the user's."""
    order = ordered(model="org/name")
    environ = {"HF_HUB_CACHE": str(tmp_path / "hub")}
    (tmp_path / "hub").mkdir()
    with pytest.raises(MachineError, match=r"org/name is not in this machine's Hugging Face cache") as caught:
        needs_of(order, environ=environ)
    assert "hf download org/name" in caught.value.hint

    needs = needs_of(order, online=True, environ=environ)

    assert needs.read == ()
    assert "HF_HUB_OFFLINE" not in variables(needs, {})


def test_gpus_that_are_left_open_are_chosen_outside(ordered, monkeypatch) -> None:
    """The order then names them by UUID: inside, an index means another card."""
    order = ordered(gpus=None)
    needs = needs_of(order)

    assert needs.gpus == WorkOrder.read(order).gpus == ()


def test_gpus_of_the_order_are_given(ordered) -> None:
    """Whoever planned the work has locked them."""
    assert needs_of(ordered(gpus=("GPU-a", "GPU-b"))).gpus == ("GPU-a", "GPU-b")


def test_variables_are_passed_on_only_when_asked(ordered) -> None:
    """Null takes the caller's value, and one that is not set is the user's mistake."""
    needs = needs_of(ordered())
    found = variables(needs, {"NCCL_DEBUG": "INFO", "TOKEN": None}, {"TOKEN": "secret", "OTHER": "x"})

    assert (found["NCCL_DEBUG"], found["TOKEN"], "OTHER" in found) == ("INFO", None, False)
    with pytest.raises(ConfigError, match=r"env\.TOKEN: is not set here"):
        variables(needs, {"TOKEN": None}, {})


@pytest.mark.parametrize(
    ("status", "told"), [(0, 0), (1, 1), (125, 125), (128, 128), (137, -9), (143, -15), (255, 255)]
)
def test_a_signal_is_told_as_python_tells_it(status: int, told: int) -> None:
    """137 is a process that was killed, whichever side of the container tells it."""
    assert ended_by_signal(status) == told


def test_a_container_is_told_through_its_variable() -> None:
    """What goes in comes out; without the variable there is no container, and nonsense is refused."""
    one = Container("docker 20.10", "llem-x:1", "sha256:12", ("r@sha256:3",), "none", ("NAME",))
    found = told_container({VARIABLE: one.told()})

    assert found == json.loads(one.told())
    assert found is not None
    assert (found["digest"], found["repo_digests"]) == ("sha256:12", ["r@sha256:3"])
    assert told_container({}) is None
    with pytest.raises(MachineError, match="holds no container"):
        told_container({VARIABLE: '{"image": 3}'})


@pytest.fixture
def ready(recorder, tmp_path: Path, monkeypatch):
    """Launchers of both kinds whose images are all there, by the settings they share; the home has no model cache."""
    docker, apptainer = recorder("docker"), recorder("apptainer")
    docker.answer(["version"], out=json.dumps({"Version": "27.0", "Components": [{"Name": "Engine"}]}))
    docker.answer(["image", "inspect"], out=json.dumps([{"Id": "sha256:feed"}]))
    docker.answer(["image", "inspect", "gone:1"], status=1, out="[]", err="Error: No such image: gone:1")
    apptainer.answer(["--version"], out="apptainer version 1.3.4")
    for one in (docker, apptainer):
        one.program(f"print('llem, version {__version__}')")
    image = tmp_path / "echo.sif"
    image.write_text("image")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))

    def made(kind: str, image_name: str | None = None, **settings) -> DockerLauncher | ApptainerLauncher:
        if kind == "docker":
            return DockerLauncher(DockerOptions(image={"echo": image_name} if image_name else {}, **settings))
        return ApptainerLauncher(ApptainerOptions(image={"echo": image_name or str(image)}, **settings))

    made.calls = lambda: docker.calls + apptainer.calls
    return made


@pytest.mark.process
@pytest.mark.parametrize("kind", ["docker", "apptainer"])
def test_what_a_container_lacks_is_found_beforehand(ready, planned, kind: str) -> None:
    """The image of each backend, mounts, variables, models: all that would fail every worker. No worker is started."""
    here = planned(backend="echo", device="cpu").experiment
    hub = attrs.evolve(here, model="org/name")
    ready(kind).check([here])
    ready(kind, network="host").check([here, hub])
    for settings, experiments, message in (
        ({"image_name": "gone:1"}, [here], "there is no image"),
        ({"mounts": ("nowhere",)}, [here], "no file or folder nowhere"),
        ({"env": {"NOT_SET_ANYWHERE": None}}, [here], "NOT_SET_ANYWHERE: is not set here"),
        ({"network": "none"}, [here, hub], "org/name is not in this machine's Hugging Face cache"),
    ):
        with pytest.raises(LlemError) as caught:
            ready(kind, **settings).check(experiments)
        assert message in str(caught.value)

    started = [call for call in ready.calls() if call[0] in ("run", "exec", "pull")]
    assert [call[-1] for call in started] == ["--version"] * 2
