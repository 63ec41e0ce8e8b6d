"""Results as a folder that Hugging Face takes as a data set: JSON lines with typed columns, and a card. Pure.

Three configurations: `results` has a row for each experiment, as a table of `llem export`; `metrics` a row for each
metric of each experiment, with why it is missing where it is; `experiments` what was asked for and what ran.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from llem.analysis.collection import Results
from llem.analysis.sides import is_fake
from llem.errors import StoreError
from llem.reports.card import EXPERIMENTS, LONG, Columns, card_text
from llem.store.models import Result

__all__ = ["dataset_files", "public"]


def dataset_files(results: Results) -> tuple[dict[str, str], tuple[str, ...]]:
    """The files of the folder by their paths, and what its publisher has to know.

    Raises StoreError (nothing_to_compare): there is no result.
    """
    environments: dict[str, Mapping[str, Any]] = {}
    found = list(results.each(lambda name: [_whole(results, name, environments)]))
    if not found:
        hint = "`llem run --resume` measures them"
        raise StoreError("there is no data set: no experiment has a result", hint, "nothing_to_compare")
    results, environments = results.of([one.id for one in found]), dict(sorted(environments.items()))
    tables: dict[str, Columns] = {
        "results": {name: _published(name, column) for name, column in results.columns().items()},
        "metrics": _turned(_long(found), LONG),
        "experiments": _turned((_experiment(one, environments) for one in found), EXPERIMENTS),
    }
    files = {f"data/{name}.jsonl": _lines(columns) for name, columns in tables.items()}
    fakes = sum(is_fake(one.config.get("backend")) for one in found)
    notes = ["the card names no licence: add `license:` to the head of README.md before you publish it"]
    if fakes:
        notes.append(
            f"{fakes} of {len(found)} results are of echo, a fake, whose figures mean nothing; the card says so"
        )
    card = card_text(results, found, tables, environments, fakes)
    return {"README.md": card, **files}, tuple(notes)


def _whole(results: Results, name: str, environments: dict[str, Mapping[str, Any]]) -> Result:
    """A result whose environment, which is added to those, can be read too."""
    result = results[name]
    if result.environment and result.environment not in environments:
        environments[result.environment] = results.store.read_environment(result.environment)
    return result


def public(value: Any) -> Any:
    """Settings to be published: without addresses, and of a path on this machine the last part alone."""
    if isinstance(value, Mapping):
        return {key: public(one) for key, one in value.items() if not str(key).endswith(("url", "headers"))}
    if isinstance(value, (list, tuple)):
        return [public(one) for one in value]
    if isinstance(value, str) and value.startswith(("/", "~/", "./", "../")):
        return PurePath(value).name
    return value


# the tables


def _published(name: str, column: Sequence[Any]) -> Sequence[Any]:
    """A column without paths of this machine; an error stays as it was told."""
    return column if name == "error" else [public(value) for value in column]


def _long(found: Iterable[Result]) -> Iterator[dict[str, Any]]:
    for result in found:
        for name, one in result.metrics.items():
            parts = {part: getattr(one, part) for part in LONG if part not in ("id", "metric", "valid")}
            if one.value is None:
                parts |= dict.fromkeys(("n", "processes"))
            told = {part: None if value == "" and part != "unit" else value for part, value in parts.items()}
            yield {"id": result.id, "metric": name, **told, "valid": result.valid}


def _experiment(result: Result, environments: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    documents = {
        "config": public(result.config),
        "effective": public(result.effective),
        "environment": public(environments.get(result.environment, {})),
    }
    texts = {name: json.dumps(one, sort_keys=True, ensure_ascii=False) for name, one in documents.items()}
    return {"id": result.id, "weights": result.weights, **texts}


def _turned(rows: Iterable[Mapping[str, Any]], names: Iterable[str]) -> dict[str, list[Any]]:
    listed = list(rows)
    return {name: [row[name] for row in listed] for name in names}


def _lines(columns: Columns) -> str:
    rows = zip(*columns.values(), strict=True)
    return "".join(f"{json.dumps(dict(zip(columns, row, strict=True)), allow_nan=False)}\n" for row in rows)
