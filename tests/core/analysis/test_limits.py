"""Limits as a user writes them: what is read, what is refused with which words, and which values keep one."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llem.analysis.limits import (
    Limit,
    check_direction,
    keeps,
    parse_duration,
    parse_memory,
    parse_power,
    parse_quality,
    parse_rate,
    parse_slo,
    refuse_twice,
)
from llem.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "metric", "upper", "bound"),
    [
        ("ttft:p99<500ms", "ttft_p99_s", True, 0.5),
        (" TPOT : p99 <= 50 ms ", "tpot_p99_s", True, 0.05),
        ("ttft:mean<1500us", "ttft_s", True, 0.0015),
        ("ttft:median≤1µs", "ttft_p50_s", True, 1e-6),
        ("itl:p95<20ms", "itl_chunk_p95_s", True, 0.02),
        ("e2el:p90<2s", "e2el_p90_s", True, 2.0),
        ("e2e:p99<1min", "e2el_p99_s", True, 60.0),
        ("latency:p99<.5s", "e2el_p99_s", True, 0.5),
        ("request_latency:p99<5.s", "e2el_p99_s", True, 5.0),
        ("queued:p99<1e2ms", "queued_p99_s", True, 0.1),
        ("ttft_p99_s<500ms", "ttft_p99_s", True, 0.5),
        ("output_tokens_per_s>1000", "output_tokens_per_s", False, 1000.0),
        ("total_tokens_per_s>=6e4tokens/min", "total_tokens_per_s", False, 1000.0),
        ("goodput_requests_per_s>=4/s", "goodput_requests_per_s", False, 4.0),
        ("energy_per_output_token_j<0.2J", "energy_per_output_token_j", True, 0.2),
        ("energy_per_output_token_j<200mJ", "energy_per_output_token_j", True, 0.2),
        ("energy_per_request_j<1Wh", "energy_per_request_j", True, 3600.0),
        ("power_w<0.6kW", "power_w", True, 600.0),
        ("peak_memory_bytes<80GiB", "peak_memory_bytes", True, 80 * 2.0**30),
        ("peak_memory_bytes<80GB", "peak_memory_bytes", True, 80e9),
        ("flops_per_token<16GFLOP", "flops_per_token", True, 16e9),
        ("mfu>=30%", "mfu", False, 0.3),
        ("attainment>=99.9%", "slo_attainment", False, 0.999),
        ("slo_attainment≥0.99", "slo_attainment", False, 0.99),
        ("cost_per_request<0.06", "cost_per_request", True, 0.06),
        ("gco2e_per_request<1.5gCO2e", "gco2e_per_request", True, 1.5),
    ],
)
def test_a_limit_names_a_metric_and_a_bound_in_its_unit(text: str, metric: str, upper: bool, bound: float) -> None:
    """Exactly: 99.9 % is the number 0.999 and not the one after it."""
    assert parse_slo(text) == (Limit(text.strip(), metric, upper, bound),)


def test_several_limits_keep_their_order() -> None:
    """An empty part is none."""
    found = parse_slo("tpot:p99<50ms; ttft:p99<500ms;")

    assert [limit.text for limit in found] == ["tpot:p99<50ms", "ttft:p99<500ms"]


@pytest.mark.parametrize(
    ("text", "bound", "each"),
    [
        ("attainment(ttft<500ms,tpot<50ms)>=99%", 0.99, {"ttft_s": 0.5, "tpot_s": 0.05}),
        ("attainment( e2e <= 2s ) > 0.5", 0.5, {"e2el_s": 2.0}),
        ("slo_attainment(latency<2s; ttft<1s)>=100%", 1.0, {"e2el_s": 2.0, "ttft_s": 1.0}),
    ],
)
def test_a_share_of_requests_judges_each_request(text: str, bound: float, each: dict[str, float]) -> None:
    """The limits in brackets are not separated from each other by what separates the parts."""
    assert parse_slo(f"{text};ttft:p50<1s")[0] == Limit(text, "slo_attainment", False, bound, each=each)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ttft<500ms", "a percentile of the run is `ttft:p99<500ms`"),
        ("ttft<500ms", "a share of requests that keep limits is `attainment(ttft<500ms)>=99%`"),
        ("itl<20ms", "`itl:p99<20ms`; a share of requests that keep limits is `attainment(ttft<20ms)>=99%`"),
        ("ttft:p99<500", "ttft:p99<500: 500 has no unit (write it with one, such as 500ms)"),
        ("ttft:p99<500MS", "'MS' is not a unit of time (did you mean 500ms? units: us, ms, s, min, h, day)"),
        ("ttft:p99<5J", "'J' is not a unit of time (units: us, ms, s, min, h, day)"),
        ("ttft:p99<1,5s", "'1,5s' has a comma (write 1000 without a separator, and 0.5 with a point)"),
        ("ttft:p99<soon", "'soon' is not a number (such as 5ms)"),
        ("ttft:p99<", "there is no number (such as 5ms)"),
        ("ttft:p99<-5ms", "'-5ms' is not a number"),
        ("ttft:p99<nan", "'nan' is not a number"),
        ("ttft:p99<1e999s", "1e999 is too large a number"),
        ("ttft:p99<1e-999999999s", "nothing can be below 0 (give a bound above 0)"),
        ("ttft:p99<0ms", "nothing can be below 0"),
        ("ttft:p98<1s", "ttft has no statistic 'p98' (it has mean, p50, p90, p95, p99)"),
        ("queued:p50<1s", "queued has no statistic 'p50' (it has mean, p99)"),
        ("tpto:p99<1s", "there is no latency 'tpto' (did you mean 'tpot'?"),
        ("power_w:p99<1kW", "there is no latency 'power_w' (latencies: ttft, tpot, itl"),
        ("ttft:p99>1s", "a lower ttft_p99_s is better, and this is a lower limit (write `<`)"),
        ("output_tokens_per_s<9", "a higher output_tokens_per_s is better, and this is an upper limit (write `>=`)"),
        ("ttft:p99=1s", "ttft:p99=1s: has no `<` or `>` (such as ttft:p99<500ms)"),
        ("ttft:p99 500ms", "has no `<` or `>`"),
        ("ttft:p99=<500ms", "has a stray `=`"),
        ("1ms<ttft:p99<500ms", "has more than one comparison"),
        ("energy_per_tokn_j<1J", "there is no metric 'energy_per_tokn_j' (did you mean 'energy_per_token_j'?)"),
        ("attainmnet>=99%", "there is no metric 'attainmnet' (did you mean 'attainment'?)"),
        ("request_rate>1/s", "metric 'request_rate' has no direction"),
        ("energy_per_token_j<1s", "'s' is not a unit of energy (units: uJ, mJ, J, kJ, MJ, Wh, kWh)"),
        ("energy_per_token_j<1", "1 has no unit (write it with one, such as 1J)"),
        ("requests_per_s>5tokens/s", "'tokens/s' is not a unit of requests per second (units: /s, /min, /h, /day)"),
        ("quality.gsm8k>=0.7", "quality.gsm8k is not a metric of the trials (write gsm8k into `quality`)"),
        ("evaluation_s.gsm8k<1s", "evaluation_s.gsm8k is not a metric of the trials"),
        ("attainment>=99", "99 is more than the whole (write 99% or a share between 0 and 1)"),
        ("attainment<=99%", "a higher slo_attainment is better, and this is an upper limit (write `>=`)"),
        ("attainment()>=99%", "names no limit in ( )"),
        ("attainment(ttft<500)>=99%", "500 has no unit"),
        ("attainment(ttft>1s)>=99%", "ttft>1s: a lower ttft is better"),
        ("attainment(itl<1s)>=99%", "no request is judged by 'itl' (latencies: ttft, tpot, e2el)"),
        ("attainment(ttft:p99<1s)>=99%", "each request is judged by itself and has no statistic (write ttft<1s)"),
        ("attainment(e2e<1s,latency<2s)>=99%", "limits latency twice"),
        ("ttft:p99<1s;ttft_p99_s<2s", "ttft_p99_s<2s: bounds the same quantity as 'ttft:p99<1s' (give one of the two)"),
        ("attainment>=99%;attainment>=98%", "bounds the same quantity as 'attainment>=99%'"),
        ("cost_per_request<0.06EUR", "0.06EUR names a currency (a cost is in the currency of the prices; write"),
        (" ; ", "`slo` names no limit\n  such as 'ttft:p99<500ms;tpot:p99<50ms'"),
    ],
)
def test_what_is_no_limit_is_refused_with_what_would_be_right(text: str, words: str) -> None:
    """As a user's mistake."""
    with pytest.raises(ConfigError) as raised:
        parse_slo(text)

    assert words in str(raised.value)
    assert (raised.value.code, raised.value.exit_code) == ("limit_invalid", 2)


