"""The written form of an experiment: what is stored beside a result, and what a file of one experiment may hold."""

from __future__ import annotations

from typing import Any

from llem.config.converter import unstructure
from llem.config.models import Experiment

__all__ = ["to_document"]


def to_document(experiment: Experiment) -> dict[str, Any]:
    """JSON values that `llem.config.load.resolve` turns into the same experiment again.

    Sections of the backend and of meters stand under their names, as a user writes them. Every field is there,
    defaults included.
    """
    document: dict[str, Any] = unstructure(experiment)
    options, meter_options = document.pop("options"), document.pop("meter_options")
    if options is not None:
        document[experiment.backend] = options
    return {**document, **meter_options}
