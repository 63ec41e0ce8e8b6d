"""F8: joules per token against bounds and published figures, and what the monitor costs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs
from benchmarks.validation.chart import GREEN, GREY, ORANGE, RED, Series, chart
from benchmarks.validation.figure import Check, Figure, percent
from benchmarks.validation.raw import NotMeasured, Raw

from llem.store.models import Result

__all__ = ["BatchPoint", "anchoring"]

#: Joules per output token of Llama 3.1 8B, chat, bfloat16, vLLM 0.11.1 on one H100, by sequences at a time, from the
#: ML.ENERGY leaderboard (data 0cd52da). Its own duplicates differ by up to 19 %; the band is ± 25 %.
ML_ENERGY = {8: 0.4548, 16: 0.2627, 32: 0.1651, 64: 0.1186, 128: 0.0951, 256: 0.0766, 512: 0.0702}
BAND = 0.25


@attrs.frozen
class BatchPoint:
    """Joules per token of one batch size, with what bounds it.

    Attributes:
        ends: of the 95 % interval.
        roofline: idle power times the least time that the hardware needs for a token.
        limit: the power limit times the time that it took.
        host_bound: whether llem says so.
    """

    size: int
    joules: float
    ends: tuple[float, float]
    roofline: float | None
    limit: float
    host_bound: bool
    trials: int = 1

    @property
    def published(self) -> float | None:
        return ML_ENERGY.get(self.size)

    @property
    def explained(self) -> bool:
        """Whether it is above the band because the host held it up, which makes a token dearer and never cheaper."""
        return self.host_bound and self.published is not None and self.joules > self.published * (1 + BAND)

    @property
    def in_band(self) -> bool | None:
        """Whether it is within the published band; None where nothing is published."""
        return None if self.published is None else abs(self.joules / self.published - 1) <= BAND


def _points(raw: Raw) -> Iterator[BatchPoint]:
    store, names = raw.store("batches")
    limit_w = raw.machine().get("power_limit_w")
    for name in names:
        result = store.read_result(name)
        size = store.read_experiment(name)["config"]["load"]["batch_size"]
        energy = None if result is None else result.metrics["energy_per_output_token_j"]
        if result is None or energy is None or energy.value is None:
            continue  # `anchoring` tells which sizes have no point
        limits = [health["power_limit_w"] for trial in store.trials(name) for health in trial.health.values()]
        rate = _value(result, "output_tokens_per_s")
        assert rate is not None  # there is energy per token, so there are tokens and a time
        yield BatchPoint(
            size,
            energy.value,
            (energy.value if energy.low is None else energy.low, energy.value if energy.high is None else energy.high),
            _roofline(result, rate),
            (limit_w or max(limits)) / rate,
            any(one.code == "host_bound" for one in result.findings),
            result.trials,
        )


def _value(result: Result, name: str) -> float | None:
    found = result.metrics.get(name)
    return None if found is None else found.value


def _roofline(result: Result, rate: float) -> float | None:
    """Idle power over the rate that the hardware would reach: a share of the peak is the least time over the time."""
    shares = [share for name in ("mfu", "mbu") if (share := _value(result, name)) is not None]
    idle = [domain.idle_power_w.value for domain in result.domains if domain.idle_power_w.value is not None]
    return idle[0] * max(shares) / rate if shares and idle else None


def anchoring(raw: Raw) -> Figure:
    """F8: joules per token by batch size, with bounds and what others publish; and what the monitor costs."""
    lacking: list[str] = []
    notes: list[str] = []
    checks: list[Check] = []
    points: list[BatchPoint] = []
    table: list[list[str]] = []
    plots = {}
    try:
        points = sorted(_points(raw), key=lambda one: one.size)
        checks += _bounded(points)
        left_out = len(raw.store("batches")[1]) - len(points)
        notes += [f"{left_out} batch sizes have no joules per token, and no point."] if left_out else []
        table, plots = _batch_table(points), {"F8": _curve(points)}
    except NotMeasured as error:
        lacking.append(str(error))
    try:
        costs, told = _overhead(raw)
        checks += costs
        notes += told
    except NotMeasured as error:
        lacking.append(str(error))
    if not checks:
        raise NotMeasured("; ".join(lacking))
    return Figure(
        name="F8",
        title="Bounds, published figures and the monitor's own cost",
        parts=("batches", "overhead"),
        done="The 8B shape on PyTorch (plain `generate`, 32 tokens in, 64 out) at several batch sizes. Below every "
        "point lies the idle "
        "power over the rate that the roofline allows, above it the power limit over the rate that was reached. "
        "Beside it stands what "
        "ML.ENERGY publishes for vLLM on an H100, ± 25 %. The monitor's cost is `benchmarks/overhead.py`: windows "
        "with llem "
        "and by hand take turns.",
        checks=checks,
        notes=[*notes, *(f"Not measured: {one}." for one in lacking)],
        table=table,
        plots=plots,
        numbers={"points": [attrs.asdict(one) for one in points]},
    )


def _bounded(points: Sequence[BatchPoint]) -> list[Check]:
    known = [one for one in points if one.roofline is not None]
    above = [one for one in known if one.joules >= (one.roofline or 0.0)]
    below = [one for one in points if one.joules <= one.limit]
    told = [one for one in points if one.in_band is not None]
    inside = [one for one in told if one.in_band]
    explained = [one for one in told if one.explained]
    return [
        Check("points above the roofline", f"{len(above)} of {len(points)}", "all", len(above) == len(points) > 0),
        Check("points below the power limit", f"{len(below)} of {len(points)}", "all", len(below) == len(points) > 0),
        Check(
            "points in the published band, or above it with the finding `host_bound`",
            f"{len(inside)} in the band, {len(explained)} explained, of {len(told)}",
            "all",
            len(inside) + len(explained) == len(told) > 0,
        ),
    ]


def _batch_table(points: Sequence[BatchPoint]) -> list[list[str]]:
    rows = [["sequences", "trials", "J/token", "roofline", "power limit", "ML.ENERGY, H100", "in its band"]]
    for one in points:
        band = (
            "–" if one.in_band is None else "yes" if one.in_band else "above, `host_bound`" if one.explained else "no"
        )
        rows.append(
            [
                str(one.size),
                str(one.trials),
                f"{one.joules:.4g}" if one.trials < 2 else f"{one.joules:.4g} [{one.ends[0]:.4g}, {one.ends[1]:.4g}]",
                "–" if one.roofline is None else f"{one.roofline:.3g}",
                f"{one.limit:.4g}",
                "–" if one.published is None else f"{one.published:.4g}",
                band,
            ]
        )
    return rows


def _curve(points: Sequence[BatchPoint]) -> str:
    floor = [one for one in points if one.roofline is not None]
    published = sorted(ML_ENERGY.items())
    series = [
        Series(
            name="llem",
            xs=[float(p.size) for p in points],
            ys=[p.joules for p in points],
            ends=[p.ends for p in points],
            kind="both",
        ),
        _line("power limit", [(p.size, p.limit) for p in points], RED),
        _line("roofline", [(p.size, p.roofline or 0.0) for p in floor], GREEN),
        _line("ML.ENERGY, H100", published, ORANGE),
        *(_line("", [(size, joules * (1 + sign * BAND)) for size, joules in published], GREY) for sign in (1, -1)),
    ]
    return chart(
        "Joules per token by batch size", ("sequences at a time", ""), ("energy per output token", "J"), series
    )


def _line(name: str, points: Sequence[tuple[int, float]], colour: str) -> Series:
    return Series(name=name, xs=[float(x) for x, _ in points], ys=[y for _, y in points], colour=colour, kind="line")


def _overhead(raw: Raw) -> tuple[list[Check], list[str]]:
    folder = raw.place("overhead")
    files = sorted(folder.glob("overhead-*.json"))
    if not files:
        raise NotMeasured("the part `overhead` was stopped before its second pair")
    checks, notes = [], []
    for file in files:
        report: Mapping[str, Any] = json.loads(file.read_text())
        for name, key in (("speed", "throughput_ratio"), ("energy", "energy_ratio")):
            ratio = report[key]
            if ratio is None:
                raise NotMeasured(f"`overhead` has no {name}")
            low, high = ratio["low"] - 1, ratio["high"] - 1
            found = f"{percent(ratio['value'] - 1)} [{percent(low)}, {percent(high)}]"
            checks.append(
                Check(
                    f"cost of the monitor in {name}, batch {report['batch']}",
                    found,
                    "within ± 0.5 %",
                    max(-low, high) <= 0.005,
                )
            )
        notes.append(
            f"Overhead at batch {report['batch']}: {report['trials']} pairs of {report['window_s']:.1f} s windows."
        )
    return checks, notes
