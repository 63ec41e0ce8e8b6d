"""From what a user names (a file, a mapping, nothing) to a study."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from llem.config.converter import unstructure
from llem.config.layers import Layer
from llem.config.study.file import StudyFile, parse_study, read_study
from llem.config.user import load_user_config
from llem.plugins.registry import Registry
from llem.study.plan.expand import Study, expand
from llem.study.plan.memory import GpuKind

__all__ = ["load"]


def load(
    source: str | Path | Mapping[str, Any] | None,
    overrides: Sequence[Layer],
    registry: Registry,
    *,
    checked: bool = True,
    unmet: bool = True,
    gpu: Callable[[], GpuKind | None] = lambda: None,
) -> Study:
    """A study on top of the user's own configuration, expanded.

    Args:
        source: a YAML file, or a mapping of the same shape; None for the one experiment that `overrides` describe.
        overrides: settings over those of the study, for every point.
        checked, unmet, gpu: as of `llem.study.plan.identify.Identifier`.

    Raises:
        LlemError: as `read_study` and `expand`.
    """
    if source is None:
        file = StudyFile("llem", ())
    else:
        file = parse_study(source) if isinstance(source, Mapping) else read_study(source)
    gpus = load_user_config().gpus
    below = [] if gpus is None else [Layer("user config", {"gpus": unstructure(gpus)})]
    return expand(file, registry, below=below, overrides=overrides, checked=checked, unmet=unmet, gpu=gpu)
