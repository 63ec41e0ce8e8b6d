"""What this package gives to llem: observers. Every command imports this module, so it imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llem.plugins import hookimpl

__all__ = ["llem_experiment_finished", "llem_study_finished", "llem_study_started"]


@hookimpl
def llem_study_started(study: Mapping[str, Any], store: str) -> None:
    from llem_prometheus.text import write_file

    write_file(study, store, running=True)


@hookimpl
def llem_experiment_finished(store: str) -> None:
    from llem.store.store import Store
    from llem_prometheus.text import write_file

    write_file(Store.open(store).study(), store, running=True)


@hookimpl
def llem_study_finished(study: Mapping[str, Any], store: str) -> None:
    from llem_prometheus.text import write_file

    write_file(study, store, running=False)
