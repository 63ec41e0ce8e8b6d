"""All meters of one experiment, begun and ended together."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence

import attrs

from llem.config.converter import unstructure
from llem.config.models import DEFAULT_METERS, Experiment
from llem.devices.load import HostWatch
from llem.devices.pulse import Pulse
from llem.errors import TELL_AUTHORS, BrokenPlugin, MachineError
from llem.findings import Finding, finding
from llem.meters.base import Domain, EnergyReading, WindowMeter, lead_s
from llem.meters.contract import domain_breaches, joules_breach
from llem.meters.sampler import Sampler
from llem.meters.trace import TraceRow
from llem.meters.window import energy_readings
from llem.plugins.registry import Registry

__all__ = ["Instruments"]

#: What the process that reads the meters writes its events with.
POWER_LINE = "llem.protocol.lines:power_line"


@attrs.define
class Instruments:
    """Counter and power meters in a process of their own, window meters in this one. Close it in a `finally`.

    Attributes:
        domains: (meter, domain) of everything that can be read, in the order of the experiment's meters.
        findings: built-in meters that are not usable here, and why.
        host: what others did on this machine during the last window.
        pulse: whether this process ran all the time while the trace was read.
        gaps: times in which the process that reads the meters did not, begin and end in monotonic ns.
    """

    names: tuple[str, ...]
    domains: list[tuple[str, Domain]] = attrs.field(factory=list)
    findings: list[Finding] = attrs.field(factory=list)
    host: HostWatch = attrs.field(factory=HostWatch)
    pulse: Pulse = attrs.field(factory=Pulse)
    gaps: Sequence[tuple[int, int]] = ()
    _sampler: Sampler | None = None
    _windows: list[tuple[str, WindowMeter, Sequence[Domain]]] = attrs.field(factory=list)
    _window_joules: dict[str, Mapping[str, float | None]] = attrs.field(factory=dict)

    @classmethod
    def open(
        cls, experiment: Experiment, registry: Registry, gpu_uuids: Sequence[str], events_fd: int | None
    ) -> Instruments:
        """Open every meter. A meter that the user named and that cannot measure is an error; a built-in one that was
        only tried is a finding.

        Raises:
            MachineError: a named meter has nothing to read, or no permission.
            BrokenPlugin: a meter reads what no meter may, or does not say what.
        """
        named = experiment.meters is not None
        names = DEFAULT_METERS if experiment.meters is None else experiment.meters
        self = cls(names=tuple(names))
        try:
            self._open(experiment, registry, gpu_uuids, events_fd, named)
        except BaseException:
            self.close()
            raise
        return self

    def _open(
        self, experiment: Experiment, registry: Registry, gpu_uuids: Sequence[str], events_fd: int | None, named: bool
    ) -> None:
        sampled = []
        for name in self.names:
            meter_class = registry.load("meter", name)
            options = experiment.meter_options.get(name)
            if issubclass(meter_class, WindowMeter):
                self._open_window(meter_class(options, gpu_uuids))
                continue
            reference = registry.reference("meter", name)
            raw = None if options is None else unstructure(options)
            sampled.append({"name": name, "target": reference.target, "config": reference.config, "options": raw})
        if sampled or gpu_uuids:
            self._sampler = Sampler(sampled, gpu_uuids, events_fd, POWER_LINE)
            for name, error in self._sampler.failed.items():
                if named:
                    raise error
                self.findings.append(_unusable(name, error))
            self.domains += self._sampler.domains
        self.domains.sort(key=lambda pair: self.names.index(pair[0]))
        for name in dict.fromkeys(meter for meter, _ in self.domains):
            for breach in domain_breaches([domain for meter, domain in self.domains if meter == name], gpu_uuids):
                raise BrokenPlugin(f"the meter {name} breaks a rule of meters: {breach}", TELL_AUTHORS)

    def _open_window(self, meter: WindowMeter) -> None:
        self._windows.append((meter.name, meter, ()))
        try:
            domains = list(meter.open())
        except (OSError, ValueError) as error:
            message = f"the meter {meter.name} cannot be opened: {type(error).__name__}: {error}"
            raise MachineError(message, "see the worker's log, and `llem doctor`", "meter_failed") from error
        self._windows[-1] = (meter.name, meter, domains)
        self.domains += [(meter.name, domain) for domain in domains]

    @property
    def sampled(self) -> list[tuple[str, Domain]]:
        """The domains whose energy is computed from a trace."""
        return [(meter, domain) for meter, domain in self.domains if domain.method != "window"]

    @property
    def lead_s(self) -> float:
        """How long a lead-in and a lead-out last, so that every sensor has settled at the window's edges."""
        return lead_s(domain for _, domain in self.sampled)

    def begin(self) -> None:
        """Start the trace. Comes before the lead-in, so that ticks are found before the window opens."""
        self.host.look()
        self.gaps = ()
        self.pulse.begin()
        if self._sampler is not None:
            self._sampler.begin()

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """The trace is read while the body runs, for `end` to follow. Where the body raises, what was read is lost."""
        self.begin()
        try:
            yield
        except BaseException:
            with contextlib.suppress(MachineError):  # what ended the body is what shall be told
                self.end(0, 1)
            raise

    def window_begin(self, *, thin: bool = True) -> None:
        """Begin the window meters; the work follows at once.

        Args:
            thin: look for every tenth tick of a counter only, until `window_end`.
        """
        self.host.begin()
        for _, meter, _ in self._windows:
            meter.begin()
        if self._sampler is not None and thin:
            self._sampler.thin()
        self.pulse.window_begin()

    def window_end(self) -> None:
        """End the window meters, in reverse order; every tick counts again from here on."""
        self.pulse.window_end()
        if self._sampler is not None:
            self._sampler.dense()
        for name, meter, _ in reversed(self._windows):
            self._window_joules[name] = meter.end()
        self.host.end()

    def end(self, t0_ns: int, t1_ns: int) -> tuple[tuple[EnergyReading, ...], list[TraceRow], list[Finding]]:
        """Stop the trace. Energies of [t0, t1] in the order of `domains`, the trace, and what went wrong."""
        rows: list[TraceRow] = []
        errors: list[tuple[str, str, str]] = []
        self.pulse.end()
        if self._sampler is not None:
            rows, errors = self._sampler.end()
            self.gaps = self._sampler.gaps
        readings = {
            (reading.meter, reading.domain): reading for reading in energy_readings(rows, self.sampled, t0_ns, t1_ns)
        }
        for name, _, domains in self._windows:
            for domain in domains:
                joules = self._window_joules.get(name, {}).get(domain.name)
                if (breach := joules_breach(domain.name, joules)) is not None:
                    errors.append((name, domain.name, str(breach)))
                    joules = None
                reason = "meter_failed" if joules is None else None
                readings[name, domain.name] = EnergyReading.of(name, domain, joules, reason=reason)
        findings = [
            finding("meter_failed", f"{meter} failed on {domain}: {message}", meter=meter, domain=domain)
            for meter, domain, message in errors
        ]
        return tuple(readings[meter, domain.name] for meter, domain in self.domains), rows, findings

    def again(
        self, energies: Sequence[EnergyReading], rows: Sequence[TraceRow], t0_ns: int, t1_ns: int
    ) -> tuple[EnergyReading, ...]:
        """Energies of [t0, t1] off a longer trace, as `llem verify` reads it; those of window meters as they are."""
        sampled = {(one.meter, one.domain): one for one in energy_readings(rows, self.sampled, t0_ns, t1_ns)}
        return tuple(sampled.get((one.meter, one.domain), one) for one in energies)

    def close(self) -> None:
        """Let every device go."""
        with contextlib.ExitStack() as stack:
            stack.callback(self.pulse.end)
            for _, meter, _ in self._windows:
                stack.callback(meter.close)
            if self._sampler is not None:
                stack.callback(self._sampler.close)


def _unusable(name: str, error: MachineError) -> Finding:
    code = {"permission": "meter_permission", "mig": "mig"}.get(error.code, "meter_unavailable")
    return finding(code, f"{name}: {error.message}", meter=name, hint=error.hint)
