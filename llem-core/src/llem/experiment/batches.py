"""The offline load: batches back to back.

    begin trace | jitter | lead-in batches | t0  k batches  t1 | lead-out batches | end trace

The lead batches are the same work, unmeasured. They keep power steady across the window's edges, so that neither the
counter's period nor the sensor's delay moves energy over them. They last until the slowest sensor has settled.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import psutil

from llem.backends.base import Request
from llem.backends.contract import completion_breaches
from llem.config.models import OfflineLoad
from llem.devices.memory import RESERVE_BYTES, free_bytes
from llem.errors import ExperimentFailed, LlemError
from llem.experiment.batch import Batch, Requests, Run, counts, request_rows, timed
from llem.experiment.calibration import AGAIN, Timed, batch_times, enough, lost_s, untold
from llem.experiment.contract import Idle, hold
from llem.experiment.parts import PartPlan, in_turn, plan_parts, shortened
from llem.experiment.session import Measured, Session, Work
from llem.experiment.trial import Trace, conduct, digest, finish, traced
from llem.findings import Finding
from llem.foreign.files import LARGEST, size_text
from llem.meters.trace import TraceRow
from llem.metrics.designs import ALL, DESIGNS, Pass
from llem.store.models import Part, RequestRow, Trial

__all__ = ["Batches"]

#: How many requests are made at a time; in between it is seen whether the next ones fit.
AT_ONCE = 16384
#: Bytes of a stored row without what the engine tells of it, and of each time of a token in it; more than most have.
ROW_BYTES, TIME_BYTES = 128, 20
#: A pause of more than this share of the warm-up is made up for.
MADE_UP = 0.1
#: So many batches of a pass tell how long one takes; the first of a shape may be slow.
TRIED = 4


class Batches(Work):
    """Attributes: `batch_s`, time of one batch, the least of the last ones, and `usual_s`, their mean (set by the
    warm-up); `batches` per window, `lead_batches` before and after it, and the `parts` of a trial (set by the
    calibration)."""

    def __init__(self, session: Session) -> None:
        if not isinstance(session.experiment.load, OfflineLoad):
            raise LlemError("batches are of an offline load", code="bug")
        self._session = session
        self._size = session.experiment.load.batch_size
        self.batch_s = self.usual_s = 0.0
        self.batches = 1
        self.lead_batches = 0
        self.parts: list[PartPlan] = []
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
        """The number of batches that fills a window, fixed for all trials; of the lead-in and lead-out; the parts."""
        batch_s, wanted = max(self.batch_s, 1e-6), self._session.experiment
        self.batches = max(1, math.ceil(wanted.window_s / batch_s))
        instruments = self._session.live_instruments
        lead_s = instruments.lead_s if instruments.sampled else 0.0
        self.lead_batches = math.ceil(lead_s / batch_s)
        if wanted.phases != "none":
            passes = {one for of_part in DESIGNS[wanted.phases].values() for one in of_part}
            seconds = {one: batch_s if one == ALL else self._seconds(one) for one in sorted(passes)}
            self.parts = plan_parts(wanted.phases, seconds, self.batches, wanted.window_s, lead_s)
        return {"batch_s": batch_s, "batches": self.batches}

    def _seconds(self, one: Pass) -> float:
        """Seconds of a batch in a pass: the least of some, so that no window is too short."""
        spans = []
        for _ in range(TRIED):
            self._session.check_stop()
            [requests] = self._next_batches(1)
            batch = self._in_pass(requests, one)()
            self._hold([batch])
            spans.append((batch.end_ns - batch.start_ns) / 1e9)
        return min(spans)

    def _in_pass(self, requests: Requests, one: Pass) -> Run:
        """What runs a batch in a pass; prompts that are kept for it are computed at once."""
        if not one.kept:
            return functools.partial(self._run, [shortened(request, one) for request in requests])
        decode = self._session.live_engine.prefilled(requests, self._session.experiment.sampling)
        return functools.partial(timed, requests, decode)

    @property
    def trial_s(self) -> float:
        whole_s = self.batch_s * (self.batches + 2 * self.lead_batches)
        return whole_s + sum(plan.seconds for plan in self.parts)

    def trial(self, index: int) -> Measured:
        lengths = (self.lead_batches, self.batches, self.lead_batches)
        lead_in, work, lead_out = (self._next_batches(length) for length in lengths)
        _check_rows([request for requests in work for request in requests], self._session.experiment.token_times)
        if not self.parts:
            trial, trace, rows = self._whole(index, lead_in, work, lead_out)
            return trial, trace, rows
        traces: list[TraceRow] = []
        parts: list[tuple[Part, Sequence[Finding]]] = []
        for plan in in_turn(self.parts, index):
            self._session.check_stop()
            if plan is None:
                trial, trace, rows = self._whole(index, lead_in, work, lead_out)
            else:
                part, trace, found = self._part(index, plan, work)
                parts.append((part, found))
            traces += trace
        return self._joined(trial, parts, traces), traces, rows

    def _whole(
        self, index: int, lead_in: Sequence[Requests], work: Sequence[Requests], lead_out: Sequence[Requests]
    ) -> tuple[Trial, list[TraceRow], list[RequestRow]]:
        """The whole window of a trial."""
        runs = ([functools.partial(self._run, one) for one in several] for several in (lead_in, work, lead_out))
        trace, batches = self._measure(index, *runs)
        done = [completion for batch in batches for completion in batch.completions]
        asked = [request for batch in batches for request in batch.requests]
        trial = finish(
            self._session,
            index,
            trace,
            findings=self._left,
            planned_s=len(batches) * self.usual_s,
            expected_output_tokens=sum(request.output_tokens for request in asked),
            first_index=asked[0].index,
            output_digest=digest(completion.token_ids for completion in done),
            **counts(batches),
        )
        return trial, trace.rows, request_rows(batches)

    def _part(
        self, index: int, plan: PartPlan, work: Sequence[Requests]
    ) -> tuple[Part, list[TraceRow], Sequence[Finding]]:
        """A part of a trial, measured as the whole window is; with what is to be said of it."""
        around, within = plan.arranged(work, self._in_pass)
        trace, batches = self._measure(f"{index}/{plan.name}", around, within, around)
        beats, found = conduct(self._session, trace)
        part = Part(plan.name, plan.rounds, *trace.window, **counts(batches), energies=trace.energies, beats=beats)
        return part, trace.rows, found

    def _joined(self, trial: Trial, parts: Sequence[tuple[Part, Sequence[Finding]]], rows: Sequence[TraceRow]) -> Trial:
        """The trial with its parts; energies are read off the one trace that is stored."""
        again = self._session.live_instruments.again
        return attrs.evolve(
            trial,
            energies=again(trial.energies, rows, trial.t0_ns, trial.t1_ns),
            parts=tuple(
                attrs.evolve(part, energies=again(part.energies, rows, part.t0_ns, part.t1_ns)) for part, _ in parts
            ),
            findings=(*trial.findings, *(one for _, found in parts for one in found)),
        )

    def _measure(
        self, name: int | str, lead_in: Sequence[Run], work: Sequence[Run], lead_out: Sequence[Run]
    ) -> tuple[Trace, list[Batch]]:
        """One window of batches, between others of the same work. `name` tells it from the experiment's others."""
        session, instruments = self._session, self._session.live_instruments
        with traced(session, name) as trace:
            for run in lead_in:
                run()
            session.live_engine.reset_memory()
            instruments.window_begin()
            t0 = time.monotonic_ns()
            batches = [run() for run in work]
            trace.window = t0, time.monotonic_ns()
            instruments.window_end()
            for run in lead_out:
                run()
        self._hold(batches)
        return trace, batches

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
        experiment, generate = self._session.experiment, self._session.live_engine.generate
        times = experiment.token_times
        return timed(requests, lambda: generate(requests, experiment.sampling, token_times=times))


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
