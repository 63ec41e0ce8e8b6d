"""Which device an experiment runs on, given what the machine lists and what CUDA_VISIBLE_DEVICES leaves."""

from __future__ import annotations

from pathlib import Path

import pytest

from llem.backends.base import Placement
from llem.config.models import Experiment
from llem.devices.nvml import Gpu
from llem.errors import ConfigError, MachineError
from llem.experiment.placement import Candidates, among, given_devices, place, restrict
from llem.testing.fakes import FakeClock, FakeNvml

GPUS = tuple(Gpu(index, f"GPU-{letter}", "Fake", 2**36, False) for index, letter in enumerate("abc"))


def chosen(visible: str | None = None, *, machine=GPUS, **settings) -> Placement:
    """The placement of an experiment with these settings."""
    return among(Experiment(backend="echo", **settings), machine, visible).first


@pytest.mark.parametrize(
    ("settings", "visible", "uuids"),
    [
        ({}, None, ("GPU-a",)),
        ({"device": "cuda"}, None, ("GPU-a",)),
        ({"gpus": (1,)}, None, ("GPU-b",)),
        ({"gpus": (2, 0)}, None, ("GPU-c", "GPU-a")),
        ({"gpus": ("GPU-b",)}, None, ("GPU-b",)),
        ({"gpus": ("GPU-c", 1)}, None, ("GPU-c", "GPU-b")),
        ({}, "2", ("GPU-c",)),
        ({}, "2,0", ("GPU-c",)),
        ({}, " 1 , 2 ", ("GPU-b",)),
        ({}, "GPU-b", ("GPU-b",)),
        ({"gpus": (1,)}, "0,1", ("GPU-b",)),
        ({"gpus": (2,)}, "GPU-c,GPU-a", ("GPU-c",)),
        ({"gpus": (0,)}, "0,7,1", ("GPU-a",)),
        ({"gpus": 1}, None, ("GPU-a",)),
        ({"gpus": 2}, "2,0", ("GPU-c", "GPU-a")),
        ({"gpus": 2, "device": "cuda"}, "GPU-b,GPU-c,GPU-a", ("GPU-b", "GPU-c")),
    ],
)
def test_gpus_are_chosen_by_the_machines_own_names(settings, visible, uuids) -> None:
    """Indices are NVML's and UUIDs are exact; what is visible decides the default, in its own order."""
    assert chosen(visible, **settings) == Placement("cuda", uuids)


@pytest.mark.parametrize("visible", ["", " ", "-1", "none", "NoDevFiles", "void", "-1,0", ",0"])
def test_auto_is_the_cpu_where_every_gpu_is_hidden_on_purpose(visible: str) -> None:
    """An empty list, a negative number, and what schedulers write for "no device"."""
    assert chosen(visible) == Placement("cpu")


@pytest.mark.parametrize("device", ["auto", "cuda"])
@pytest.mark.parametrize("visible", ["7", "GPU-x", "7,0", "all"])
def test_a_list_that_names_nothing_here_is_refused(device: str, visible: str) -> None:
    """CUDA would show nothing, and `auto` would be the CPU without a word: a wrong index or UUID is a mistake."""
    with pytest.raises(MachineError) as caught:
        chosen(visible, device=device)

    assert caught.value.message == (
        f"CUDA_VISIBLE_DEVICES is {visible!r}, and its first entry names no GPU of this machine"
    )
    assert caught.value.hint.startswith("GPUs of this machine: 0 (GPU-a), 1 (GPU-b), 2 (GPU-c); ")
    assert (caught.value.code, caught.value.exit_code) == ("gpu_missing", 3)


SLICES = ["MIG-4f2c", "MIG-GPU-b/3/0", "mig-4f2c", "0,MIG-4f2c", " MIG-4f2c ,1"]


@pytest.mark.parametrize("settings", [{}, {"device": "cuda"}, {"gpus": 1}, {"gpus": (0,)}])
@pytest.mark.parametrize("visible", SLICES)
def test_a_slice_is_refused_whatever_is_asked_for(visible: str, settings) -> None:
    """A slice has no energy counter: what to do is said, and the CPU does not take its place in silence."""
    with pytest.raises(MachineError) as caught:
        chosen(visible, **settings)

    assert "names the MIG slice" in caught.value.message
    assert "name a GPU without MIG" in caught.value.hint
    assert "or set `device: cpu`" in caught.value.hint
    assert (caught.value.code, caught.value.exit_code) == ("mig", 3)


