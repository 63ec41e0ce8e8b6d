"""Pages of the contract between llem and plugins: what messages cite is there, and tables are the code's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from llem.backends import forms as backends
from llem.meters import contract as meters
from llem.plugins.names import CAPABILITIES, KNOWN_PACKAGES
from llem.testing import conformance
from llem.workloads import contract as workloads

REPOSITORY = Path(__file__).parents[2]
SUITES = [getattr(conformance, name) for name in conformance.__all__]


@pytest.mark.parametrize(
    "page", sorted({backends.PAGE, meters.PAGE, workloads.PAGE, *(suite.page for suite in SUITES)})
)
def test_a_page_that_messages_cite_is_there(page: str) -> None:
    """By its path in the repository."""
    assert (REPOSITORY / page).is_file()


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.__name__)
def test_each_suite_is_named_on_its_page(suite: type) -> None:
    """An author who follows the message finds the suite."""
    assert suite.__name__ in (REPOSITORY / suite.page).read_text(encoding="utf-8")


def test_the_table_of_capabilities_is_all_there_are() -> None:
    """Names and meanings as the code has them."""
    text = (REPOSITORY / backends.PAGE).read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", text.partition("| capability |")[2].partition("##")[0], re.M))

    assert rows == CAPABILITIES


def test_the_names_of_our_packages_are_listed() -> None:
    """Authors see which names they cannot take."""
    text = " ".join((REPOSITORY / workloads.PAGE).read_text(encoding="utf-8").split())

    assert ", ".join(f"`{name}`" for name in KNOWN_PACKAGES) in text


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.__name__)
def test_each_check_of_a_suite_has_a_rule(suite: type) -> None:
    """Its docstring, which is told when it fails."""
    checks = [name for name in dir(suite) if name.startswith("test_")]

    assert [name for name in checks if not (getattr(suite, name).__doc__ or "").strip()] == []
