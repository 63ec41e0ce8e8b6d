"""Quality against a reference: what is paired, which interval and test, and what is not compared."""

from __future__ import annotations

import math
import random

import attrs
import pytest
from scipy import stats

from llem.analysis.binary import mcnemar, score_interval, smallest_loss
from llem.analysis.collection import Results
from llem.analysis.contrast import contrast
from llem.analysis.jackknife import of_items, of_pairs
from llem.analysis.quality import quality_differences
from llem.errors import StoreError
from llem.evaluators.base import Item, Score
from llem.evaluators.items import value_of
from llem.metrics.statistics import holm


def score(values, *, clusters=None, weights=None, aggregation="mean", task="sums", first=0, **more):
    """A score of items with these values, whose ids begin at `first`."""
    items = tuple(
        Item(
            str(first + n),
            float(value),
            weight=1.0 if weights is None else weights[n],
            cluster="" if clusters is None else str(clusters[n]),
        )
        for n, value in enumerate(values)
    )
    how = "mean" if aggregation == "other" else aggregation
    fields = {"metric": "acc", "stderr": None, "n": len(items), **more}
    return Score(task, value=value_of(items, how), items=items, aggregation=aggregation, **fields)


def right(*counts):
    """Items of two configurations: right in both, in the first alone, in the second alone, in none."""
    both, lost, gained, none = counts
    return [1] * (both + lost) + [0] * (gained + none), [1] * both + [0] * lost + [1] * gained + [0] * none


# right and wrong


@pytest.mark.parametrize(("lost", "gained"), [(0, 0), (1, 0), (5, 0), (6, 0), (3, 9), (15, 5), (40, 80)])
def test_mcnemar_is_the_exact_binomial_test(lost, gained):
    """Of the discordant items, half are lost if nothing differs."""
    exact = stats.binomtest(lost, lost + gained).pvalue if lost + gained else 1.0

    assert mcnemar(lost, gained) == pytest.approx(exact, rel=1e-12)


@pytest.mark.parametrize(("lost", "gained", "n"), [(2, 7, 50), (0, 3, 200), (9, 1, 40), (0, 0, 50)])
def test_the_ends_of_the_interval_are_where_the_score_test_rejects(lost, gained, n):
    """The nuisance share is found here by maximising the likelihood over a fine grid, without Tango's formula."""

    def statistic(difference):
        shares = [i / 400_000 for i in range(1, 400_000)]
        low = max(0.0, -difference)
        found = max(
            (share for share in shares if low < share < (1 - difference) / 2),
            key=lambda q: (
                (lost * math.log(q) if lost else 0)
                + (gained * math.log(q + difference) if gained else 0)
                + (n - lost - gained) * math.log(1 - 2 * q - difference)
            ),
        )
        variance = n * (2 * found + difference * (1 - difference))
        return (gained - lost - n * difference) / math.sqrt(variance)

    low, high = score_interval(lost, gained, n)
    assert statistic(low) == pytest.approx(1.96, abs=5e-3)
    assert statistic(high) == pytest.approx(-1.96, abs=5e-3)


def test_without_discordant_items_the_smallest_loss_is_not_nought():
    """Connor: about 7.85/n, whatever n; of few items no loss is found; discordance widens it."""
    assert [smallest_loss(0, n) * n for n in (200, 1000, 100_000)] == pytest.approx([7.76, 7.83, 7.849], abs=0.01)
    assert smallest_loss(0, 3) is None
    assert smallest_loss(100, 1000) == pytest.approx(0.02796, abs=1e-4)
    z = 1.959964 * math.sqrt(0.1) + 0.841621 * math.sqrt(0.1 - 0.02796**2)
    assert z == pytest.approx(0.02796 * math.sqrt(1000), rel=1e-3)


def test_right_and_wrong_items_give_counts_interval_and_p():
    """10 lost and 5 gained of 100."""
    found = contrast(*(score(values) for values in right(70, 10, 5, 15)))

    assert (found.value, found.lost, found.gained, found.n, found.method) == (
        pytest.approx(-0.05), 10, 5, 100, "paired_right_wrong",
    )  # fmt: skip
    assert found.p_value == pytest.approx(stats.binomtest(10, 15).pvalue)
    assert (found.low, found.high) == pytest.approx(score_interval(10, 5, 100))


