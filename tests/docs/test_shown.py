"""What pages say that commands print is what they print."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

pytestmark = pytest.mark.process

REPOSITORY = Path(__file__).parents[2]
_SPEC = importlib.util.spec_from_file_location("docs_shown", REPOSITORY / "docs" / "shown.py")
assert _SPEC is not None
assert _SPEC.loader is not None
SHOWN = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(SHOWN)

PAGES = {
    str(page.relative_to(REPOSITORY)): page
    for page in (REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md")))
    if SHOWN.commands(page.read_text(encoding="utf-8"))
}
#: Need a real engine or a meter, which the environment of these tests has not: the session `demo` checks them.
BY_DEMO = {"README.md", "docs/tutorial/first-run.md", "docs/howto/compare.md", "docs/howto/sweep.md"}


@pytest.mark.parametrize("page", sorted(PAGES.keys() - BY_DEMO))
def test_output_on_page(page: str) -> None:
    """Each command of the page prints what stands below it, up to numbers and ids."""
    assert SHOWN.check(PAGES[page]) == []


def test_output_of_engines_is_checked_by_the_demo() -> None:
    """Pages whose commands need an engine show output, and the session that has one is told to check each."""
    demo = (REPOSITORY / "noxfile.py").read_text(encoding="utf-8").split("def demo(")[1]

    assert PAGES.keys() >= BY_DEMO
    assert [page for page in sorted(BY_DEMO) if f'"{page}"' not in demo.split("\ndef ")[0]] == []


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("energy   1.2 J ± 0.1   n = 1\n", "energy 340.25 mJ (0.2 to 0.5)   n = 5\n"),
        ("f498e0ca0fe5bad2 · done\n────\n", "0123456789abcdef · done\n──────────\n"),
        ("first\n…\nlast\n", "first\nanything\nat all\nlast\n"),
        ("first\n…\n", "first\n"),
        ("4  3.9  2      better\n", "4  2.3  2   \n"),
        ("all\n\n   W (cpu,\nid modelled)\n────\na  2\n", "all\n\nid  W (cpu, modelled)\n────\na  2.5\n"),
    ],
)
def test_numbers_and_ids_may_differ(shown: str, printed: str) -> None:
    """So may prefixes of units, widths, verdicts, breaks of a heading, and the lines that `…` stands for."""
    assert SHOWN.matches(shown, printed)


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("energy 1.2 J measured\n", "energy 1.2 J modelled\n"),
        ("energy 1.2 J\n", "energy 1.2 J\npower 3 W\n"),
        ("energy 1.2 J\npower 3 W\n", "energy 1.2 J\n"),
        ("energy 1.2 J\n", "energy – (no_meter)\n"),
        ("dtype=float16\n", "dtype=float32\n"),
        ("first\n…\nlast\n", "first\n"),
        ("the better one\n", "the one\n"),
        ("id  W\n────\n", "id  V\n────\n"),
    ],
)
def test_words_and_lines_may_not(shown: str, printed: str) -> None:
    """Another word, a line more or less, or a number that is missing is another output."""
    assert not SHOWN.matches(shown, printed)


def test_a_page_that_shows_something_else_is_told_with_the_command(tmp_path: Path) -> None:
    """A file that a page shows is there for its commands; another program's block is not run."""
    page = tmp_path / "page.md"
    page.write_text(
        "```yaml\n# a.yaml\nbackend: echo\n```\n"
        "```console\n$ rm -rf somewhere\n```\n"
        "```console\n$ llem config check a.yaml\nsomething else\n```\n"
    )
    [wrong] = SHOWN.check(page)

    assert "$ llem config check a.yaml" in wrong
    assert "-something else" in wrong
    assert "rm -rf" not in wrong
