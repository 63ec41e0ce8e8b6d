"""What this package gives to llem: two observers. Every command imports this module, so it imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llem.plugins import hookimpl

__all__ = ["llem_experiment_finished", "llem_study_started"]


@hookimpl
def llem_study_started() -> None:
    from llem_wandb.runs import load_options

    load_options()  # a mistake in the settings is told now, and not when hours have gone


@hookimpl
def llem_experiment_finished(result: Mapping[str, Any], store: str) -> None:
    from llem_wandb.runs import load_options, log_result

    options = load_options()
    if options.project is not None:
        log_result(options, result["id"], store)
