"""What is shown: no commands to a terminal, no formulas for a spreadsheet."""

from __future__ import annotations

import json

import pytest
import yaml

from llem.foreign.shown import cell, one_line, visible, word

HOSTILE = "a\x1b[2J\x1b]0;owned\x07\x9b31m\u202eb\u2066\ud800\r\x7fc"


def test_commands_to_a_terminal_are_escaped():
    """ESC, BEL, C1, what turns the direction of writing, halves of characters, CR and DEL; other text stays."""
    assert visible(HOSTILE) == (
        r"a\u001b[2J\u001b]0;owned\u0007\u009b31m\u202eb\u2066\ud800\u000d\u007fc"
    )  # fmt: skip
    assert visible("é\t–\n日本") == "é\t–\n日本"


def test_json_and_yaml_stay_the_same_value():
    """What is escaped is escaped as both do it."""
    text = visible(json.dumps([HOSTILE], ensure_ascii=False))

    assert json.loads(text) == [HOSTILE]
    assert yaml.safe_load(visible('"\u202e"')) == "\u202e"


def test_one_line():
    """Bounded, and in characters that UTF-8 has."""
    assert one_line("a\n\tb \ud800c", 5) == "a b ?"


def test_a_word_of_a_row():
    """Printable, without the separator of cells; a blank and a semicolon are fine."""
    assert word("a, b;\x9b\u200b\ue000\n\u00e9", 99) == "a\\u002c b;\\u009b\\u200b\\ue000 \u00e9"
    assert word("x" * 99, 3) == "xxx"
    for code in range(0x3000):
        assert "," not in word(f"a{chr(code)}b", 9)
        assert word(f"a{chr(code)}b", 9).isprintable()


@pytest.mark.parametrize("text", ["=1", "+a", "-a", "@a", "\ta", "\ra", "\na", '=HYPERLINK("x")', "-1+1"])
def test_formulas_are_guarded(text):
    """Text that a spreadsheet computes."""
    assert cell(text) == f"'{text}"


@pytest.mark.parametrize("text", ["-1", "-1.5e3", "+2", "a=1", "", "dtype=x"])
def test_numbers_and_other_text_stay(text):
    """A number is no formula."""
    assert cell(text) == text
