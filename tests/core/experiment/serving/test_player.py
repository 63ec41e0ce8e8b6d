"""Windows that decide what rate is measured: none of them counts while llem stood still."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

from llem.devices.pulse import Beats, Gap
from llem.errors import ExperimentFailed
from llem.experiment.calibration import AGAIN
from llem.experiment.serving.player import Player
from llem.experiment.serving.ticks import Ticks

S = 1_000_000_000
T0 = time.monotonic_ns() + 1000 * S  # of each window; its load begins when it is asked for
STOPPED = Gap(T0 + S, T0 + 2 * S, 0.0, 0.0, stopped=True)
BEFORE = Gap(T0 - 3 * S, T0 - 2 * S, 0.0, 0.0, stopped=True)
AFTER = Gap(T0 + 6 * S, T0 + 7 * S, 0.0, 0.0, stopped=True)


class Pulse:
    """Beats of one window after the other, as given."""

    def __init__(self, gaps: list[tuple[Gap, ...]]) -> None:
        self._gaps = gaps

    def __enter__(self) -> Pulse:
        return self

    def __exit__(self, *raised: object) -> None:
        pass

    def beats(self, t0_ns: int, t1_ns: int) -> Beats:
        return Beats(0.05, self._gaps.pop(0))


def player(monkeypatch: pytest.MonkeyPatch, gaps: list[tuple[Gap, ...]], played: Any) -> tuple[Player, list[int]]:
    """A player whose every load is a window of 5 s, and what it was asked to run."""
    ran: list[int] = []
    made = Player(
        SimpleNamespace(  # type: ignore[arg-type]
            live_instruments=SimpleNamespace(pulse=Pulse(gaps)),
            process=SimpleNamespace(placement=SimpleNamespace(device="cpu")),
        )
    )

    def run(act: Any, in_flight: float) -> Any:
        ran.append(len(ran))
        return (T0, T0 + 5 * S), played

    monkeypatch.setattr(made, "run", run)
    return made, ran


def no_clients() -> Any:
    """What was played by the worker's own loop."""
    return SimpleNamespace(ticks=(), processes=0)


@pytest.mark.parametrize("pauses", [[], [STOPPED], [BEFORE], [STOPPED] * AGAIN])
def test_a_window_with_a_pause_is_made_again(monkeypatch, pauses: list[Gap]) -> None:
    """Until none is within it or before it; one in the drain is no matter."""
    made, ran = player(monkeypatch, [*[(gap,) for gap in pauses], (AFTER,)], no_clients())

    assert made.steadily(None, 1)[0] == (T0, T0 + 5 * S)  # type: ignore[arg-type]
    assert len(ran) == len(pauses) + 1


def test_pauses_in_all_of_them_end_the_experiment(monkeypatch) -> None:
    """No rate is measured that nobody asked for."""
    made, ran = player(monkeypatch, [(STOPPED,)] * (AGAIN + 1), no_clients())
    with pytest.raises(ExperimentFailed, match=r"each of 4 windows .* for 0\.95 s") as caught:
        made.steadily(None, 1)  # type: ignore[arg-type]

    assert caught.value.code == "invalid"
    assert len(ran) == AGAIN + 1


def test_a_frozen_client_process_is_a_pause_too(monkeypatch) -> None:
    """The worker's own pulse tells nothing of it."""
    ticks = Ticks(due_ns=(T0, T0 + S), late_ns=(0, 2 * S), cpu_ns=(0, 0), waited_ns=(0, 0))
    made, _ = player(monkeypatch, [()] * (AGAIN + 1), SimpleNamespace(ticks=(ticks,), processes=1))
    with pytest.raises(ExperimentFailed, match=r"for 2\.00 s"):
        made.steadily(None, 1)  # type: ignore[arg-type]
