"""Metrics of cost and carbon: rows like those of the catalogue, whose values are never stored.

Amounts change with prices and with the grid; joules and seconds stay. So a view computes them (`llem.analysis.prices`),
from two metrics that every result has: a rate, which gives the time of a token or request, and the energy of one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import attrs

from llem.metrics.metric import Metric

__all__ = ["CURRENCY", "GRAMS", "PARTS", "Parts", "in_currency", "priced_metrics"]

#: Stands in a row for the currency, which only a view knows.
CURRENCY = "currency"
#: Unit of emissions: grams of carbon dioxide that would warm as much.
GRAMS = "gCO2e"


@attrs.frozen
class Parts:
    """What an amount is computed from: the metrics of a rate and of an energy, per so many tokens or requests."""

    rate: str
    energy: str
    per: float


_OUTPUT = Parts("output_tokens_per_s", "energy_per_output_token_j", 1e6)
_TOKENS = Parts("total_tokens_per_s", "energy_per_token_j", 1e6)
_REQUEST = Parts("requests_per_s", "energy_per_request_j", 1.0)

PARTS: Mapping[str, Parts] = {
    "cost_per_million_output_tokens": _OUTPUT,
    "cost_per_million_tokens": _TOKENS,
    "cost_per_request": _REQUEST,
    "gco2e_per_million_output_tokens": _OUTPUT,
    "gco2e_per_request": _REQUEST,
}


def in_currency(metric: Metric, currency: str) -> Metric:
    """The row of a cost with its currency; every other row as it is."""
    if metric.unit != CURRENCY:
        return metric
    return attrs.evolve(metric, unit=currency, heading=metric.heading.replace(CURRENCY, currency))


def priced_metrics() -> Iterator[Metric]:
    """The rows, in the order in which they are shown."""
    yield Metric(
        "cost_per_million_output_tokens", CURRENCY, "cost per million output tokens", "lower", "cost",
        "Price of the time and of the energy that a million generated tokens take: price of an hour / 3600 / "
        "`output_tokens_per_s` + price of a kWh × PUE × `energy_per_output_token_j` / 3.6e6, times a million.",
        lacks=lambda _: "no_price", scoped=True, shown=("result", "study", "compare", "effects"),
        heading=f"{CURRENCY}/M output tokens",
    )  # fmt: skip
    yield Metric(
        "cost_per_million_tokens", CURRENCY, "cost per million tokens in + out", "lower", "cost",
        "The same of prompt and generated tokens together, by `total_tokens_per_s` and `energy_per_token_j`.",
        lacks=lambda _: "no_price", scoped=True, shown=("result",), heading=f"{CURRENCY}/M tokens",
    )  # fmt: skip
    yield Metric(
        "cost_per_request", CURRENCY, "cost per request", "lower", "cost",
        "The same of one request, by `requests_per_s` and `energy_per_request_j`.",
        lacks=lambda _: "no_price", scoped=True, shown=("result",), heading=f"{CURRENCY}/request",
    )  # fmt: skip
    yield Metric(
        "gco2e_per_million_output_tokens", GRAMS, "emissions per million output tokens", "lower", "cost",
        "Emissions of the electricity that a million generated tokens take: carbon intensity of the grid × PUE × "
        "`energy_per_output_token_j` / 3.6e6, times a million. Nothing of making the hardware is in it.",
        lacks=lambda _: "no_grid", scoped=True, shown=("result", "study", "compare", "effects"),
        heading=f"{GRAMS}/M output tokens",
    )  # fmt: skip
    yield Metric(
        "gco2e_per_request", GRAMS, "emissions per request", "lower", "cost",
        "The same of one request, by `energy_per_request_j`.",
        lacks=lambda _: "no_grid", scoped=True, shown=("result",), heading=f"{GRAMS}/request",
    )  # fmt: skip
