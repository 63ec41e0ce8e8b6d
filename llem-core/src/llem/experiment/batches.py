"""The offline load: batches back to back.

    begin trace | jitter | lead-in batches | t0  k batches  t1 | lead-out batches | end trace

The lead batches are the same work, unmeasured. They keep power steady across the window's edges, so that neither the
counter's period nor the sensor's delay moves energy over them. They last until the slowest sensor has settled.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import psutil

from llem.backends.base import Completion, Request, prompt_tokens
from llem.backends.contract import completion_breaches
from llem.config.models import OfflineLoad
from llem.devices.memory import RESERVE_BYTES, free_bytes
from llem.errors import ExperimentFailed, LlemError
from llem.experiment.calibration import AGAIN, Timed, batch_times, enough, lost_s, untold
from llem.experiment.contract import Idle, hold
from llem.experiment.session import Measured, Session, Work
from llem.experiment.trial import digest, finish, traced
from llem.findings import Finding
from llem.foreign.files import LARGEST, size_text
from llem.metrics.accounts import known_sum
from llem.store.models import RequestRow

__all__ = ["Batch", "Batches"]

#: How many requests are made at a time; in between it is seen whether the next ones fit.
AT_ONCE = 16384
#: Bytes of a stored row without what the engine tells of it, and of each time of a token in it; more than most have.
ROW_BYTES, TIME_BYTES = 128, 20
#: A pause of more than this share of the warm-up is made up for.
MADE_UP = 0.1


@attrs.frozen
class Batch:
    """One batch as it ran: requests, completions, and monotonic times around the engine's call."""

    requests: Sequence[Request]
    completions: Sequence[Completion]
    start_ns: int
    end_ns: int


class Batches(Work):
    """Attributes: `batch_s`, time of one batch, the least of the last ones, and `usual_s`, their mean (set by the
    warm-up); `batches` per window, and `lead_batches` before and after it (set by the calibration)."""

    def __init__(self, session: Session) -> None:
        if not isinstance(session.experiment.load, OfflineLoad):
            raise LlemError("batches are of an offline load", code="bug")
        self._session = session
        self._size = session.experiment.load.batch_size
        self.batch_s = self.usual_s = 0.0
        self.batches = 1
        self.lead_batches = 0
        self._left: list[Finding] = []  # what the warm-up found

    def warm_up(self) -> None:
        """Full-length batches for compilation and caches, then the same load until it has lasted long.

        Fixed and not "until stable"; what drifts nevertheless is found afterwards (`no_steady_state`).
        """
        wanted = self._session.experiment.warmup
        self._session.phase("warm-up", wanted.seconds, batches=wanted.batches)
        idle, first = Idle(self._session.process.rest), max(wanted.batches, 1)  # one at least: calibration needs a time
        ran = self._ran(idle, first, wanted.seconds)
        latest = thermal = ran[first:] or ran[-1:]
        for _ in range(AGAIN):
            lost = min(lost_s(latest), wanted.seconds)
            if lost <= MADE_UP * wanted.seconds and enough(thermal):
                break
            latest = self._ran(idle, 1, lost)
            thermal = [*thermal, *latest]
        self._left += untold(thermal)
        self.batch_s, self.usual_s = batch_times(thermal)

    def _ran(self, idle: Idle, first: int, seconds: float) -> list[Timed]:
        """So many batches, held to the contract, and then others for so long; each with what kept the worker from
        running."""
        with self._session.live_instruments.pulse as pulse:
            ran = [self._one(held=True) for _ in range(first)]
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                ran.append(self._one())
            start, end = ran[-1]
            self._left = idle.left((end - start) / 1e9)
        device = self._session.process.placement.device
        return [Timed.of(device, pulse.beats(*span), *span) for span in ran]

    def settle(self) -> None:
        """One batch, unmeasured: caches, allocations and compiled shapes are those of this experiment again."""
        self._one()

    @property
    def settle_s(self) -> float:
        return self.batch_s

    def _one(self, *, held: bool = False) -> tuple[int, int]:
        """When it began and ended, monotonic ns."""
        self._session.check_stop()
        [requests] = self._next_batches(1)
        batch = self._run(requests)
        if held:
            self._hold([batch])
        return batch.start_ns, batch.end_ns

    def calibrate(self) -> Mapping[str, Any]:
        """The number of batches that fills a window, fixed for all trials; and of the lead-in and lead-out."""
        batch_s = max(self.batch_s, 1e-6)
        self.batches = max(1, math.ceil(self._session.experiment.window_s / batch_s))
        instruments = self._session.live_instruments
        self.lead_batches = max(1, math.ceil(instruments.lead_s / batch_s)) if instruments.sampled else 0
        return {"batch_s": batch_s, "batches": self.batches}

    @property
    def trial_s(self) -> float:
        return self.batch_s * (self.batches + 2 * self.lead_batches)

    def trial(self, index: int) -> Measured:
        session, instruments = self._session, self._session.live_instruments
        lead_in = self._next_batches(self.lead_batches)
        work = self._next_batches(self.batches)
        _check_rows([request for requests in work for request in requests], session.experiment.token_times)
        lead_out = self._next_batches(self.lead_batches)
        with traced(session, index) as trace:
            for requests in lead_in:
                self._run(requests)
            session.live_engine.reset_memory()
            instruments.window_begin()
            t0 = time.monotonic_ns()
            batches = [self._run(requests) for requests in work]
            trace.window = t0, time.monotonic_ns()
            instruments.window_end()
            for requests in lead_out:
                self._run(requests)
        self._hold(batches)
        done = [completion for batch in batches for completion in batch.completions]
        asked = [request for batch in batches for request in batch.requests]
        trial = finish(
            session,
            index,
            trace,
            findings=self._left,
            batches=len(batches),
            requests=len(asked),
            input_tokens=known_sum(
                prompt_tokens(one.input_tokens, told.engine_metrics) for one, told in zip(asked, done, strict=True)
            ),
            output_tokens=sum(completion.tokens for completion in done),
            expected_output_tokens=sum(request.output_tokens for request in asked),
            batch_s=tuple((batch.end_ns - batch.start_ns) / 1e9 for batch in batches),
            planned_s=len(batches) * self.usual_s,
            first_index=asked[0].index,
            output_digest=digest(completion.token_ids for completion in done),
        )
        return trial, trace.rows, _request_rows(batches)

    def _hold(self, batches: Sequence[Batch]) -> None:
        """What the engine gave is what a backend has to give. Raises ExperimentFailed where it is not."""
        asked = self._session.experiment.token_times
        for one in batches:
            between = {"start_ns": one.start_ns, "end_ns": one.end_ns}
            hold(self._session, completion_breaches(one.requests, one.completions, asked_times=asked, **between))

    def _next_batches(self, count: int) -> list[Sequence[Request]]:
        """The next batches of the workload's sequence, made before anything is timed."""
        requests = self._requests(self._size * count)
        return [requests[i : i + self._size] for i in range(0, len(requests), self._size)]

    def _requests(self, count: int) -> Sequence[Request]:
        """So many requests. Raises ExperimentFailed: they do not fit into memory (oom), or the worker is to stop."""
        made: list[Request] = []
        had = psutil.Process().memory_info().rss if count > AT_ONCE else 0
        while len(made) < count:
            made += self._session.next_requests(min(AT_ONCE, count - len(made)))
            if len(made) < count:
                self._session.check_stop()
                _check_memory(len(made), count, psutil.Process().memory_info().rss - had)
        return made

    def _run(self, requests: Sequence[Request]) -> Batch:
        """One call of the engine, timed."""
        experiment = self._session.experiment
        generate = self._session.live_engine.generate
        start = time.monotonic_ns()
        completions = generate(requests, experiment.sampling, token_times=experiment.token_times)
        return Batch(requests, completions, start, time.monotonic_ns())


