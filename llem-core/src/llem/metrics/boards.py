"""Finds experiments whose trials ran on several GPUs: a study was resumed elsewhere, or a cluster has several.

UUIDs tell GPUs apart. Without a GPU, the stored environment tells machines apart: processor, memory, system and
software. Two machines of one build and state have the same environment.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs

from llem.findings import Finding, finding
from llem.metrics.energies import Headline, headline, token_energy
from llem.metrics.statistics import mean
from llem.store.models import Trial

__all__ = ["Place", "place_of", "several_boards"]

#: `GPU-1234abcd`: enough of a UUID to tell GPUs apart on a screen.
SHOWN = 12


@attrs.frozen
class Place:
    """Where an engine process ran: on these GPUs, or without any in this environment (a stored one's hash)."""

    gpus: tuple[str, ...]
    names: tuple[str, ...]
    environment: str

    def __str__(self) -> str:
        if not self.gpus:
            return self.environment
        kinds = ", ".join(dict.fromkeys(name for name in self.names if name))
        uuids = " + ".join(uuid[:SHOWN] for uuid in self.gpus)
        return f"{uuids} ({kinds})" if kinds else uuids


def place_of(engine: Mapping[str, Any]) -> Place:
    """The place of an engine process, from engine-<process>.json. Places are equal if their GPUs are."""
    device = engine.get("device", {})
    boards = sorted(zip(device.get("gpus", ()), device.get("names", ()), strict=True))
    gpus, names = tuple(uuid for uuid, _ in boards), tuple(name or "" for _, name in boards)
    return Place(gpus, names, "" if gpus else str(engine.get("environment", "")))


def several_boards(engines: Sequence[Mapping[str, Any]], trials: Sequence[Trial]) -> Iterable[Finding]:
    """`several_boards` when trials ran at more than one place, with the mean energy per output token at each."""
    places = {engine["process"]: place_of(engine) for engine in engines}
    found: dict[Place, list[Trial]] = {}
    for trial in trials:
        if trial.process in places:
            found.setdefault(places[trial.process], []).append(trial)
    if len(found) < 2:
        return
    what = "sets of GPUs" if any(place.gpus for place in found) else "environments"
    counted = "; ".join(f"{len(there)} on {place}" for place, there in found.items())
    message = f"trials ran on {len(found)} {what}: {counted}"
    chosen = headline(trials)
    energies = [_mean_token_energy(there, chosen) for there in found.values()]
    evidence: dict[str, Any] = {
        "boards": [
            {
                **({"gpus": list(place.gpus), "names": list(place.names)} if place.gpus else {}),
                **({} if place.gpus else {"environment": place.environment}),
                "trials": [trial.index for trial in there],
                "energy_per_output_token_j": energy,
            }
            for (place, there), energy in zip(found.items(), energies, strict=True)
        ]
    }
    known = [energy for energy in energies if energy is not None]
    if len(known) == len(energies) and min(known) > 0:
        spread = max(known) / min(known) - 1
        evidence["difference"] = spread
        message += f"; their mean energy per output token differs by {spread:.1%}"
    yield finding("several_boards", message, **evidence)


def _mean_token_energy(there: Sequence[Trial], chosen: Headline | None) -> float | None:
    """Mean headline joules per output token of the trials at one place; None where one has none."""
    found = [token_energy(trial, chosen) if chosen else None for trial in there]
    known = [energy for energy in found if energy is not None]
    return mean(known) if len(known) == len(found) else None
