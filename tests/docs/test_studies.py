"""Studies that the documentation shows can be read and expanded to points."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from llem.config.study import is_study, parse_study
from llem.config.text import parse_yaml
from llem.study.axes import declared_points

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
