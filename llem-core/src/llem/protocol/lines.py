"""Events as lines of JSON: those that a worker writes to its parent, and the files in which they are kept."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from llem import __version__
from llem.errors import MachineError, StoreError
from llem.foreign.files import LARGEST, growing
from llem.protocol.events import (
    BaselineMeasured,
    Calibrated,
    Emit,
    Ended,
    Event,
    Loaded,
    Outcome,
    Phase,
    Power,
    RateTried,
    Started,
    TrialEnded,
    Warned,
)
from llem.protocol.study_events import (
    Left,
    OutOfMemory,
    ResultComputed,
    StudyBegan,
    Waited,
    Waiting,
    WorkerEnded,
    WorkerLaunched,
)
from llem.store.convert import load
from llem.store.files import corrupt, machine_errors, parse, read_bytes

__all__ = ["EVENTS", "event_of", "from_json", "kept", "power_line", "stored_events", "to_json"]

#: Every class of event, in the order in which a run tells them.
EVENTS: tuple[type[Event], ...] = (
    *(StudyBegan, Waiting, Waited, WorkerLaunched),
    *(Started, Phase, Loaded, BaselineMeasured, RateTried, Calibrated, TrialEnded, Outcome, Warned, Power, Ended),
    *(Left, OutOfMemory, WorkerEnded, ResultComputed),
)
_CLASSES = {one.kind: one for one in EVENTS}


def to_json(event: Event) -> str:
    """One line, with its end. What is null is left out."""
    fields = attrs.asdict(event, filter=lambda _, value: value is not None)
    return json.dumps({"event": event.kind, **fields}) + "\n"


def from_json(line: str | bytes, log: Path) -> Event:
    """The event of one line of a worker. Raises MachineError (event_unknown) as `event_of`."""
    try:
        data = json.loads(line)
    except (ValueError, RecursionError):
        data = line
    return event_of(data, log)


def event_of(data: Any, log: Path) -> Event:
    """The event of the JSON value of a worker's line.

    Args:
        log: the worker's log, which the error names.

    Raises:
        MachineError: this llem does not know such an event (event_unknown).
    """
    try:
        return _event(data)
    except ValueError as error:
        hint = f"see {log}; a worker with an llem of its own, as in a container image, needs version {__version__} too"
        raise MachineError(f"the worker told what this llem does not know: {error}", hint, "event_unknown") from error


def _event(data: Any) -> Event:
    """Raises ValueError that says what is wrong."""
    if not isinstance(data, dict) or not isinstance(data.get("event"), str):
        raise ValueError(f"no event in {str(data)[:80]!r}")
    kind = data["event"]
    if kind not in _CLASSES:
        raise ValueError(f"an event {kind!r}")
    if "at" not in data:
        raise ValueError(f"an event {kind!r} without a time")
    fields = {name: value for name, value in data.items() if name != "event"}
    try:
        return load(fields, _CLASSES[kind], f"event {kind!r}")
    except StoreError as error:
        raise ValueError(error.message) from error


def power_line(watts: Mapping[str, float]) -> bytes:
    """The line of the event `power`, for the process that reads the meters."""
    return to_json(Power(watts={name: value for name, value in watts.items() if math.isfinite(value)})).encode()


@contextlib.contextmanager
def kept(path: Path, emit: Emit) -> Iterator[Emit]:
    """Pass each event on, and append it to a file as a line.

    Raises StoreError where no regular file is in its place, MachineError (disk_full, permission), also where an event
    cannot be written.
    """
    with contextlib.ExitStack() as held:
        with machine_errors(path):
            file = held.enter_context(growing(path))
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)  # a line whose writer was killed within it

        def told(event: Event) -> None:
            emit(event)  # first: a full disk must not keep anybody from hearing of it
            with machine_errors(path):
                file.write(to_json(event).encode())

        yield told


def stored_events(path: Path, kinds: tuple[type[Event], ...] = EVENTS) -> tuple[Event, ...]:
    """The events of a file, without a last line that is not finished; none where there is no file.

    Lines that llem wrote before its events had times are left out.

    Args:
        kinds: those that are wanted. Where not all are, lines of others are passed over unread, as they are many.

    Raises:
        StoreError: a line is no event (store_corrupt).
    """
    if not path.is_file():
        return ()
    found = []
    wanted = b"" if kinds == EVENTS else tuple(f'{{"event": "{one.kind}"'.encode() for one in kinds)
    for number, line in enumerate(read_bytes(path, LARGEST).split(b"\n")[:-1], start=1):
        if not line.startswith(wanted):
            continue
        try:
            data = parse(line.decode())
            if "at" in data:
                found.append(_event(data))
        except (TypeError, ValueError) as error:
            raise corrupt(path, f"line {number}: {error}") from error
    return tuple(found)
