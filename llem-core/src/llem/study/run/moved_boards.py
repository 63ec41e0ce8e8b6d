"""Warns, before anything is measured, of experiments that would continue on other GPUs: their trials would mix."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import attrs

from llem.config.models import Experiment
from llem.devices.host import probe_host
from llem.errors import LlemError
from llem.experiment.placement import candidates
from llem.metrics.boards import Place
from llem.store.store import Store

__all__ = ["moved_boards"]


def moved_boards(
    store: Store,
    experiments: Mapping[str, Experiment],
    places: Mapping[str, Iterable[Place]],
    *,
    spread: bool = False,
) -> Iterator[str]:
    """Warnings about experiments that have trials and would get more on another GPU or machine.

    A GPU is another one by its UUID. Without a GPU, a machine is another one by its processor and memory.

    Args:
        experiments: experiments that get more trials on this machine, by id.
        places: where their trials were measured, by id.
        spread: as of `candidates`.
    """
    found: dict[tuple[Any, ...], tuple[str, ...] | None] = {}
    other: Counter[tuple[str, str]] = Counter()
    this_build = functools.cache(lambda: _build(attrs.asdict(probe_host())))  # called only without GPUs
    for name, experiment in experiments.items():
        wanted = (experiment.device, experiment.gpus)
        if wanted not in found:
            found[wanted] = _here(experiment, spread)
        here = found[wanted]
        if here is not None:
            moves = {_move(store, place, here, this_build) for place in places[name]}
            other.update(move for move in moves if move is not None)
    for (was, now), count in other.items():
        yield (
            f"{count} experiment{' goes' if count == 1 else 's go'} on elsewhere: trials were measured on {was}, and "
            f"here is {now}; GPUs of one kind differ by several percent, so the result will have the finding "
            "`several_boards` and is not publishable"
        )


def _here(experiment: Experiment, spread: bool) -> tuple[str, ...] | None:
    """UUIDs that the experiment may get; None if it cannot run here, which its outcome will say."""
    try:
        return candidates(experiment, spread=spread).uuids
    except LlemError:
        return None


def _move(store: Store, place: Place, here: tuple[str, ...], this_build: Callable[[], str]) -> tuple[str, str] | None:
    """From where to where, None where this is the same place."""
    if place.gpus:
        moved = not set(place.gpus) <= set(here)
        return (str(place), " or ".join(str(Place((one,), (), "")) for one in here) or "no GPU") if moved else None
    was, now = _build(store.read_environment(place.environment)["host"]), this_build()
    if was != now:
        return was, now
    return (f"{was}, without a GPU", str(Place(here[:1], (), ""))) if here else None


def _build(host: Mapping[str, Any]) -> str:
    """A machine by what does not change with its software; memory to the GiB, of which a kernel keeps more or less."""
    gib = float(host["memory_bytes"]) / 2**30
    return f"{host['cpu'] or 'an unknown processor'} with {host['threads']} threads and {gib:.0f} GiB"
