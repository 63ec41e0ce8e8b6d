"""What a worker is told: which experiments of which store, and which trials of them in which order."""

from __future__ import annotations

import json
from pathlib import Path

import attrs

from llem.store.files import corrupt, load, machine_errors

__all__ = ["Gap", "Turn", "WorkOrder"]

#: A trial whose turn it is: the experiment's id, and the trial's index.
Turn = tuple[str, int]


@attrs.frozen
class Gap:
    """The pause before every trial but the first.

    Attributes:
        seconds: it lasts this long at least.
        until_c: and until every GPU is at most this many degrees warmer than when the first trial began; None for no
            such wait.
        timeout_s: but no longer than this.
    """

    seconds: float = 0.0
    until_c: float | None = None
    timeout_s: float = 300.0


@attrs.frozen
class WorkOrder:
    """What one worker does: its job of the trials of experiments that are measured with one engine.

    Attributes:
        store: the store's folder.
        worker: number of the worker's folder in the store.
        process: which engine process of its experiments this is; new for each worker.
        experiments: ids of experiments, whose `experiment.json` hold the configurations. The engine is constructed
            for the first of them.
        turns: trials in order. Those beyond the number that its configuration asks for at least are taken only while
            an experiment's interval is too wide. None at all: all trials are stored, and quality is to be
            evaluated.
        gap: before every trial but the first.
        gpus: UUIDs of the GPUs to use; None leaves the choice to the worker.
        beside: other workers run on this machine at the same time.
    """

    store: str
    worker: int
    process: int
    experiments: tuple[str, ...]
    turns: tuple[Turn, ...]
    gap: Gap = Gap()
    gpus: tuple[str, ...] | None = None
    beside: bool = False

    @property
    def experiment_id(self) -> str:
        """The experiment that the engine is constructed for."""
        return self.experiments[0]

    @classmethod
    def read(cls, path: Path) -> WorkOrder:
        """From its JSON file. Raises StoreError (store_corrupt) for one that is damaged."""
        with machine_errors(path):
            text = path.read_bytes()
        try:
            data = json.loads(text)
        except ValueError as error:
            raise corrupt(path, f"not JSON: {error}") from error
        order = load(data, cls, str(path))
        if not order.experiments:
            raise corrupt(path, "it has no experiments")
        return order

    def write(self, path: Path) -> None:
        """To a JSON file. Raises MachineError for a full disk or a missing permission."""
        with machine_errors(path):
            path.write_text(json.dumps(attrs.asdict(self), indent=1) + "\n", encoding="utf-8")
