"""A result as a run of Weights & Biases. llem calls this between measured windows; the process that W&B starts beside
this one is ended before it returns, so that it runs in no window."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Literal

import attrs

from llem.config.converter import structure
from llem.config.fields import option
from llem.config.user import load_user_config, named_user_config
from llem.reports.export import labelled
from llem.store.models import Result
from llem.store.store import Store

__all__ = ["WandbOptions", "load_options", "log_result"]


@attrs.frozen(kw_only=True)
class WandbOptions:
    """The section `wandb` of `observers` in the user configuration."""

    project: str | None = option(None, help="Project of the runs. Null: nothing is written.")
    mode: Literal["offline", "online"] = option(
        "offline", help="Write to `dir` for `wandb sync`, or send each run when its experiment has ended."
    )
    dir: str = option(".", help="Folder for W&B's own files.")


def load_options() -> WandbOptions:
    """Raises ConfigError for a wrong section."""
    section = load_user_config().observers.get("wandb", {})
    found: WandbOptions = structure(WandbOptions, section, "observers.wandb", source=named_user_config())
    return found


def log_result(options: WandbOptions, identity: str, folder: str) -> None:
    """Write one result as a run. When a study goes on, the run of an experiment keeps its id."""
    import wandb

    store = Store.open(folder)
    result, study = store.read_result(identity), store.study()
    if result is None:
        raise LookupError(f"{folder} holds no result {identity}")
    key = hashlib.sha256(f"{Path(folder).resolve()}/{identity}".encode()).hexdigest()[:16]
    quiet = wandb.Settings(x_disable_stats=True, x_disable_meta=True, console="off", silent=True)
    try:
        run = wandb.init(
            project=options.project,
            group=str(study.get("name", "llem")),
            id=key,
            name=identity[:8],
            mode=options.mode,
            dir=options.dir,
            config={**result.config, "llem": _facts(result)},
            tags=["valid" if result.valid else "not valid", *(["publishable"] if result.publishable else [])],
            resume="allow" if options.mode == "online" else None,
            settings=quiet,
        )
        run.summary.update(labelled(result))
        run.finish(0 if result.outcome == "done" else 1)
    finally:
        wandb.teardown()


def _facts(result: Result) -> dict[str, Any]:
    """What says whether the numbers may be relied on, and why some are missing."""
    return {
        "id": result.id,
        "outcome": result.outcome,
        "error": result.error,
        "valid": result.valid,
        "publishable": result.publishable,
        "weights": result.weights,
        "trials": result.trials,
        "findings": list(dict.fromkeys(one.code for one in result.findings)),
        "not_measured": {name: one.reason for name, one in result.metrics.items() if one.reason},
    }
