"""What this package gives to llem: observers. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llem.plugins import hookimpl

__all__ = ["llem_experiment_finished", "llem_study_finished", "llem_study_started"]


@hookimpl
def llem_study_started(study: Mapping[str, Any], store: str) -> None:
    from llem_webhook.deliver import sender

    sender()  # a mistake in the settings is told now, and not when hours have gone


@hookimpl
def llem_experiment_finished(experiment: Mapping[str, Any], result: Mapping[str, Any], store: str) -> None:
    from llem_webhook.deliver import sender
    from llem_webhook.messages import experiment_message

    sender().send("failure" if result["outcome"] != "done" else "experiment", experiment_message(result, store))


@hookimpl
def llem_study_finished(study: Mapping[str, Any], store: str) -> None:
    from llem_webhook.deliver import sender
    from llem_webhook.messages import study_message

    if sender().wants("study"):
        sender().send("study", study_message(study, store))
