"""`requests_hang`: requests that were aborted at the end of their load, long after others had had theirs."""

from __future__ import annotations

import attrs
import pytest

S = 1_000_000_000


def aborted(row, silent_s, tokens):
    """The row as one that got no more than so many tokens, and was aborted so many seconds later."""
    times = row.token_times_ns[:tokens]
    end = (times[-1] if times else row.start_ns) + round(silent_s * S)
    return attrs.evolve(
        row, token_times_ns=times, chunk_tokens=(1,) * tokens, output_tokens=tokens, end_ns=end,
        finish_reason="unfinished",
    )  # fmt: skip


def study_of(make, change, which=(40,), **shape):
    """An open load of 10 requests a second, each answered after 50 ms, of which some rows are changed."""
    study = make.Served(make, **shape)
    rows = make.served_rows(*make.window(0, 10), **shape)
    study.put(0, tuple(change(row) if i in which else row for i, row in enumerate(rows)))
    return study


@pytest.mark.parametrize("tokens", [0, 1, 20, 64])
def test_a_request_that_is_silent_beside_others_hangs(make, tokens):
    """Without a token, in the middle, and after the last one; the load was smaller than it says, so it is an error."""
    study = study_of(make, lambda row: aborted(row, 10.0, tokens))
    found = study.found("requests_hang")
    assert found.severity == "error"
    assert found.evidence["hanging"] == 1
    assert found.evidence["silent_s"] == pytest.approx(10.0)
    assert found.evidence["longest_wait_s"] == pytest.approx(0.05)


def test_an_aborted_request_that_was_still_answered_does_not_hang(make):
    """Its last token came shortly before: it is long, not forgotten."""
    assert "requests_hang" not in study_of(make, lambda row: aborted(row, 0.9, 30)).codes()


def test_the_end_of_a_queue_does_not_hang(make):
    """Nobody who was sent later got a token either."""
    rows = make.served_rows(*make.window(0, 10))
    last = range(len(rows) - 5, len(rows))
    assert "requests_hang" not in study_of(make, lambda row: aborted(row, 10.0, 0), last).codes()


@pytest.mark.parametrize(("inputs", "told"), [(128 * 50, True), (128 * 80, False)])
def test_a_longer_prompt_may_take_longer(make, inputs, told):
    """Prompts of 128 tokens wait 50 ms: one of 50 times as many may wait 7.5 s, one of 80 times as many 12 s."""
    study = study_of(make, lambda row: attrs.evolve(aborted(row, 10.0, 0), input_tokens=inputs))
    assert ("requests_hang" in study.codes()) == told


@pytest.mark.parametrize(("tokens", "told"), [(0, False), (1, True)])
def test_a_prompt_of_unknown_length_may_take_any_time(make, tokens, told):
    """It went out as text, and its request was aborted before the server told of its tokens. Once it had been read, a
    silence is one."""
    study = study_of(make, lambda row: attrs.evolve(aborted(row, 20.0, tokens), input_tokens=None))
    assert ("requests_hang" in study.codes()) == told


def test_where_nobody_is_answered_nothing_says_what_is_long(make):
    """`no_completions` tells of it."""
    rows = make.served_rows(*make.window(0, 10))
    study = study_of(make, lambda row: aborted(row, 10.0, 0), range(len(rows)))
    assert "requests_hang" not in study.codes()
    assert "no_completions" in study.codes()
