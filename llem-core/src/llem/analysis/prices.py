"""Cost and carbon of results at view time: stated prices, and metrics computed with them. Pure but for the reading.

Of one trial, with a rate r (tokens or requests per second) and the headline energy e of one token or request in joules:

    cost     = price of an hour / 3600 / r  +  e / 3.6e6 × PUE × price of a kWh
    emission = e / 3.6e6 × PUE × carbon intensity of the grid

The price of an hour is that of the GPUs times their number, and that of the machine. Energy is the window's, under
load: what a deployment takes while it is idle is in none of these.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from llem.config.converter import structure
from llem.config.fields import at_least, option
from llem.config.text import parse_mapping, read_text
from llem.errors import StoreError
from llem.metrics.catalogue import METRICS, PRICED, metric_of
from llem.metrics.cost import GRAMS, PARTS, in_currency
from llem.metrics.metric import Measured, Metric, Place
from llem.metrics.quantity import absent
from llem.store.models import Quantity
from llem.store.store import Store

__all__ = ["Prices", "gpus_in", "gpus_of", "priced", "read_prices", "require_prices", "with_parts"]

J_PER_KWH = 3.6e6
#: No number is greater, in whatever currency: sums and products of these stay finite.
MOST = 1e12
#: Longest name of a currency.
LONGEST = 8


def _short(_: Any, __: Any, value: str) -> None:
    if not (0 < len(value) <= LONGEST and value.isprintable() and not any(map(str.isspace, value))):
        raise ValueError(f"must be a name such as EUR of at most {LONGEST} characters, without spaces, got {value!r}")


@attrs.frozen(kw_only=True)
class Prices:
    """What cost and carbon are computed with. What is None was not given, and metrics that need it have no value.

    Raises ValueError: a number below 0 or not finite, a PUE below 1, or energy that would be counted twice.
    """

    currency: str = option("USD", help="Currency of all prices, as it is printed.", validator=_short)
    gpu_hour: float | None = option(
        None, help="Price of one GPU for an hour.", unit="currency/h", validator=at_least(0)
    )
    machine_hour: float | None = option(
        None,
        help="Price of the machine for an hour, without its GPUs. It is added whole to that of the GPUs. An experiment "
        "without GPUs has no cost unless it is given; one with GPUs counts none where it is not.",
        unit="currency/h",
        validator=at_least(0),
    )
    kwh: float | None = option(None, help="Price of electricity.", unit="currency/kWh", validator=at_least(0))
    grid_g_per_kwh: float | None = option(
        None, help="Carbon intensity of the grid.", unit="gCO2e/kWh", validator=at_least(0)
    )
    pue: float = option(
        1.0,
        help="Power usage effectiveness: energy of the whole data centre over that of its computers. It multiplies "
        "energy alone.",
        validator=at_least(1),
    )
    electricity_included: bool = option(
        False, help="Whether the price of an hour pays for electricity too, so that `kwh` is left out."
    )

    def __attrs_post_init__(self) -> None:
        numbers = (self.gpu_hour, self.machine_hour, self.kwh, self.grid_g_per_kwh, self.pue)
        if max(number or 0.0 for number in numbers) > MOST:
            raise ValueError(f"no price, no grid and no PUE is above {MOST:g}")
        if self.electricity_included and self.kwh is not None:
            raise ValueError(
                "electricity_included says that the price of an hour pays for the energy, and kwh would count it "
                "again; leave one of them out"
            )

    def asked(self, name: str) -> bool:
        """Whether any input is given that this metric alone has use for, so that its absence is worth a word."""
        if metric_of(name).unit == GRAMS:
            return self.grid_g_per_kwh is not None
        return self.counts_time or self.electricity_included or self.kwh is not None

    @property
    def counts_time(self) -> bool:
        """Whether there is a price of an hour, which needs the number of GPUs."""
        return self.gpu_hour is not None or self.machine_hour is not None

    def metric(self, name: str) -> Metric:
        """The row of a metric, a cost in its currency, and scoped only where energy is in it.

        Raises StoreError (metric_unknown).
        """
        row = in_currency(metric_of(name), self.currency)
        return attrs.evolve(row, scoped=self.counts_energy(name)) if name in PRICED else row

    def shown(self, place: Place) -> list[Metric]:
        """The metrics of cost and carbon that are shown at a place by default, and that inputs are given for."""
        return [self.metric(name) for name, one in PRICED.items() if place in one.shown and self.asked(name)]

    def counts_energy(self, name: str) -> bool:
        """Whether this metric depends on energy. A cost does not where electricity is included or costs nothing."""
        return metric_of(name).unit == GRAMS or bool(self.kwh)

    def quantity(self, name: str, metrics: Mapping[str, Quantity], gpus: int | None) -> Quantity:
        """A metric of cost or carbon from the two metrics of a result that it is computed from.

        Where one of them alone enters, the interval is that one's, converted. Where both enter, both limits are the
        sums of theirs, and `method` is "added": the standard deviation of a sum is at most the sum of the standard
        deviations, however time and energy of a token go together, so the interval covers 95 % at least.

        Args:
            metrics: the two (see `llem.metrics.cost.PARTS`).
            gpus: number of GPUs; None: not known.
        """
        unit, parts = self.metric(name).unit, PARTS[name]
        rate, energy = metrics[parts.rate], metrics[parts.energy]
        label = {"scope": energy.scope, "kind": energy.kind} if self.counts_energy(name) else {}
        found = self._per_second_and_joule(name, gpus)
        if isinstance(found, str):
            return absent(unit, found, **label)
        per_second, per_joule = (one * parts.per for one in found)
        if not per_second and per_joule:
            return _converted(energy, unit, per_joule)
        time = _time(rate, unit, per_second)
        if not per_joule:
            return time
        electricity = _converted(energy, unit, per_joule)
        missing = next((one for one in (time, electricity) if one.value is None), None)
        return absent(unit, missing.reason or "not_supported", **label) if missing else _added(time, electricity)

    def per_trial(self, name: str, measured: Measured, gpus: Sequence[int | None]) -> list[float] | str:
        """The metric of each trial, exactly; or the code of the reason why there is none.

        Args:
            gpus: number of GPUs of each trial.
        """
        rate, energy = (METRICS[one] for one in (PARTS[name].rate, PARTS[name].energy))
        rates, energies = rate.per_trial(measured), energy.per_trial(measured)
        found = []
        for trial, count in enumerate(gpus):
            factors = self._per_second_and_joule(name, count)
            if isinstance(factors, str):
                return factors
            per_second, per_joule = factors
            if per_second and not (rates and rates[trial]):
                return rate.of(measured).reason or "no_completions"
            if per_joule and not energies:
                return energy.of(measured).reason or "no_trials"
            time = per_second / rates[trial] if per_second and rates else 0.0
            electricity = per_joule * energies[trial] if per_joule and energies else 0.0
            found.append((time + electricity) * PARTS[name].per)
        return found or "no_trials"

    def _per_second_and_joule(self, name: str, gpus: int | None) -> tuple[float, float] | str:
        """What a second and a joule count in the metric's unit, or the code of the reason why that is not known."""
        if metric_of(name).unit == GRAMS:
            grid = self.grid_g_per_kwh
            return "no_grid" if grid is None else (0.0, grid * self.pue / J_PER_KWH)
        if not self.electricity_included and self.kwh is None:
            return "no_price"
        hour = self._hour(gpus)
        return hour if isinstance(hour, str) else (hour / 3600, (self.kwh or 0.0) * self.pue / J_PER_KWH)

    def _hour(self, gpus: int | None) -> float | str:
        """The price of an hour of so many GPUs with their machine, or the code of the reason why it is not known."""
        if not self.counts_time:
            return "no_price"
        if gpus is None:
            return "gpus_unknown"
        if gpus == 0:
            return "no_price" if self.machine_hour is None else self.machine_hour
        return "no_price" if self.gpu_hour is None else gpus * self.gpu_hour + (self.machine_hour or 0.0)

    def __str__(self) -> str:
        """Every input that is given, with its unit, and the PUE: `2.5 USD per GPU-hour, 0.3 USD per kWh, PUE 1`."""
        money = {"GPU-hour": self.gpu_hour, "machine-hour": self.machine_hour, "kWh": self.kwh}
        told = [f"{price:g} {self.currency} per {what}" for what, price in money.items() if price is not None]
        told += ["electricity included"] if self.electricity_included else []
        told += [] if self.grid_g_per_kwh is None else [f"{self.grid_g_per_kwh:g} {GRAMS} per kWh"]
        return ", ".join([*told, f"PUE {self.pue:g}"])