def _check_memory(made: int, count: int, took: int) -> None:
    """Raise ExperimentFailed (oom) if the rest will not fit, before the kernel ends what it chooses.

    Of what is free a part is to stay so: half of it where there is little, so that a small load is no fault of a small
    machine.
    """
    wanted, free = took * (count - made) // made, free_bytes()
    if wanted > free - min(RESERVE_BYTES, free // 2):
        told = f"{count} requests take {took * count / made / 1e9:.3g} GB of memory: {wanted / 1e9:.3g} more, and"
        raise ExperimentFailed(
            f"{told} {free / 1e9:.3g} are free", "use a smaller `load.batch_size`, or `window_s`", "oom"
        )


def _check_rows(asked: Sequence[Request], token_times: bool) -> None:
    """Raise ExperimentFailed (invalid) if the rows of a trial will be more than are read of a file."""
    times = sum(one.output_tokens for one in asked) if token_times else 0
    size = len(asked) * ROW_BYTES + times * TIME_BYTES
    if size > LARGEST:
        what = f"{len(asked):,} requests of a window with {times:,} times of tokens take {size_text(size)} of rows"
        hint = "use a shorter `window_s`" + (", or `token_times: false`" if token_times else "")
        raise ExperimentFailed(f"{what}, of which {size_text(LARGEST)} can be stored", hint, "invalid")


def _request_rows(batches: Sequence[Batch]) -> list[RequestRow]:
    return [
        RequestRow(
            index=request.index,
            batch=number,
            input_tokens=prompt_tokens(request.input_tokens, done.engine_metrics),
            output_tokens=done.tokens,
            start_ns=batch.start_ns,
            end_ns=batch.end_ns,
            token_times_ns=done.token_times_ns,
            finish_reason=done.finish_reason,
            engine_metrics=done.engine_metrics,
        )
        for number, batch in enumerate(batches)
        for request, done in zip(batch.requests, batch.completions, strict=True)
    ]