def test_all_wrong_parts_are_told_at_once() -> None:
    """And the right one is not."""
    with pytest.raises(ConfigError, match="invalid limits in `slo`") as raised:
        parse_slo("ttft<1s; tpot:p99<50ms; tpot:p9<1s")

    assert [problem.path for problem in raised.value.problems] == ["ttft<1s", "tpot:p9<1s"]


def test_shares_of_other_limits_are_other_quantities() -> None:
    """Half within 0.2 s, and nearly all within 1 s."""
    found = parse_slo("attainment(ttft<200ms)>=50%; attainment(ttft<1s)>=99%")

    assert [limit.bound for limit in found] == [0.5, 0.99]
    assert len(set(found)) == 2


@pytest.mark.parametrize(
    ("text", "metric", "upper", "bound", "against"),
    [
        ("gsm8k>=-0.01", "quality.gsm8k", False, -0.01, "difference"),
        ("gsm8k ≥ −1 %", "quality.gsm8k", False, -0.01, "share"),
        ("wikitext<=+2%", "quality.wikitext", True, 0.02, "share"),
        ("wikitext<+0.5", "quality.wikitext", True, 0.5, "difference"),
        ("arc_easy>=0.75", "quality.arc_easy", False, 0.75, ""),
        ("arc_easy>=75%", "quality.arc_easy", False, 0.75, ""),
        ("quality.arc_easy.acc_norm>0.7", "quality.arc_easy.acc_norm", False, 0.7, ""),
        ("gsm8k.exact_match,strict>=-0", "quality.gsm8k.exact_match,strict", False, 0.0, "difference"),
    ],
)
def test_a_sign_makes_a_bound_a_change(text: str, metric: str, upper: bool, bound: float, against: Any) -> None:
    """Without one it is the score itself."""
    [found] = parse_quality(text)

    assert found == Limit(text, metric, upper, bound, against)
    assert math.copysign(1, found.bound) == (-1 if bound < 0 else 1)


