"""Configurations in few words."""

from __future__ import annotations

import pytest

from llem.reports.configurations import load_text


@pytest.mark.parametrize(("clients", "words"), [(1, "1 client"), (16, "16 clients")])
def test_clients_are_counted(clients: int, words: str) -> None:
    """One is no more than one."""
    assert load_text({"kind": "closed", "concurrency": clients}) == words
