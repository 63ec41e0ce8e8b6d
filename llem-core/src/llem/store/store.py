"""The result folder. Raw trials are the truth; nothing in it is ever overwritten, except what is computed from it,
the engine's document, to which a capacity probe and a failed last baseline add what they found, and what is asked
for, when a study goes on.

study.json                     the study as asked and as resolved
confirm.json                   what is stated of a confirmation (`llem.study.run.confirm`)
environments/<hash>.json       machine, GPUs, driver, packages
experiments/<id>/              experiment.json · engine-<process>.json · baseline-<process>-<phase>.json
                               trial-<n>.json · trial-<n>.power.csv.gz · trial-<n>.requests.csv.gz
                               outcome-<process>.json · result.json · .lease-<part>/ (`llem.store.lease`)
workers/<n>/                   what each worker process was told and said
events.jsonl                   what the processes that ran the study said
journal.sha256                 what they wrote, with checksums; workers have one each (`llem.store.journal`)
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from llem.devices.locks import Lock, is_held
from llem.errors import TOLD, StoreError, one_of
from llem.findings import Finding
from llem.meters.trace import TraceRow
from llem.store import names
from llem.store.convert import dump
from llem.store.documents import read_model, read_result, read_shaped
from llem.store.files import digest, machine_errors, make_folder
from llem.store.journal import JOURNALED, Journal
from llem.store.lease import clear_left
from llem.store.leases import Leases
from llem.store.models import SCHEMA_VERSION, BaselineReading, RequestRow, Result, Trial
from llem.store.shapes import ENGINE, ENVIRONMENT, EXPERIMENT, OUTCOME, STUDY
from llem.store.tables import read_requests, read_trace, requests_bytes, trace_bytes

__all__ = ["Store"]

HASH_LENGTH = 16
#: Locks of who runs the study, and of workers.
LOCKS = OWNER, WORKERS = ".owner", ".workers"


def _versioned(data: Mapping[str, Any]) -> dict[str, Any]:
    return {"schema_version": SCHEMA_VERSION, **data}


def _journaled(study: Mapping[str, Any]) -> dict[str, Any]:
    """A study's document, which says that the store has journals: without them it is not whole."""
    return {**_versioned(study), JOURNALED: True}


def _taken(folder: Path) -> StoreError:
    """The error for results that would go where something else is; a store alone can be gone on with."""
    if (folder / "study.json").is_file():
        hint = "choose another folder with `-o`, or go on with it by `--resume`"
    elif folder.is_dir():
        hint = "choose another folder with `-o`; this one holds no results of llem, so there is nothing to go on with"
    else:
        return StoreError(f"{folder} is there already and no folder", "name a folder with `-o`", "store_exists")
    return StoreError(f"{folder} is there already and not an empty folder", hint, "store_exists")


