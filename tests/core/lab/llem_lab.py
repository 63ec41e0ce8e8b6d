"""What the plugin of the tests provides."""

from __future__ import annotations

import errno
import os
import signal
import sys
import time
from typing import ClassVar, Literal

import attrs

from llem.backends.base import Chunk, Holding, Request
from llem.backends.echo import EchoBackend, EchoEngine, EchoOptions
from llem.config.fields import option
from llem.config.models import Quality, Sampling
from llem.errors import ConfigError, ExperimentFailed, MachineError, Problem
from llem.evaluators.base import Evaluator, Item, Score
from llem.meters.base import Domain, WindowMeter
from llem.testing.fakes import SteadyMeter


@attrs.frozen(kw_only=True)
class LabOptions:
    """Section `lab`: fail at the load, or after so many batches or streamed requests."""

    token_seconds: float = option(0.001, help="As of echo.")
    fail_in: Literal["load", "generate", "stream"] | None = option(None, help="Where to fail.")
    error: Literal["memory", "runtime", "oom", "kill", "exit", "hang"] = option("runtime", help="How to fail.")
    limit: int | None = option(None, help="Larger batches fail.")
    poisoned: bool = option(False, help="After a failure every further batch of the engine fails.")
    after: int = option(0, help="Batches, or streamed requests, before the failure.")
    every: int = option(1, help="Of the streamed requests after that, each so many-th fails, at its second token.")
    chunk: int = option(1, help="Tokens of a streamed chunk; the last of a request may be smaller, or empty.")
    adapter: str | None = option(None, help="A folder, or a name on a hub.", file="or id")
    weight_bits: float | None = option(None, help="Bits of a parameter that the backend says it holds.")
    unknown_memory: str | None = option(None, help="Why the backend says nothing of memory.")
    idle: int | None = option(None, help="Changes nothing where it is 0, which the backend says.")


def fail(how: str) -> None:
    """Fail as an engine may: by its own error, by llem's, by Python's, or by ending the process."""
    if how == "memory":
        raise MemoryError
    if how == "oom":
        raise ExperimentFailed("the batch does not fit into memory", "use a smaller batch", "oom")
    if how == "full":
        raise OSError(errno.ENOSPC, "No space left on device")
    if how == "abort":
        os.abort()
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "exit":
        sys.exit(7)
    if how == "hang":
        time.sleep(600)
    raise RuntimeError("device lost")


class LabEngine(EchoEngine):
    """Echo that fails when told, and leaves a trace of being closed."""

    closed = 0

    def __init__(self, lab: LabOptions, model=None) -> None:
        super().__init__(EchoOptions(token_seconds=lab.token_seconds), model)
        self.lab, self.batches, self.streamed, self.in_flight, self.bad = lab, 0, 0, 0, False

    def generate(self, requests, sampling, *, token_times=False):
        print("an engine prints as it pleases")
        self.batches += 1
        if self.lab.fail_in == "generate" and self.batches > self.lab.after:
            fail(self.lab.error)
        if self.lab.limit is not None and (self.bad or len(requests) > self.lab.limit):
            self.bad = self.lab.poisoned
            fail(self.lab.error)
        return super().generate(requests, sampling, token_times=token_times)

    async def stream(self, request, sampling):
        self.streamed += 1
        number = self.streamed - self.lab.after
        fails = self.lab.fail_in == "stream" and number > 0 and number % self.lab.every == 0
        tokens = ()
        self.in_flight += 1
        try:
            async for chunk in super().stream(request, sampling):
                tokens += chunk.token_ids
                if fails and len(tokens) == min(2, request.output_tokens):
                    fail(self.lab.error)
                if len(tokens) % self.lab.chunk == 0:
                    yield Chunk(self.lab.chunk, chunk.time_ns, tokens[-self.lab.chunk :])
            rest = len(tokens) % self.lab.chunk
            yield Chunk(rest, time.monotonic_ns(), tokens[len(tokens) - rest :], "length", {"queued_s": 0.5})
        finally:
            self.in_flight -= 1

    def close(self) -> None:
        LabEngine.closed += 1


class LabBackend(EchoBackend):
    """The adapter of `LabEngine`."""

    name = "lab"

    def __init__(self, options: LabOptions | None = None) -> None:
        self.options = options or LabOptions()

    def canonical(self, experiment):
        if self.options.idle == 0:
            return attrs.evolve(experiment, options=attrs.evolve(self.options, idle=None))
        return experiment

    def holding(self, experiment, model):
        return Holding(weight_bits=self.options.weight_bits, unknown=self.options.unknown_memory)

    def load(self, experiment, model, placement):
        if self.options.fail_in == "load":
            fail(self.options.error)
        return LabEngine(self.options, model)


class MuteBackend(LabBackend):
    """A backend that declares no stream."""

    name = "mute"


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


class BrokenMeter(SteadyMeter):
    """A meter whose library raises what a meter should not: when it opens, or when it reads."""

    name = "broken"

    def open(self):
        raise FileNotFoundError(2, "No such file or directory", "/dev/ttyUSB0")


class TornMeter(SteadyMeter):
    """A meter whose readings are no numbers."""

    name = "torn"

    def read_counter(self, domain):
        return float("many")


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


@attrs.frozen(kw_only=True)
class SpellingOptions(Quality):
    """Section `quality` with `evaluator: spelling`."""

    evaluator: Literal["spelling"] = option("spelling", help="How well words are repeated.")
    fail_in: str | None = option(None, help="A task to fail in.")
    error: Literal["runtime", "memory", "full", "kill", "abort", "hang", "empty"] = option(
        "runtime", help="How to fail."
    )
    item_s: float = option(0.0, help="How long an item takes.")


class Spelling(Evaluator):
    """Whether an engine repeats words: a score for an engine that echoes, with an item for each word."""

    name = "spelling"
    WORDS: ClassVar = {"fruit": ("apple", "pear", "fig", "plum"), "colour": ("red", "blue")}

    def needs(self):
        return ("stop",)

    def check(self, experiment, model):
        unknown = [task for task in self.options.tasks if task not in self.WORDS]
        if unknown:
            hint = f"known: {', '.join(self.WORDS)}"
            raise ConfigError("an unknown task", problems=(Problem("quality.tasks", f"no task {unknown[0]!r}", hint),))

    def evaluate(self, engine, tokenizer, context):
        words = self.WORDS[context.task][: self.options.limit]
        items = []
        if context.task == self.options.fail_in and self.options.error == "empty":
            return [Score(context.task, "exact", 0.0, None, 0)]
        for number, word in enumerate(words):
            context.check_stop()
            if context.task == self.options.fail_in:
                fail(self.options.error)
            time.sleep(self.options.item_s)
            ids = tuple(tokenizer.encode(word + "."))
            [done] = engine.generate([Request(number, ids, 2 * len(ids), stop=(".",))], Sampling())
            answer = tokenizer.decode(done.token_ids, strict=False)
            items.append(Item(word, float(answer == word + "." and len(word) > 3), answer))
            context.progress(number + 1, len(words))
        value = sum(item.value for item in items) / len(items)
        stderr = (value * (1 - value) / len(items)) ** 0.5
        length = Score(context.task, "letters", sum(map(len, words)) / len(words), None, len(words))
        return [Score(context.task, "exact", value, stderr, len(items), items=tuple(items)), length]

    def describe(self):
        return {"words": 2}


class Choosy(Spelling):
    """Needs a capability that the backend of the lab has not."""

    name = "choosy"

    def needs(self):
        return ("memory", "stop")
