"""The options by which commands that show results are given prices, and what `--json` says of them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from llem.analysis.prices import Prices

__all__ = ["price_options", "prices_of", "with_inputs"]

#: Options by the field of `llem.analysis.prices.Prices` that each sets.
_FIELDS: Mapping[str, tuple[str, str, str]] = {
    "gpu_hour": ("--gpu-hour", "PRICE", "Price of one GPU for an hour, in the currency.  [default: not counted]"),
    "machine_hour": (
        "--machine-hour",
        "PRICE",
        "Price of the machine for an hour, without its GPUs.  [default: not counted]",
    ),
    "kwh": ("--kwh", "PRICE", "Price of a kWh of electricity, in the currency.  [default: not counted]"),
    "grid_g_per_kwh": ("--grid", "GRAMS", "Carbon intensity of the grid, gCO2e per kWh.  [default: no carbon]"),
    "pue": ("--pue", "FACTOR", "Power usage effectiveness of the data centre, 1 or more.  [default: 1]"),
}


def price_options(command: Callable[..., None]) -> Callable[..., None]:
    """Options of prices for a command, which gets them as the argument `prices`: a `Prices`, or None without any."""

    @functools.wraps(command)
    def priced(*args: Any, price_file: str | None, currency: str | None, **others: Any) -> None:
        given = {name: others.pop(name) for name in _FIELDS}
        command(*args, prices=prices_of(price_file, {**given, "currency": currency}), **others)

    found: Callable[..., None] = click.option("--currency", metavar="NAME", help="Currency of prices.  [default: USD]")(
        priced
    )
    for name, (option, metavar, about) in reversed(list(_FIELDS.items())):
        found = click.option(option, name, type=float, metavar=metavar, help=about)(found)
    about = "YAML file of prices; options lie on top of it. With prices, results have cost and carbon.  [default: none]"
    return click.option("--prices", "price_file", type=click.Path(), metavar="FILE", help=about)(found)


def prices_of(path: str | None, given: Mapping[str, float | str | None]) -> Prices | None:
    """The prices of a file with options on top of it; None where neither is given.

    Args:
        given: values of fields of Prices; None where there was no such option.

    Raises:
        ConfigError: the file cannot be read or is invalid, a value is refused, or no price and no grid is given.
    """
    told = {name: value for name, value in given.items() if value is not None}
    if path is None and not told:
        return None
    from llem.analysis.prices import Prices, read_prices
    from llem.config.converter import structure, unstructure
    from llem.errors import ConfigError

    below = {} if path is None else unstructure(read_prices(path))
    made = structure(Prices, {**below, **told}, source="the prices")
    if made == Prices(currency=made.currency, pue=made.pue):
        what = f"{path} and the options give" if path else "the options give"
        raise ConfigError(f"{what} no price and no grid", "give `--gpu-hour`, `--machine-hour`, `--kwh` or `--grid`")
    return made


def with_inputs(document: Mapping[str, Any], prices: Prices | None, gpus: int | None = None) -> dict[str, Any]:
    """A document of `--json` with what its amounts were computed with, as `prices`.

    Args:
        gpus: number of GPUs that a cost counts, where the document is of one experiment.
    """
    if prices is None:
        return dict(document)
    import attrs

    counted = {} if gpus is None else {"gpus": gpus}
    return {**document, "prices": {**attrs.asdict(prices), **counted}}
