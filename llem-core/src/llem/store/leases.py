"""What one process holds of the experiments of a store, and how it writes what it holds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llem.errors import LlemError, StoreError
from llem.store.files import json_bytes
from llem.store.journal import Journal
from llem.store.lease import Lease

__all__ = ["QUALITY", "Leases", "lost"]

#: The part of an experiment that is not of its trials: the evaluation of its tasks.
QUALITY = "quality"


def lost(experiment_id: str) -> StoreError:
    """The error for what a worker wants to write of an experiment that another one has taken over."""
    what = f"another worker has taken over experiment {experiment_id}, since this one showed no sign of life"
    return StoreError(what, "what this worker had not stored is measured by the other one", "lease_lost")


class Leases:
    """Those that this process holds, by experiment and part; and the way by which it writes what they are for.

    Without a lease it writes as any program does: the process that runs the study, and tests.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._held: dict[str, dict[str, Lease]] = {}
        self._lost: str | None = None

    def add(self, experiment_id: str, part: str, lease: Lease) -> None:
        self._held.setdefault(experiment_id, {})[part] = lease

    def beat(self) -> bool:
        """Show a sign of life with each. False if any was taken over; `check` raises from then on."""
        for name, held in list(self._held.items()):
            if not all(lease.beat() for lease in list(held.values())):
                self._lost = name
        return self._lost is None

    def check(self) -> None:
        """Raise StoreError (lease_lost) if a lease was taken over."""
        if self._lost is not None:
            raise lost(self._lost)

    def let_go(self) -> None:
        """Let others have all of them."""
        while self._held:
            for lease in self._held.popitem()[1].values():
                lease.let_go()

    def write(self, path: Path, content: bytes, *, replace: bool = False, part: str | None = None) -> None:
        """As `Journal.write` in the folder of an experiment, by the lease of that part, or any that is held.

        Raises StoreError too if another worker has taken it over (lease_lost).
        """
        held = self._held.get(path.parent.name, {})
        lease = held.get(part) if part in held else next(iter(held.values()), None)
        try:
            self._journal.write(path, content, replace=replace, stage=None if lease is None else lease.folder)
        except LlemError as error:
            if lease is not None and not lease.beat():
                raise lost(path.parent.name) from error
            raise

    def write_json(
        self, path: Path, data: Mapping[str, Any], *, replace: bool = False, part: str | None = None
    ) -> None:
        """As `llem.store.files.write_json`, by the lease as `write` does it."""
        self.write(path, json_bytes(path, data), replace=replace, part=part)
