"""Fleets that serve a load, in words: the cheapest first, what each takes a day, who cannot serve it, break-even."""

from __future__ import annotations

import attrs

from llem.analysis.breakeven import BreakEven
from llem.analysis.decision import Estimated
from llem.analysis.demand import Demand
from llem.analysis.fleet import Served
from llem.analysis.limits import Limit
from llem.analysis.serving import Serving
from llem.metrics.metric import Basis
from llem.reports.decision_tables import render_serving
from llem.reports.figures import new_console
from llem.reports.serving import serving_view

TPOT = Limit("tpot:p99<50ms", "tpot_p99_s", upper=True, bound=0.05)
A, B, C = (letter * 16 for letter in "abc")
GPU = Basis("gpu", "measured")


def around(value, half):
    return Estimated(value, value - half, value + half)


CHEAP = Served(
    id=A, experiments=(A,), values={"dtype": "fp8", "backend": "vllm"}, kind="open", capacity=around(21.3, 1.2),
    at_least=0.0, blocking=TPOT, blocked_by="tpot:p99<50ms", replicas=3, replicas_median=3, gpus=3,
    rate=16.7, kwh_a_day=around(43.2, 1.1), money_a_day=around(180.0, 0.5), gco2e_a_day=around(12960.0, 330.0),
    currency="EUR", basis=GPU, cheapest=0.93, notes=("replicas get equal parts of the load",),
)  # fmt: skip
DEAR = attrs.evolve(
    CHEAP, id=B, experiments=(B,), values={"dtype": "bfloat16", "backend": "vllm"}, capacity=around(11.0, 0.4),
    at_least=0.9, replicas=5, replicas_median=4, gpus=5, money_a_day=around(300.0, 0.5), cheapest=0.07,
)  # fmt: skip
UNABLE = attrs.evolve(
    CHEAP, id=C, experiments=(C,), values={"dtype": "int8", "backend": "vllm"}, capacity=around(0.0, 0.0),
    replicas=None, replicas_median=None, gpus=None, kwh_a_day=None, money_a_day=None, gco2e_a_day=None, cheapest=None,
    notes=(), lacking={"replicas": "no measured load keeps all limits with 95 %: tpot:p99<50ms"},
)  # fmt: skip
CROSSES = BreakEven(
    A, B, "kwh_a_day", "requests/s", 0.0, 21.0, above=A, at=around(4.2, 0.3), share=0.97, throughout={A: 0.02, B: 0.01}
)


def serving(*rows, **more):
    demand = Demand("50/s", ((86400.0, 50.0),))
    return Serving(demand, **{"limits": (TPOT,), "rows": rows or (CHEAP, DEAR, UNABLE), **more})


def shown(found):
    console = new_console(width=140, highlight=False, color_system=None)
    with console.capture() as printed:
        render_serving(serving_view(found), console)
    return [" ".join(line.split()) for line in printed.get().splitlines()]


def test_the_cheapest_fleet_comes_first():
    """How many replicas of what, what one can serve and what ends it, and what all take a day, with what it covers."""
    assert serving_view(serving()).verdict == (
        "For a load of 50/s: 3 replicas of aaaaaaaa on 3 GPUs: dtype fp8",
        "  capacity of one: 21.3 request/s, 20.1 to 22.5 with 95 %; what ends it: tpot:p99<50ms",
        "  energy a day: 43.2 kWh, 42.1 to 44.3 with 95 % (gpu, measured)",
        "  money a day: 180.00 EUR, 179.50 to 180.50 with 95 %",
        "  emissions a day: 12,960 gCO2e, 12,630 to 13,290 with 95 %",
        "  P = 0.93 that it costs the least of those that can serve the load",
        "  replicas get equal parts of the load",
    )


def test_each_fleet_has_a_line():
    """Where a capacity is a least one, and where fewer replicas would do with 50 %, the cell says so."""
    lines = shown(serving())

    assert "id dtype request/s of one replicas GPUs kWh/day (gpu, measured) EUR/day gCO2e/day P(cheapest)" in lines
    assert "aaaaaaaa fp8 21.3 ± 1.2 3 3 43.2 ± 1.1 180.00 ± 0.50 12,960 ± 330 0.93" in lines
    assert any(line.startswith("bbbbbbbb bfloat16 ≥ 11.00 ± 0.40 5 (4 with 50 %) 5 ") for line in lines)
    assert not [line for line in lines if line.startswith("cccccccc int8")]


def test_who_cannot_serve_it_is_told_why():
    """Below the table, with the limit."""
    assert "cccccccc cannot serve it: no measured load keeps all limits with 95 %: tpot:p99<50ms" in shown(serving())


def test_where_another_one_is_cheaper():
    """The break-even with its interval, in short ids; what is not used, and notes."""
    found = serving(
        break_evens=(CROSSES,), excluded={"d" * 16: "echo only plays at inference"}, notes=(f"{A}: one note",)
    )

    assert serving_view(found).below[1:] == (
        "aaaaaaaa or bbbbbbbb, energy a day: aaaaaaaa is cheaper from 4.2 requests/s (3.9 to 4.5) on in 97 % of draws; "
        "aaaaaaaa throughout in 2 %; bbbbbbbb throughout in 1 %",
        "not used, 1: echo only plays at inference (dddddddd)",
        "aaaaaaaa: one note",
    )


def test_nothing_serves_the_load():
    """No table, and each with its reason."""
    view = serving_view(serving(UNABLE))

    assert view.verdict == ("No configuration serves a load of 50/s within the limits",)
    assert view.rows == ()
    assert len(view.below) == 1


def test_amounts_that_nobody_has_have_no_column():
    """Without prices neither money nor emissions; why energy is missing is told once."""
    bare = {"money_a_day": None, "gco2e_a_day": None, "cheapest": None, "currency": ""}
    lacking = {"kwh_a_day": "energy is not known", "money_a_day": "no prices are given"}
    rows = (
        attrs.evolve(CHEAP, **bare),
        attrs.evolve(DEAR, **bare, kwh_a_day=None, lacking=lacking),
    )
    lines = shown(serving(*rows))

    assert "id dtype request/s of one replicas GPUs kWh/day (gpu, measured)" in lines
    assert any(line.startswith("bbbbbbbb") and line.endswith(" 5 –") for line in lines)
    assert "no energy a day: energy is not known (bbbbbbbb)" in lines
    assert not [line for line in lines if "prices" in line]


def test_a_configuration_is_named_by_its_experiments():
    """Of one that was measured at several loads the first, and how many more there are."""
    several = attrs.evolve(CHEAP, id="0" * 16, experiments=(A, "d" * 16, "e" * 16))

    assert (
        serving_view(serving(several, DEAR)).verdict[0].startswith("For a load of 50/s: 3 replicas of aaaaaaaa +2 on")
    )
    assert any(line.startswith("aaaaaaaa +2 fp8 21.3") for line in shown(serving(several, DEAR)))
