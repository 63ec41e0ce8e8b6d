"""Confirming a recommendation: what is stated first is measured again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from llem.analysis.confirm import Confirmation
from llem.analysis.decision import Recommendation
from llem.analysis.prices import Prices
from llem.analysis.sides import read_side
from llem.analysis.statement import Predictive, stated, to_confirm
from llem.api.measuring import prepare
from llem.errors import ConfigError
from llem.plugins.registry import registry
from llem.protocol.events import Event, silent
from llem.store.store import Store
from llem.study.run.confirm import (
    PreparedConfirmation,
    confirmation_study,
    folder_beside,
    read_statement,
    refuse_other,
    software_of,
)
from llem.study.run.stopping import stop_on_interrupt

__all__ = ["PreparedConfirmation", "confirm", "prepare_confirmation"]


def prepare_confirmation(
    store: Store,
    recommendation: Recommendation,
    posterior: Predictive,
    processes: int,
    out: str | Path | None = None,
    *,
    launcher: str = "process",
    resume: bool = False,
    prices: Prices | None = None,
) -> PreparedConfirmation:
    """State where the choice and the runner-up will be, and check that both can be measured here. Writes nothing.

    Args:
        store: the results that the recommendation rests on; it is only read.
        posterior: of these results.
        processes: new engine processes of each configuration, with as many trials as each process had.
        out: folder of the confirmation. Default: `<DIR>-confirm-<n>` beside the store.
        launcher: as of `run`.
        resume: go on with the confirmation in `out`. Its statement stays as it was stored.
        prices: that the recommendation was made with.

    Raises:
        StoreError: nothing is recommended.
        ConfigError: `resume`, and `out` holds another confirmation; or a configuration is no longer the one that was
            measured, because its model, a file or a plugin has changed.
        LlemError: as `prepare`.
    """
    ids = to_confirm(recommendation)
    metric = recommendation.objective
    said = stated(
        posterior,
        metric,
        ids,
        processes,
        unit=recommendation.unit,
        lower_is_better=recommendation.lower_is_better,
        limits=recommendation.limits,
        sides={name: read_side(store, name, [metric], prices) for name in ids},
        store=str(store.path.resolve()),
        software=software_of(store, ids),
        prices=prices,
    )
    if resume and out is not None and (before := read_statement(Path(out))) is not None:
        refuse_other(Path(out), before, said)
        said = before
    folder = folder_beside(store.path) if out is None and not resume else out
    ready = prepare(confirmation_study(store, said, registry()), (), folder, launcher=launcher, resume=resume)
    if changed := set(ids) - {one.id for one in ready.study.experiments}:
        what = f"experiment {min(changed)} cannot be measured again: with its settings llem now plans another one"
        raise ConfigError(what, "its model, a file that it names or its plugin is not as it was", "experiment_changed")
    return PreparedConfirmation(said, ready)


def confirm(
    store: Store | str | Path,
    recommendation: Recommendation,
    posterior: Predictive,
    processes: int = 3,
    out: str | Path | None = None,
    *,
    launcher: str = "process",
    resume: bool = False,
    prices: Prices | None = None,
    on_event: Callable[[Event], None] = silent,
) -> Confirmation:
    """Measure the choice and the runner-up again, and say whether they are where it was stated before.

    Arguments as of `prepare_confirmation`; `store` may be its folder. Raises as that and `PreparedConfirmation.run`.
    """
    opened = store if isinstance(store, Store) else Store.open(store)
    prepared = prepare_confirmation(
        opened, recommendation, posterior, processes, out, launcher=launcher, resume=resume, prices=prices
    )
    with stop_on_interrupt() as stop:
        return prepared.run(on_event, stop)
