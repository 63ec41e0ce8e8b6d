"""The pause between two trials: by time, and until the GPUs are as cool as they were."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from llem.errors import ExperimentFailed, MachineError
from llem.experiment import procedure
from llem.experiment.procedure import pause
from llem.protocol.order import Gap


class Oven:
    """A process whose GPUs cool by a degree with every look; it does not sleep."""

    def __init__(self, gap: Gap, **degrees: int | None) -> None:
        self.order, self.first_c = SimpleNamespace(gap=gap), None
        self.placement = SimpleNamespace(gpu_uuids=tuple(degrees))
        self.degrees, self.nvml = degrees, self if degrees else None
        self.rested: list[float] = []
        self.told: list[str] = []

    def temperature_c(self, uuid: str) -> int | None:
        return self.degrees[uuid]

    def rest(self, seconds: float) -> None:
        self.rested.append(seconds)
        self.degrees = {uuid: None if now is None else now - 1 for uuid, now in self.degrees.items()}

    def phase(self, name: str, *_: Any) -> None:
        self.told.append(name)


def test_the_first_trial_is_not_waited_for() -> None:
    """Its temperature is what the others are held to."""
    process = Oven(Gap(5.0, 2.0), A=60, B=50)

    assert pause(process) == []  # type: ignore[arg-type]
    assert (process.rested, process.told, process.first_c) == ([], [], {"A": 60, "B": 50})


def test_a_fixed_pause() -> None:
    """Needs no GPU, and none at all says nothing."""
    process, none = Oven(Gap(5.0)), Oven(Gap())
    for one in (process, none):
        pause(one)  # type: ignore[arg-type]
        pause(one)  # type: ignore[arg-type]

    assert (process.rested, process.told) == ([5.0], ["pause"])
    assert (none.rested, none.told) == ([0.0], [])


def test_every_gpu_is_waited_for() -> None:
    """Until each is within the margin of its own first temperature."""
    process = Oven(Gap(0.0, 2.0), A=60, B=50)
    pause(process)  # type: ignore[arg-type]
    process.degrees = {"A": 64, "B": 57}
    assert pause(process) == []  # type: ignore[arg-type]

    assert process.degrees == {"A": 59, "B": 52}


def test_a_gpu_that_does_not_cool_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the longest wait, with what it has and what was wanted."""
    process = Oven(Gap(0.0, 1.0, timeout_s=0.05), A=60)
    pause(process)  # type: ignore[arg-type]
    monkeypatch.setattr(process, "rest", lambda _: None)
    process.degrees = {"A": 70}
    [found] = pause(process)  # type: ignore[arg-type]

    assert (found.code, found.severity) == ("still_warm", "warning")
    assert found.message == "not cool after 0.05 s: A at 70 °C, wanted 61 °C"
    assert found.evidence == {"timeout_s": 0.05, "gpus": ["A"]}


@pytest.mark.parametrize("degrees", [{}, {"A": None}, {"A": 50, "B": None}])
def test_temperatures_that_cannot_be_read(degrees: dict) -> None:
    """A setting that can have no effect is refused, on the CPU too."""
    with pytest.raises(MachineError, match="gap_until_c"):
        pause(Oven(Gap(0.0, 1.0), **degrees))  # type: ignore[arg-type]


def test_a_wish_to_stop_ends_the_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also while a GPU cools."""
    process = Oven(Gap(0.0, 1.0), A=60)
    pause(process)  # type: ignore[arg-type]

    def stopped(_: float) -> None:
        raise ExperimentFailed("stopped by the user", "", "interrupted")

    monkeypatch.setattr(process, "rest", stopped)
    monkeypatch.setattr(procedure, "COOLING_POLL_S", 0.01)
    with pytest.raises(ExperimentFailed):
        pause(process)  # type: ignore[arg-type]
