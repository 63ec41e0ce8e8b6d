"""What a listing needs of stored results, read from result.json alone: small, so that ten thousand fit."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import attrs

from llem.store.files import corrupt, read_json
from llem.store.models import Quantity, Result
from llem.store.store import Store

__all__ = ["Overview", "overview_of", "overviews", "state_of"]


@attrs.frozen
class Overview:
    """One Result without its configuration, its domains and the words of its findings.

    Attributes:
        codes: of the findings, each once, in their order.
        metrics: those that were asked for and are there.
    """

    id: str
    outcome: str
    error: str | None
    trials: int
    valid: bool
    publishable: bool
    codes: tuple[str, ...]
    metrics: Mapping[str, Quantity]

    def value(self, metric: str) -> float | None:
        """The metric's value; None where there is none."""
        found = self.metrics.get(metric)
        return None if found is None else found.value


def state_of(one: Overview | Result) -> str:
    """How an experiment ended, in a word or three: a result that is done need not be valid."""
    return "done (not valid)" if one.outcome == "done" and not one.valid else one.outcome


def overviews(store: Store, ids: Iterable[str], metrics: Collection[str] | None = None) -> Iterator[Overview]:
    """Overviews of the stored results, in the order of `ids`; an experiment without a result.json is left out.

    Nothing is computed and no trial is read; that what is stored is what its trials give is for `llem verify` to say.

    Args:
        metrics: which to take; None takes all.

    Raises:
        StoreError: a file is damaged, or of a version that cannot be read.
    """
    for name in ids:
        path = store.folder(name) / "result.json"
        if not path.exists():
            continue
        document = read_json(path)
        try:
            yield _overview(document, metrics)
        except (KeyError, TypeError, AttributeError) as error:
            raise corrupt(path, f"not a result ({type(error).__name__}: {error})") from error


def _overview(document: Mapping[str, Any], metrics: Collection[str] | None) -> Overview:
    stored = document["metrics"]
    names = stored if metrics is None else [name for name in metrics if name in stored]
    return Overview(
        id=document["id"],
        outcome=document["outcome"],
        error=document["error"],
        trials=document["trials"],
        valid=document["valid"],
        publishable=document["publishable"],
        codes=tuple(dict.fromkeys(found["code"] for found in document["findings"])),
        metrics={name: Quantity(**stored[name]) for name in names},
    )


def overview_of(result: Result, metrics: Collection[str] | None = None) -> Overview:
    """The overview of a Result that is at hand."""
    return Overview(
        id=result.id,
        outcome=result.outcome,
        error=result.error,
        trials=result.trials,
        valid=result.valid,
        publishable=result.publishable,
        codes=tuple(dict.fromkeys(found.code for found in result.findings)),
        metrics={name: one for name, one in result.metrics.items() if metrics is None or name in metrics},
    )
