"""A load to serve as a user writes it: a rate, or a trace of rates; and what is wrong with either."""

from __future__ import annotations

import pytest

from llem.analysis.demand import DAY_S, parse_rates, read_load
from llem.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("50/s", 50.0),
        ("1200/min", 20.0),
        ("90000/h", 25.0),
        ("864000/day", 10.0),
        ("0.5 requests/s", 0.5),
        ("1e3/s", 1000.0),
    ],
)
def test_rates(text, rate):
    """All in requests per second; one piece of a day."""
    found = read_load(text)

    assert found.pieces == ((DAY_S, pytest.approx(rate)),)
    assert (found.peak, found.mean, found.period_s) == (pytest.approx(rate), pytest.approx(rate), DAY_S)
    assert found.text == text


@pytest.mark.parametrize("text", ["fast", "nan/s", "", "there is no such file.csv"])
def test_what_is_neither_a_rate_nor_a_file(text):
    with pytest.raises(ConfigError, match="neither a rate nor a file") as caught:
        read_load(text)

    assert "50/s" in caught.value.hint


@pytest.mark.parametrize("text", ["50", "50/week", "-5/s", "0/s", "1.2.3/s", "1e999/s"])
def test_rates_that_are_none(text):
    with pytest.raises(ConfigError):
        read_load(text)


def test_a_trace(tmp_path):
    """Each row holds until the next one; the last as long as the one before it."""
    path = tmp_path / "day.csv"
    path.write_text("requests_per_s,seconds\n2,0\n8,3600\n\n0,10800\n")
    found = read_load(str(path))

    assert found.pieces == ((3600.0, 2.0), (7200.0, 8.0), (7200.0, 0.0))
    assert (found.peak, found.period_s) == (8.0, 18_000.0)
    assert found.mean == pytest.approx((3600 * 2 + 7200 * 8) / 18_000)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "the header is ''"),
        ("time,rate\n0,1\n1,1\n", "the header is 'time,rate'"),
        ("seconds,requests_per_s\n0,1\n", "1 rows below the header"),
        ("seconds,requests_per_s\n0,1\n60,x\n", "row 3, column requests_per_s: 'x'"),
        ("seconds,requests_per_s\n0,1\n60,-2\n", "row 3, column requests_per_s: '-2'"),
        ("seconds,requests_per_s\n0,1\n60\n", "row 3, column requests_per_s: ''"),
        ("seconds,requests_per_s\n0,1\nnan,2\n", "row 3, column seconds: 'nan'"),
        ("seconds,requests_per_s\n0,1\n\n60,2\n60,3\n", "row 5: seconds must be above"),
        ("seconds,requests_per_s\n0,0\n60,0\n", "every rate is 0"),
    ],
)
def test_traces_that_are_wrong(content, message):
    """File, row and column."""
    with pytest.raises(ConfigError, match=r"day\.csv: ") as caught:
        parse_rates("day.csv", content)

    assert message in caught.value.message
    assert caught.value.hint


def test_a_file_that_is_no_text(tmp_path):
    path = tmp_path / "day.csv"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_load(str(path))
