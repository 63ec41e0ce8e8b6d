"""What trials and results say so far: joules per output token of each experiment with their interval, and the best.

The mean and its interval are those of the result (`llem.metrics.quantity`), of the trials that are stored so far.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import attrs

from llem.analysis.overview import Overview, overviews
from llem.analysis.ranking import best_of
from llem.analysis.stored import DAMAGED
from llem.errors import StoreError
from llem.metrics.energies import headline, token_value
from llem.metrics.metric import Basis
from llem.metrics.quantity import Value, quantity
from llem.metrics.statistics import t_quantile
from llem.protocol.events import TrialEnded
from llem.reports.figures import amount
from llem.store.models import Quantity, Trial
from llem.store.store import Store

__all__ = ["METRIC", "BestSoFar", "Running", "labelled", "stored_rows", "stored_trials"]

METRIC = "energy_per_output_token_j"


@attrs.frozen
class _Measured:
    """One trial: its value, the engine process that measured it, and what the value covers."""

    value: Value
    process: int
    basis: Basis | None


class Running:
    """The mean of each experiment's trials so far. Pure."""

    def __init__(self) -> None:
        self._trials: dict[str, dict[int, _Measured]] = {}
        self._means: dict[str, Quantity | None] = {}
        t_quantile(1)  # imports what it needs now, and not within a window

    def add(self, event: TrialEnded, process: int) -> None:
        """Take a trial that ended in this engine process."""
        found = event.energy_per_output_token_j
        value = Value(found, event.energy_bound_j, shared=event.energy_shared_j)
        if found is None:
            value = Value(None, reason="no_meter")
        known = event.energy_scope is not None and event.energy_kind is not None
        basis = Basis(event.energy_scope or "", event.energy_kind or "") if known else None
        self._add(event.id, event.trial, _Measured(value, process, basis))

    def add_stored(self, trial: Trial) -> None:
        """Take a trial that an earlier run measured."""
        chosen = headline([trial])
        value = Value(None, reason="no_meter") if chosen is None else token_value(trial, chosen)
        basis = None if chosen is None else Basis(chosen.scope, chosen.kind)
        self._add(trial.experiment_id, trial.index, _Measured(value, trial.process, basis))

    def _add(self, name: str, index: int, measured: _Measured) -> None:
        self._trials.setdefault(name, {})[index] = measured
        self._means[name] = self._mean(name)

    def _mean(self, name: str) -> Quantity | None:
        trials = [one for _, one in sorted(self._trials[name].items())]
        bases = {one.basis for one in trials}
        [basis, *others] = bases
        if basis is None or others:  # energies that cover different things have no mean
            return None
        found = quantity(
            [one.value for one in trials], "J", [one.process for one in trials], scope=basis.scope, kind=basis.kind
        )
        return None if found.value is None else found

    def of(self, name: str) -> Quantity | None:
        """The mean of an experiment's trials; None without one, and where a trial has no energy or another scope."""
        return self._means.get(name)


class BestSoFar:
    """The best of the valid results so far, and how many are not separated from it."""

    def __init__(self, rows: Iterable[Overview] = ()) -> None:
        self._rows = {row.id: row for row in rows}
        self._told: str | None = None

    def add(self, row: Overview) -> None:
        self._rows[row.id] = row
        self._told = None

    def told(self) -> str:
        """One line; "" where there is nothing to rank, as while there is no valid result, or only fakes."""
        if self._told is None:
            self._told = self._line()
        return self._told

    def _line(self) -> str:
        try:
            best = best_of(self._rows.values(), METRIC)
        except StoreError as error:
            return f"no best so far: {error.message}" if error.code == "energies_differ" else ""
        ties = f", tied with {len(best.ties)}" if best.ties else ""
        return f"best so far {best.row.id[:8]} {labelled(best.row.metrics[METRIC])}{ties}"


def labelled(found: Quantity) -> str:
    """`0.0121 ± 0.0002 J/output token (gpu, measured)`: the interval, what is covered and how it is known go along."""
    assert found.value is not None
    return f"{amount(found, found.value)} J/output token ({found.scope}, {found.kind})"


def stored_trials(folder: Path, names: Iterable[str]) -> list[Trial]:
    """Trials that earlier runs measured of these experiments."""
    store = Store(folder)
    return [trial for name in names for trial in store.trials(name)]


def stored_rows(folder: Path, names: Iterable[str] | None = None) -> list[Overview]:
    """Results that are stored: of these experiments, or of all. A damaged one is computed anew when its turn comes."""
    store = Store(folder)
    rows: list[Overview] = []
    for name in store.result_ids() if names is None else names:
        try:
            rows += overviews(store, [name], (METRIC,))
        except StoreError as error:
            if error.code not in DAMAGED:
                raise
    return rows
