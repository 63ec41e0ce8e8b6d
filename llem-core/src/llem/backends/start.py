"""What a backend tells somebody who begins with it: whether it can run here by itself, and what a first study needs.

A plugin gives it by a function that its `Reference` names as `start`. The function imports no engine.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from llem.plugins.reference import Reference, resolve

__all__ = ["Start", "start_of"]


@attrs.frozen(kw_only=True)
class Start:
    """How to begin with a backend on this machine.

    Attributes:
        obstacle: in a few words, why the backend cannot run here by itself: "needs a GPU". None if it can. llem takes
            no backend with an obstacle unless somebody names it.
        names_model: whether a study names the model; False for a backend that measures what runs already.
        base: settings by dotted path that every study of this backend needs, such as `{"dtype": "auto"}`.
        quantisation: settings by dotted path, one mapping for each way to hold the weights that is to be compared.
            Empty for a backend that has one way only.
        note: one sentence for the comment above these ways: what else there is, and what it needs.
    """

    obstacle: str | None = None
    names_model: bool = True
    base: Mapping[str, Any] = attrs.field(factory=dict)
    quantisation: tuple[Mapping[str, Any], ...] = ()
    note: str = ""


def start_of(reference: Reference, gpu: bool, model: str = "shape:tiny") -> Start:
    """What a backend tells; for one that tells nothing, that there is no obstacle.

    Args:
        gpu: whether experiments run on a GPU here.
        model: the model of the study.
    """
    if missing := reference.missing():
        obstacle = f"needs {', '.join(missing)}, which is not installed"
    else:
        obstacle = None
    if reference.start is None:
        return Start(obstacle=obstacle)
    try:
        told: Start = resolve(reference.start)(gpu, model)
        return attrs.evolve(told, obstacle=obstacle or told.obstacle)
    except Exception as error:  # a stranger's function may raise anything; the backend is then not taken by itself
        return Start(obstacle=f"does not say whether it can run here ({type(error).__name__}: {error})")
