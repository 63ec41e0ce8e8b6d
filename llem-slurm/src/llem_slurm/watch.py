"""Following one job from submission to its end, by the files its worker writes and by Slurm's queue."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs

from llem.errors import ExperimentFailed, MachineError
from llem.foreign.files import end_of, regular
from llem.protocol.events import Emit, Event, Outcome, Phase
from llem.protocol.lines import event_of
from llem.protocol.study_events import Waited, Waiting
from llem.store.files import machine_errors
from llem_slurm import cluster
from llem_slurm.cluster import Ended, Queue, Queued
from llem_slurm.job import BEGAN
from llem_slurm.submission import Job

__all__ = ["Lines", "Watch"]

#: How often the worker's files are looked at, and Slurm asked, at first and while nothing changes.
TICK_S, ASK_SOON_S, ASK_S = 0.5, 1.0, 10.0
#: For how long a new job is looked after closely.
NEW_S = 30.0
#: How long a running job may take to show in the store's folder: submitit waits a minute for its own file.
SHOW_S = 120.0
#: How much of a log is passed on.
TAIL_LINES = 20


class Lines:
    """Whole lines that were added to a file since the last look; opened anew each time, as network files need."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def new(self) -> Iterator[Any]:
        """Each new line's JSON value. A line that a killed worker left unfinished is skipped.

        Raises StoreError where something else than a file is in its place.
        """
        with machine_errors(self._path):
            try:
                with regular(self._path) as file:
                    file.seek(self._offset)
                    content = file.read()
            except FileNotFoundError:
                return
        whole = content.rpartition(b"\n")[0]
        self._offset += len(whole) + 1 if whole else 0
        for line in whole.splitlines():
            try:
                yield json.loads(line)
            except (ValueError, RecursionError):
                continue


@attrs.define
class Watch:
    """One job that is waited for.

    Attributes:
        killed: set by whoever wants the job ended at once.
        pending_limit_s: how long it may wait for its turn.
        began: the job has shown in the worker's folder.
        last: kind of the last event.
        over: it is not in Slurm's queue any more.
        held: failures that the worker has told last, and that nobody here asked for. Whether they stand is seen when it
            goes on, or when the job is over: what ends a job may end the process that reads the meters first.
    """

    job: Job
    folder: Path
    emit: Emit
    stop: threading.Event
    killed: threading.Event
    queue: Queue
    pending_limit_s: float | None
    began: bool = False
    over: bool = False
    held: list[Outcome] = attrs.field(factory=list)
    last: str = ""
    _reason: str = ""
    _waits: bool = False
    _running_since: float | None = None
    _told: str = ""

    def wait(self) -> Ended:
        """Pass on the worker's events until the job is over.

        Raises:
            MachineError: the job does not see the store's folder (store_not_shared), or Slurm is lost (slurm_down).
            MachineError: the worker tells what this llem does not know (event_unknown).
            ExperimentFailed: it waited for too long (pending).
        """
        marks, events = Lines(self.folder / BEGAN), Lines(self.folder / "events.jsonl")
        while True:
            reached, queued = self.queue.look(self.job.id, max_age_s=self._patience(), since=self.job.submitted)
            self.began = self.began or any(mark["token"] == self.job.token for mark in marks.new())
            if self.began and self._waits:
                self._waits = False
                self.emit(Waited())
            for event in (event_of(line, self.folder / "log.txt") for line in events.new()):
                self.last = event.kind
                self._pass_on(event)
            if reached and queued is None:
                self.over = True
                return cluster.ended(self.job.id)
            if queued is not None:
                self._attend(queued)
            time.sleep(TICK_S)

    def _pass_on(self, event: Event) -> None:
        if isinstance(event, Outcome) and event.error is not None and not self.asked_to_end:
            self.held.append(event)
            return
        if isinstance(event, Phase):  # the worker goes on: they are its experiments' own
            own = [one for one in self.held if one.outcome != "interrupted"]
            self.held = [one for one in self.held if one not in own]
            for one in own:
                self.emit(one)
        self.emit(event)

    @property
    def gave_way(self) -> bool:
        """Whether the worker ended in time, because Slurm asked it to."""
        return any(one.outcome == "interrupted" for one in self.held)

    @property
    def asked_to_end(self) -> bool:
        """Whether the user or the caller wants the worker ended."""
        return self.stop.is_set() or self.killed.is_set()

    def _patience(self) -> float:
        soon = self.asked_to_end or self.last in ("outcome", "ended")
        return ASK_SOON_S if soon or time.monotonic() - self.job.submitted < NEW_S else ASK_S

    def _attend(self, queued: Queued) -> None:
        if self.killed.is_set() or (self.stop.is_set() and queued.state == "PENDING"):
            if self._told != "cancel":
                cluster.cancel([self.job.id], kill=True)
                self._told = "cancel"
        elif self.stop.is_set() and self.began and not self._told:
            cluster.signal_job(self.job.id, "TERM")
            self._told = "stop"
        if queued.state == "PENDING":
            self._pending(queued)
        elif queued.state == "RUNNING" and not self.began:
            self._running_since = self._running_since or time.monotonic()
            if time.monotonic() - self._running_since > SHOW_S:
                raise not_shared(self.job, self.folder)

    def _pending(self, queued: Queued) -> None:
        waited = time.monotonic() - self.job.submitted
        if queued.reason not in (self._reason, "None"):
            self._reason, self._waits = queued.reason, True
            self.emit(Waiting(what=f"Slurm, job {self.job.id}: {queued.reason}"))
        if self.pending_limit_s is not None and waited > self.pending_limit_s:
            hint = "raise `pending_limit_min`, or ask for less; `scontrol show job` says more while a job waits"
            what = f"job {self.job.id} has not begun after {waited / 60:.3g} min: {queued.reason}"
            raise ExperimentFailed(what, hint, "timeout")


def not_shared(job: Job, folder: Path) -> MachineError:
    """The error for a job that leaves no trace where the results go."""
    return MachineError(
        f"job {job.id} did not show in {folder}: its node does not see this folder",
        "write to a file system that this machine and the nodes share, with `-o`",
        "store_not_shared",
    )


def tail(paths: tuple[Path, ...]) -> str:
    """The last lines of what was written before the worker had a log."""
    lines = [line for path in paths for line in end_of(path).splitlines()]
    return "\n".join(lines[-TAIL_LINES:])