class Store:
    """One result folder. Make it with `create`, find it with `open`; several processes may write different files."""

    def __init__(self, path: Path, worker: int | None = None) -> None:
        self.path, self.journal = path, Journal(path, worker)
        self.leases = Leases(self.journal)

    @classmethod
    def create(cls, path: str | Path, study: Mapping[str, Any]) -> Store:
        """Make the folder and its study.json. Raises StoreError (store_exists) for what is there and no empty folder,
        MachineError where none can be made.
        """
        folder = Path(path)
        with machine_errors(folder):
            if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
                raise _taken(folder)
            make_folder(folder)
        store = cls(folder)
        store.journal.write_json(folder / "study.json", _journaled(study))
        return store

    @classmethod
    def open(cls, path: str | Path, worker: int | None = None) -> Store:
        """Find a store; a worker says its number. Raises StoreError: store_missing, _corrupt, _too_old, _too_new."""
        folder = Path(path)
        if not (folder / "study.json").is_file():
            what = f"{folder} holds no study.json" if folder.is_dir() else f"there is no folder {folder}"
            inner = ", ".join(sorted((str(path.parent) for path in folder.glob("*/study.json")), reverse=True)[:TOLD])
            there = f"it holds folders of results: {inner}" if inner else "name the folder that `llem run -o` wrote"
            raise StoreError(what, there, "store_missing")
        store = cls(folder, worker)
        store.study()
        return store

    # who works on it

    def owner_lock(self) -> Lock:
        """Held by the one process that runs the study."""
        return Lock(self.path / OWNER)

    def busy(self) -> bool:
        """Whether a process runs the study now; False also where that cannot be told."""
        return is_held(Lock(self.path / OWNER, shared=True))  # shared: who looks at the same time is no owner

    def worker_lock(self, *, shared: bool = True) -> Lock:
        """Held by every worker; not shared, it is to be had when none is left."""
        return Lock(self.path / WORKERS, shared=shared)

    @contextlib.contextmanager
    def attended(self) -> Iterator[None]:
        """A worker is at work here."""
        with machine_errors((lock := self.worker_lock()).path):
            lock.take()
        try:
            yield
        finally:
            lock.let_go()

    def clean(self) -> None:
        """Remove files that were never finished. Only for the owner, when no worker is left."""
        for path in self.path.rglob(".*"):
            if re.fullmatch(r"\..+\.(json|gz|sha256)\..{8}", path.name) and path.is_file():
                path.unlink()
        clear_left(self.path)

    # the study and its environments

    def study(self) -> dict[str, Any]:
        """The study document."""
        return read_shaped(self.path / "study.json", STUDY)

    def write_study(self, document: Mapping[str, Any]) -> None:
        """Store the study as it is asked for now."""
        self.journal.write_json(self.path / "study.json", _journaled(document), replace=True)

    def write_environment(self, facts: Mapping[str, Any]) -> str:
        """Store what is known of the machine; the same facts give the same hash and are stored once."""
        document = _versioned(facts)
        name = digest(document)[:HASH_LENGTH]
        path = self.path / "environments" / f"{name}.json"
        if not path.exists():
            self.journal.write_json(path, document, replace=True)
        return name

    def read_environment(self, name: str) -> dict[str, Any]:
        """The facts stored under a hash."""
        return read_shaped(self.path / "environments" / f"{name}.json", ENVIRONMENT)

    # one experiment

    def folder(self, experiment_id: str) -> Path:
        return self.path / "experiments" / experiment_id

    def experiment_ids(self) -> tuple[str, ...]:
        """Experiments that have begun, or whose engine has been loaded for others, sorted."""
        return tuple(sorted(path.parent.name for path in self.path.glob("experiments/*/experiment.json")))

    def result_ids(self) -> tuple[str, ...]:
        """Experiments that have a result, sorted."""
        return tuple(sorted(path.parent.name for path in self.path.glob("experiments/*/result.json")))

    def find(self, prefix: str) -> str:
        """The one experiment whose id begins with `prefix`. Raises StoreError when there is none, or more than one."""
        return one_of(self.experiment_ids(), prefix, f"in {self.path}")

    def write_experiment(self, experiment_id: str, document: Mapping[str, Any], *, replace: bool = False) -> None:
        """Store a configuration; `replace` for another number of trials, or what else changes no execution."""
        self.leases.write_json(self.folder(experiment_id) / "experiment.json", _versioned(document), replace=replace)

    def read_experiment(self, experiment_id: str) -> dict[str, Any]:
        return read_shaped(self.folder(experiment_id) / "experiment.json", EXPERIMENT)

    def write_engine(self, experiment_id: str, document: Mapping[str, Any], *, replace: bool = False) -> None:
        """Store what one engine process (`document["process"]`) says it runs with.

        `replace`: the same engine's document, with what was found out about it since it was loaded.
        """
        path = self.folder(experiment_id) / f"engine-{document['process']}.json"
        self.leases.write_json(path, _versioned(document), replace=replace)

    def add_engine_finding(self, experiment_id: str, process: int, found: Finding) -> None:
        """Add what was found out about one engine process too late for it to say it itself.

        An experiment that did not begin with this engine has no document of it, and nothing to be told.
        """
        path = self.folder(experiment_id) / f"engine-{process}.json"
        if path.exists():
            document = read_shaped(path, ENGINE)
            told = [*document.get("findings", ()), attrs.asdict(found)]
            self.leases.write_json(path, {**document, "findings": told}, replace=True)

    def engines(self, experiment_id: str) -> tuple[dict[str, Any], ...]:
        """Engine documents by process."""
        return tuple(read_shaped(path, ENGINE) for path in names.numbered(self.folder(experiment_id), names.ENGINE))

    def write_outcome(self, experiment_id: str, document: Mapping[str, Any]) -> None:
        """Store how one engine process (`document["process"]`) ended."""
        self.leases.write_json(self.folder(experiment_id) / f"outcome-{document['process']}.json", _versioned(document))

    def has_outcome(self, experiment_id: str, process: int) -> bool:
        """Whether it is stored how one engine process ended."""
        return (self.folder(experiment_id) / f"outcome-{process}.json").exists()

    def outcomes(self, experiment_id: str) -> tuple[dict[str, Any], ...]:
        """Outcome documents by process."""
        return tuple(read_shaped(path, OUTCOME) for path in names.numbered(self.folder(experiment_id), names.OUTCOME))

    # baselines and trials: rows first, the document last, so that a document never lacks its rows

    def write_baseline(self, experiment_id: str, baseline: BaselineReading, rows: Iterable[TraceRow]) -> None:
        path = self.folder(experiment_id) / f"baseline-{baseline.process}-{baseline.phase}.json"
        self._refuse(path)
        self.leases.write(path.with_suffix(".power.csv.gz"), trace_bytes(rows), replace=True)
        self.leases.write_json(path, dump(baseline))

    def baselines(self, experiment_id: str) -> tuple[BaselineReading, ...]:
        """Baselines by process, before the trials and after."""
        paths = names.numbered(self.folder(experiment_id), names.BASELINE)
        found = [read_model(path, BaselineReading) for path in paths]
        return tuple(sorted(found, key=lambda baseline: (baseline.process, baseline.phase != "before")))

    def baseline_trace(self, experiment_id: str, process: int, phase: str) -> tuple[TraceRow, ...]:
        return read_trace(self.folder(experiment_id) / f"baseline-{process}-{phase}.power.csv.gz")

    def write_trial(self, trial: Trial, rows: Iterable[TraceRow], requests: Iterable[RequestRow]) -> None:
        """Store a trial and its rows. Rows left by a worker that died before it wrote the trial are replaced."""
        path = self.folder(trial.experiment_id) / f"trial-{trial.index}.json"
        self._refuse(path)
        self.leases.write(path.with_suffix(".power.csv.gz"), trace_bytes(rows), replace=True)
        self.leases.write(path.with_suffix(".requests.csv.gz"), requests_bytes(requests), replace=True)
        self.leases.write_json(path, dump(trial))

    def trials(self, experiment_id: str) -> tuple[Trial, ...]:
        """Trials by index."""
        paths = names.numbered(self.folder(experiment_id), names.TRIAL)
        return tuple(read_model(path, Trial) for path in paths)

    def trial_indices(self, experiment_id: str) -> set[int]:
        """Indices of the trials that are stored."""
        return set(names.numbered(self.folder(experiment_id), names.TRIAL).values())

    def next_process(self, experiment_id: str) -> int:
        """The least number that no engine process of an experiment has."""
        taken = names.numbered(self.folder(experiment_id), names.PROCESS).values()
        return names.following(taken, f"processes of {experiment_id}")

    def next_worker(self) -> int:
        """The least number above those of all workers that have a folder."""
        folder = self.path / "workers"
        return names.following(names.numbered(folder, names.WORKER).values(), str(folder))

    def trace(self, experiment_id: str, index: int) -> tuple[TraceRow, ...]:
        return read_trace(self.folder(experiment_id) / f"trial-{index}.power.csv.gz")

    def requests(self, experiment_id: str, index: int) -> tuple[RequestRow, ...]:
        return read_requests(self.folder(experiment_id) / f"trial-{index}.requests.csv.gz")

    # what is computed

    def write_result(self, result: Result, *, replace: bool = False) -> None:
        """Store a Result; `replace` after more trials have come."""
        self.journal.write_json(self.folder(result.id) / "result.json", dump(result), replace=replace)

    def remove_result(self, experiment_id: str) -> None:
        """Before more is measured of an experiment: its result holds no more, and is computed again afterwards."""
        self.journal.remove(self.folder(experiment_id) / "result.json")

    def read_result(self, experiment_id: str) -> Result | None:
        """The stored Result; None when the experiment has not ended, or an older version computed the result."""
        found = self.read_any_result(experiment_id)
        return found[0] if found is not None and found[1] == SCHEMA_VERSION else None

    def read_any_result(self, experiment_id: str) -> tuple[Result, int] | None:
        """The stored Result and the version that computed it; None when there is none."""
        path = self.folder(experiment_id) / "result.json"
        return read_result(path) if path.exists() else None

    def worker_dir(self, number: int) -> Path:
        """The folder of one worker, made when it is not there."""
        path = self.path / "workers" / str(number)
        with machine_errors(path):
            make_folder(path)
        return path

    def documents(self) -> Sequence[Path]:
        """Every JSON document of the store that carries a digest, sorted."""
        patterns = ("study.json", "confirm.json", "environments/[!.]*.json", "experiments/*/[!.]*.json")
        found = (path for pattern in patterns for path in self.path.glob(pattern))
        return sorted(path for path in found if not names.is_odd(path.relative_to(self.path).as_posix()))

    def _refuse(self, path: Path) -> None:
        if path.exists():
            raise StoreError(f"{path} is there already and is never overwritten", "use the next number", "store_exists")