def test_of_errors_less_is_better_and_lost_are_the_new_ones():
    """The same items, scored by errors."""
    first, second = ([1 - value for value in values] for values in right(70, 10, 5, 15))
    found = contrast(score(first, higher_is_better=False), score(second, higher_is_better=False))

    assert (found.value, found.lost, found.gained) == (pytest.approx(0.05), 10, 5)


def test_no_discordant_item_is_a_difference_of_nought_with_an_interval():
    """Tango's interval is ± z²/(n + z²) then."""
    values, _ = right(30, 0, 0, 20)
    found = contrast(score(values), score(values))

    assert (found.value, found.p_value, found.reason) == (0.0, 1.0, "")
    assert found.high == pytest.approx(1.959964**2 / (50 + 1.959964**2), abs=1e-6)
    assert found.smallest_loss == pytest.approx(0.1497, abs=1e-4)


def test_clusters_that_are_copies_count_once():
    """Each of 40 items four times over: as 40 items, with Student's t of 39 degrees of freedom."""
    first, second = (right(26, 6, 2, 6)[n] * 4 for n in (0, 1))
    clusters = list(range(40)) * 4
    found = contrast(score(first, clusters=clusters), score(second, clusters=clusters))

    assert (found.n, found.clusters, found.lost) == (160, 40, 24)
    t = stats.t.ppf(0.975, 39)
    assert (found.low, found.high) == pytest.approx(score_interval(6, 2, 40, t), abs=3e-3)
    assert found.p_value == pytest.approx(2 * stats.t.sf(4 / math.sqrt(8 * 40 / 39), 39), rel=1e-6)
    alone = contrast(*(score(values) for values in right(26, 6, 2, 6)))
    assert found.smallest_loss == pytest.approx(alone.smallest_loss, rel=0.08)


@pytest.mark.parametrize(("lost", "words"), [(11, "2.8 clusters, fewer than 3"), (12, "")])
def test_with_few_discordant_clusters_each_is_one_item(lost, words):
    """One item lost here and there says nothing of a cluster that is lost as a whole: the interval allows for one."""
    first = [1] * 40
    second = [0 if n < lost else 1 for n in range(40)]
    clusters = [n % 10 for n in range(40)]  # ten of four, with one lost item each or two
    found = contrast(score(first, clusters=clusters), score(second, clusters=clusters))

    as_items = score_interval(lost / 4, 0, 10, stats.t.ppf(0.975, 9))
    assert ((found.low, found.high) == pytest.approx(as_items)) == bool(words)
    assert words in found.why
    assert bool(found.why) == bool(words)


