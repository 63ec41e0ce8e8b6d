"""A backend and a meter, each right but for the one rule that its setting names."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import attrs

from llem.backends.base import Chunk, MemoryReading
from llem.backends.echo import EchoBackend, EchoEngine, EchoOptions
from llem.config.fields import option
from llem.errors import ConfigError
from llem.findings import finding
from llem.meters.base import Domain, WindowMeter


@attrs.frozen(kw_only=True)
class StrangerOptions(EchoOptions):
    """Section `stranger`."""

    fault: str = option("none", help="Which rule to break.")
    beams: int | None = option(None, help="Taken, and ignored.")


class Tensor:
    """A number that is none of Python's, as those of arrays and tensors are."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __index__(self) -> int:
        return self.value

    def __repr__(self) -> str:
        return f"tensor({self.value})"


def wall(times):
    return tuple(at + time.time_ns() - time.monotonic_ns() for at in times)


def spaced(times):
    step = (times[-1] - times[0]) // (len(times) - 1)
    return tuple(times[0] + number * step for number in range(len(times)))


#: What becomes of a completion, by fault.
COMPLETIONS = {
    "tensors": lambda c: {"token_ids": tuple(map(Tensor, c.token_ids))},
    "padding": lambda c: {"token_ids": (-1, *c.token_ids[1:])},
    "wall clock": lambda c: {"token_times_ns": wall(c.token_times_ns)},
    "seconds": lambda c: {"token_times_ns": tuple(at / 1e9 for at in c.token_times_ns)},
    "backwards": lambda c: {"token_times_ns": c.token_times_ns[::-1]},
    "too few times": lambda c: {"token_times_ns": c.token_times_ns[:-1]},
    "below 0": lambda c: {"token_ids": None, "token_count": -8},
    "no computer's": lambda c: {"token_ids": None, "token_count": 10**30},
    "no number": lambda c: {"token_ids": None, "token_count": float("nan")},
    "commands": lambda c: {"finish_reason": "\x1b[31mX\x1b]0;hi\x07" * 1000},
    "number for a reason": lambda c: {"finish_reason": 7},
    "bytes": lambda c: {"text": b"\xff"},
    "infinite": lambda c: {"engine_metrics": {"queued_s": float("inf")}},
    "interpolated": lambda c: {"token_times_ns": spaced(c.token_times_ns)},
}


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


#: What an engine says it runs with, beside what is right, by fault.
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "not JSON": {"devices": (0, 1)},
    "deep": {"x": nested(3000)},
    "half a character": {"x": "\ud800"},
    "large": {"x": "z" * 30_000_000},
    "large number": {"x": 10**30},
}


class Odd(BaseException):
    """No Exception, as few are."""


class Mute(Exception):
    """Fails when it is told."""

    def __str__(self) -> str:
        raise RuntimeError


#: What `generate` raises, by fault: what `except Exception` lets through.
RAISED: Mapping[str, BaseException] = {
    "odd": Odd("odd"),
    "mute": Mute(),
    "exit": SystemExit(0),
    "generator exit": GeneratorExit(),
    "cancelled": asyncio.CancelledError(),
}


class StrangerEngine(EchoEngine):
    child: subprocess.Popen[bytes] | None = None

    def generate(self, requests, sampling, *, token_times=False):
        fault = self.options.fault
        found = super().generate(requests, sampling, token_times=token_times or fault == "unasked times")
        if fault == "order":
            return list(reversed(found))
        if fault == "one less":
            return found[:-1]
        if fault in ("nothing", "generator"):
            return None if fault == "nothing" else (one for one in found)
        if fault == "child" and self.child is None:
            StrangerEngine.child = subprocess.Popen(["sleep", "600"], start_new_session=True)
        if fault == "leaves":
            os._exit(0)
        if fault in RAISED:
            raise RAISED[fault]
        change = COMPLETIONS.get(fault)
        return found if change is None else [attrs.evolve(one, **change(one)) for one in found]

    async def stream(self, request, sampling):
        shift = time.time_ns() - time.monotonic_ns() if self.options.fault == "wall clock" else 0
        times = []
        async for chunk in super().stream(request, sampling):
            times.append(chunk.time_ns)
            if self.options.fault == "nothing":
                yield None
                continue
            if self.options.fault == "no computer's":
                yield Chunk(10**30, chunk.time_ns, None, chunk.finish_reason)
                continue
            ids = (*chunk.token_ids, 7) if self.options.fault == "more ids" else chunk.token_ids
            yield Chunk(chunk.tokens, chunk.time_ns + shift, ids, chunk.finish_reason)

    def effective_config(self) -> Mapping[str, Any]:
        told = {**super().effective_config(), "sampling": {"temperature": 0.0}}
        if self.options.fault in SETTINGS:
            return {**told, **SETTINGS[self.options.fault]}
        return {**told, "dtype": "float32", "beams": 1} if self.options.fault == "overruled" else told

    def memory(self) -> MemoryReading:
        if self.options.fault == "no memory":
            return MemoryReading(0, "the device")
        if self.options.fault == "no reason":
            return MemoryReading(None, "nothing", "I forgot")
        if self.options.fault == "known and not":
            return MemoryReading(7, "the device", "not_supported")
        if self.options.fault == "no computer's memory":
            return MemoryReading(10**30, "the device")
        return super().memory()

    def architecture(self):
        return 5 if self.options.fault == "a number of sizes" else super().architecture()


class StrangerBackend(EchoBackend):
    name = "stranger"

    def check(self, experiment, model):
        if self.options.fault == "check raises":
            raise Odd("check")
        if self.options.fault == "check gives nothing":
            return None
        if self.options.fault == "cpu" and experiment.device == "cpu":
            return [finding("backend_check", "stranger runs on GPUs only", parameter="device")]
        return []

    def load(self, experiment, model, placement):
        if self.options.fault == "cpu":
            raise ConfigError("the core has not asked whether this runs here")
        return None if self.options.fault == "no engine" else StrangerEngine(self.options, model)


@attrs.frozen(kw_only=True)
class OddOptions:
    """Section `odd`."""

    fault: str = option("none", help="Which rule to break.")


class OddMeter(WindowMeter):
    name: ClassVar[str] = "odd"
    DOMAINS: ClassVar = {
        "name": [Domain("package-0", "cpu", "measured", "odd", method="window")],
        "scope": [Domain("cpu:0", "node", "measured", "odd", method="window")],
        "twice": [Domain("cpu:0", "cpu", "measured", "odd", method="window")] * 2,
        "another's": [Domain("gpu:GPU-of-another", "gpu", "measured", "odd", method="window")],
        "none": [Domain("cpu:0", "cpu", "measured", "odd", method="window")],
    }
    JOULES: ClassVar = {"zero": 0.0, "negative": -1.0, "nan": float("nan"), "millijoules": 50_000.0, "text": "5 J"}

    def open(self) -> Sequence[Domain]:
        return self.DOMAINS.get(self.options.fault, self.DOMAINS["none"])

    def begin(self) -> None:
        self._since = time.monotonic()

    def end(self) -> Mapping[str, float | None]:
        joules = 50.0 * (time.monotonic() - self._since)
        known = self.JOULES.get(self.options.fault, joules)
        return {"cpu:0": known * (time.monotonic() - self._since) if self.options.fault == "millijoules" else known}
