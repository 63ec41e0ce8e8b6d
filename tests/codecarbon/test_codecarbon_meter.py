"""The meter `codecarbon` on the real library and this machine's CPU."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from llem.errors import MachineError
from llem.meters.base import Domain
from llem_codecarbon import meter as codecarbon_meter
from llem_codecarbon.config import CodeCarbonOptions
from llem_codecarbon.meter import CodeCarbonMeter, tracker_settings

pytestmark = pytest.mark.process

Opened = tuple[CodeCarbonMeter, Sequence[Domain]]
CPU_W, RAM_W = 100.0, 12.0


@pytest.fixture(scope="module")
def opened() -> Iterator[Opened]:
    """A meter with stated powers, so that the model is the same on every machine."""
    meter = CodeCarbonMeter(CodeCarbonOptions(cpu_power_w=CPU_W, ram_power_w=RAM_W))
    try:
        yield meter, meter.open()
    finally:
        meter.close()


def window(meter: CodeCarbonMeter, seconds: float) -> tuple[dict[str, float | None], float, float]:
    """Energies of a window in which this machine computes on one core; its length without and with begin and end."""
    called = time.perf_counter()
    meter.begin()
    began = time.perf_counter()
    while time.perf_counter() - began < seconds:
        sum(range(1000))
    inner = time.perf_counter() - began
    found = dict(meter.end())
    return found, inner, time.perf_counter() - called


def test_model_is_labelled(opened: Opened) -> None:
    """With stated powers nothing is measured, and the instruments say what is assumed."""
    domains = {domain.name: domain for domain in opened[1]}
    assert {domain.kind for domain in domains.values()} == {"modelled"}
    assert "100 W" in domains["cpu:0"].instrument
    assert "12 W as configured" in domains["dram:0"].instrument


def test_energy_is_the_models(opened: Opened) -> None:
    """CPU energy lies between the model's floor of a tenth and full load; memory is its power times the time."""
    found, inner, outer = window(opened[0], 2.5)
    memory, cpu = found["dram:0"], found["cpu:0"]
    assert memory is not None
    assert cpu is not None
    assert 0.99 * RAM_W * inner <= memory <= 1.01 * RAM_W * outer
    assert 0.095 * CPU_W * inner <= cpu <= 1.05 * CPU_W * outer


def test_energy_grows_with_the_window(opened: Opened) -> None:
    """Of two windows one after the other, the longer has more, in proportion: the last part interval is included."""
    short, short_inner, short_outer = window(opened[0], 0.7)
    long, long_inner, long_outer = window(opened[0], 2.1)
    assert long["dram:0"] is not None
    assert short["dram:0"] is not None
    assert 0.99 * long_inner / short_outer <= long["dram:0"] / short["dram:0"] <= 1.01 * long_outer / short_inner


def test_window_that_was_never_ended(opened: Opened) -> None:
    """A window broken off is not part of the next one."""
    meter, _ = opened
    meter.begin()
    time.sleep(0.5)
    found, inner, outer = window(meter, 0.2)
    assert found["dram:0"] is not None
    assert 0.99 * RAM_W * inner <= found["dram:0"] <= 1.01 * RAM_W * outer


def test_users_codecarbon_settings_change_nothing(tmp_path: Path) -> None:
    """A site's own CodeCarbon settings neither scale energies, nor write files, nor break the meter."""
    (tmp_path / ".codecarbon.config").write_text("[codecarbon]\npue = 3\nforce_ram_power = 999\n")
    code = (
        "import time\n"
        "from llem_codecarbon.config import CodeCarbonOptions\n"
        "from llem_codecarbon.meter import CodeCarbonMeter\n"
        "meter = CodeCarbonMeter(CodeCarbonOptions(ram_power_w=10.0))\n"
        "meter.open(); meter.begin(); time.sleep(0.5); joules = meter.end()['dram:0']; meter.close()\n"
        "print(4 < joules < 8)\n"
    )
    environment = {
        **os.environ,
        "CODECARBON_PUE": "2",
        "CODECARBON_SAVE_TO_FILE": "True",
        "CODECARBON_OUTPUT_METHODS": "csv",
        "CODECARBON_OUTPUT_DIR": "/nonexistent",
        "CODECARBON_ALLOW_MULTIPLE_RUNS": "False",
        "CODECARBON_FORCE_CPU_POWER": "5",
    }
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
    assert done.stdout == "True\n", done.stderr
    assert [path.name for path in tmp_path.iterdir()] == [".codecarbon.config"]


def test_every_setting_is_one_of_codecarbons() -> None:
    """No setting is misspelt: CodeCarbon would swallow the error and start a tracker that does not work."""
    import inspect

    from codecarbon import EmissionsTracker, OfflineEmissionsTracker

    known = {*inspect.signature(OfflineEmissionsTracker).parameters, *inspect.signature(EmissionsTracker).parameters}
    assert set(tracker_settings(CodeCarbonOptions())) <= known


def test_failed_constructor_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tracker whose constructor failed in silence is refused, with where to look."""
    monkeypatch.setattr(codecarbon_meter, "tracker_settings", lambda options: {"no_such_setting": 1})
    meter = CodeCarbonMeter()
    with pytest.raises(MachineError, match="could not be made") as caught:
        meter.open()
    assert "codecarbon.config" in caught.value.hint
    meter.close()


@pytest.mark.parametrize("uuid", ["GPU-sliced", "MIG-0123"])
def test_mig_is_refused(uuid: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sliced GPU is an error, since its counter covers the whole GPU."""
    gpus = [SimpleNamespace(uuid="GPU-sliced", mig=True), SimpleNamespace(uuid="GPU-a", mig=False)]
    nvml: Any = SimpleNamespace(gpus=lambda: gpus, close=lambda: None)
    monkeypatch.setattr(codecarbon_meter.Nvml, "open", lambda: nvml)
    with pytest.raises(MachineError) as caught:
        CodeCarbonMeter(None, [uuid]).open()
    assert caught.value.code == "mig"


def test_window_before_open_is_refused() -> None:
    """A window on a meter that is not open says so."""
    with pytest.raises(MachineError, match="not open"):
        CodeCarbonMeter().begin()
