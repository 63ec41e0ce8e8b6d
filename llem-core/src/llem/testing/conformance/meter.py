"""What llem relies on in a meter."""

from __future__ import annotations

import functools
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from llem.errors import MachineError
from llem.meters.base import CounterMeter, Domain, Meter, PowerMeter, WindowMeter
from llem.meters.contract import domain_breaches, joules_breach
from llem.testing.conformance.plugin import PluginConformance
from llem.testing.conformance.told import expect, keep

__all__ = ["MeterConformance", "touches"]

KINDS: tuple[tuple[type[Meter], str], ...] = ((CounterMeter, "counter"), (PowerMeter, "power"), (WindowMeter, "window"))


class MeterConformance(PluginConformance):
    """Inherit, and return the meter's reference.

    On a machine without the device, the checks that read it are skipped; what `open` says there is checked.
    """

    page = "docs/howto/write-a-meter.md"
    #: Length of one test window, and of one row of readings.
    window_s: float = 0.3

    @pytest.fixture(scope="class")
    @classmethod
    def gpu_uuids(cls) -> Sequence[str]:
        """The experiment's GPUs."""
        return ()

    @pytest.fixture(scope="class")
    @classmethod
    def make(cls, options: Any) -> Callable[[Sequence[str]], Meter]:
        """A new meter for these GPUs."""
        target = cls().reference().load()
        return lambda gpu_uuids: target(options, gpu_uuids)

    @pytest.fixture(scope="class")
    @classmethod
    def opened(
        cls, make: Callable[[Sequence[str]], Meter], gpu_uuids: Sequence[str]
    ) -> Iterator[tuple[Meter, Sequence[Domain]]]:
        """One open meter for all checks, and its domains."""
        meter = make(gpu_uuids)
        try:
            yield meter, _open(meter)
        finally:
            meter.close()

    def test_constructing_touches_nothing(
        self, make: Callable[[Sequence[str]], Meter], gpu_uuids: Sequence[str]
    ) -> None:
        """A meter is made without reaching a device, importing what it wraps, or starting a process."""
        seen = touches(lambda: make(gpu_uuids), self.reference().requires)
        assert not seen, f"the constructor touches {', '.join(seen)}; that belongs in open()"

    def test_open_lists_domains_or_says_what_to_do(
        self, make: Callable[[Sequence[str]], Meter], gpu_uuids: Sequence[str]
    ) -> None:
        """Opening gives at least one domain, or a MachineError with a hint; closing is safe after both, and twice."""
        meter = make(gpu_uuids)
        refusal: MachineError | None = None
        domains: Sequence[Domain] = ()
        try:
            domains = meter.open()
        except MachineError as error:
            refusal = error
        finally:
            meter.close()
            meter.close()
        if refusal is None:
            assert len(domains) >= 1, "nothing to read: raise MachineError"
        else:
            assert refusal.hint, f"{refusal.message!r} does not say what to do"
            assert not refusal.message.endswith("."), "messages have no final full stop"

    def test_standard_output_stays_clean(
        self, make: Callable[[Sequence[str]], Meter], gpu_uuids: Sequence[str], capfd: pytest.CaptureFixture[str]
    ) -> None:
        """Standard output belongs to the result: neither opening nor a window nor closing writes there."""
        meter = make(gpu_uuids)
        try:
            meter.open()
            if isinstance(meter, WindowMeter):
                meter.begin()
                meter.end()
        except MachineError:
            pass  # what was printed on the way there counts all the same
        finally:
            meter.close()
        expect(capfd.readouterr().out, "")

    def test_no_file_is_left_behind(
        self,
        make: Callable[[Sequence[str]], Meter],
        gpu_uuids: Sequence[str],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """The working folder is the user's: nothing is written into it."""
        monkeypatch.chdir(tmp_path)
        meter = make(gpu_uuids)
        try:
            _open(meter)
        finally:
            meter.close()
        expect(list(tmp_path.iterdir()), [])

    def test_domains_are_stated(self, opened: tuple[Meter, Sequence[Domain]]) -> None:
        """Each domain has a name of the grammar, the scope of its name, and says whether a sensor is behind it."""
        meter, domains = opened
        keep(domain_breaches(domains, meter.gpu_uuids))
        for domain in domains:
            expect(
                domain.method, next(kind for each, kind in KINDS if isinstance(meter, each)), f"method of {domain.name}"
            )

    def test_only_the_given_gpus(
        self, opened: tuple[Meter, Sequence[Domain]], make: Callable[[Sequence[str]], Meter], gpu_uuids: Sequence[str]
    ) -> None:
        """GPUs of others are not read: neither beside those given, nor when none is given."""
        given = {f"gpu:{uuid}" for uuid in gpu_uuids}
        assert {domain.name for domain in opened[1] if domain.scope == "gpu"} <= given
        without = make(())
        try:
            expect([domain.name for domain in without.open() if domain.scope == "gpu"], [])
        except MachineError:
            pass  # a meter of GPUs alone has nothing to read then
        finally:
            without.close()

    def test_counter_never_goes_back(self, opened: tuple[Meter, Sequence[Domain]]) -> None:
        """Cumulative joules are finite, not negative and never less than before."""
        meter, domains = opened
        if not isinstance(meter, CounterMeter):
            pytest.skip("not a counter meter")
        for domain in domains:
            read = functools.partial(meter.read_counter, domain.name)
            values = [_after(self.window_s / 10, read) for _ in range(10)]
            assert all(math.isfinite(value) and value >= 0 for value in values)
            expect(values, sorted(values), f"{domain.name} went backwards: {values}")

    def test_power_is_not_negative(self, opened: tuple[Meter, Sequence[Domain]]) -> None:
        """Watts are above 0, or None where a counter meter has no second instrument."""
        meter, domains = opened
        if not isinstance(meter, CounterMeter | PowerMeter):
            pytest.skip("a window meter reads no power")
        for domain in domains:
            watts = meter.read_power(domain.name)
            assert watts is not None or isinstance(meter, CounterMeter), "a power meter always has a reading"
            assert watts is None or (math.isfinite(watts) and watts > 0), f"{domain.name}: {watts} W"

    def test_windows_follow_each_other(self, opened: tuple[Meter, Sequence[Domain]]) -> None:
        """Each window answers for every domain: joules above 0, or None where there was no reading; never 0."""
        meter, domains = opened
        if not isinstance(meter, WindowMeter):
            pytest.skip("not a window meter")
        for _ in range(2):
            meter.begin()
            found = _after(self.window_s, meter.end)
            expect(set(found), {domain.name for domain in domains})
            keep(breach for name, joules in found.items() if (breach := joules_breach(name, joules)) is not None)


def _open(meter: Meter) -> Sequence[Domain]:
    """Open, or skip on a machine where the meter has nothing to read."""
    try:
        return meter.open()
    except MachineError as error:
        pytest.skip(f"this machine: {error.message}")


def _after(seconds: float, act: Callable[[], Any]) -> Any:
    time.sleep(seconds)
    return act()


ALWAYS = ("ctypes.dlopen", "subprocess.Popen", "os.system", "os.posix_spawn", "os.fork", "socket.connect")
OF_PATHS = ("open", "os.listdir", "os.scandir", "glob.glob")
DEVICES = ("/dev/", "/sys/")
HARMLESS = ("/dev/null", "/dev/urandom")


class _Watch:
    """The one audit hook of this process: hooks cannot be removed, so it is told when to look."""

    def __init__(self) -> None:
        self.seen: list[str] | None = None
        self.modules: frozenset[str] = frozenset()
        self.installed = False

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        if self.seen is None:
            return
        if event in ALWAYS:
            self.seen.append(event)
        elif event in OF_PATHS and str(args[0]).startswith(DEVICES) and args[0] not in HARMLESS:
            self.seen.append(str(args[0]))
        elif event == "import" and str(args[0]).partition(".")[0] in self.modules:
            self.seen.append(f"import {args[0]}")


_watch = _Watch()


def touches(act: Callable[[], object], modules: Sequence[str] = ()) -> list[str]:
    """Devices, libraries, processes and connections that `act` reaches for, and the named modules it imports."""
    if not _watch.installed:
        sys.addaudithook(_watch)
        _watch.installed = True
    _watch.seen, _watch.modules = [], frozenset(name.partition(".")[0] for name in modules)
    try:
        act()
        return list(_watch.seen)
    finally:
        _watch.seen = None
