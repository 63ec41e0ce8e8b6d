"""RAPL as the kernel shows it, in a folder made for the test."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from llem.errors import MachineError
from llem.meters.rapl import RaplMeter, rapl_zones

RANGE_UJ = 262_143_328_850


def zone(root: Path, folder: str, name: str, energy_uj: int = 1_000_000) -> Path:
    """One powercap zone, as under /sys/class/powercap."""
    path = root / folder
    path.mkdir(parents=True)
    (path / "name").write_text(f"{name}\n")
    (path / "energy_uj").write_text(f"{energy_uj}\n")
    (path / "max_energy_range_uj").write_text(f"{RANGE_UJ}\n")
    return path


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """Two packages with their memory, a core and an uncore zone within them, the platform, and a memory-mapped twin."""
    (tmp_path / "intel-rapl").mkdir()  # the control type itself
    zone(tmp_path, "intel-rapl:0", "package-0", 5_000_000)
    zone(tmp_path, "intel-rapl:0:0", "core", 4_000_000)
    zone(tmp_path, "intel-rapl:0:1", "dram", 2_000_000)
    zone(tmp_path, "intel-rapl:0:2", "uncore")
    zone(tmp_path, "intel-rapl:1", "package-1", 7_000_000)
    zone(tmp_path, "intel-rapl:1:0", "dram")
    zone(tmp_path, "intel-rapl:2", "psys", 99_000_000)
    zone(tmp_path, "intel-rapl-mmio:0", "package-0")
    return tmp_path


def test_packages_and_memory_are_read_and_their_parts_left_out(machine: Path) -> None:
    """Core and uncore lie inside the package and the platform around it: to add them would count energy twice."""
    domains = RaplMeter(root=machine).open()

    assert [(domain.name, domain.scope) for domain in domains] == [
        ("cpu:0", "cpu"),
        ("dram:0", "dram"),
        ("cpu:1", "cpu"),
        ("dram:1", "dram"),
    ]
    assert {(domain.kind, domain.method, domain.period_s) for domain in domains} == {("measured", "counter", 0.001)}


def test_a_reading_is_joules_of_its_own_zone(machine: Path) -> None:
    """Microjoules become joules, each from its own file."""
    meter = RaplMeter(root=machine)
    meter.open()

    assert [meter.read_counter(name) for name in ("cpu:0", "dram:0", "cpu:1")] == [5.0, 2.0, 7.0]
    assert meter.read_power("cpu:0") is None


def test_wrap_around_is_undone_each_time(machine: Path) -> None:
    """A counter that begins anew goes on where it was, by its whole range, and so the second time."""
    meter = RaplMeter(root=machine)
    meter.open()
    seen = []
    for value in (RANGE_UJ - 1_000_000, 2_000_000, RANGE_UJ - 5_000_000, 1_000_000):
        (machine / "intel-rapl:0" / "energy_uj").write_text(str(value))
        seen.append(meter.read_counter("cpu:0"))
    whole = RANGE_UJ / 1e6

    assert seen == pytest.approx([whole - 1, whole + 2, 2 * whole - 5, 2 * whole + 1])
    assert meter.read_counter("dram:0") == 2.0  # the other counters did not wrap


@pytest.mark.parametrize("make", ["empty", "missing"])
def test_a_machine_without_rapl_says_so(tmp_path: Path, make: str) -> None:
    """No zones, or no folder at all: one error with its code and what to do."""
    root = tmp_path if make == "empty" else tmp_path / "nowhere"
    with pytest.raises(MachineError) as caught:
        RaplMeter(root=root).open()

    assert (caught.value.message, caught.value.code) == ("this machine has no RAPL counters", "counter_missing")
    assert "leave `rapl` out" in caught.value.hint


def unreadable(path: Path) -> None:
    """Make a counter that cannot be read, for root too: the link leads in a circle."""
    path.unlink()
    path.symlink_to(path)


def test_counters_that_may_not_be_read_name_the_command(machine: Path) -> None:
    """Where no counter can be read, the error has the command that mends it, and is told apart from absence."""
    for path in machine.glob("intel-rapl:*/energy_uj"):
        unreadable(path)
    with pytest.raises(MachineError) as caught:
        RaplMeter(root=machine).open()

    assert (caught.value.message, caught.value.code) == ("the RAPL counters may not be read by this user", "permission")
    assert f"sudo chmod -R a+r {machine}/*/energy_uj" in caught.value.hint


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read anything")
def test_permission_is_asked_for_by_reading(machine: Path) -> None:
    """A counter without the read bit is not readable; the zones beside it are used."""
    (machine / "intel-rapl:0" / "energy_uj").chmod(0)

    assert [zone.readable for zone in rapl_zones(machine)] == [False, True, True, True]
    assert [domain.name for domain in RaplMeter(root=machine).open()] == ["dram:0", "cpu:1", "dram:1"]


def test_a_counter_that_goes_away_is_an_error_of_its_domain(machine: Path) -> None:
    """A reading that fails after opening names its domain."""
    meter = RaplMeter(root=machine)
    meter.open()
    (machine / "intel-rapl:0" / "energy_uj").unlink()

    with pytest.raises(MachineError, match="cpu:0 cannot be read"):
        meter.read_counter("cpu:0")
    assert meter.read_counter("cpu:1") == 7.0
