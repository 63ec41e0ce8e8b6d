"""Change points: each shape is named, placed and sized; what is known to move values is taken out."""

from __future__ import annotations

import math
import random

import pytest

from llem.metrics.changes import LEAST, cells, changes
from llem.metrics.residuals import levels, residuals


def noisy(shape, n=40, seed=1, scatter=0.3):
    noise = random.Random(seed)
    return [100 + shape(t / n) + noise.gauss(0, scatter) for t in range(n)]


@pytest.mark.parametrize(
    ("shape", "name", "begin", "end", "share"),
    [
        (lambda t: 3 * t, "line", 0.0, 1.0, 0.03),
        (lambda t: -3 * t, "line", 0.0, 1.0, -0.03),
        (lambda t: 3 * (t >= 0.6), "step", 0.6, 0.6, 0.03),
        (lambda t: 3 * (t < 0.25), "step", 0.25, 0.25, -0.03),
        (lambda t: 10 * abs(t - 0.5), "bend", 0.5, 0.5, 0.05),
        (lambda t: 10 * (0.4 <= t < 0.6), "bump", 0.4, 0.6, 0.1),
    ],
)
def test_each_shape_is_recognised(shape, name, begin, end, share):
    """In the mean of five windows and in each: the shape, where it is, and its size as a share of the mean."""
    pooled, each = changes([noisy(shape, seed=seed) for seed in range(5)])
    assert pooled is not None
    for change in (pooled, *each):
        assert change.shape == name
        assert (change.begin, change.end) == (pytest.approx(begin, abs=0.06), pytest.approx(end, abs=0.06))
        assert change.share == pytest.approx(share, rel=0.2)
        assert change.p_value < 1e-4


def test_a_window_alone():
    """One window has no others to be held against: a clear step is found, and there is no mean of windows."""
    pooled, [change] = changes([noisy(lambda t: 3 * (t >= 0.5), n=60)])
    assert pooled is None
    assert (change.shape, change.p_value < 0.001) == ("step", True)


def test_one_window_of_five():
    """A bump in one window is found there and in no other."""
    windows = [noisy(lambda t: 0, seed=seed) for seed in range(5)]
    windows[2] = noisy(lambda t: 5 * (0.3 <= t < 0.6), seed=9)
    _, each = changes(windows)
    assert [change.p_value < 0.001 for change in each] == [False, False, True, False, False]


def test_one_value_far_off_is_no_change():
    """A single batch of three times the time is no bump."""
    for place in (0, 5, 20, 39):
        windows = [noisy(lambda t: 0, seed=seed) for seed in range(3)]
        windows[1][place] = 300.0
        pooled, each = changes(windows)
        assert min(change.p_value for change in (pooled, *each)) > 0.01


def test_series_without_noise():
    """Constants have no change, an exact line is one beyond doubt."""
    assert [change.p_value for change in changes([[100.0] * 40] * 3)[1]] == [1.0] * 3
    [line] = changes([[100 + 0.1 * t for t in range(40)]])[1]
    assert (line.shape, line.share) == ("line", pytest.approx(4 / 101.95))
    assert line.p_value < 1e-6


def test_the_shortest_series_and_a_mean_of_zero():
    """The least number of values works; a share of zero is zero."""
    values = [math.sin(t) for t in range(LEAST)]
    centre = math.fsum(values) / len(values)
    [change] = changes([[value - centre for value in values]])[1]
    assert 0 <= change.p_value <= 1
    [nothing] = changes([[0.0] * LEAST])[1]
    assert (nothing.share, nothing.p_value) == (0.0, 1.0)


def test_what_is_known_is_no_change():
    """A bump that a column explains is none; a step beside the column keeps its size."""
    noise = random.Random(4)
    column = [(10 <= t < 20) + noise.gauss(0, 0.2) for t in range(40)]
    steady = [noisy(lambda t: 0, seed=seed) for seed in (1, 2, 3)]
    windows = [[value + 5 * one for value, one in zip(window, column, strict=True)] for window in steady]
    assert changes(windows)[0].p_value < 1e-4
    assert changes(windows, [[column]] * 3)[0].p_value > 0.05
    stepped = [[value + 3 * (t >= 20) for t, value in enumerate(window)] for window in windows]
    pooled, _ = changes(stepped, [[column]] * 3)
    assert (pooled.shape, pooled.share * 105) == ("step", pytest.approx(3, rel=0.15))


def test_the_same_bits():
    """Computed twice, the same."""
    windows = [noisy(lambda t: t, seed=seed) for seed in range(4)]
    assert changes(windows) == changes(windows)


def test_cells():
    """Means of runs of nearly equal length; as they are where there are as many values; never too few."""
    assert cells([1.0, 2.0, 3.0, 4.0, 5.0], 2) == [1.5, 4.0]
    assert cells([1.0, 2.0], 2) == [1.0, 2.0]
    with pytest.raises(ValueError, match="2 values do not fill 3 cells"):
        cells([1.0, 2.0], 3)


def test_residuals():
    """What a column explains is gone, the mean stays; constants and repeated columns change nothing."""
    column, noise = [1.0, 2.0, 3.0, 4.0, 5.0], [0.1, -0.2, 0.0, 0.2, -0.1]
    values = [7 + 2 * c for c in column]
    assert residuals(values, [column]) == pytest.approx([13.0] * 5)
    both = [v + e for v, e in zip(values, noise, strict=True)]
    assert residuals(both, [column, column, [1.0] * 5]) == pytest.approx(residuals(both, [column]))
    assert residuals(both, []) == pytest.approx(both)


def test_levels_of_groups_with_other_work():
    """Groups that cost 5 and 6 at rest and 2 per unit of work, at their mean work; exact, so nothing is unsure."""
    work = [[1.0, 2.0, 3.0], [5.0, 7.0, 9.0]]
    groups = [[5 + 2 * w for w in work[0]], [6 + 2 * w for w in work[1]]]
    found, unsure = levels(groups, [[work[0]], [work[1]]])
    assert found == pytest.approx([5 + 2 * 4.5, 6 + 2 * 4.5])
    assert unsure == [pytest.approx([0.0, 0.0], abs=1e-9)]
    with pytest.raises(ValueError, match="2 values do not tell"):
        levels([[1.0], [2.0]], [[[1.0]], [[2.0]]])
