"""What the plugin of the tests provides."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Literal

import attrs

from llem.backends.echo import EchoBackend, EchoEngine, EchoOptions
from llem.config.fields import option
from llem.errors import ExperimentFailed, MachineError
from llem.meters.base import Domain, WindowMeter
from llem.testing.fakes import SteadyMeter


@attrs.frozen(kw_only=True)
class LabOptions:
    """Section `lab`: fail at the load, or at the first batch after `after` batches."""

    token_seconds: float = option(0.001, help="As of echo.")
    fail_in: Literal["load", "generate"] | None = option(None, help="Where to fail.")
    error: Literal["memory", "runtime", "oom", "kill", "exit"] = option("runtime", help="How to fail.")
    after: int = option(0, help="Batches before the failure.")
    adapter: str | None = option(None, help="A folder, or a name on a hub.", file="or id")


def fail(how: str) -> None:
    """Fail as an engine may: by its own error, by llem's, by Python's, or by ending the process."""
    if how == "memory":
        raise MemoryError
    if how == "oom":
        raise ExperimentFailed("the batch does not fit into memory", "use a smaller batch", "oom")
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "exit":
        sys.exit(7)
    raise RuntimeError("device lost")


class LabEngine(EchoEngine):
    """Echo that fails when told, and leaves a trace of being closed."""

    closed = 0

    def __init__(self, lab: LabOptions) -> None:
        super().__init__(EchoOptions(token_seconds=lab.token_seconds))
        self.lab, self.batches = lab, 0

    def generate(self, requests, sampling, *, token_times=False):
        print("an engine prints as it pleases")
        self.batches += 1
        if self.lab.fail_in == "generate" and self.batches > self.lab.after:
            fail(self.lab.error)
        return super().generate(requests, sampling, token_times=token_times)

    def close(self) -> None:
        LabEngine.closed += 1


class LabBackend(EchoBackend):
    """The adapter of `LabEngine`."""

    name = "lab"

    def __init__(self, options: LabOptions | None = None) -> None:
        self.options = options or LabOptions()

    def load(self, experiment, model, placement):
        if self.options.fail_in == "load":
            fail(self.options.error)
        return LabEngine(self.options)


class WatchMeter(WindowMeter):
    """A library that measures by itself: 30 W by the clock."""

    name = "watch"
    watts = 30.0

    def open(self):
        return [Domain("cpu:0", "cpu", "modelled", "a stop watch", method="window")]

    def begin(self) -> None:
        self._begun = time.monotonic()

    def end(self):
        return {"cpu:0": self.watts * (time.monotonic() - self._begun)}


class AbsentMeter(SteadyMeter):
    """A meter whose device is not there."""

    name = "absent"

    def open(self):
        raise MachineError("no power meter answers on the serial line", "plug it in", "counter_missing")


class NoisyMeter(SteadyMeter):
    """A meter whose library prints."""

    name = "noisy"

    def open(self):
        print("library version 7")
        os.write(1, b"written below Python\n")
        return super().open()

    def read_counter(self, domain):
        print("reading")
        return super().read_counter(domain)