@pytest.mark.parametrize("named", ["MIG-4f2c", "MIG-GPU-b/3/0"])
def test_a_slice_that_gpus_names_is_refused(named: str) -> None:
    """The same for the setting."""
    with pytest.raises(MachineError, match=f"`gpus` names the MIG slice {named}, which cannot be measured"):
        chosen(gpus=(named,))


def test_the_cpu_may_be_asked_for_beside_slices(monkeypatch) -> None:
    """`device: cpu` says what is wanted."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-4f2c")

    assert place(Experiment(backend="echo", device="cpu")) == Placement("cpu")


@pytest.fixture
def without_driver(monkeypatch) -> None:
    """NVML answers nobody."""
    monkeypatch.setattr("llem.devices.nvml._pynvml", lambda: FakeNvml(FakeClock(), []))
    monkeypatch.setattr("llem.experiment.placement.given_devices", list)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.mark.usefixtures("without_driver")
def test_auto_is_the_cpu_on_a_machine_without_a_driver() -> None:
    """No driver and no device: there is no GPU."""
    assert place(Experiment(backend="echo")) == Placement("cpu")


@pytest.mark.usefixtures("without_driver")
@pytest.mark.parametrize(
    ("visible", "code", "message"),
    [
        ("MIG-4f2c", "mig", "CUDA_VISIBLE_DEVICES names the MIG slice MIG-4f2c, which cannot be measured"),
        ("0", "no_gpu", "CUDA_VISIBLE_DEVICES is '0', and no NVIDIA GPU can be reached: driver not loaded"),
    ],
)
def test_what_is_visible_counts_without_a_driver_too(monkeypatch, visible: str, code: str, message: str) -> None:
    """A GPU is named, and none can be reached."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with pytest.raises(MachineError) as caught:
        place(Experiment(backend="echo"))

    assert (caught.value.code, caught.value.message) == (code, message)