def _converted(energy: Quantity, unit: str, factor: float) -> Quantity:
    """A quantity times `factor`; its interval stays what it was."""
    value, low, high = (None if one is None else one * factor for one in (energy.value, energy.low, energy.high))
    return attrs.evolve(energy, value=value, unit=unit, low=low, high=high)


def _time(rate: Quantity, unit: str, factor: float) -> Quantity:
    """`factor` over a rate. Limits are turned as the value is; none where the rate may be 0."""
    if not rate.value:
        return absent(unit, rate.reason or "no_completions")
    made = attrs.evolve(rate, value=factor / rate.value, unit=unit)
    if rate.low is None or rate.high is None or rate.low <= 0:
        return attrs.evolve(made, low=None, high=None, confidence=None, covers="")
    return attrs.evolve(made, low=factor / rate.high, high=factor / rate.low)


def _added(time: Quantity, electricity: Quantity) -> Quantity:
    """The sum, and the sums of the limits; no interval where one of the two has none."""
    assert time.value is not None
    assert electricity.value is not None
    whole = attrs.evolve(
        electricity, value=time.value + electricity.value, n=min(time.n, electricity.n), method="added"
    )
    if time.low is None or time.high is None or electricity.low is None or electricity.high is None:
        method = "single_trial" if whole.n == 1 else "added"
        return attrs.evolve(whole, low=None, high=None, confidence=None, covers="", method=method)
    return attrs.evolve(whole, low=time.low + electricity.low, high=time.high + electricity.high)


