"""RAPL as the kernel shows it, in a folder made for the test."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from llem.errors import MachineError
from llem.meters.rapl import RaplMeter, rapl_zones
from llem.meters.sampling import Sampling
from llem.meters.window import energy_readings

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
    """A counter without the read bit is not readable."""
    (machine / "intel-rapl:0" / "energy_uj").chmod(0)

    assert [zone.readable for zone in rapl_zones(machine)] == [False, True, True, True]
    with pytest.raises(MachineError, match="the RAPL counters cpu:0 may not be read by this user"):
        RaplMeter(root=machine).open()


def test_a_counter_that_goes_away_is_an_error_of_its_domain(machine: Path) -> None:
    """A reading that fails after opening names its domain."""
    meter = RaplMeter(root=machine)
    meter.open()
    (machine / "intel-rapl:0" / "energy_uj").unlink()

    with pytest.raises(MachineError, match="cpu:0 cannot be read"):
        meter.read_counter("cpu:0")
    assert meter.read_counter("cpu:1") == 7.0


@pytest.mark.parametrize("folders", [["intel-rapl:1"], ["intel-rapl:0:1"], ["intel-rapl:1", "intel-rapl:1:0"]])
def test_a_part_of_the_machine_does_not_pass_for_the_whole(machine: Path, folders: list[str]) -> None:
    """Where one package or its memory cannot be read, nothing is measured: half the energy would look like all."""
    names = {"intel-rapl:1": "cpu:1", "intel-rapl:0:1": "dram:0", "intel-rapl:1:0": "dram:1"}
    for folder in folders:
        unreadable(machine / folder / "energy_uj")
    with pytest.raises(MachineError) as caught:
        RaplMeter(root=machine).open()

    told = ", ".join(names[folder] for folder in folders)
    assert caught.value.message == f"the RAPL counters {told} may not be read by this user"
    assert (caught.value.code, "sudo chmod" in caught.value.hint) == ("permission", True)


@pytest.mark.parametrize("content", [None, "circle", "", "many", "0"])
def test_a_counter_whose_range_is_not_known_is_refused(machine: Path, content: str | None) -> None:
    """Missing, unreadable, empty, no number, or zero: a wrap could not be undone. One error, and no traceback."""
    path = machine / "intel-rapl:1" / "max_energy_range_uj"
    if content is None:
        path.unlink()
    elif content == "circle":
        unreadable(path)
    else:
        path.write_text(content)
    with pytest.raises(MachineError, match="the RAPL counter cpu:1: its max_energy_range_uj ") as caught:
        RaplMeter(root=machine).open()

    assert (caught.value.code, caught.value.exit_code) == ("counter_missing", 3)
    assert "leave `rapl` out" in caught.value.hint


def test_a_counter_that_holds_no_number_is_refused(machine: Path) -> None:
    """As the range."""
    (machine / "intel-rapl:0" / "energy_uj").write_text("")
    with pytest.raises(MachineError, match="the RAPL counter cpu:0: its energy_uj holds no number"):
        RaplMeter(root=machine).open()


@pytest.mark.parametrize("spoil", [unreadable, Path.unlink, lambda path: path.write_text("package-one")])
def test_a_zone_without_a_name_may_be_a_package(machine: Path, spoil) -> None:
    """It is not passed over: what it counts may be half of the machine."""
    spoil(machine / "intel-rapl:1" / "name")
    with pytest.raises(MachineError, match="intel-rapl:1 "):
        RaplMeter(root=machine).open()


def two_dies(root: Path, first: int, second: int) -> None:
    """A package of two dies with memory at the first, and a second package of one."""
    zone(root, "intel-rapl:0", "package-0-die-0", first)
    zone(root, "intel-rapl:0:0", "dram", 3_000_000)
    zone(root, "intel-rapl:1", "package-0-die-1", second)
    zone(root, "intel-rapl:2", "package-1", 68_000_000)


def test_dies_that_mirror_one_counter_count_once(tmp_path: Path) -> None:
    """Both show 68 J, which is the package's energy: not 136 J."""
    two_dies(tmp_path, 68_000_000, 68_000_000)
    meter = RaplMeter(root=tmp_path)

    assert [domain.name for domain in meter.open()] == ["cpu:0", "dram:0", "cpu:1"]
    assert meter.read_counter("cpu:0") == 68.0


