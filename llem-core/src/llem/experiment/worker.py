"""The child process: an order in, trials into the store, events out."""

from __future__ import annotations

import errno
import os
import threading
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llem.config.load import Layer, resolve
from llem.errors import ExperimentFailed, LlemError
from llem.experiment.events import Emit
from llem.experiment.order import WorkOrder
from llem.experiment.placement import place, restrict
from llem.experiment.procedure import run_procedure
from llem.experiment.session import Session
from llem.models.resolve import resolve_model
from llem.plugins.registry import Registry
from llem.results.store import Store

__all__ = ["work"]


def work(order: WorkOrder, registry: Registry, emit: Emit, stop: threading.Event, events_fd: int | None = None) -> str:
    """Carry out an order; the outcome, which is also stored and emitted. Never raises for what can go wrong in it."""
    store = Store.open(Path(order.store))
    outcome = "done"
    error: Mapping[str, Any] | None = None
    try:
        run_procedure(_session(order, store, registry, emit, stop, events_fd))
    except MemoryError as caught:
        outcome, error = "oom", _error(caught, "use a smaller batch or model", "oom", 1)
    except ExperimentFailed as caught:
        outcome, error = caught.code, _error(caught, caught.hint, caught.code, caught.exit_code)
    except LlemError as caught:
        outcome, error = "invalid", _error(caught, caught.hint, caught.code, caught.exit_code)
    except OSError as caught:  # of the store: what is already written stays
        outcome, error = "crash", _error(caught, "see the worker's log", "crash", 3 if _full(caught) else 1)
        traceback.print_exc()
    except Exception as caught:  # an engine may raise anything; the log has the traceback, the outcome the message
        outcome, error = "crash", _error(caught, "see the worker's log", "crash", 1)
        traceback.print_exc()
    document: dict[str, Any] = {
        "restart": order.restart,
        "outcome": outcome,
        "error": None if error is None else error["message"],
        "code": None if error is None else error["code"],
        "findings": [],
    }
    emit({"event": "outcome", "outcome": outcome, "error": error})
    store.write_outcome(order.experiment_id, document)
    return outcome


def _session(
    order: WorkOrder, store: Store, registry: Registry, emit: Emit, stop: threading.Event, events_fd: int | None
) -> Session:
    document = store.read_experiment(order.experiment_id)
    experiment = resolve([Layer("order", document["config"])], registry).experiment
    placement = place(experiment)
    restrict(placement, os.environ)
    return Session(
        order=order,
        experiment=experiment,
        model=resolve_model(experiment.model, revision=experiment.revision, seed=experiment.weights_seed),
        placement=placement,
        registry=registry,
        store=store,
        emit=emit,
        stop=stop,
        events_fd=events_fd,
    )


def _error(error: BaseException, hint: str, code: str, exit_code: int) -> Mapping[str, Any]:
    kind = type(error).__name__
    message = error.message if isinstance(error, LlemError) else f"{kind}: {error}" if str(error) else kind
    problems = [str(problem) for problem in getattr(error, "problems", ())]
    return {"message": "\n  ".join([message, *problems]), "hint": hint, "code": code, "exit_code": exit_code}


def _full(error: OSError) -> bool:
    return error.errno in (errno.ENOSPC, errno.EDQUOT)
