"""What a worker is told: which experiment of which store, and which trials of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from llem.results.files import machine_errors

__all__ = ["WorkOrder"]


@attrs.frozen
class WorkOrder:
    """One engine process's share of one experiment.

    Attributes:
        store: the store's folder.
        experiment_id: whose `experiment.json` holds the configuration.
        restart: which engine process this is, 0, 1, …
        worker: number of the worker's folder in the store.
        first_trial: index of its first trial.
        trials, max_trials: how many trials at least and at most in this process.
    """

    store: str
    experiment_id: str
    restart: int
    worker: int
    first_trial: int
    trials: int
    max_trials: int

    @classmethod
    def read(cls, path: Path) -> WorkOrder:
        """From its JSON file."""
        data: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return cls(**data)

    def write(self, path: Path) -> None:
        """To a JSON file. Raises MachineError for a full disk or a missing permission."""
        with machine_errors(path):
            path.write_text(json.dumps(attrs.asdict(self), indent=2) + "\n", encoding="utf-8")