def test_a_score_and_its_change_are_two_quantities() -> None:
    """A floor, and a loss."""
    assert len(parse_quality("gsm8k>=0.7; gsm8k>=-1%")) == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("gsm8k>=-1pp", "'pp' is not a unit of a share (units: %)"),
        ("gsm8k>=--1", "'-1' is not a number"),
        ("gsm8k>=", "there is no number"),
        (">=0.5", "names no task"),
        ("gsm 8k>=0.5", "'gsm 8k' is not the name of a task"),
        ("gsm8k", "has no `<` or `>` (such as gsm8k>=-0.01)"),
        ("gsm8k>=-0.01;quality.gsm8k>=-0.02", "bounds the same quantity as 'gsm8k>=-0.01'"),
        ("", "`quality` names no limit"),
    ],
)
def test_what_is_no_limit_on_a_score_is_refused(text: str, words: str) -> None:
    """With the part and what would be right."""
    with pytest.raises(ConfigError) as raised:
        parse_quality(text)

    assert words in str(raised.value)
    assert raised.value.code == "limit_invalid"


@pytest.mark.parametrize(
    ("text", "higher", "words"),
    [
        ("gsm8k<=-0.01", True, "a higher score of gsm8k is better (write gsm8k>=-0.01)"),
        ("wikitext>=-2%", False, "a lower score of wikitext is better (write wikitext<=+2%)"),
        ("wikitext>=12.5", False, "(write wikitext<=12.5)"),
        ("gsm8k>=75", True, "scores of gsm8k lie between 0 and 1 (write gsm8k>=0.75 if you mean points of 100)"),
        ("gsm8k>=-1", True, "(write gsm8k>=-0.01 if you mean points of 100)"),
        ("gsm8k>=-2.5", True, "(write gsm8k>=-0.025 if you mean points of 100)"),
    ],
)
def test_a_limit_must_fit_the_score(text: str, higher: bool, words: str) -> None:
    """Which way is better, and how great a score can be, only the results tell."""
    [limit] = parse_quality(text)

    with pytest.raises(ConfigError) as raised:
        check_direction(limit, higher, 1.0)
    assert words in str(raised.value)