def test_without_discordant_items_a_cluster_is_taken_for_one_item():
    """Nothing tells how alike its items are."""
    values = [1, 1, 0, 0] * 10
    found = contrast(score(values, clusters=[n // 4 for n in range(40)]), score(values))

    t = stats.t.ppf(0.975, 9)
    assert found.high == pytest.approx(t**2 / (10 + t**2))


# items of any value


def test_values_get_students_t_over_their_differences():
    """As a paired t test of scipy."""
    rng = random.Random(1)
    first = [rng.gauss(0, 1) for _ in range(30)]
    second = [value + rng.gauss(0.2, 0.3) for value in first]
    found = contrast(score(first), score(second))
    expected = stats.ttest_rel(second, first)

    assert found.method == "paired"
    assert found.p_value == pytest.approx(expected.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval()))
    se = (found.high - found.low) / 2 / stats.t.ppf(0.975, 29)
    planned = se * 29 / stats.chi2.median(29)  # a variance of 29 degrees of freedom is mostly seen too small
    assert found.smallest_loss == pytest.approx((stats.t.ppf(0.975, 29) + stats.t.ppf(0.8, 29)) * planned)


def test_clusters_of_equal_size_are_their_means():
    """Six clusters of five: a paired t test of the cluster means."""
    rng = random.Random(2)
    clusters = [n // 5 for n in range(30)]
    shift = [rng.gauss(0.1, 0.5) for _ in range(6)]
    first = [rng.gauss(0, 1) for _ in range(30)]
    second = [value + shift[cluster] + rng.gauss(0, 0.2) for value, cluster in zip(first, clusters, strict=True)]
    found = contrast(score(first, clusters=clusters), score(second, clusters=clusters))
    means = [
        math.fsum(b - a for a, b in zip(first[i : i + 5], second[i : i + 5], strict=True)) / 5 for i in range(0, 30, 5)
    ]
    expected = stats.ttest_1samp(means, 0)

    assert (found.n, found.clusters) == (30, 6)
    assert found.p_value == pytest.approx(expected.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval()))


def test_weights_are_of_the_score_and_of_its_difference():
    """Bits per byte: the standard error is near the one of the linearised weighted mean."""
    rng = random.Random(3)
    weights = [float(rng.randrange(50, 2000)) for _ in range(200)]
    first = [rng.gauss(1, 0.2) for _ in weights]
    second = [value + rng.gauss(0.01, 0.05) for value in first]
    found = contrast(score(first, weights=weights), score(second, weights=weights))
    whole = sum(weights)
    value = sum(w * (b - a) for w, a, b in zip(weights, first, second, strict=True)) / whole
    parts = [w * (b - a - value) / whole for w, a, b in zip(weights, first, second, strict=True)]
    se = math.sqrt(200 / 199 * sum(part**2 for part in parts))

    assert found.value == pytest.approx(value)
    assert (found.high - found.low) / 2 == pytest.approx(stats.t.ppf(0.975, 199) * se, rel=0.02)


def test_a_perplexity_has_a_difference_and_a_ratio():
    """Of e to the mean: the ratio by logarithms, and p is the ratio's."""
    rng = random.Random(4)
    first = [rng.gauss(2, 0.3) for _ in range(100)]
    second = [value + rng.gauss(0.02, 0.05) for value in first]
    found = contrast(score(first, aggregation="exp"), score(second, aggregation="exp"))
    expected = stats.ttest_rel(second, first)
    low, high = expected.confidence_interval()

    means = [math.exp(math.fsum(values) / 100) for values in (first, second)]
    assert found.value == pytest.approx(means[1] - means[0])
    assert found.ratio == pytest.approx(means[1] / means[0])
    assert (found.ratio_low, found.ratio_high) == pytest.approx((math.exp(low), math.exp(high)))
    assert found.p_value == pytest.approx(expected.pvalue)
    assert found.low < found.value < found.high


@pytest.mark.parametrize(
    ("second", "reason", "value"),
    [([0.3, 0.5, 0.7], "identical", 0.0), ([0.4, 0.6, 0.8], "no_scatter", 0.1)],
)
def test_without_scatter_there_is_no_interval(second, reason, value):
    """The same values, and values that all differ alike."""
    found = contrast(score([0.3, 0.5, 0.7]), score(second))

    assert (found.reason, found.value) == (reason, pytest.approx(value))
    assert (found.low, found.high, found.smallest_loss) == (None, None, None)
    assert found.why


def test_one_cluster_is_one_observation():
    """Nothing tells how another would be."""
    found = contrast(*(score(values, clusters=[1] * 9) for values in right(4, 3, 1, 1)))

    assert (found.reason, found.low, found.p_value, found.lost) == ("too_few_items", None, None, 3)


def test_an_item_that_is_there_twice_is_two_items():
    """The second one of a side goes with the second one of the other."""
    items = [Item("a", 1.0), Item("a", 0.0), Item("b", 1.0)]
    one, two = (
        attrs.evolve(score([1, 1, 1]), items=tuple(items[i] for i in order), value=2 / 3)
        for order in ((0, 1, 2), (2, 0, 1))
    )

    assert (contrast(one, two).method, contrast(one, two).lost) == ("paired_right_wrong", 0)


# unpaired


def test_other_items_are_not_paired():
    """Welch's test of scipy, labelled, with how many items differ."""
    rng = random.Random(5)
    first, second = ([rng.gauss(level, 1) for _ in range(size)] for level, size in ((0, 40), (0.5, 60)))
    found = contrast(score(first), score(second, first=10))
    expected = stats.ttest_ind(second, first, equal_var=False)

    assert found.method == "unpaired"
    assert found.why == "items in one of the two alone: 40, in both: 30"
    assert found.p_value == pytest.approx(expected.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval()))
    assert found.lost is None


def test_a_score_that_no_item_has_a_part_of_has_the_stated_errors():
    """F1 and BLEU; without a stated error there is no interval."""
    one, two = (
        attrs.evolve(score([1, 0, 1, 1], aggregation="other", stderr=e), value=v, n=50)
        for e, v in ((0.03, 0.5), (0.04, 0.4))
    )
    found = contrast(one, two)
    freedom = 0.05**4 / (0.03**4 / 49 + 0.04**4 / 49)

    assert (found.value, found.method) == (pytest.approx(-0.1), "unpaired")
    assert found.high - found.low == pytest.approx(2 * 0.05 * stats.t.ppf(0.975, freedom))
    nothing = contrast(one, attrs.evolve(two, stderr=None))
    assert (nothing.low, nothing.reason, nothing.value) == (None, "no_stderr", pytest.approx(-0.1))


def test_items_that_do_not_make_the_score_are_not_paired():
    """An evaluator whose items and score disagree."""
    one = score([1, 0, 1, 1])
    found = contrast(one, attrs.evolve(one, value=0.9, stderr=0.1))

    assert (found.method, found.why) == ("unpaired", "the items do not make up the score")


def test_clusters_of_a_single_score_widen_its_error():
    """Copies of ten items count as ten."""
    values = [1, 1, 1, 0, 1, 0, 0, 1, 1, 0]
    ten, copies = score(values), score(values * 5, clusters=list(range(10)) * 5)

    assert of_items(copies.items).error == pytest.approx(of_items(ten.items).error)
    assert of_pairs([(item, item) for item in ten.items]).error == 0.0


# studies


def scores_of(point):
    """Weights of 4 bits lose 20 of 400 items and gain 2; of 8 bits nothing."""
    first, second = right(250, 20, 2, 128)
    return [score(second if point["bits"] == 4 else first, stderr=0.02), score([1, 0], task="few", metric="f1")]


BITS = {"bits": [16, 8, 4]}


def test_every_configuration_is_compared_with_the_first(quality_store):
    """In the study's order, with Holm's correction and a verdict; each task apart."""
    found = Results.open(quality_store(BITS, scores_of)).quality()
    sums = found[:3]

    assert [row.metric for row in found] == ["quality.sums"] * 3 + ["quality.few"] * 3
    assert [row.reason for row in sums] == ["is_reference", "", ""]
    assert {row.reference for row in sums} == {sums[0].experiments[0]}
    assert [row.verdict for row in sums] == ["", "", "worse"]
    p = [row.difference.p_value for row in sums[1:]]
    assert p == pytest.approx([1.0, stats.binomtest(20, 22).pvalue])
    assert [row.p_adjusted for row in sums[1:]] == list(holm(p))
    assert (sums[2].low, sums[2].high) == pytest.approx((0.58166, 0.67587), abs=1e-5)  # Wilson's, of 252 of 400


def test_the_studys_reference_and_the_asked_one_come_first(quality_store):
    """By its id's beginning; with 4 bits as the reference the others are better."""
    store = quality_store(BITS, scores_of, reference="01" + "0" * 14)
    results = Results.open(store)

    assert {row.reference[:2] for row in results.quality()} == {"01"}
    rows = results.quality("02", ["sums"])
    assert [row.verdict for row in rows] == ["better", "better", ""]
    assert [row.reason for row in rows] == ["", "", "is_reference"]


def test_a_reference_without_the_score_gives_way_or_is_an_error(quality_store):
    """The study's gives way to the first that has it; an asked one is the user's mistake."""
    store = quality_store(
        BITS, lambda point: [] if point["bits"] == 16 else scores_of(point), reference="00" + "0" * 14
    )

    assert {row.reference[:2] for row in Results.open(store).quality()} == {"01"}
    with pytest.raises(StoreError, match="the reference 0000000000000000 has none of these scores"):
        Results.open(store).quality("00")


def test_experiments_that_share_an_evaluation_are_one_row(quality_store):
    """They differ in load alone. Equal scores of another evaluation are not one with it."""
    axes = {"bits": [16, 8], "batch": [1, 32]}
    found = Results.open(
        quality_store(axes, lambda point: {"scores": [score([1, 0, 1])], "lasted": 1.0 + point["bits"]})
    ).quality()

    assert [[name[:2] for name in row.experiments] for row in found] == [["00", "01"], ["02", "03"]]


def test_a_further_score_is_compared_where_it_is_named(quality_store):
    """And a name that nobody has is an error that names the nearest."""
    both = [score([1, 0, 1]), score([0.5, 0.2, 0.9], metric="norm")]
    results = Results.open(quality_store({"bits": [16, 8]}, lambda point: both))

    assert {row.metric for row in results.quality(tasks=["quality.sums.norm"])} == {"quality.sums.norm"}
    with pytest.raises(StoreError, match="no experiment has the score 'sum'") as raised:
        results.quality(tasks=["sum"])
    assert raised.value.hint == "did you mean 'sums'? scores in this folder: quality.sums, quality.sums.norm"


@pytest.mark.parametrize(
    ("more", "reason", "words"),
    [
        ({"terms": {"limit": 2}}, "other_terms", "not in the same terms: limit 2, of the reference None"),
        ({"evaluator": "lab"}, "other_evaluator", "the evaluator is lab, of the reference spelling"),
        (
            {"about": {"versions": {"sums": 2}, "machine": "b"}},
            "other_version",
            "not of the same version: versions.sums 2, of the reference 1",
        ),
    ],
)
def test_other_terms_are_never_compared(quality_store, more, reason, words):
    """Other shots or limits, another evaluator, another version of the task. What else an evaluator says may differ."""

    def scores(point):
        given = {"scores": [score([1, 0, 1])], "about": {"versions": {"sums": 1}, "machine": "a"}}
        return {
            **given,
            **(more if point["bits"] == 4 else {"about": {**given["about"], "machine": str(point["bits"])}}),
        }

    _, same, other = Results.open(quality_store(BITS, scores)).quality()

    assert same.difference is not None
    assert (other.difference, other.reason, other.why) == (None, reason, words)
    assert other.value == pytest.approx(2 / 3)


def test_terms_that_came_out_otherwise_are_told(quality_store):
    """Null takes the engine's context, which is shorter with one: compared all the same, and said."""

    def scores(point):
        length = {"max_length": 512 if point["bits"] == 4 else 2048, "cut": point["bits"]}
        return {"scores": [score([1, 0, 1])], "terms": {"max_length": None}, "about": length}

    _, same, other = Results.open(quality_store(BITS, scores)).quality()

    assert (same.why, other.why) == ("", "as the engines allowed: max_length 512, of the reference 2048")
    assert other.difference is not None


def test_scores_of_other_directions_are_not_compared(quality_store):
    """An evaluator that changed its mind."""
    found = Results.open(
        quality_store(BITS, lambda point: [score([1, 0, 1], higher_is_better=point["bits"] != 4)])
    ).quality()

    assert [row.reason for row in found] == ["is_reference", "", "other_direction"]


def test_scores_of_former_terms_are_left_out(quality_store):
    """An experiment that asks for a limit now has no score until it is evaluated with it."""
    store = quality_store(BITS, scores_of)
    first = store.result_ids()[0]
    document = store.read_experiment(first)
    config = {**document["config"], "quality": {**document["config"]["quality"], "limit": 5}}
    store.write_experiment(first, {"id": first, "model": document["model"], "config": config}, replace=True)

    assert {row.reference[:2] for row in Results.open(store).quality()} == {"01"}


def test_a_fake_has_no_verdict(quality_store):
    """Echo's answers mean nothing."""
    store = quality_store(BITS, lambda point: {"scores": scores_of(point), "backend": "echo"})

    assert [row.verdict for row in quality_differences(store, store.result_ids())] == [""] * 6


def test_a_study_without_scores_says_what_to_do(quality_store):
    """No table, no figure."""
    with pytest.raises(StoreError, match="has a score") as raised:
        Results.open(quality_store(BITS, lambda point: [])).quality()
    assert "quality: {evaluator: NAME, tasks: [TASK]}" in raised.value.hint


def test_the_rounding_of_another_engine_gets_no_verdict(quality_store):
    """A perplexity that differs by 1e-7 in every item, all the same way, is sure and means nothing; 1e-3 does."""
    chance = random.Random(3)
    nats = [chance.uniform(1, 2) for _ in range(200)]
    off = {"first": 0.0, "order": -1e-7, "rounded": -1e-3}

    def scores(point):
        jitter = random.Random(point["engine"])
        moved = [one + off[point["engine"]] * jitter.uniform(0.5, 1.5) for one in nats]
        return [score(moved, aggregation="exp", higher_is_better=False)]

    store = quality_store({"engine": list(off)}, scores)
    rows = Results.open(store).quality()

    assert [row.verdict for row in rows] == ["", "", "better"]
    assert [row.is_rounding for row in rows] == [False, True, False]
    assert rows[1].p_adjusted < 1e-10


def test_the_reference_is_the_first_of_the_file(quality_store):
    """However the study ran: blocks come at random."""
    store = quality_store({"bits": [16, 8, 4]}, lambda point: [score([1, 0, 1, point["bits"] > 4])])
    study = store.study()
    store.write_study({**study, "experiments": list(reversed(study["experiments"]))})

    rows = Results.open(store).quality()

    assert [row.experiments[0] for row in rows] == list(study["points"])
    assert {row.reference for row in rows} == {next(iter(study["points"]))}
