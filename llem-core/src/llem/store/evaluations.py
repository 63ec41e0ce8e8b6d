"""Quality as stored: one document per task with its scores, and the items behind them as compressed rows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from llem.config.converter import unstructure
from llem.config.models import Quality
from llem.errors import StoreError
from llem.evaluators.base import Item, Score
from llem.meters.base import EnergyReading
from llem.store.convert import dump
from llem.store.documents import read_model
from llem.store.files import corrupt, digest, gzip_bytes, parse, read_gzip
from llem.store.leases import QUALITY
from llem.store.models import SCHEMA_VERSION
from llem.store.store import Store

__all__ = [
    "Evaluation",
    "evaluation_key",
    "evaluations",
    "has_evaluations",
    "items_sha256",
    "read_evaluation",
    "read_items",
    "remaining_tasks",
    "terms_of",
    "write_evaluation",
]

KEY_LENGTH = 16
#: Settings of a section `quality` that change no score: what evaluates which tasks, whether random weights are let
#: through, and how many requests the engine is given at a time.
NO_TERMS = ("evaluator", "tasks", "force", "batch_size")


@attrs.frozen
class Evaluation:
    """The scores of one task, evaluated after the trials of an engine process: `quality-<key>.json`.

    The items of all scores, in their order, are in `quality-<key>.items.jsonl.gz` beside it.

    Attributes:
        evaluator, task: names of the evaluator and of the task.
        terms: the other settings of the section that may change a score.
        process: number of the engine process that was evaluated.
        scores: the first one stands for the task. Their `items` are in the other file.
        duration_s: how long the evaluation took, outside every window.
        energies: energies over this time, by meter and domain; empty if no meter reads.
        about: what the evaluator states of itself: versions, hashes of data.
        items_sha256: of the rows of the items, uncompressed; "" where an earlier version wrote none.
    """

    evaluator: str
    task: str
    terms: Mapping[str, Any]
    process: int
    scores: tuple[Score, ...]
    duration_s: float
    energies: tuple[EnergyReading, ...]
    about: Mapping[str, Any]
    items_sha256: str = attrs.field(default="", metadata={"spare": True})
    schema_version: int = SCHEMA_VERSION

    @property
    def key(self) -> str:
        """The same for the same task in the same terms."""
        return _key(self.evaluator, self.terms, self.task)


def _key(evaluator: str, terms: Mapping[str, Any], task: str) -> str:
    return digest([evaluator, dict(terms), task])[:KEY_LENGTH]


def terms_of(section: Mapping[str, Any]) -> dict[str, Any]:
    """What of a stored section `quality` may change a score (see `NO_TERMS`)."""
    return {name: value for name, value in section.items() if name not in NO_TERMS}


def evaluation_key(wanted: Quality, task: str) -> str:
    """Names a task in the terms of a section `quality`."""
    return _key(wanted.evaluator, terms_of(unstructure(wanted)), task)


def remaining_tasks(store: Store, experiment_id: str, wanted: Quality | None) -> list[str]:
    """Tasks of a section `quality` that have no document."""
    tasks = () if wanted is None else wanted.tasks
    return [task for task in tasks if wanted and not _path(store, experiment_id, evaluation_key(wanted, task)).exists()]


def _path(store: Store, experiment_id: str, key: str) -> Path:
    return store.folder(experiment_id) / f"quality-{key}.json"


def _rows(path: Path) -> Path:
    return path.with_suffix(".items.jsonl.gz")


def write_evaluation(store: Store, experiment_id: str, evaluation: Evaluation) -> None:
    """Store a task's scores: rows first, the document last, so that a document never lacks its rows.

    Raises StoreError for scores that are none (see `_faults`), MachineError for a full disk or a missing permission.
    """
    path = _path(store, experiment_id, evaluation.key)
    if fault := next(_faults(evaluation.scores), None):
        what = f"the evaluator {evaluation.evaluator} gave what is no score: {fault}"
        raise StoreError(what, "report it to the authors of the evaluator", "store")
    lines = [_line(number, item) for number, score in enumerate(evaluation.scores) for item in score.items]
    content = "".join(lines).encode()
    store.leases.write(_rows(path), gzip_bytes(content), replace=True, part=QUALITY)
    scores = tuple(attrs.evolve(score, items=()) for score in evaluation.scores)
    stored = attrs.evolve(evaluation, scores=scores, items_sha256=hashlib.sha256(content).hexdigest())
    store.leases.write_json(path, dump(stored), part=QUALITY)


def _line(score: int, item: Item) -> str:
    """In ASCII: a model may answer with any character, also one that ends lines (U+2028) or has no UTF-8 (U+D800)."""
    row = {"score": score, **attrs.asdict(item)}
    return json.dumps(row, allow_nan=False, sort_keys=True, separators=(",", ":")) + "\n"


def _faults(scores: Sequence[Score]) -> Iterator[str]:
    """What of scores cannot be: values that nothing can be computed with, weights not above 0, items twice."""
    for score in scores:
        name = f"{score.task} {score.metric}"
        if not _finite(score.value):
            yield f"{name} is {score.value!r}"
        if score.stderr is not None and not (_finite(score.stderr) and score.stderr >= 0):
            yield f"the standard error of {name} is {score.stderr!r}"
        if score.n < 1:
            yield f"{name} is of {score.n} items"
        for item in score.items:
            if not (_finite(item.value) and _finite(item.weight) and item.weight > 0):
                yield f"{name}: item {item.id!r} has the value {item.value!r} and the weight {item.weight!r}"
        if len({item.id for item in score.items}) < len(score.items):
            yield f"{name}: several items have one name"


#: Beyond this, sums of squares may be no number.
LARGEST = 1e150


def _finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and abs(value) < LARGEST


def items_sha256(store: Store, experiment_id: str, evaluation: Evaluation) -> str:
    """The hash of the rows of an evaluation as they lie there. Raises StoreError where they cannot be read."""
    return hashlib.sha256(read_gzip(_rows(_path(store, experiment_id, evaluation.key))).encode()).hexdigest()


def evaluations(store: Store, experiment_id: str) -> tuple[Evaluation, ...]:
    """All that are stored of one experiment, those of former terms included; by key, without items."""
    paths = sorted(store.folder(experiment_id).glob("quality-*.json"))
    return tuple(map(_document, paths))


def _document(path: Path) -> Evaluation:
    found = read_model(path, Evaluation)
    if fault := next(_faults(found.scores), None):
        raise corrupt(path, fault)
    if path.stem != f"quality-{found.key}":  # a file that was renamed, or two exchanged
        raise corrupt(path, f"it holds the scores of {found.task!r} in the terms of quality-{found.key}.json")
    return found


def has_evaluations(store: Store) -> bool:
    """Whether any experiment has a score."""
    return any(store.path.glob("experiments/*/quality-*.json"))


def read_evaluation(store: Store, experiment_id: str, key: str) -> Evaluation | None:
    """One with its items; None where it is not stored."""
    path = _path(store, experiment_id, key)
    return read_items(store, experiment_id, _document(path)) if path.exists() else None


def read_items(store: Store, experiment_id: str, evaluation: Evaluation) -> Evaluation:
    """The evaluation with the items of its scores. Raises StoreError (store_corrupt) naming file and line."""
    path = _rows(_path(store, experiment_id, evaluation.key))
    found: list[list[Item]] = [[] for _ in evaluation.scores]
    for number, line in enumerate(read_gzip(path).split("\n")[:-1], start=1):
        try:
            place, item = _row(parse(line))
            found[place].append(item)
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise corrupt(path, f"line {number}: {type(error).__name__}: {error}") from error
    scores = zip(evaluation.scores, found, strict=True)
    return attrs.evolve(evaluation, scores=tuple(attrs.evolve(score, items=tuple(items)) for score, items in scores))


def _row(row: Any) -> tuple[int, Item]:
    """Which score an item is of, and the item. Raises ValueError, KeyError or TypeError for what is no item."""
    if not isinstance(row, dict):
        raise TypeError("no JSON object")
    place, value, weight = row["score"], row["value"], row.get("weight", 1.0)
    if not isinstance(place, int) or place < 0:
        raise ValueError(f"the number of a score is {place!r}")
    if not (_finite(value) and _finite(weight) and weight > 0):
        raise ValueError(f"the value is {value!r} and the weight {weight!r}")
    return place, Item(str(row["id"]), float(value), str(row["response"]), float(weight), str(row.get("cluster", "")))