@pytest.mark.parametrize(("text", "higher"), [("gsm8k>=-0.01", True), ("gsm8k>=1", True), ("wer<=+300%", False)])
def test_a_limit_that_fits_passes(text: str, higher: bool) -> None:
    """A share of a small score may be more than 1."""
    check_direction(parse_quality(text)[0], higher, 1.0)
    check_direction(Limit("x>=75", "quality.x", False, 75.0), True)


def test_memory_and_power_are_upper_limits() -> None:
    """Their texts read by themselves."""
    assert parse_memory(" 80 GiB") == Limit("memory<=80 GiB", "peak_memory_bytes", True, 80 * 2.0**30)
    assert parse_power("0.6kW") == Limit("power<=0.6kW", "power_w", True, 600.0)


def test_rates_are_requests_per_second_and_durations_seconds() -> None:
    """By hand: a million a day are 11.574 a second."""
    assert [parse_rate(text) for text in ("50/s", "3000/min", "180000 requests/h")] == [50.0] * 3
    assert parse_rate("1e6/day") == pytest.approx(1e6 / 86400, rel=1e-15)
    assert [parse_duration(text) for text in ("90s", "15min", "2h", "250ms")] == [90.0, 900.0, 7200.0, 0.25]


@pytest.mark.parametrize(
    ("read", "text", "words"),
    [
        (parse_memory, "80", "invalid memory: 80 has no unit\n  write it with one, such as 80GiB"),
        (parse_memory, "80gb", "'gb' is not a unit of memory\n  did you mean 80GB?"),
        (parse_memory, "0GiB", "invalid memory: '0GiB' is 0\n  give a number above 0"),
        (parse_power, "600", "write it with one, such as 600W"),
        (parse_power, "600J", "'J' is not a unit of power\n  units: mW, W, kW, MW"),
        (parse_rate, "50", "invalid rate: 50 has no unit\n  write it with one, such as 50/s"),
        (parse_rate, "50rps", "units: /s, /min, /h, /day"),
        (parse_duration, "", "invalid duration: there is no number"),
    ],
)
def test_a_number_needs_its_unit(read: Any, text: str, words: str) -> None:
    """With an example."""
    with pytest.raises(ConfigError) as raised:
        read(text)

    assert words in str(raised.value)
    assert raised.value.code == "limit_invalid"


def test_two_options_may_not_bound_one_quantity() -> None:
    """`--memory`, and the same metric in `--slo`."""
    limits = (*parse_slo("peak_memory_bytes<70GiB;ttft:p99<1s"), parse_memory("80GiB"))

    with pytest.raises(ConfigError, match="memory<=80GiB: bounds the same quantity as 'peak_memory_bytes<70GiB'"):
        refuse_twice(limits)
    refuse_twice(limits[:2])


def test_a_value_at_the_bound_keeps_the_limit() -> None:
    """0.75 less 0.76 is -0.01 though not to the last bit; NaN keeps nothing."""
    [loss] = parse_quality("x>=-0.01")
    [slow] = parse_slo("ttft:p99<500ms")

    assert keeps(loss, np.array([0.75 - 0.76, -0.01000001, 0.0, math.nan])).tolist() == [True, False, True, False]
    assert keeps(slow, np.array([0.5, 0.5000001, 0.4, math.nan])).tolist() == [True, False, True, False]


WORDS = [
    "ttft",
    "tpot",
    "attainment",
    ":p99",
    ":",
    "(",
    ")",
    "<",
    ">=",
    "≤",
    "=",
    "500",
    "ms",
    "%",
    ";",
    ",",
    "-",
    "1e9",
]


@given(st.one_of(st.text(max_size=30), st.lists(st.sampled_from(WORDS), max_size=12).map("".join)))
def test_any_text_is_read_or_refused(text: str) -> None:
    """Whatever a user types is never a bug of llem, and no bound is other than a number."""
    for read in (parse_slo, parse_quality, parse_memory, parse_power, parse_rate, parse_duration):
        try:
            found = read(text)
        except ConfigError:
            continue
        bounds = [one.bound for one in found] if isinstance(found, tuple) else [getattr(found, "bound", found)]
        assert all(math.isfinite(bound) for bound in bounds)
