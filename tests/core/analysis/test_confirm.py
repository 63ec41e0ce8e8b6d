"""Intervals that are stated from draws with known quantiles, and outcomes inside and outside of them."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence

import attrs
import numpy as np
import pytest

from llem.analysis.confirm import Confirmation, Judged, Remeasured, judged, process_mean
from llem.analysis.decision import Contender, Estimated, Recommendation
from llem.analysis.limits import Limit
from llem.analysis.sides import Run, Side
from llem.analysis.statement import Statement, stated, to_confirm
from llem.errors import ConfigError, StoreError
from llem.metrics.metric import Basis
from llem.metrics.result import Place
from llem.reports.confirmation import confirmation_notes, render_confirmation, render_statement, verdict
from llem.reports.figures import new_console
from llem.store.convert import dump, load

HERE, THERE = Place(("GPU-1",), ("NVIDIA H200",), ""), Place(("GPU-2",), ("NVIDIA H200",), "")
FAST = Limit("ttft:p99<500ms", "ttft_p99_s", True, 0.5)
LARGE = Limit("throughput>100", "output_tokens_per_s", False, 100.0)


class Draws:
    """A posterior whose draws are given: 1,001 equally likely values of each configuration, all in step."""

    ids = ("a", "b", "c")

    def __init__(self, lacking: str = "") -> None:
        self.asked: list[tuple[str, int]] = []
        self.lacking = lacking

    def predicted(self, metric: str, processes: int):
        self.asked.append((metric, processes))
        steps = np.linspace(-1, 1, 1001)[:, None] / processes
        draws = np.log([1.0, 2.0, 4.0]) + steps * np.array([0.1, 0.3, 0.5])
        draws[:, [name == self.lacking for name in self.ids]] = np.nan
        return draws


def contender(name: str, standing: str = "tie") -> Contender:
    return Contender(name, {}, Estimated(1, 1, 1), 0.5, 1.0, (), standing)  # type: ignore[arg-type]


def recommendation(choice: str | None, *contenders: Contender) -> Recommendation:
    return Recommendation("energy_per_output_token_j", "J", True, (), choice, 0.9, None, (), (), None, contenders)


def test_the_stated_interval_is_the_central_95_percent_of_the_draws() -> None:
    """By hand: of 1,001 equal steps from -1 to 1 the quantiles are at ±0.95, divided by the number of processes."""
    posterior = Draws()
    said = stated(posterior, "energy_per_output_token_j", ["b", "a"], 2)

    assert posterior.asked == [("energy_per_output_token_j", 2)]
    assert said.ids == ("b", "a")
    b, a = said.expected
    assert (b.low, b.value, b.high) == pytest.approx([2 * math.exp(0.3 * 0.95 * s / 2) for s in (-1, 0, 1)])
    assert (a.low, a.value, a.high) == pytest.approx([math.exp(0.1 * 0.95 * s / 2) for s in (-1, 0, 1)])


def test_the_ratio_is_of_draws_that_belong_together() -> None:
    """Draws in step: log a - log b has the slope 0.1 - 0.3, far less than if they were independent."""
    ratio = stated(Draws(), "m", ["b", "a"], 1).ratio

    assert (ratio.low, ratio.value, ratio.high) == pytest.approx([0.5 * math.exp(0.2 * 0.95 * s) for s in (-1, 0, 1)])
    assert stated(Draws(), "m", ["b"], 1).ratio is None


@pytest.mark.parametrize(
    ("ids", "processes", "error", "match"),
    [
        (["a"], 0, ConfigError, "0 engine processes"),
        (["a", "zz"], 1, StoreError, "zz is not among"),
        (["a", "c"], 1, StoreError, "has the metric"),
    ],
)
def test_what_cannot_be_stated_is_refused(ids: Sequence[str], processes: int, error, match: str) -> None:
    with pytest.raises(error, match=match):
        stated(Draws(lacking="c"), "m", ids, processes)


def test_the_runner_up_is_the_next_that_may_keep_all_limits() -> None:
    ranked = (contender("a", "out"), contender("b", "choice"), contender("c"), contender("d"))

    assert to_confirm(recommendation("b", *ranked)) == ("b", "c")
    assert to_confirm(recommendation("b", *ranked[:2])) == ("b",)
    with pytest.raises(StoreError, match="no choice to confirm") as refused:
        to_confirm(recommendation(None, *ranked))
    assert refused.value.code == "nothing_to_confirm"


def statement(**changes) -> Statement:
    said = Statement(
        metric="energy_per_output_token_j",
        unit="J",
        lower_is_better=True,
        processes=3,
        ids=("aaaaaaaa1", "bbbbbbbb2"),
        expected=(Estimated(1.0, 0.9, 1.1), Estimated(2.0, 1.9, 2.1)),
        ratio=Estimated(2.0, 1.95, 2.05),
    )
    return attrs.evolve(said, **changes)


def outcomes(first: float | None, second: float | None, **more) -> dict[str, Remeasured]:
    return {
        "aaaaaaaa1": Remeasured(first, 3, (HERE,), **more),
        "bbbbbbbb2": Remeasured(second, 3, (HERE,), **more),
    }


@pytest.mark.parametrize(
    ("first", "second", "inside"),
    [
        (1.0, 2.0, (True, True, True)),
        (0.9, 1.9, (True, True, False)),  # 2.11 times
        (0.89, 1.78, (False, False, True)),
        (1.11, 2.0, (False, True, False)),
    ],
)
def test_each_outcome_is_judged_by_its_interval(first: float, second: float, inside: tuple[bool, ...]) -> None:
    """Ends are inside; the ratio is judged by itself."""
    found = judged(statement(), outcomes(first, second))

    assert tuple(one.inside for one in found.intervals) == inside
    assert found.ratio.measured == pytest.approx(second / first)
    assert found.confirmed is all(inside)
    assert verdict(found).startswith("confirmed: 3 of 3" if all(inside) else f"not confirmed: {sum(inside)} of 3")


def test_what_failed_is_not_judged() -> None:
    """Without a value there is no verdict, unless another outcome is outside."""
    failed = {**outcomes(1.0, 2.0), "bbbbbbbb2": Remeasured(None, why="oom: no memory")}
    found = judged(statement(), failed)
    other = judged(statement(), {**failed, "aaaaaaaa1": Remeasured(3.0, 3)})

    assert [(one.inside, one.why) for one in found.intervals] == [
        (True, ""),
        (None, "oom: no memory"),
        (None, "one of the two has no value"),
    ]
    assert (found.confirmed, other.confirmed) == (None, False)
    assert verdict(found).startswith("not decided: 1 of 3")
    assert [one.why for one in judged(statement(), {}).configurations] == ["it was not measured"] * 2


@pytest.mark.parametrize(
    ("values", "kept"), [((0.5, 100.0), (True, True)), ((0.51, 99.0), (False, False)), ((None, 200.0), (None, True))]
)
def test_limits_are_judged_again(values, kept) -> None:
    """Below an upper bound, above a lower one; what is not measured is neither."""
    one = Remeasured(1.0, 3, limits=values, whys=("it was not measured", "") if values[0] is None else ("", ""))
    single = statement(limits=(FAST, LARGE), ids=("aaaaaaaa1",), expected=(Estimated(1.0, 0.9, 1.1),), ratio=None)
    found = judged(single, {"aaaaaaaa1": one})

    assert tuple(limit.kept for limit in found.limits) == kept
    assert found.confirmed is (False if False in kept else None if None in kept else True)


@pytest.mark.parametrize(
    ("changes", "one", "words"),
    [
        ({"places": ((HERE,), (HERE,))}, Remeasured(1.0, 3, (THERE,)), "is confirmed on GPU-2"),
        ({}, Remeasured(1.0, 2, (HERE,)), "2 of 3 engine processes"),
        ({}, Remeasured(1.0, 3, (HERE,), findings=("throttled",)), "not valid: throttled"),
    ],
)
def test_what_is_not_as_it_was_is_a_warning(changes, one: Remeasured, words: str) -> None:
    found = judged(statement(**changes), {**outcomes(1.0, 2.0), "aaaaaaaa1": one})

    assert [warning for warning in found.warnings if words in warning]
    assert judged(statement(places=((HERE, THERE), (HERE,))), outcomes(1.0, 2.0)).warnings == ()


def test_other_versions_are_a_warning() -> None:
    """Those that differ, the first of many; what only one side knows of is no difference."""
    was = {"llem": "0.1.0", "torch": "2.12", "vllm": "0.20", "gone": "1"}
    found = judged(statement(software=was), outcomes(1.0, 2.0), {**was, "torch": "2.13", "new": "1"})
    many = judged(
        statement(software={f"p{n}": "1" for n in range(8)}), outcomes(1.0, 2.0), {f"p{n}": "2" for n in range(8)}
    )

    assert found.warnings == ("torch was 2.12 and is 2.13: what versions differ by is not in the intervals",)
    assert "p4 was 1 and is 2, and 3 more:" in many.warnings[0]


def test_a_speed_does_not_depend_on_what_an_energy_covers() -> None:
    """Only a metric that has a scope states one."""
    side = Side((), {}, Basis("gpu", "measured"), frozenset([HERE]))
    energy, speed = (
        stated(Draws(), metric, ["a"], 1, sides={"a": side})
        for metric in ("energy_per_output_token_j", "output_tokens_per_s")
    )

    assert (energy.basis, speed.basis) == (Basis("gpu", "measured"), None)
    assert energy.places == speed.places == ((HERE,),)


def test_a_statement_is_read_back_as_it_was_written() -> None:
    said = statement(
        limits=(FAST, Limit("x", "slo_attainment", False, 0.99, each={"ttft_s": 0.5})),
        places=((HERE,), (THERE,)),
        basis=Basis("gpu", "measured"),
    )

    assert load(dump(said), Statement, "confirm.json") == said


def test_the_mean_is_over_processes_and_not_over_trials() -> None:
    """Two trials at 1 and 4 of one process, one at 8 of another: sqrt(2 x 8) = 4."""
    runs = tuple(Run(process, None, "2026-01-01T00:00:00+00:00", 0, 1) for process in (0, 0, 1))

    assert process_mean(Side(runs, {"m": [1.0, 4.0, 8.0]}), "m") == pytest.approx(4.0)


def rendered(found: Confirmation) -> str:
    console = new_console(width=120, record=True, highlight=False, file=io.StringIO())
    render_statement(found.statement, console)
    render_confirmation(found, console)
    return console.export_text()


def test_the_table_says_what_was_stated_and_what_came() -> None:
    one = outcomes(1.12, 1.78, limits=(0.6,), whys=("",))
    text = rendered(judged(statement(limits=(FAST,)), one))

    assert "energy_per_output_token_j over 3 new engine processes of each" in text
    for words in (
        "choice aaaaaaaa",
        "runner-up bbbbbbbb",
        "0.90 … 1.10",
        "1.12 J",
        "above",
        "1.78 J",
        "below",
        "ratio",
    ):
        assert words in text
    assert "aaaaaaaa ttft:p99<500ms: not kept (0.6000)" in text
    assert "not confirmed: 0 of 3 outcomes" in text
    assert "at most 15 of 100 confirmations" in text


def test_one_configuration_has_no_word_on_several_intervals() -> None:
    single = statement(ids=("aaaaaaaa1",), expected=(Estimated(1.0, 0.9, 1.1),), ratio=None)
    found = judged(single, {"aaaaaaaa1": Remeasured(1.0, 3)})

    assert list(confirmation_notes(found)) == []
    assert found.configurations == (Judged(Estimated(1.0, 0.9, 1.1), 1.0, True),)


def test_a_wide_interval_says_little() -> None:
    """Being inside an interval from 1 to 2 confirms little, and is said to; being outside of it does not."""
    single = statement(ids=("aaaaaaaa1",), expected=(Estimated(1.4, 1.0, 2.0),), ratio=None)
    inside, outside = (list(confirmation_notes(judged(single, {"aaaaaaaa1": Remeasured(x, 3)}))) for x in (1.5, 2.5))

    assert ["spans a factor of 2.00:" in note for note in inside] == [True]
    assert outside == []
