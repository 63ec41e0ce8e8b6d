"""Paired differences of quality hold in simulated studies, through the functions that the product ships.

The large ones are in benchmarks/simulate_quality.py, whose cases these are. Drawn studies are 400: three standard
errors of a coverage of 95 % are 3.3 %.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

_PATH = Path(__file__).parents[3] / "benchmarks" / "simulate_quality.py"
_SPEC = importlib.util.spec_from_file_location("simulate_quality", _PATH)
assert _SPEC is not None
assert _SPEC.loader is not None
SIMULATED = importlib.util.module_from_spec(_SPEC)
sys.modules[_SPEC.name] = SIMULATED
_SPEC.loader.exec_module(SIMULATED)
Counted, Drawn = SIMULATED.Counted, SIMULATED.Drawn


@pytest.mark.parametrize(("n", "discordant"), [(50, 0.2), (200, 0.05), (200, 0.2)])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.9])
def test_right_and_wrong_items_cover_93_to_97_percent(n, discordant, share):
    """Ten discordant items and more are expected. Counted out, so exact."""
    assert 0.93 <= Counted(n, discordant, share * discordant).figures()["covers"] <= 0.97


@pytest.mark.parametrize(("n", "discordant"), [(50, 0.01), (50, 0.05), (200, 0.01)])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.9])
def test_few_discordant_items_cover_more_never_less(n, discordant, share):
    """Half an item to 2.5 are expected. An interval from the standard error would cover 39 to 91 % with a loss."""
    assert Counted(n, discordant, share * discordant).figures()["covers"] >= 0.95


@pytest.mark.parametrize(("n", "discordant"), [(50, 0.05), (50, 0.2), (200, 0.05), (200, 0.2)])
def test_mcnemar_finds_equal_ones_different_in_at_most_5_percent(n, discordant):
    """The exact test is conservative."""
    assert SIMULATED.Counted(n, discordant, 0.0).figures()["found"] <= 0.05


@pytest.mark.parametrize("n", [50, 200])
@pytest.mark.parametrize("discordant", [0.0, 0.05, 0.2])
def test_the_smallest_loss_is_found_with_about_80_percent(n, discordant):
    """Connor's formula is of the test by the normal distribution; the exact one finds it a little more seldom."""
    assert 0.75 <= SIMULATED.counted_power(n, discordant)["power"] <= 0.82


@pytest.mark.parametrize(
    "case",
    [
        Drawn("values", 50),
        Drawn("weighted", 100, loss=0.1),
        Drawn("perplexity", 100, loss=0.1),
        Drawn("values", 200, 5, 0.5),
        Drawn("weighted", 200, 30, 0.1),
        Drawn("right_wrong", 400, 100, 0.1, 0.1, 0.2),
        Drawn("values", 60, unpaired=True),
    ],
)
def test_drawn_studies_cover(case):
    """Values, bits per byte, perplexities; clusters of unequal size, few and many; other items."""
    found = SIMULATED.figures(case, 400, 7)

    assert 0.917 <= found["covers"] <= 0.983
    assert 0.917 <= found.get("ratio_covers", 0.95) <= 0.983


@pytest.mark.parametrize(("clusters", "discordant"), [(5, 0.2), (10, 0.05), (10, 0.2), (30, 0.05)])
def test_few_clusters_cover_more_never_less(clusters, discordant):
    """Most of what is lost is lost in whole clusters, which few clusters may not show. By the design effect that is
    observed the intervals would cover 70 to 87 %."""
    found = SIMULATED.figures(Drawn("right_wrong", 400, clusters, 0.5, 0.8 * discordant, discordant), 400, 10)

    assert found["covers"] >= 0.95
    assert found["as_items"] >= 0.8


def test_clusters_are_no_independent_items():
    """30 clusters that have half their variance in common: without clusters, equal ones are found different."""
    rng = SIMULATED.np.random.default_rng(8)
    studies = [SIMULATED.study(Drawn("values", 400, 30, 0.5), rng) for _ in range(200)]
    bare = [[_bare(side) for side in sides] for sides in studies]
    found, naive = ([SIMULATED.contrast(*sides).p_value <= 0.05 for sides in each] for each in (studies, bare))

    assert sum(found) <= 0.1 * 200
    assert sum(naive) >= 0.3 * 200


def _bare(score):
    items = tuple(SIMULATED.attrs.evolve(item, cluster="") for item in score.items)
    return SIMULATED.attrs.evolve(score, items=items)


@pytest.mark.parametrize(
    "case",
    [
        Drawn("values", 50),
        Drawn("values", 200, 5, 0.3),
        Drawn("values", 200, 10, 0.3),
        Drawn("right_wrong", 400, 30, 0.3, discordant=0.5),
    ],
)
def test_the_stated_loss_is_found_with_80_percent(case):
    """The loss that studies without one state, of items and of few clusters of unequal size."""
    lossy = SIMULATED.at_smallest_loss(case, 400, 9)

    assert 0.7 <= SIMULATED.figures(lossy, 400, 10)["found"] <= 0.88


def test_no_loss_is_stated_that_few_clusters_would_not_show():
    """Right and wrong items of 5 clusters."""
    assert SIMULATED.at_smallest_loss(Drawn("right_wrong", 200, 5, 0.3, discordant=0.2), 50, 11) is None
