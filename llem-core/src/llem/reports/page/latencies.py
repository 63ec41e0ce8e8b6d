"""Distributions of latencies over the requests of all windows of an experiment. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from llem.metrics.catalogue import shown
from llem.metrics.flow import Flow
from llem.metrics.latency import request_latencies
from llem.metrics.metric import Measured
from llem.reports.page.experiments import cell
from llem.reports.page.gather import significant
from llem.store.models import Quantity

__all__ = ["SHARES", "latencies_of"]

#: Quantiles that draw a distribution.
SHARES = tuple(number / 100 for number in range(1, 100))
NS = 1e9


def latencies_of(metrics: Mapping[str, Quantity], measured: Measured | None) -> list[dict[str, Any]]:
    """Each latency that the experiment has: what its Result states, and quantiles that draw its distribution.

    Args:
        metrics: of the Result.
        measured: with its requests; None where these are not read, and no distribution is drawn.
    """
    stated: dict[str, dict[str, Quantity]] = {}
    headings = {}
    for metric in shown("latencies"):
        label, part = metric.part
        if (one := metrics.get(metric.name)) is not None and one.value is not None:
            stated.setdefault(label, {})[part] = one
            headings.setdefault(label, (metric.name.rsplit("_p", 1)[0].removesuffix("_s"), metric.heading))
    drawn = {} if measured is None else _drawn(measured)
    return [
        {
            "label": label,
            "heading": headings[label][1].split(" p")[0],
            "unit": "s",
            "stated": {part: cell(one) for part, one in parts.items()},
            **_quantiles(drawn.get(headings[label][0])),
        }
        for label, parts in stated.items()
    ]


def _quantiles(values: Any) -> dict[str, Any]:
    import numpy as np

    if values is None or not len(values):
        return {"quantiles": [], "n": 0}
    found = np.quantile(values, SHARES, method="hazen")
    drawn = [[share, significant(float(one))] for share, one in zip(SHARES, found, strict=True)]
    return {"quantiles": drawn, "n": len(values)}


def _drawn(measured: Measured) -> dict[str, Any]:
    """Values of all windows together, in seconds, by the beginning of the metric's name."""
    import numpy as np

    flows = [flow for flow in measured.flows if flow is not None]
    if not flows:
        batches = [seconds for trial in measured.trials for seconds in trial.batch_s]
        return {"e2el": np.array(batches)} if batches else {}
    each = [{name.removesuffix("_s"): values for name, values in request_latencies(flow).items()} for flow in flows]
    takes: Mapping[str, Callable[[], Sequence[Any]]] = {
        **{name: lambda name=name: [one[name] for one in each] for name in ("ttft", "tpot", "e2el")},  # type: ignore[misc]
        "itl_chunk": lambda: list(map(_gaps, flows)),
    }
    found = {name: np.concatenate(take()) for name, take in takes.items()}
    return {name: values[~np.isnan(values)] for name, values in found.items()}


def _gaps(flow: Flow) -> Any:
    """Time between successive chunks of the requests that ended within the window."""
    import numpy as np

    same = (flow.owner[1:] == flow.owner[:-1]) & flow.done[flow.owner[1:]]
    return (np.diff(flow.at) / NS)[same]
