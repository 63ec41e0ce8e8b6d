"""The built-in CPU meter: RAPL through the kernel's powercap files.

A zone is named `package-<n>`, or `package-<n>-die-<m>` on a processor of several dies. Zones of dies are added where
each has a counter of its own, as on Intel Cascade Lake-AP. Elsewhere, as on AMD under some kernels, all of them show
the counter of the whole package, which is then counted once. What cannot be told apart, or can be read in part only, is
not measured: a part of a machine's energy, or twice of it, must not pass for the whole.
"""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs

from llem.errors import MachineError
from llem.meters.base import CounterMeter, Domain, Scope

__all__ = ["RaplMeter", "RaplZone", "rapl_zones"]

POWERCAP = Path("/sys/class/powercap")
#: The kernel updates RAPL registers about every millisecond.
PERIOD_S = 0.001
#: No package draws more, in watts: the largest on sale are rated 500 W, with peaks of about twice that.
MOST_W = 2000.0
#: Joules that a wrapped counter may have counted beyond `MOST_W` since the last read: the reads' own delay.
SLACK_J = 10.0
#: How often, and at what distance in seconds, zones of one package are compared.
ROUNDS, PAUSE_S = 10, 0.003
#: Zones that are this close (J) are suspected to show one counter: dies of their own differ by far more.
CLOSE_J = 1.0
ELSEWHERE = "leave `rapl` out of `meters`; see `llem doctor`"

_PACKAGE = re.compile(r"package-(\d+)(?:-die-(\d+))?")


@attrs.frozen
class RaplZone:
    """One powercap zone: a CPU package or a die of it, or the memory attached to it.

    Attributes:
        domain: `cpu:<package>` or `dram:<package>`; `cpu:<package>.<die>` where a package has several zones.
        path: the zone's folder.
        readable: whether this user may read its counter.
        max_range_j: the counter wraps to 0 after this many joules.
        trouble: why the zone cannot be used although it may be read, in words; "" where it can.
    """

    domain: str
    scope: Scope
    path: Path
    readable: bool
    max_range_j: float
    trouble: str = ""

    @property
    def package(self) -> str:
        """`cpu:<package>` or `dram:<package>`: the same for all zones of one package and scope."""
        return self.domain.partition(".")[0]


@attrs.frozen
class _Place:
    """Where a zone belongs: scope, package, and die where its name has one."""

    scope: Scope
    package: int
    die: int | None
    path: Path


def rapl_zones(root: Path = POWERCAP) -> tuple[RaplZone, ...]:
    """Packages and their memory. Zones inside a package (core, uncore) are parts of it, and left out.

    Raises MachineError where a zone does not tell its name: it might be a package.
    """
    places = list(_places(root))
    groups: dict[tuple[Scope, int], list[_Place]] = {}
    for place in places:
        groups.setdefault((place.scope, place.package), []).append(place)
    return tuple(_zone(_domain(place, groups[place.scope, place.package]), place) for place in places)


def _domain(place: _Place, group: Sequence[_Place]) -> str:
    """Its name among the zones of one package and scope: by the die where that tells them apart."""
    whole = f"{place.scope}:{place.package}"
    if len(group) == 1:
        return whole
    dies = {one.die for one in group}
    return f"{whole}.{place.die if None not in dies and len(dies) == len(group) else group.index(place)}"


def _places(root: Path) -> Iterator[_Place]:
    packages: dict[str, tuple[int, int | None]] = {}  # by the number in the folder's name
    for path in sorted(root.glob("intel-rapl:[0-9]*")):
        if not (path / "name").exists() and not (path / "energy_uj").exists():
            continue
        try:
            name = (path / "name").read_text().strip()
        except (OSError, ValueError) as error:
            raise MachineError(f"{path} does not tell its name: {error}", ELSEWHERE, "counter_missing") from error
        number = path.name.split(":")[1]
        if match := _PACKAGE.fullmatch(name):
            packages[number] = int(match[1]), None if match[2] is None else int(match[2])
            yield _Place("cpu", *packages[number], path)
        elif name.startswith("package-"):
            message = f"{path} has the name {name!r}, from which the package cannot be told"
            raise MachineError(message, ELSEWHERE, "counter_missing")
        elif name == "dram":
            # sorted, so the package itself came before; memory of no package goes by the folder's number
            yield _Place("dram", *packages.get(number, (int(number), None)), path)


def _zone(domain: str, place: _Place) -> RaplZone:
    readable, trouble, range_j = True, "", 0.0
    try:
        _joules(place.path / "energy_uj")
    except OSError:
        readable = False
    except ValueError as error:
        trouble = f"its energy_uj holds no number: {error}"
    try:
        range_j = _joules(place.path / "max_energy_range_uj")
        if range_j <= 0:
            trouble = f"its max_energy_range_uj is {range_j:g}, so a wrap of the counter could not be undone"
    except (OSError, ValueError) as error:
        trouble = f"its max_energy_range_uj cannot be read, so a wrap of the counter could not be undone: {error}"
    return RaplZone(domain, place.scope, place.path, readable, range_j, trouble)


