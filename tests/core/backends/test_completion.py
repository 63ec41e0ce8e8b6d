"""What an engine says of one request: tokens, or their number alone."""

from __future__ import annotations

import pytest

from llem.backends.base import Completion, Request, prompt_tokens
from llem.backends.echo import EchoEngine, EchoOptions


def test_tokens_are_counted_by_their_ids() -> None:
    """As many as there are ids."""
    assert Completion(0, (5, 6, 7)).tokens == 3
    assert Completion(0, ()).tokens == 0


def test_an_engine_may_tell_the_number_alone() -> None:
    """There are no ids then, rather than an empty tuple of them."""
    assert Completion(0, None, token_count=4).tokens == 4


@pytest.mark.parametrize("count", [None, 2])
def test_number_and_ids_do_not_stand_together(count: int | None) -> None:
    """Two counts could disagree, and none is no answer."""
    with pytest.raises(ValueError, match="give the generated tokens, or their number"):
        Completion(0, None if count is None else (1, 2), token_count=count)


def test_an_engine_in_this_process_names_no_others() -> None:
    """The default of `pids`."""
    assert list(EchoEngine(EchoOptions()).pids()) == []


def test_a_prompt_that_nobody_counted_has_no_number() -> None:
    """Text that an engine took without telling its count; its own count goes before that of token ids."""
    text = Request(0, (), 4, text="abc")
    assert prompt_tokens(text.input_tokens, None) is None
    assert prompt_tokens(text.input_tokens, {"cached_tokens": 0.0}) is None
    assert prompt_tokens(text.input_tokens, {"prompt_tokens": 3.0}) == 3
    assert prompt_tokens(Request(0, (1, 2), 4, text="abc").input_tokens, None) == 2
