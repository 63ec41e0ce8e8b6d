"""Which experiments may share one engine: every setting of theirs that may say how the engine is made is equal."""

from __future__ import annotations

from collections.abc import Collection

import attrs

from llem.config.models import Experiment

__all__ = ["batch_shapes", "engine_settings"]

#: Settings that say what is asked of an engine and how that is measured, and not how the engine is made.
NOT_OF_THE_ENGINE = frozenset(
    (
        "workload",
        "load",
        "quality",
        "slo",
        "warmup",
        "baseline",
        "preset",
        "window_s",
        "trials",
        "max_trials",
        "target_half_width",
        "processes",
        "phases",
    )
)
#: All others.
OF_THE_ENGINE = tuple(field.name for field in attrs.fields(Experiment) if field.name not in NOT_OF_THE_ENGINE)


def engine_settings(experiment: Experiment, *, but: Collection[str] = ()) -> str:
    """Every setting that may say how the engine is made, as one text that is equal for equal settings.

    Args:
        but: names of further fields of `Experiment` that do not; "load.kind" is the one part of the load that may.
    """
    settings = {name: getattr(experiment, name) for name in OF_THE_ENGINE if name not in but}
    kind = None if "load.kind" in but else experiment.load.kind
    return repr((kind, settings))


def batch_shapes(experiment: Experiment) -> str:
    """Every setting that may say of which shapes the batches are, as one text that is equal for equal settings.

    Seeds draw token ids, and lengths where these are drawn at all: requests of a trace and of fixed lengths have the
    same shapes whatever the seed is.
    """
    workload = experiment.workload
    fixed = all(isinstance(getattr(workload, name, None), int) for name in ("input_tokens", "output_tokens"))
    if workload.kind == "trace" or (workload.kind == "synthetic" and fixed):
        workload = attrs.evolve(workload, seed=0)
    return repr((experiment.load, workload, attrs.evolve(experiment.sampling, seed=0)))