def test_dies_with_counters_of_their_own_count_each(tmp_path: Path) -> None:
    """Two readings that are far apart are two counters; their names are unique."""
    two_dies(tmp_path, 68_000_000, 50_000_000)
    meter = RaplMeter(root=tmp_path)

    assert [domain.name for domain in meter.open()] == ["cpu:0.0", "dram:0", "cpu:0.1", "cpu:1"]
    assert [meter.read_counter(name) for name in ("cpu:0.0", "cpu:0.1")] == [68.0, 50.0]


@pytest.mark.parametrize("distance_uj", [1, 900_000])
def test_dies_that_cannot_be_told_apart_are_refused(tmp_path: Path, distance_uj: int) -> None:
    """Nearly equal and never the same: neither the sum nor one of them is known to be right."""
    two_dies(tmp_path, 68_000_000, 68_000_000 + distance_uj)
    with pytest.raises(MachineError, match=r"the RAPL counters cpu:0\.0, cpu:0\.1 cannot be told apart") as caught:
        RaplMeter(root=tmp_path).open()

    assert caught.value.code == "counter_missing"


def test_two_zones_of_one_name_have_names_of_their_own(tmp_path: Path) -> None:
    """Counters of their own under one name are numbered; mirrors are one."""
    for number, energy in enumerate((5_000_000, 9_000_000, 9_000_000)):
        zone(tmp_path, f"intel-rapl:{number}", "package-0", energy)

    assert [zone.domain for zone in rapl_zones(tmp_path)] == ["cpu:0.0", "cpu:0.1", "cpu:0.2"]
    assert [domain.name for domain in RaplMeter(root=tmp_path).open()] == ["cpu:0.0", "cpu:0.1"]


MS = 1_000_000


@pytest.mark.parametrize(
    ("before_uj", "after_uj", "later_ms", "wrapped"),
    [
        (1_000_000_000, 970_000_000, 20, False),  # 30 J back, far from the top
        (1_000_000_000, 0, 20, False),  # set to zero, far from the top
        (RANGE_UJ - 1_000_000, 2_000_000, 20, True),  # 3 J across the top in 20 ms
        (RANGE_UJ - 30_000_000, 19_000_000, 20, True),  # 49 J: 2 kW for 20 ms and 10 J at the most
        (RANGE_UJ - 30_000_000, 22_000_000, 20, False),  # 52 J
        (RANGE_UJ - 500_000_000, 1_600_000_000, 1000, False),  # 2.1 kJ in a second is a reset
        (RANGE_UJ - 500_000_000, 1_600_000_000, 1100, True),  # in a little longer it may be a wrap
    ],
)
def test_a_step_back_is_a_wrap_only_where_it_can_be_one(machine, before_uj, after_uj, later_ms, wrapped) -> None:
    """From near the top to near zero, by no more than a package can draw; else the reading steps back too."""
    now = [0]
    meter = RaplMeter(root=machine, clock_ns=lambda: now[0])
    meter.open()
    path = machine / "intel-rapl:0" / "energy_uj"
    path.write_text(str(before_uj))
    before = meter.read_counter("cpu:0")
    path.write_text(str(after_uj))
    now[0] += later_ms * MS
    after = meter.read_counter("cpu:0")

    assert after - before == pytest.approx((after_uj - before_uj + (RANGE_UJ if wrapped else 0)) / 1e6)


def test_a_step_back_within_a_window_leaves_it_without_an_energy(machine: Path) -> None:
    """70 W for a second, and a step of 30 J back in the middle: null with its code, not 262,215 J."""
    now = [0]
    meter = RaplMeter(root=machine, clock_ns=lambda: now[0])
    sampling = Sampling([(meter, domains := meter.open())], lambda: now[0])
    for step in range(100):
        now[0] = step * 20 * MS
        joules = 1000 + 70 * now[0] / 1e9 - (30 if step >= 50 else 0)
        (machine / "intel-rapl:0" / "energy_uj").write_text(str(round(joules * 1e6)))
        sampling.step()
    rows, errors = sampling.take()
    window = (500 * MS, 1500 * MS)
    [reading] = energy_readings(rows, [("rapl", domains[0])], *window)

    assert errors == []
    assert (reading.energy_j, reading.reason) == (None, "counter_reset")
    [whole] = energy_readings([row for row in rows if row.t_ns < 1000 * MS], [("rapl", domains[0])], 200 * MS, 900 * MS)
    assert whole.energy_j == pytest.approx(49, rel=0.05)
