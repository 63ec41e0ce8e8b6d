"""Whole runs with echo on machines whose RAPL is not as it should be; the counters are files that the test writes."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import llem
from llem.errors import MachineError
from llem.metrics.verify import verify
from llem.store.store import Store

pytestmark = pytest.mark.process

RANGE_UJ = 262_143_328_850
WATTS = 68.0


@pytest.fixture
def powercap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that this process, and the one that reads the meters, take for the kernel's."""
    root, site = tmp_path / "powercap", tmp_path / "site"
    root.mkdir()
    site.mkdir()
    code = f"import pathlib\nimport llem.meters.rapl\nllem.meters.rapl.POWERCAP = pathlib.Path({str(root)!r})\n"
    (site / "sitecustomize.py").write_text(code)
    path = [str(site), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, path)))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr("llem.meters.rapl.POWERCAP", root)
    return root


def zone(root: Path, number: int, name: str) -> Path:
    """A package, with its range."""
    folder = root / f"intel-rapl:{number}"
    folder.mkdir()
    (folder / "name").write_text(name)
    (folder / "max_energy_range_uj").write_text(str(RANGE_UJ))
    write(folder, 1000.0)
    return folder


def write(folder: Path, joules: float) -> None:
    """The counter's next value, which no reader sees half written."""
    new = folder / "energy_uj.new"
    new.write_text(str(round(joules * 1e6) % RANGE_UJ))
    os.replace(new, folder / "energy_uj")


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """`counting(folders, joules)`: write `joules(seconds since now)` to each every 2 ms, until the test ends."""
    over = threading.Event()
    threads: list[threading.Thread] = []

    def begin(folders: list[Path], joules: Callable[[float], float] = lambda s: 1000.0 + WATTS * s) -> None:
        since = time.monotonic()

        def count() -> None:
            while not over.wait(0.002):
                now = joules(time.monotonic() - since)
                for folder in folders:
                    write(folder, now)

        threads.append(threading.Thread(target=count))
        threads[-1].start()

    yield begin
    over.set()
    for thread in threads:
        thread.join()


def run(folder: Path, short: dict[str, Any], **settings: Any) -> llem.Result:
    """One experiment on the CPU, with windows of 0.6 s."""
    return llem.run(out=folder / "out", launcher="inline", **{**short, "window_s": 0.6, "trials": 1, **settings})


def codes(result: llem.Result) -> set[str]:
    """Of its findings."""
    return {found.code for found in result.findings}


def test_two_dies_that_show_one_counter_give_its_energy_once(tmp_path: Path, short, powercap: Path, counting) -> None:
    """68 W, and not the 136 W of the sum."""
    counting([zone(powercap, die, f"package-0-die-{die}") for die in (0, 1)])
    result = run(tmp_path, short, meters=["rapl"])
    [domain] = result.domains

    assert domain.domain == "cpu:0"
    assert domain.power_w.value == pytest.approx(WATTS, rel=0.1)
    assert (result.metrics["energy_j"].scope, result.valid) == ("cpu", True)
    assert verify(Store.open(tmp_path / "out")) == []


@pytest.mark.parametrize("fault", ["range", "permission"])
def test_a_meter_that_nobody_named_is_a_finding_where_it_cannot_be_used(
    tmp_path: Path, short, powercap: Path, counting, fault: str
) -> None:
    """The run ends as any other, without an energy: neither a traceback nor the half of one package."""
    first, second = (zone(powercap, number, f"package-{number}") for number in (0, 1))
    counting([first])
    if fault == "range":
        (second / "max_energy_range_uj").unlink()
    else:
        (second / "energy_uj").unlink()
        (second / "energy_uj").symlink_to(second / "energy_uj")
    result = run(tmp_path, short)
    [told] = [found for found in result.findings if found.evidence.get("meter") == "rapl"]

    assert told.code == ("meter_unavailable" if fault == "range" else "meter_permission")
    assert "cpu:1" in told.message
    assert (result.outcome, result.valid, result.domains) == ("done", True, ())
    assert (result.metrics["energy_j"].value, result.metrics["energy_j"].reason) == (None, "no_meter")


def test_a_meter_that_was_named_is_an_error_where_it_cannot_be_used(tmp_path: Path, short, powercap: Path) -> None:
    """It names the counter and the file, before anything is written."""
    (zone(powercap, 0, "package-0") / "max_energy_range_uj").unlink()
    with pytest.raises(MachineError, match="the RAPL counter cpu:0: its max_energy_range_uj cannot be read") as caught:
        run(tmp_path, short, meters=["rapl"])

    assert caught.value.exit_code == 3
    assert not (tmp_path / "out").exists()


def test_a_step_back_leaves_null_with_its_code(tmp_path: Path, short, powercap: Path, counting) -> None:
    """A counter that falls by 30 J every 0.4 s gives no energy, and not hundreds of thousands of joules."""
    counting([zone(powercap, 0, "package-0")], lambda s: 1000.0 + WATTS * s - 30 * (s // 0.4))
    result = run(tmp_path, short, meters=["rapl"])
    energy = result.metrics["energy_j"]

    assert (energy.value, energy.reason) == (None, "counter_reset")
    assert (codes(result) >= {"counter_reset"}, result.valid) == (True, False)
    assert verify(Store.open(tmp_path / "out")) == []


def test_a_wrap_within_a_window_is_no_step_back(tmp_path: Path, short, powercap: Path, counting) -> None:
    """A counter with a range of 20 J wraps every 0.3 s and still gives 68 W."""
    folder = zone(powercap, 0, "package-0")
    (folder / "max_energy_range_uj").write_text(str(20_000_000))
    counting([folder], lambda s: (WATTS * s) % 20.0)
    result = run(tmp_path, short, meters=["rapl"])

    assert result.domains[0].power_w.value == pytest.approx(WATTS, rel=0.1)