@pytest.mark.usefixtures("without_driver")
def test_a_gpu_whose_driver_does_not_answer_is_not_replaced_by_the_cpu(monkeypatch) -> None:
    """The device file is there, as in a container without NVML; hidden on purpose it does not matter."""
    monkeypatch.setattr("llem.experiment.placement.given_devices", lambda: [Path("/dev/nvidia0")])
    with pytest.raises(
        MachineError, match="/dev/nvidia0 is there, and its GPU cannot be used: no NVIDIA GPU"
    ) as caught:
        place(Experiment(backend="echo"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")

    assert caught.value.exit_code == 3
    assert place(Experiment(backend="echo")) == Placement("cpu")


def test_which_device_files_are_given_to_this_process(tmp_path: Path) -> None:
    """GPUs alone, not the driver's other files; what cannot be opened for want of the device behind it is not given."""
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    (tmp_path / "nvidia2").symlink_to(tmp_path / "gone")

    assert [path.name for path in given_devices(tmp_path)] == ["nvidia0", "nvidia1"]


def test_auto_is_the_cpu_where_there_is_no_gpu() -> None:
    """NVML that lists nothing is a machine without a GPU."""
    assert chosen(machine=()) == Placement("cpu")


def test_cuda_without_a_visible_gpu_is_an_error() -> None:
    """What was asked for is not replaced by something else."""
    with pytest.raises(MachineError) as caught:
        chosen("", device="cuda")

    assert (caught.value.message, caught.value.code) == ("no GPU is visible to this process", "no_gpu")


@pytest.mark.parametrize(("visible", "wanted"), [("1", 0), ("0,7,1", 1), ("", "GPU-c")])
def test_a_hidden_gpu_is_told_from_a_missing_one(visible: str, wanted: int | str) -> None:
    """It is there, and CUDA would not see it: the variable is named."""
    with pytest.raises(MachineError) as caught:
        among(Experiment(backend="echo", gpus=(wanted,)), GPUS, visible)

    assert caught.value.message == f"GPU {wanted} is hidden by CUDA_VISIBLE_DEVICES"
    assert caught.value.hint.startswith("change CUDA_VISIBLE_DEVICES or `gpus`")


@pytest.mark.parametrize("wanted", [3, -1, "GPU-x", "0"])
def test_a_missing_gpu_lists_those_that_are_there(wanted: int | str) -> None:
    """The message names what was asked for, the hint what could be."""
    with pytest.raises(MachineError) as caught:
        among(Experiment(backend="echo", gpus=(wanted,)), GPUS[:2])

    assert caught.value.message == f"GPU {wanted} is not there"
    assert caught.value.hint == "GPUs of this machine: 0 (Fake, GPU-a), 1 (Fake, GPU-b)"


def test_a_missing_gpu_on_a_machine_without_any() -> None:
    """There is no empty list in the message."""
    with pytest.raises(MachineError) as caught:
        among(Experiment(backend="echo", gpus=(0,)), ())

    assert caught.value.hint == "GPUs of this machine: none"


@pytest.mark.parametrize("gpus", [(0,), 1])
def test_the_cpu_takes_no_gpus(gpus) -> None:
    """Two settings that contradict each other are not settled by ignoring one."""
    with pytest.raises(MachineError, match="`device` is cpu, yet `gpus` asks for GPUs"):
        among(Experiment(backend="echo", device="cpu", gpus=gpus), GPUS)


@pytest.mark.parametrize("twice", [(0, 0), (0, "GPU-a")])
def test_a_gpu_named_twice_is_refused(twice) -> None:
    """By index and by UUID it is the same GPU, and its energy would be counted twice."""
    with pytest.raises(ConfigError, match="`gpus` names a GPU twice"):
        among(Experiment(backend="echo", gpus=twice), GPUS)


@pytest.mark.parametrize(
    ("machine", "visible", "seen", "named"),
    [(GPUS, "1", 1, "GPU-b"), (GPUS, "0,7,1", 1, "GPU-a"), (GPUS, "0,0", 1, "GPU-a"), ((), None, 0, "none")],
)
def test_more_gpus_than_are_visible(machine, visible, seen, named) -> None:
    """Fewer would be another experiment; what CUDA would not show does not count, nor one GPU twice."""
    with pytest.raises(MachineError) as caught:
        chosen(visible, machine=machine, gpus=2)

    assert caught.value.message == f"`gpus` asks for 2 GPUs, and this process sees {seen}"
    assert (caught.value.hint, caught.value.code) == (f"visible: {named}", "gpu_missing")


@pytest.mark.parametrize(
    ("settings", "spread", "candidates"),
    [
        ({}, False, Candidates(("GPU-c",), 1)),
        ({}, True, Candidates(("GPU-c", "GPU-a", "GPU-b"), 1)),
        ({"gpus": 2}, False, Candidates(("GPU-c", "GPU-a", "GPU-b"), 2)),
        ({"gpus": (0, 1)}, True, Candidates(("GPU-a", "GPU-b"), 2)),
    ],
)
def test_which_gpus_may_take_the_place_of_busy_ones(settings, spread, candidates) -> None:
    """None for those that are named; any for a number; and for one that is not named where workers run side by side."""
    assert among(Experiment(backend="echo", **settings), GPUS, "2,0,1", spread=spread) == candidates


def test_the_cpu_needs_no_nvml() -> None:
    """An experiment on the CPU is placed without looking for a GPU."""
    assert place(Experiment(backend="echo", device="cpu")) == Placement("cpu")


@pytest.mark.parametrize(
    ("placement", "visible"),
    [(Placement("cpu"), ""), (Placement("cuda", ("GPU-c", "GPU-a")), "GPU-c,GPU-a")],
)
def test_the_process_sees_the_chosen_gpus_alone(placement: Placement, visible: str) -> None:
    """By UUID, whatever order the libraries count in; none for the CPU."""
    environment = {"CUDA_VISIBLE_DEVICES": "0,1,2", "PATH": "/bin"}
    restrict(placement, environment)

    assert environment == {"CUDA_VISIBLE_DEVICES": visible, "PATH": "/bin"}
