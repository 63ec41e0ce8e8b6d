"""What no stored metric tells of limits: shares of requests that keep limits of any kind, and draws of scores."""

from __future__ import annotations

import math
import random
from typing import Any

import attrs
import numpy as np
import pytest

from llem.analysis.attainment import Attained, attained
from llem.analysis.binary import score_interval
from llem.analysis.decision import Estimated
from llem.analysis.kept import quality_draws
from llem.analysis.limits import keeps, parse_quality
from llem.config.slo import Slo
from llem.errors import ConfigError, StoreError
from llem.evaluators.base import Item, Score
from llem.evaluators.items import standard_error, value_of
from llem.metrics.goodput import Judged
from llem.store.store import Store

S = 1_000_000_000
MS = S // 1000
COUNT = 20_000


# requests


@pytest.fixture
def served_store(make: Any, tmp_path: Any) -> Any:
    """`served_store(windows, **config)`: a store with one experiment, its trials of these rows of (TTFT, TPOT) in ms.

    One request arrives every 0.1 s and has ten output tokens; None in place of its times is one that failed.
    """

    def stored(windows: Any, **config: Any) -> Store:
        store = Store.create(tmp_path / "served", {"name": "served"})
        load = {"kind": "open", "request_rate": 10.0}
        store.write_experiment("exp-one", make.experiment_document(**{"load": load, "slo": None, **config}))
        store.write_engine("exp-one", make.engine_document())
        for index, requests in enumerate(windows):
            t0, t1 = make.window(index)
            rows = []
            for number, times in enumerate(requests):
                ttft, tpot = times or (1, 1)
                reason = "length" if times else "error"
                shape = {"ttft": ttft * MS, "tpot": tpot * MS, "outputs": 10, "finish_reason": reason}
                rows.append(make.served_row(number, t0 + number * S // 10, **shape))
            trace = make.trace(600.0, t0, t1)
            store.write_trial(make.served_trial(index, trace, rows, t0, t1), trace, rows)
        return store

    return stored


#: Four requests: quick, late first token, slow further tokens, failed; and two of which one is quick.
WINDOWS = [[(100, 10), (600, 10), (100, 60), None], [(100, 10), (600, 60)]]


@pytest.mark.parametrize(
    ("each", "shares"),
    [
        ({"ttft_s": 0.5}, [2 / 4, 1 / 2]),
        ({"tpot_s": 0.05}, [2 / 4, 1 / 2]),
        ({"ttft_s": 0.5, "tpot_s": 0.05}, [1 / 4, 1 / 2]),
        ({"ttft_s": 0.6, "tpot_s": 0.06}, [3 / 4, 2 / 2]),
        ({"e2el_s": 0.2}, [1 / 4, 1 / 2]),  # 100 ms and nine times 10 ms
        ({"e2el_s": 0.01}, [0.0, 0.0]),
    ],
)
def test_shares_are_of_all_requests_that_ended(served_store: Any, each: dict[str, float], shares: list[float]) -> None:
    """Counted by hand, trial by trial; a failed request keeps nothing, and a request at a limit keeps it."""
    store = served_store(WINDOWS)

    found = attained(store, "exp-one", each)
    assert found.shares == pytest.approx(shares)
    assert found.reason == ""


def test_the_studys_own_limits_stand_for_none(served_store: Any) -> None:
    """Those of the experiment's `slo`."""
    store = served_store(WINDOWS, slo=attrs.asdict(Slo(ttft_s=0.5, tpot_s=0.05)))

    assert attained(store, "exp-one", {}).shares == [0.25, 0.5]


def test_without_limits_or_requests_there_is_a_reason(served_store: Any) -> None:
    """No `slo`; and a window in which no request ended, and none was late for certain."""
    store = served_store([WINDOWS[0], [(20_000, 10)]])

    assert attained(store, "exp-one", {}) == Attained(reason="not_requested")
    assert attained(store, "exp-one", {"ttft_s": 15.0}) == Attained(reason="no_completions")
    assert attained(store, "exp-one", {"ttft_s": 0.5}).shares == [0.5, 0.0]


def test_a_share_of_few_requests_is_not_certain() -> None:
    """Of 300 requests all in time, 99 of 100 of all that come are with P 0.985 (beta with Jeffreys' prior)."""
    found = Attained((Judged(100, 100),) * 3, (0, 0, 0))

    assert found.requests == 300
    draws = found.draws("exp-one", 20_000, 0)
    assert (draws >= 0.99).mean() == pytest.approx(0.985, abs=0.005)


def test_trials_that_scatter_make_requests_worth_less() -> None:
    """Shares of 0.9 and 1.0: their scatter is 25 times that of 2,000 independent requests, times Student's t of one."""
    alike = Attained((Judged(1000, 950), Judged(1000, 950)), (0, 0))
    apart = Attained((Judged(1000, 900), Judged(1000, 1000)), (0, 0))

    assert alike.requests == 2000
    variance, share = 0.0025, 1900.5 / 2001
    effect = variance / (share * (1 - share) / 2000) * (12.706 / 1.96) ** 2
    assert apart.requests == pytest.approx(2000 / effect, rel=1e-3)


def test_an_offline_load_has_no_share(make: Any, tmp_path: Any) -> None:
    """Its requests do not arrive."""
    store = Store.create(tmp_path / "batches", {"name": "batches"})
    store.write_experiment("exp-one", make.experiment_document())
    t0, t1 = make.window(0)
    trace, rows = make.trace(600.0, t0, t1), make.request_rows(0, t0, t1)
    store.write_trial(make.make_trial(0, trace, rows, t0, t1), trace, rows)

    each = {"e2el_s": 1e9}
    assert attained(store, "exp-one", each) == Attained(reason="offline_load")


# scores


def score(values: Any, **more: Any) -> Score:
    """A score of items with these values, with its standard error."""
    items = tuple(Item(str(n), float(value)) for n, value in enumerate(values))
    how = more.get("aggregation", "mean")
    value = value_of(items, "exp" if how == "exp" else "mean")
    assert value is not None
    fields = {"task": "sums", "metric": "acc", "n": len(items), "stderr": standard_error(items, how), **more}
    return Score(value=value, items=items, **fields)


def right(both: int, lost: int, gained: int, none: int) -> tuple[list[int], list[int]]:
    """Items of two configurations: right in both, in the first alone, in the second alone, in none."""
    return [1] * (both + lost) + [0] * (gained + none), [1] * both + [0] * lost + [1] * gained + [0] * none


FULL, FOUR_BITS = right(250, 20, 2, 128)
BITS = {"bits": [16, 8, 4], "batch": [1, 8]}


def by_bits(point: dict[str, Any]) -> dict[str, Any]:
    """Weights of 8 bits answer as those of 16 do. Two batch sizes share an engine."""
    return {"scores": [score(FOUR_BITS if point["bits"] == 4 else FULL)], "lasted": 1.0 + point["bits"]}


def known(store: Store, text: str, **more: Any) -> Any:
    """What is known of the one limit."""
    [limit] = parse_quality(text)
    [found] = quality_draws(store, store.result_ids(), [limit], COUNT, 1, **more).values()
    return found


def test_a_change_has_the_stated_interval(quality_store: Any) -> None:
    """Tango's, of 20 lost and 2 gained of 400; half of the draws on each side of the value."""
    store = quality_store(BITS, by_bits)
    [limit] = parse_quality("sums>=-0.05")
    found = known(store, "sums>=-0.05")
    last = store.result_ids()[-1]
    low, high = score_interval(20, 2, 400)

    assert attrs.astuple(found.found[last]) == pytest.approx((-18 / 400, low, high))
    draws = found.draws[last]
    assert draws.shape == (COUNT,)
    assert np.percentile(draws, [2.5, 50, 97.5]) == pytest.approx([low, -18 / 400, high], abs=6e-4)
    # above the bound by (0.05 - 0.045) / ((-0.045 - low) / 1.96) deviations
    z = 0.005 / ((-0.045 - low) / 1.959964)
    assert keeps(limit, draws).mean() == pytest.approx(0.5 * (1 + math.erf(z / math.sqrt(2))), abs=0.01)


def test_the_reference_and_what_shares_its_evaluation_have_changed_by_nothing(quality_store: Any) -> None:
    """Those of 8 bits are equal item by item and of another evaluation: Tango's interval without a discordant item."""
    store = quality_store(BITS, by_bits)
    found = known(store, "sums>=-0")
    ids = store.result_ids()

    assert found.reference == ids[0]
    assert [np.ptp(found.draws[name]) for name in ids[:2]] == [0.0, 0.0]
    assert found.found[ids[1]] == Estimated(0.0, 0.0, 0.0)
    half = 1.959964**2 / (400 + 1.959964**2)
    assert attrs.astuple(found.found[ids[2]]) == pytest.approx((0.0, -half, half), abs=1e-6)
    assert (found.draws[ids[2]] >= 0).mean() == pytest.approx(0.5, abs=0.02)


def test_experiments_of_one_evaluation_share_their_draws(quality_store: Any) -> None:
    """Other evaluations have others; and all are the same the next time, and of fewer experiments."""
    store = quality_store(BITS, by_bits)
    ids = store.result_ids()
    found = known(store, "sums>=-0.05")

    assert (found.draws[ids[2]] == found.draws[ids[3]]).all()
    apart = np.corrcoef(found.draws[ids[2]], found.draws[ids[4]])[0, 1]
    assert abs(apart) < 0.03
    limits = parse_quality("sums>=-0.05")
    [alone] = quality_draws(store, ids[4:], limits, COUNT, 1).values()
    assert tuple(alone.draws) == ids[4:]
    assert (alone.draws[ids[4]] == found.draws[ids[4]]).all()
    [other] = quality_draws(store, ids[4:], limits, COUNT, 2).values()
    assert (other.draws[ids[4]] != found.draws[ids[4]]).any()


def test_a_share_is_of_the_references_score(quality_store: Any) -> None:
    """18 of 400 fewer right, of 270 of 400: 6.7 % of them."""
    store = quality_store(BITS, by_bits)
    last = store.result_ids()[-1]
    found = known(store, "sums>=-7%")

    assert found.found[last].value == pytest.approx(-18 / 270)
    assert found.found[last].low == pytest.approx(score_interval(20, 2, 400)[0] * 400 / 270)


def test_another_reference_may_be_named(quality_store: Any) -> None:
    """By its id's beginning, whether or not it is asked about itself."""
    store = quality_store(BITS, by_bits)
    ids = store.result_ids()
    [found] = quality_draws(store, ids[:1], parse_quality("sums>=-0.05"), COUNT, 1, ids[4][:2]).values()

    assert found.reference == ids[4]
    assert found.found[ids[0]].value == pytest.approx(18 / 400)


def test_a_score_has_wilsons_interval_and_moves_with_the_others(quality_store: Any) -> None:
    """252 of 400 are right, and 270 of 400; all answer the same items."""
    store = quality_store(BITS, by_bits)
    ids = store.result_ids()
    found = known(store, "sums>=65%")

    assert found.reference is None
    assert attrs.astuple(found.found[ids[4]]) == pytest.approx((0.63, 0.58166, 0.67587), abs=1e-5)
    assert np.percentile(found.draws[ids[4]], [2.5, 97.5]) == pytest.approx([0.58166, 0.67587], abs=2e-3)
    assert np.corrcoef(found.draws[ids[0]], found.draws[ids[4]])[0, 1] > 0.99


def test_draws_stay_within_what_a_score_can_be(quality_store: Any) -> None:
    """9 of 10 right, and 10 of 10: none is above 1, no change above what was wrong."""
    store = quality_store({"bits": [16, 8]}, lambda point: [score([1] * 9 + [int(point["bits"] == 8)])])
    first, second = store.result_ids()
    absolute, change, share = (known(store, f"sums>={bound}") for bound in ("0.5", "-0.5", "-50%"))

    assert absolute.draws[first].max() == absolute.draws[second].max() == 1.0
    assert change.draws[second].max() == pytest.approx(0.1)
    assert share.draws[second].max() == pytest.approx(1 / 9)


def test_a_perplexity_is_bounded_by_its_ratio(quality_store: Any) -> None:
    """Every passage about 1 % of a nat worse: the interval is the paired one of the ratio."""
    chance = random.Random(4)
    nats = [chance.gauss(2, 0.3) for _ in range(100)]
    worse = [one + chance.gauss(0.01, 0.02) for one in nats]
    shape = {"aggregation": "exp", "metric": "perplexity", "higher_is_better": False}
    store = quality_store({"bits": [16, 8]}, lambda point: [score(nats if point["bits"] == 16 else worse, **shape)])
    found = known(store, "sums<=+2%").found[store.result_ids()[1]]

    differences = [b - a for a, b in zip(nats, worse, strict=True)]
    mean = math.fsum(differences) / 100
    half = 1.984217 * math.sqrt(math.fsum((one - mean) ** 2 for one in differences) / 99 / 100)
    expected = tuple(math.expm1(one) for one in (mean, mean - half, mean + half))
    assert attrs.astuple(found) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("values", "half"),
    [
        ([0.11, 0.23, 0.58, 0.71, 0.94], 0.0),
        ([0.5, 0.5, 1.0, 0.0, 0.5], 1.959964**2 / (5 + 1.959964**2)),
        ([0.5, 0.5, 0.75, 0.75, 0.75], 0.25 * 1.959964**2 / (5 + 1.959964**2)),
    ],
)
def test_identical_items_tell_by_how_many_values_they_have(quality_store: Any, values: Any, half: float) -> None:
    """Likelihoods equal to the last bit are of one computation; marks of a half or a whole may differ elsewhere."""
    store = quality_store({"bits": [16, 8]}, lambda point: [score(values)])
    found = known(store, "sums>=-0.01").found[store.result_ids()[1]]

    assert attrs.astuple(found) == pytest.approx((0.0, -half, half), abs=1e-6)


def test_rounding_is_no_change(quality_store: Any) -> None:
    """A perplexity 1e-7 higher, surely, and 1e-3 higher."""
    chance = random.Random(3)
    nats = [chance.uniform(1, 2) for _ in range(200)]
    off = {"first": 0.0, "order": 1e-7, "rounded": 1e-3}

    def scores(point: dict[str, Any]) -> list[Score]:
        moved = [one + off[point["engine"]] * random.Random(n).uniform(0.5, 1.5) for n, one in enumerate(nats)]
        return [score(moved, aggregation="exp", higher_is_better=False)]

    store = quality_store({"engine": list(off)}, scores)
    first, order, rounded = store.result_ids()
    [limit] = parse_quality("sums<=+0")
    found = known(store, "sums<=+0")

    assert [keeps(limit, found.draws[name]).mean() for name in (first, order, rounded)] == [1.0, 1.0, 0.0]


def test_what_cannot_be_compared_is_not_known(quality_store: Any) -> None:
    """Not evaluated, other terms, one item; each with its reason and words."""

    def scores(point: dict[str, Any]) -> Any:
        return {
            "full": [score(FULL)],
            "none": [],
            "terms": {"scores": [score(FULL)], "terms": {"limit": 5}},
            "stated": [score(FULL, stderr=None, aggregation="other")],
        }[point["kind"]]

    store = quality_store({"kind": ["full", "none", "terms", "stated"]}, scores)
    _, none, terms, stated = store.result_ids()
    found = known(store, "sums>=-0.01")

    assert (found.draws[none], found.found[none], found.reason[none]) == (None, None, "not_evaluated")
    assert found.why[none] == "there is no score of sums"
    assert (found.reason[terms], found.why[terms]) == (
        "other_terms",
        "not in the same terms: limit 5, of the reference None",
    )
    assert found.reason[stated] == "no_stderr"
    assert known(store, "sums>=0.1").reason[terms] == ""


def test_a_score_without_an_error_is_not_known(quality_store: Any) -> None:
    """Nothing says by how much other items would change it."""
    store = quality_store({"bits": [16]}, lambda point: [score([3.5, 4.5], stderr=None)])

    assert known(store, "sums>=2").reason == {store.result_ids()[0]: "no_stderr"}


def test_a_score_that_is_not_above_nought_has_no_shares(quality_store: Any) -> None:
    """A mean log-likelihood: two per cent of it in which direction?"""
    store = quality_store({"bits": [16, 8]}, lambda point: [score([-1.5, -2.5 + point["bits"] / 99, -1.0])])
    first, second = store.result_ids()

    assert known(store, "sums>=-2%").reason == {first: "", second: "no_share"}
    assert known(store, "sums>=-0.5").reason == {first: "", second: ""}


def test_a_limit_of_the_wrong_direction_is_the_users_mistake(quality_store: Any) -> None:
    """As is a score that nobody has, a bound that no score can reach, and a reference without the score."""
    store = quality_store({"bits": [16, 8, 4]}, lambda point: [score(FULL)] if point["bits"] > 4 else [])

    with pytest.raises(ConfigError, match="a higher score of sums is better"):
        known(store, "sums<=+0.01")
    with pytest.raises(ConfigError, match="scores of sums lie between 0 and 1"):
        known(store, "sums>=75")
    with pytest.raises(StoreError, match="no experiment has the score 'sum'"):
        known(store, "sum>=0.5")
    with pytest.raises(StoreError, match="has none of these scores"):
        known(store, "sums>=-0.01", reference="02")


def test_a_score_that_means_the_opposite_elsewhere_is_not_known_there(quality_store: Any) -> None:
    """An evaluator that changed its mind."""
    store = quality_store({"bits": [16, 8]}, lambda point: [score(FULL, higher_is_better=point["bits"] == 16)])
    first, second = store.result_ids()

    assert known(store, "sums>=0.1").reason == {first: "", second: "other_direction"}
    assert known(store, "sums>=-0.1").reason == {first: "", second: "other_direction"}


def test_limits_on_other_metrics_are_left_out(quality_store: Any) -> None:
    """The caller may give all."""
    from llem.analysis.limits import parse_slo

    store = quality_store({"bits": [16]}, by_bits)
    assert quality_draws(store, store.result_ids(), parse_slo("ttft:p99<1s"), 9, 0) == {}
