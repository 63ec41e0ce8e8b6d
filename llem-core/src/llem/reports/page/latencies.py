"""Distributions of latencies over the requests of all windows of an experiment. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llem.metrics.catalogue import shown
from llem.metrics.metric import Measured, Metric
from llem.metrics.requests import request_latencies
from llem.reports.page.experiments import cell
from llem.reports.page.gather import significant
from llem.store.models import Quantity

__all__ = ["SHARES", "latencies_of"]

#: Quantiles that draw a distribution.
SHARES = tuple(number / 100 for number in range(1, 100))


def latencies_of(metrics: Mapping[str, Quantity], measured: Measured | None) -> list[dict[str, Any]]:
    """Each latency that the experiment has: what its Result states, and quantiles that draw its distribution.

    Args:
        metrics: of the Result.
        measured: with its requests; None where these are not read, and no distribution is drawn.
    """
    stated: dict[str, dict[str, Quantity]] = {}
    families: dict[str, Metric] = {}
    for metric in shown("latencies"):
        label, part = metric.part
        if (one := metrics.get(metric.name)) is not None and one.value is not None:
            stated.setdefault(label, {})[part] = one
            families.setdefault(label, metric)
    drawn = {} if measured is None else _drawn(measured)
    return [
        {
            "label": label,
            "heading": families[label].heading.split(" ")[0],
            "unit": "s",
            "stated": {part: cell(one) for part, one in parts.items()},
            **_quantiles(next((drawn[name] for name in drawn if families[label].name.startswith(name)), ())),
        }
        for label, parts in stated.items()
    ]


def _quantiles(values: Any) -> dict[str, Any]:
    if not len(values):
        return {"quantiles": [], "n": 0}
    import numpy as np

    found = np.quantile(values, SHARES, method="hazen")
    drawn = [[share, significant(float(one))] for share, one in zip(SHARES, found, strict=True)]
    return {"quantiles": drawn, "n": len(values)}


def _drawn(measured: Measured) -> dict[str, Any]:
    """Values of all windows together, in seconds, by the beginning of the metric's name. Of batches, only how long each
    took."""
    import numpy as np

    flows = [flow for flow in measured.flows if flow is not None]
    if not flows:
        return {"e2el": np.array([seconds for trial in measured.trials for seconds in trial.batch_s])}
    each = [{**request_latencies(flow), "itl_chunk_s": flow.gaps_s} for flow in flows]
    found = {name.removesuffix("_s"): np.concatenate([one[name] for one in each]) for name in each[0]}
    return {name: values[~np.isnan(values)] for name, values in found.items()}
