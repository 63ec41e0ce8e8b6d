"""Synthetic prompts: random access, seeds, independence of streams, stability across versions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llem.errors import ConfigError
from llem.workloads.base import Lognormal, Uniform
from llem.workloads.synthetic import FIRST_ID, SyntheticOptions, SyntheticWorkload

lengths = st.one_of(
    st.integers(1, 40),
    st.just(Uniform(low=2, high=30)),
    st.just(Lognormal(mean=12, sigma=0.6, max=40)),
)
options = st.builds(SyntheticOptions, input_tokens=lengths, output_tokens=lengths, seed=st.integers(-5, 10**9))


def make(section: SyntheticOptions | None = None, vocab_size: int = 512) -> SyntheticWorkload:
    return SyntheticWorkload(section or SyntheticOptions(), None, vocab_size)


@given(options, st.integers(0, 1000), st.integers(0, 8))
def test_random_access(section: SyntheticOptions, start: int, count: int) -> None:
    """A stretch of the sequence is the same however it is asked for."""
    workload = make(section)
    some = workload.requests(start, count)
    assert [r.index for r in some] == list(range(start, start + count))
    assert some == [make(section).requests(i, 1)[0] for i in range(start, start + count)]
    if start < 20:
        assert some == workload.requests(0, start + count)[start:]


@given(options, st.integers(4, 200_000))
def test_ids_and_lengths_within_bounds(section: SyntheticOptions, vocab_size: int) -> None:
    """Ids stay inside the vocabulary and off the first few; prompts are never empty."""
    for request in make(section, vocab_size).requests(0, 4):
        assert 1 <= len(request.token_ids) <= 40
        assert 1 <= request.output_tokens <= 40
        assert all(FIRST_ID <= i < vocab_size for i in request.token_ids)


def test_ids_cover_the_vocabulary_evenly() -> None:
    """Every allowed id occurs, and none much more often than another."""
    (request,) = make(SyntheticOptions(input_tokens=20_000), vocab_size=FIRST_ID + 20).requests(0, 1)
    counts = [request.token_ids.count(i) for i in range(FIRST_ID, FIRST_ID + 20)]
    assert all(abs(count - 1000) < 160 for count in counts)  # 5 standard deviations


def test_every_request_differs() -> None:
    """No two prompts are alike, nor share a beginning worth caching."""
    prompts = [r.token_ids for r in make(vocab_size=32_000).requests(0, 200)]
    assert len({p[:4] for p in prompts}) == 200


def test_seed_changes_everything() -> None:
    """Another seed gives other prompts from the first on."""
    a, b = (make(SyntheticOptions(seed=s)).requests(0, 3) for s in (1, 2))
    assert all(x.token_ids != y.token_ids for x, y in zip(a, b, strict=True))


def test_output_length_leaves_prompts_alone() -> None:
    """Varying the output varies nothing else, so that points of a study can be compared."""
    short = make(SyntheticOptions(output_tokens=8)).requests(0, 5)
    long = make(SyntheticOptions(output_tokens=Uniform(low=8, high=90))).requests(0, 5)
    assert [r.token_ids for r in short] == [r.token_ids for r in long]
    assert {r.output_tokens for r in long} != {8}


def test_longer_prompt_begins_with_the_shorter() -> None:
    """Varying the input length extends prompts instead of replacing them."""
    short, long = (make(SyntheticOptions(input_tokens=n)).requests(4, 1)[0].token_ids for n in (16, 64))
    assert long[:16] == short


def test_ids_do_not_move_between_versions() -> None:
    """Stored results refer to these prompts: the first ids for a seed are fixed for ever."""
    section = SyntheticOptions(input_tokens=Uniform(low=5, high=9), output_tokens=Uniform(low=1, high=99), seed=7)
    got = [(r.token_ids, r.output_tokens) for r in make(section, 128_256).requests(0, 2)]
    assert got == [
        ((75278, 69508, 115491, 127410, 64140, 51033), 76),
        ((95902, 42781, 117279, 100874, 54060, 124670), 54),
    ]


def test_tiny_vocabulary_is_refused() -> None:
    """A vocabulary with nothing beyond the first few ids cannot be drawn from."""
    with pytest.raises(ConfigError, match="too small"):
        make(vocab_size=FIRST_ID)


@pytest.mark.parametrize("name", ["input_tokens", "output_tokens"])
def test_lengths_are_at_least_one(name: str) -> None:
    """Zero tokens is no work and is refused in the section."""
    with pytest.raises(ValueError, match="at least 1"):
        SyntheticOptions(**{name: 0})


def test_a_salt_changes_every_prompt_and_no_length() -> None:
    """Two runs against one server share no prefix; without a salt they are the same."""
    section = SyntheticOptions(input_tokens=Uniform(low=20, high=60), output_tokens=Uniform(low=1, high=99), seed=3)
    made = {}
    for salt in ("", "a1", "b2"):
        workload = make(section)
        workload.salt = salt
        made[salt] = workload.requests(0, 20)
        assert workload.describe()["salt"] == salt
    assert made[""] == make(section).requests(0, 20)
    for one, other in (("", "a1"), ("a1", "b2")):
        pairs = list(zip(made[one], made[other], strict=True))
        assert all(a.token_ids[:8] != b.token_ids[:8] for a, b in pairs)
        assert all(len(a.token_ids) == len(b.token_ids) and a.output_tokens == b.output_tokens for a, b in pairs)


def test_ids_of_a_given_range() -> None:
    """Where the vocabulary is not known, ids are of those that the engine takes."""
    workload = make()
    workload.ids = range(1000, 1010)
    assert {token for one in workload.requests(0, 9) for token in one.token_ids} == set(range(1000, 1010))
    assert (workload.describe()["first_id"], workload.describe()["vocab_size"]) == (1000, 1010)
