"""Which device an experiment runs on, given what the machine lists and what CUDA_VISIBLE_DEVICES leaves."""

from __future__ import annotations

import pytest

from llem.backends.base import Placement
from llem.config.models import Experiment
from llem.devices.nvml import Gpu
from llem.errors import ConfigError, MachineError
from llem.experiment.placement import Candidates, among, place, restrict

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


@pytest.mark.parametrize("visible", ["", "-1", "none", "7", "MIG-x"])
def test_auto_is_the_cpu_where_no_gpu_is_visible(visible: str) -> None:
    """An empty or unknown list hides everything, as for CUDA."""
    assert chosen(visible) == Placement("cpu")


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
