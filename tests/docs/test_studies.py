"""Studies and settings that the documentation shows are what llem reads."""

from __future__ import annotations

import re
from pathlib import Path

import attrs
import pytest

from llem.analysis.prices import Prices
from llem.config.converter import structure
from llem.config.layers import Layer
from llem.config.load import resolve
from llem.config.study.axes import declared_points
from llem.config.study.file import is_study, parse_study
from llem.config.text import parse_yaml
from llem.config.user import UserConfig
from llem.plugins.registry import registry

REPOSITORY = Path(__file__).parents[2]
PAGES = [*sorted((REPOSITORY / "docs").rglob("*.md")), REPOSITORY / "README.md", *REPOSITORY.glob("llem-*/README.md")]
BLOCKS = [
    (str(page.relative_to(REPOSITORY)), number, text)
    for page in PAGES
    for number, text in enumerate(re.findall(r"^```yaml\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S))
]


@pytest.mark.parametrize(("page", "number", "text"), BLOCKS, ids=[f"{page}-{number}" for page, number, _ in BLOCKS])
def test_a_study_on_a_page_can_be_expanded(page: str, number: int, text: str) -> None:
    """Its keys are those of a study, its axes have values and do not overlap; files that it includes are not there."""
    document = parse_yaml(text, page)
    if not isinstance(document, dict) or not is_study(document):
        return
    document.pop("includes", None)

    assert declared_points(parse_study(document))


@pytest.mark.parametrize(("page", "number", "text"), BLOCKS, ids=[f"{page}-{number}" for page, number, _ in BLOCKS])
def test_settings_on_a_page_are_settings(page: str, number: int, text: str) -> None:
    """A block that is no study is one of prices, or has fields of the user configuration, or is one experiment."""
    document = parse_yaml(text, page)
    assert isinstance(document, dict)
    if is_study(document):
        return
    if document.keys() <= {field.name for field in attrs.fields(UserConfig)}:
        return
    if document.keys() <= {field.name for field in attrs.fields(Prices)}:
        structure(Prices, document, source=page)
        return
    known = registry().names("backend")
    named = document.get("backend") or next((key for key in document if key in known), "echo")
    if named not in known:
        pytest.skip(f"llem-{named} is not installed")

    resolve([Layer(page, {"backend": named, **document})], registry())
