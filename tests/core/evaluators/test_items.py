"""What items make: values and standard errors computed by hand."""

from __future__ import annotations

import math
import statistics

import pytest

from llem.evaluators.base import Item, Score
from llem.evaluators.items import follows, score_of, standard_error, value_of

#: Σ w v = 2·1 + 1·4 + 1·2 = 8 over Σ w = 4, so R = 2.
WEIGHTED = (Item("a", 1.0, weight=2.0), Item("b", 4.0), Item("c", 2.0))


def test_the_mean_is_weighted() -> None:
    """By the weights of the items; e to it for a perplexity; none without items, or where items make none."""
    assert value_of(WEIGHTED, "mean") == 2.0
    assert value_of(WEIGHTED, "exp") == pytest.approx(math.exp(2.0))
    assert value_of(WEIGHTED, "other") is None
    assert value_of((), "mean") is None


def test_equal_weights_give_the_textbook_error() -> None:
    """s / √n: of 1, 0, 1, 1 that is 0.5 / 2."""
    items = [Item(str(place), value) for place, value in enumerate((1.0, 0.0, 1.0, 1.0))]

    assert standard_error(items, "mean") == pytest.approx(0.25)
    assert standard_error(items, "mean") == pytest.approx(statistics.stdev([1, 0, 1, 1]) / 2)


def test_weights_give_the_error_of_a_ratio() -> None:
    """w (v − R) is −2, 2 and 0: √(3/2 · 8) / 4 = 0.8660; of a perplexity e² times that."""
    assert standard_error(WEIGHTED, "mean") == pytest.approx(math.sqrt(12) / 4)
    assert standard_error(WEIGHTED, "exp") == pytest.approx(math.exp(2) * math.sqrt(12) / 4)
    assert standard_error(WEIGHTED, "other") is None


def test_items_of_a_cluster_vary_together() -> None:
    """Two documents with sums of w (v − R) of 2 and −2 (R = 2): √(2/1 · 8) / 4 = 1, which single items do not show."""
    items = [Item("a", 3.0, cluster="x"), Item("b", 3.0, cluster="x"), *(Item(n, 1.0, cluster="y") for n in "cd")]

    assert standard_error(items, "mean") == pytest.approx(1.0)
    assert standard_error([Item(one.id, one.value) for one in items], "mean") == pytest.approx(0.57735, abs=1e-5)
    assert standard_error(items[:2], "mean") is None, "one cluster says nothing of others"


def test_a_cluster_is_not_an_item_of_its_name() -> None:
    """An item that stands for itself belongs to no cluster, whatever its id is."""
    items = [Item("x", 0.0), Item("b", 1.0, cluster="x")]

    assert standard_error(items, "mean") == pytest.approx(0.5)


def test_a_score_is_made_of_its_items() -> None:
    """With value, error and number; an aggregation that items do not make is refused."""
    score = score_of("task", "bits", WEIGHTED, higher_is_better=False)

    assert (score.value, score.n, score.higher_is_better, score.aggregation) == (2.0, 3, False, "mean")
    assert follows(score)
    for items, aggregation in (((), "mean"), (WEIGHTED, "other")):
        with pytest.raises(ValueError, match="make"):
            score_of("task", "bits", items, aggregation=aggregation)


@pytest.mark.parametrize(("value", "right"), [(2.0 + 1e-9, True), (2.0 + 1e-8, False), (math.exp(2.0), False)])
def test_a_score_that_its_items_do_not_make_is_known(value: float, right: bool) -> None:
    """To within 1e-9 of it."""
    assert follows(Score("t", "m", value, None, 3, items=WEIGHTED)) is right


def test_a_perplexity_beyond_all_numbers_is_infinite() -> None:
    """And not an error of arithmetic."""
    assert value_of([Item("a", 1000.0)], "exp") == math.inf
