"""Going on with a study on other boards: told before anything is measured, since the trials are then a mixture."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import attrs

from llem.config.models import Experiment
from llem.devices.host import probe_host
from llem.errors import LlemError
from llem.experiment.placement import candidates
from llem.results.boards import Place, place_of
from llem.results.store import Store

__all__ = ["elsewhere"]


def elsewhere(store: Store, experiments: Mapping[str, Experiment], *, spread: bool = False) -> Iterator[str]:
    """What to warn of, for experiments that have trials and get more of them here.

    A GPU is another one by its UUID. Without a GPU, a machine is another one by its processor and memory.

    Args:
        experiments: those that go on, by id; they run on this machine.
        spread: as of `candidates`.
    """
    found: dict[tuple[Any, ...], tuple[str, ...] | None] = {}
    other: Counter[tuple[str, str]] = Counter()
    this_build = functools.cache(lambda: _build(attrs.asdict(probe_host())))  # asked for without GPUs alone
    for name, experiment in experiments.items():
        wanted = (experiment.device, experiment.gpus)
        if wanted not in found:
            found[wanted] = _here(experiment, spread)
        here = found[wanted]
        if here is not None:
            other.update(set(_moves(store, name, here, this_build)))
    for (was, now), count in other.items():
        yield (
            f"{count} experiment{' goes' if count == 1 else 's go'} on elsewhere: trials were measured on {was}, and "
            f"here is {now}; boards of one kind differ by several percent, and a result of several is marked "
            "`several_boards` and not publishable"
        )


def _here(experiment: Experiment, spread: bool) -> tuple[str, ...] | None:
    """UUIDs that it may get; None where it cannot run at all, which its worker's outcome will tell."""
    try:
        return candidates(experiment, spread=spread).uuids
    except LlemError:
        return None


def _moves(store: Store, name: str, here: tuple[str, ...], this_build: Callable[[], str]) -> Iterator[tuple[str, str]]:
    """Where trials of an experiment were measured that is not here, and what is."""
    measured = {trial.restart for trial in store.trials(name)}
    for engine in store.engines(name):
        if engine["restart"] not in measured:
            continue
        place = place_of(engine)
        if place.gpus:
            if not set(place.gpus) <= set(here):
                yield str(place), " or ".join(str(Place((uuid,), (), "")) for uuid in here) or "no GPU"
            continue
        was, now = _build(store.read_environment(place.environment)["host"]), this_build()
        if was != now:
            yield was, now
        elif here:
            yield f"{was}, without a GPU", str(Place(here[:1], (), ""))


def _build(host: Mapping[str, Any]) -> str:
    """A machine by what does not change with its software; memory to the GiB, of which a kernel keeps more or less."""
    gib = float(host["memory_bytes"]) / 2**30
    return f"{host['cpu'] or 'an unknown processor'} with {host['threads']} threads and {gib:.0f} GiB"
