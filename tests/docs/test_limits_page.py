"""The page of limits: every line of its examples is read, or refused with the words that stand beside it."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from llem.analysis.amounts import UNITS
from llem.analysis.limits import parse_memory, parse_power, parse_quality, parse_rate, parse_slo
from llem.errors import ConfigError

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "limits.md").read_text(encoding="utf-8")
LINES = [line for block in re.findall(r"^```text\n(.*?)^```", PAGE, re.M | re.S) for line in block.splitlines()]
READ = {
    "--slo": parse_slo,
    "--quality": parse_quality,
    "--memory": parse_memory,
    "--power": parse_power,
    "--load": parse_rate,
}


@pytest.mark.parametrize("line", LINES)
def test_an_example_is_read_or_refused(line: str) -> None:
    """As a shell passes it on."""
    command, _, words = line.partition("  #")
    option, text = shlex.split(command)
    if not words:
        assert READ[option](text)
        return
    with pytest.raises(ConfigError) as raised:
        READ[option](text)

    assert words.strip() in str(raised.value)


@pytest.mark.parametrize("text", re.findall(r"^\| ((?:`[^`]+`(?:, )?)+) \| (?:is|of which) ", PAGE, re.M))
def test_the_table_of_scores_is_read(text: str) -> None:
    """Spellings beside each other mean the same."""
    found = [parse_quality(one) for one in re.findall(r"`([^`]+)`", text)]

    assert len({(limit.metric, limit.upper, limit.bound, limit.against) for [limit] in found}) == 1


def test_there_are_examples_of_every_option() -> None:
    """And some that are refused."""
    assert {line.split()[0] for line in LINES} == set(READ)
    assert len([line for line in LINES if "  #" in line]) > 10
    assert len(re.findall(r"^\| (?:`[^`]+`(?:, )?)+ \| (?:is|of which) ", PAGE, re.M)) == 5


@pytest.mark.parametrize(
    ("row", "unit"), [("time", "s"), ("energy", "J"), ("power", "W"), ("memory", "B"), ("shares", "")]
)
def test_the_table_of_units_is_that_of_the_code(row: str, unit: str) -> None:
    """Each unit once; the two signs for micro look alike."""
    [cells] = re.findall(rf"^\| {row} \| (.*) \|$", PAGE, re.M)

    assert set(re.findall(r"`([^`]+)`", cells)) == {name for name in UNITS[unit] if "μ" not in name}
