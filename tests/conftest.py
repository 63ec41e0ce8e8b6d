"""Fixtures of several packages' tests."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from llem.backends.base import Request


@pytest.fixture
def requests_of() -> Callable[..., list[Request]]:
    """Requests from (prompt length, output tokens) pairs; prompts differ from each other."""

    def make(*sizes: tuple[int, int]) -> list[Request]:
        return [
            Request(index, tuple((7 + 31 * index + 13 * place) % 500 + 5 for place in range(length)), output)
            for index, (length, output) in enumerate(sizes)
        ]

    return make
