"""Records one GPU with llem's sampling process while loads run: segments of known load, and one trace of them all."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
from benchmarks.validation.loads import Load, running

from llem.devices.nvml import Nvml
from llem.errors import MachineError
from llem.meters.sampler import Sampler
from llem.store.tables import trace_bytes

__all__ = ["Recorder", "recorder"]

METER = {"name": "nvml", "target": "llem.meters.nvml:NvmlMeter", "config": None, "options": None}


class Recorder:
    """Attributes: `segments`, what ran when; `bare`, reads of the bare counter as (monotonic ns, joules); `averages`,
    of the power that the driver averages over a second as (monotonic ns, watts)."""

    def __init__(self, uuid: str) -> None:
        import pynvml

        self._nvml = pynvml
        self._handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
        self.segments: list[dict[str, Any]] = []
        self.bare: list[tuple[int, float]] = []
        self.averages: list[tuple[int, float]] = []

    def read_counter(self) -> None:
        """The bare counter now."""
        now = time.monotonic_ns()
        self.bare.append((now, self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle) / 1000))

    def read_average(self) -> None:
        """The power that `nvidia-smi` and most tools show."""
        now = time.monotonic_ns()
        self.averages.append((now, self._nvml.nvmlDeviceGetPowerUsage(self._handle) / 1000))

    @contextlib.contextmanager
    def segment(self, kind: str, load: Load | None = None, **about: Any) -> Iterator[None]:
        """What the body lasts is a segment of this kind, with the load running; idle without one."""
        done: list[int] = []
        with running(load, done) if load else contextlib.nullcontext():
            begin = time.monotonic_ns()
            yield
            end = time.monotonic_ns()
        self.segments.append({"kind": kind, "begin_ns": begin, "end_ns": end, "done": sum(done), **about})
        print(f"{kind} {about}: {(end - begin) / 1e9:.1f} s", flush=True)


@contextlib.contextmanager
def recorder(folder: Path) -> Iterator[Recorder]:
    """A recorder of the first GPU. What was recorded is written into `folder` however the body ends.

    Raises MachineError: no GPU with an energy counter.
    """
    nvml = Nvml.open()
    with contextlib.closing(nvml):
        gpu = nvml.gpus()[0]
        sampler = Sampler([METER], [gpu.uuid])
        with contextlib.closing(sampler):
            for error in sampler.failed.values():
                raise error
            found = Recorder(gpu.uuid)
            sampler.begin()
            try:
                yield found
            finally:
                rows, errors = sampler.end()
                document = {
                    "facts": nvml.facts(gpu.uuid),
                    "driver": nvml.driver_version(),
                    "domains": [(name, attrs.asdict(domain)) for name, domain in sampler.domains],
                    "errors": errors,
                    "segments": found.segments,
                    "bare": found.bare,
                    "averages": found.averages,
                }
                (folder / "trace.csv.gz").write_bytes(trace_bytes(rows))
                (folder / "segments.json").write_text(json.dumps(document, indent=1) + "\n")
            if errors:
                raise MachineError(f"the meter failed: {errors}", "look at the driver's log")