def _joules(file: Path) -> float:
    """Raises OSError, ValueError."""
    return int(file.read_text()) / 1e6


def _mirrors(one: RaplZone, other: RaplZone) -> bool | None:
    """Whether two zones show one counter; None where that cannot be told. Raises OSError, ValueError.

    Of one counter, a reading through one zone lies between two through the other, unless it was updated or wrapped just
    then. Two counters are far apart. What is close and never agrees is neither for certain.
    """
    agreed, distances = 0, []
    for _ in range(ROUNDS):
        before, between, after = (_joules(zone.path / "energy_uj") for zone in (one, other, one))
        agreed += before <= between <= after
        distances.append(abs(between - before))
        time.sleep(PAUSE_S)
    close = statistics.median(distances) < CLOSE_J
    return close if close == bool(agreed) else None


def _counted_once(zones: Sequence[RaplZone]) -> list[RaplZone]:
    """Zones of one package, without those that mirror another. Raises MachineError where they cannot be told apart."""
    kept: list[RaplZone] = []
    for zone in zones:
        try:
            answers = [_mirrors(one, zone) for one in kept]
        except (OSError, ValueError) as error:
            raise MachineError(f"{zone.domain} cannot be read: {error}", ELSEWHERE, "permission") from error
        if None in answers:
            names = ", ".join(one.domain for one in zones)
            message = f"the RAPL counters {names} cannot be told apart: they may be one counter, or one each"
            raise MachineError(message, ELSEWHERE, "counter_missing")
        if True not in answers:
            kept.append(zone)
    return kept if len(kept) > 1 else [attrs.evolve(zone, domain=zone.package) for zone in kept]


class RaplMeter(CounterMeter):
    """CPU packages and memory. Wrap-around is undone by counting the wraps, so the reading only grows.

    Where the counter steps back by itself, so does the reading (`counter_reset`).
    """

    name = "rapl"

    def __init__(
        self,
        options: Any = None,
        gpu_uuids: Sequence[str] = (),
        *,
        root: Path | None = None,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        super().__init__(options, gpu_uuids)
        self._root = POWERCAP if root is None else root
        self._clock_ns = clock_ns
        self._zones: dict[str, RaplZone] = {}
        self._last: dict[str, tuple[int, float]] = {}
        self._wrapped: dict[str, float] = {}

    def open(self) -> Sequence[Domain]:
        """One domain per package, or per die with a counter of its own, and one for the memory of each.

        Raises MachineError: no RAPL here, no permission (with the command), or a zone that cannot be used.
        """
        zones = rapl_zones(self._root)
        if not zones:
            raise MachineError(
                "this machine has no RAPL counters",
                "virtual machines and some processors have none; leave `rapl` out of `meters`",
                code="counter_missing",
            )
        self._refuse_part(zones)
        packages = dict.fromkeys(zone.package for zone in zones)
        groups = [[zone for zone in zones if zone.package == package] for package in packages]
        kept = [zone for group in groups for zone in _counted_once(group)]
        self._zones = {zone.domain: zone for zone in sorted(kept, key=lambda zone: zone.path)}
        return [
            Domain(zone.domain, zone.scope, "measured", "RAPL energy counter", period_s=PERIOD_S)
            for zone in self._zones.values()
        ]

    def _refuse_part(self, zones: Sequence[RaplZone]) -> None:
        """Raise MachineError unless every zone can be used."""
        denied = [zone.domain for zone in zones if not zone.readable]
        if denied:
            which = "the RAPL counters" if len(denied) == len(zones) else f"the RAPL counters {', '.join(denied)}"
            raise MachineError(
                f"{which} may not be read by this user",
                f"run: sudo chmod -R a+r {self._root}/*/energy_uj (until the next restart; a udev rule makes it stay)",
                code="permission",
            )
        for zone in zones:
            if zone.trouble:
                raise MachineError(f"the RAPL counter {zone.domain}: {zone.trouble}", ELSEWHERE, "counter_missing")

    def read_counter(self, domain: str) -> float:
        zone, now_ns = self._zones[domain], self._clock_ns()
        try:
            joules = _joules(zone.path / "energy_uj")
        except (OSError, ValueError) as error:
            raise MachineError(f"{domain} cannot be read: {error}", "see `llem doctor`", code="permission") from error
        last_ns, last = self._last.get(domain, (now_ns, joules))
        if joules < last and _can_have_wrapped(zone, last, joules, (now_ns - last_ns) / 1e9):
            self._wrapped[domain] = self._wrapped.get(domain, 0.0) + zone.max_range_j
        self._last[domain] = now_ns, joules
        return joules + self._wrapped.get(domain, 0.0)


def _can_have_wrapped(zone: RaplZone, last: float, joules: float, seconds: float) -> bool:
    """Whether a step back is a wrap: from `last` over the range to `joules` is no more than can have been drawn."""
    return zone.max_range_j - last + joules <= SLACK_J + MOST_W * seconds
