"""The built-in CPU meter: RAPL through the kernel's powercap files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs

from llem.errors import MachineError
from llem.meters.base import CounterMeter, Domain, Scope

__all__ = ["RaplMeter", "RaplZone", "rapl_zones"]

POWERCAP = Path("/sys/class/powercap")
#: The kernel updates RAPL registers about every millisecond.
PERIOD_S = 0.001


@attrs.frozen
class RaplZone:
    """One powercap zone: a CPU package, or the memory attached to it.

    Attributes:
        domain: `cpu:<package>` or `dram:<package>`.
        path: the zone's folder.
        readable: whether this user may read its counter.
        max_range_j: the counter wraps to 0 after this many joules.
    """

    domain: str
    scope: Scope
    path: Path
    readable: bool
    max_range_j: float


def rapl_zones(root: Path = POWERCAP) -> tuple[RaplZone, ...]:
    """Packages and their memory. Zones inside a package (core, uncore) are parts of it, and left out."""
    zones = []
    for path in sorted(root.glob("intel-rapl:*")):
        name_file = path / "name"
        if not name_file.is_file():
            continue
        name = name_file.read_text().strip()
        package = path.name.split(":")[1]
        if name.startswith("package-"):
            zones.append(_zone(f"cpu:{package}", "cpu", path))
        elif name == "dram":
            zones.append(_zone(f"dram:{package}", "dram", path))
    return tuple(zones)


def _zone(domain: str, scope: Scope, path: Path) -> RaplZone:
    try:
        (path / "energy_uj").read_text()
        readable = True
    except OSError:
        readable = False
    range_uj = int((path / "max_energy_range_uj").read_text())
    return RaplZone(domain, scope, path, readable, range_uj / 1e6)


class RaplMeter(CounterMeter):
    """CPU packages and memory. Wrap-around is undone by counting the wraps, so the reading only grows."""

    name = "rapl"

    def __init__(self, options: Any = None, gpu_uuids: Sequence[str] = (), *, root: Path = POWERCAP) -> None:
        super().__init__(options, gpu_uuids)
        self._root = root
        self._zones: dict[str, RaplZone] = {}
        self._last: dict[str, float] = {}
        self._wrapped: dict[str, float] = {}

    def open(self) -> Sequence[Domain]:
        """One domain per readable zone. Raises MachineError: no RAPL here, or no permission (with the command)."""
        zones = rapl_zones(self._root)
        if not zones:
            raise MachineError(
                "this machine has no RAPL counters",
                "virtual machines and some processors have none; leave `rapl` out of `meters`",
                code="counter_missing",
            )
        self._zones = {zone.domain: zone for zone in zones if zone.readable}
        if not self._zones:
            raise MachineError(
                "the RAPL counters may not be read by this user",
                f"run: sudo chmod -R a+r {self._root}/*/energy_uj (until the next restart; a udev rule makes it stay)",
                code="permission",
            )
        return [
            Domain(zone.domain, zone.scope, "measured", "RAPL energy counter", period_s=PERIOD_S)
            for zone in self._zones.values()
        ]

    def read_counter(self, domain: str) -> float:
        zone = self._zones[domain]
        try:
            joules = int((zone.path / "energy_uj").read_text()) / 1e6
        except OSError as error:
            raise MachineError(f"{domain} cannot be read: {error}", "see `llem doctor`", code="permission") from error
        if joules < self._last.get(domain, 0.0):
            self._wrapped[domain] = self._wrapped.get(domain, 0.0) + zone.max_range_j
        self._last[domain] = joules
        return joules + self._wrapped.get(domain, 0.0)
