"""Which prompt a request has."""

from __future__ import annotations

from itertools import pairwise

import pytest

from llem.workloads.base import BLOCK, place_of


@pytest.mark.parametrize("count", [1, 3, 400, 10_000, 999_983])
def test_each_pass_has_each_prompt_once(count: int) -> None:
    """Within a block, in turn."""
    start = 3 * BLOCK
    found = [place_of(start + number, count) for number in range(count)]

    assert sorted(found) == list(range(count))
    assert all((later - earlier) % count == 1 % count for earlier, later in pairwise(found))


def test_trials_begin_at_different_prompts() -> None:
    """Even where the number of prompts divides the distance between trials; the first request has the first prompt."""
    begins = [place_of(trial * BLOCK, 400) for trial in range(11)]

    assert begins[0] == 0
    assert min(abs(a - b) for i, a in enumerate(begins) for b in begins[:i]) > 400 / 20