def read_prices(path: str | Path) -> Prices:
    """Prices from a YAML file.

    Raises ConfigError: no such file, no mapping, an unknown name, or a value that is refused (see `Prices`).
    """
    raw = parse_mapping(read_text(path), str(path), such_as="gpu_hour: 2.50")
    return structure(Prices, raw, source=str(path))


def require_prices(names: Iterable[str], prices: Prices | None) -> None:
    """Refuse metrics of cost and carbon for which inputs are missing.

    Raises StoreError: no prices are given, or none that one of these metrics needs (no_prices).
    """
    for name in PRICED:
        if name not in names:
            continue
        if prices is None:
            hint = "`--prices FILE`, or options such as `--gpu-hour`; in Python `results.with_prices(...)`"
            raise StoreError(f"{name} needs prices, and none are given", hint, "no_prices")
        if missing := _missing(prices, name):
            raise StoreError(f"{name} needs {missing}, which the prices do not give", f"given: {prices}", "no_prices")


def _missing(prices: Prices, name: str) -> str:
    if metric_of(name).unit == GRAMS:
        return "" if prices.grid_g_per_kwh is not None else "grid_g_per_kwh (`--grid`)"
    if not prices.counts_time:
        return "gpu_hour or machine_hour (`--gpu-hour`, `--machine-hour`; 0 counts electricity alone)"
    electricity = prices.electricity_included or prices.kwh is not None
    return "" if electricity else "kwh (`--kwh`), or electricity_included in the file"


def with_parts(names: Collection[str]) -> list[str]:
    """These metrics, those of cost and carbon replaced by what they are computed from."""
    found = [[PARTS[name].rate, PARTS[name].energy] if name in PARTS else [name] for name in names]
    return list(dict.fromkeys(one for part in found for one in part))


def priced(
    metrics: Mapping[str, Quantity], prices: Prices, gpus: int | None, names: Collection[str] | None = None
) -> dict[str, Quantity]:
    """Metrics of one result with those of cost and carbon.

    Args:
        names: which to keep, in any order; None keeps all. A metric whose parts the result lacks is left out.
    """
    wanted = [name for name in PRICED if names is None or name in names]
    there = [name for name in wanted if PARTS[name].rate in metrics and PARTS[name].energy in metrics]
    kept = {name: one for name, one in metrics.items() if names is None or name in names}
    return {**kept, **{name: prices.quantity(name, metrics, gpus) for name in there}}


def gpus_of(engine: Mapping[str, Any]) -> int | None:
    """How many GPUs an engine process ran on, from engine-<process>.json: 0 on a CPU; None where it does not tell."""
    device = engine.get("device", {})
    if device.get("gpus"):
        return len(device["gpus"])
    return 0 if device.get("device") == "cpu" else None


def gpus_in(store: Store, experiment_id: str) -> int | None:
    """How many GPUs every engine process of an experiment ran on; None where they differ, or that is not stored."""
    found = {gpus_of(engine) for engine in store.engines(experiment_id)}
    return found.pop() if len(found) == 1 else None
