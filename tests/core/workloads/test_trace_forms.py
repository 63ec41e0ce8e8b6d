"""Traces as they are published, and the units of their times: said by the format, the column or the user."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from llem.config.arrival import ClosedLoad, ReplayLoad
from llem.config.models import Sampling
from llem.errors import ConfigError
from llem.workloads.synthetic import SyntheticOptions, SyntheticWorkload
from llem.workloads.trace import TraceOptions, TraceWorkload
from llem.workloads.trace_file import unit_in

#: The first rows of Mooncake's trace of conversations.
MOONCAKE = [
    {"timestamp": 0, "input_length": 6755, "output_length": 500, "hash_ids": list(range(14))},
    {"timestamp": 0, "input_length": 7319, "output_length": 490, "hash_ids": [0, *range(14, 28)]},
    {"timestamp": 3052, "input_length": 7234, "output_length": 794, "hash_ids": [0, *range(28, 42)]},
    {"timestamp": 3052, "input_length": 2287, "output_length": 316, "hash_ids": [0, 42, 43, 44, 45]},
]
MINE = "at,input_tokens,output_tokens\n0,1,1\n250,1,1\n500,1,1\n"


@pytest.fixture
def make(tmp_path: Path):
    """Write a trace and open it."""

    def write(name: str, text: str | bytes | list[Any], **options: Any) -> TraceWorkload:
        if isinstance(text, list):
            text = "\n".join(map(json.dumps, text))
        path = tmp_path / name
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return TraceWorkload(TraceOptions(path=str(path), **options), None, 512)

    return write


def test_mooncake(make) -> None:
    """Milliseconds, by its definition; lengths and hashes as they are."""
    workload = make("m.jsonl", MOONCAKE)
    assert workload.timetable().offsets_s == (0.0, 0.0, 3.052, 3.052)
    assert [(len(one.token_ids), one.output_tokens) for one in workload.requests(0, 5)] == [
        (6755, 500), (7319, 490), (7234, 794), (2287, 316), (6755, 500),
    ]  # fmt: skip
    assert workload.describe()["format"] == "mooncake"
    assert workload.describe()["shared_prefixes"] is True


def _shared(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    """How many ids two prompts have alike from the start."""
    alike = 0
    for first, second in zip(one, other, strict=False):
        if first != second:
            break
        alike += 1
    return alike


def test_prompts_with_the_same_hashes_begin_alike(make) -> None:
    """By blocks of 512, the last of which may be a part; another pass, seed or salt has other ids."""
    rows = [
        {"timestamp": 0, "input_length": 1100, "output_length": 1, "hash_ids": [1, 2, 3]},
        {"timestamp": 1, "input_length": 1500, "output_length": 1, "hash_ids": [1, 2, 4]},
        {"timestamp": 2, "input_length": 1060, "output_length": 1, "hash_ids": [1, 2, 3]},
        {"timestamp": 3, "input_length": 600, "output_length": 1, "hash_ids": [5, 6]},
    ]
    workload = make("m.jsonl", rows)
    first, second, third, fourth, again = (one.token_ids for one in workload.requests(0, 5))
    assert 1024 <= _shared(first, second) < 1030
    assert _shared(first, third) == 1060
    assert _shared(first, fourth) < 5 > _shared(first, again)
    cut = make("m.jsonl", rows, max_input_tokens=700).requests(0, 1)[0].token_ids
    assert cut == first[:700]
    other = make("m.jsonl", rows, seed=1)
    assert _shared(first, other.requests(0, 1)[0].token_ids) < 5
    workload.salt = "x"
    assert _shared(first, workload.requests(0, 1)[0].token_ids) < 5
    assert workload.distinct is None


def test_blocks_of_another_size(make) -> None:
    """Hashes that do not fit blocks of 512 are refused; the size is a setting, and has no effect without hashes."""
    rows = [{"timestamp": 0, "input_length": 40, "output_length": 1, "hash_ids": [1, 2, 3]}]
    with pytest.raises(ConfigError, match="has 3 hashes, and a prompt of 40 tokens has 1 blocks of 512"):
        make("m.jsonl", rows)
    assert len(make("m.jsonl", rows, block_tokens=16).requests(0, 1)[0].token_ids) == 40
    with pytest.raises(ConfigError, match="`block_tokens` has no effect without hash_ids"):
        make("t.csv", MINE, block_tokens=16)


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ("timestamp,input_length,output_length\n0,6755,500\n3052,2287,316\n", "column 'timestamp' has numbers"),
        ("timestamp,input_tokens,output_tokens\n0,1,1\n3.5,1,1\n", "column 'timestamp' has numbers"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n0,1,1\n3.5,1,1\n", "column 'TIMESTAMP' has numbers"),
        ("Timestamp,input_tokens,output_tokens\n0,1,1\n3.5,1,1\n", "column 'Timestamp' has numbers"),
        ("time,input_tokens,output_tokens\n0,1,1\n3.5,1,1\n", "column 'time' has numbers"),
    ],
)
def test_a_unit_that_nothing_says_is_asked_for(make, rows: str, told: str) -> None:
    """Mooncake's milliseconds as a CSV are not taken for seconds: a gap of 3 s would be one of 51 minutes."""
    workload = make("t.csv", rows)
    with pytest.raises(ConfigError) as caught:
        TraceWorkload.check(workload.options, ReplayLoad())
    assert told in caught.value.message
    assert "set `workload.arrival_unit` to s, ms, us or ns" in caught.value.hint
    TraceWorkload.check(workload.options, ClosedLoad())


def test_fields_beside_mooncakes_are_no_mooncake(make) -> None:
    """Others write the same fields and more, with times in seconds: their unit is asked for."""
    rows = [{**row, "chat_id": 1} for row in MOONCAKE]
    with pytest.raises(ConfigError, match="nothing says in which unit"):
        make("m.jsonl", rows).timetable()
    assert make("m.jsonl", rows, arrival_unit="s").timetable().offsets_s[-1] == 3052.0
    plain = [{key: value for key, value in row.items() if key != "hash_ids"} for row in MOONCAKE]
    with pytest.raises(ConfigError, match="nothing says in which unit"):
        make("m.jsonl", plain).timetable()


@pytest.mark.parametrize(
    "column",
    ["timestamp_millis", "arrival_secs", "time_usec", "timestampMs", "arrival_second", "Arrival (s)", "TIME_NS"],
)
def test_a_column_of_times_is_found_with_every_unit_that_is_read(make, column: str) -> None:
    """One list says which words are units."""
    workload = make("t.csv", f"{column},input_tokens,output_tokens\n0,1,1\n3,1,1\n")
    assert workload.timetable().offsets_s[-1] > 0


@pytest.mark.parametrize(
    ("column", "unit"),
    [
        ("timestamp_ms", "ms"),
        ("arrival_s", "s"),
        ("time (ms)", "ms"),
        ("Arrival [us]", "us"),
        ("arrival_time_ns", "ns"),
        ("startMs", "ms"),
        ("time_in_seconds", "s"),
        ("timestamp", None),
        ("TIMESTAMP", None),
        ("ms", None),
        ("requests", None),
        ("timestamps", None),
    ],
)
def test_units_in_names(column: str, unit: str | None) -> None:
    """The last word of a name that has several."""
    assert unit_in(column) == unit


@pytest.mark.parametrize(
    ("unit", "last"), [("s", 500.0), ("ms", 0.5), ("us", 0.0005), ("ns", 5e-7)], ids=["s", "ms", "us", "ns"]
)
def test_units_that_are_said(make, unit: str, last: float) -> None:
    """By the setting or by the column's name, in a CSV and in rows of JSON."""
    named = MINE.replace("at,", f"timestamp_{unit},", 1)
    rows = [{f"timestamp_{unit}": at, "input_length": 1, "output_length": 1} for at in (0, 250, 500)]
    for workload in (
        make("t.csv", MINE, arrival_column="at", arrival_unit=unit),
        make("t.csv", named),
        make("t.csv", named, arrival_unit=unit),
        make("t.jsonl", rows),
        make("t.json", json.dumps(rows)),
        make("t.csv.gz", gzip.compress(named.encode())),
    ):
        assert workload.timetable().offsets_s == pytest.approx((0.0, last / 2, last))


def test_units_that_contradict(make) -> None:
    """Refused: a name that says otherwise, and a unit of dates."""
    with pytest.raises(ConfigError, match="says ms, and `arrival_unit` says s"):
        make("t.csv", MINE.replace("at,", "at_ms,"), arrival_column="at_ms", arrival_unit="s").timetable()
    dates = (
        "timestamp,input_tokens,output_tokens\n2024-05-10 00:00:00.009930+00:00,1,1\n2024-05-10 00:00:01+00:00,1,1\n"
    )
    assert make("t.csv", dates).timetable().offsets_s == pytest.approx((0.0, 0.99007))
    with pytest.raises(ConfigError, match="has dates, which have no unit"):
        make("t.csv", dates, arrival_unit="s").timetable()


def test_times_since_1970_in_nanoseconds_keep_their_gaps(make) -> None:
    """As floats they would be off by up to 128 ns each."""
    start = 1_700_000_000_000_000_000
    rows = [{"timestamp_ns": start + at, "input_length": 1, "output_length": 1} for at in (0, 7, 1001)]
    assert make("t.jsonl", rows).timetable().offsets_s == pytest.approx((0.0, 7e-9, 1.001e-6), rel=1e-9)


@pytest.mark.parametrize(
    ("name", "form", "last"), [("mooncake.jsonl", "mooncake", 0.78), ("burstgpt.csv", "burstgpt", 0.78),
                               ("azure.csv", "azure", 0.78)],
)  # fmt: skip
def test_each_shape_is_read(make, shapes, name: str, form: str, last: float) -> None:
    """40 requests, 20 ms apart, whatever their form."""
    workload = make(name, shapes[name](), skip_empty=True)
    assert workload.describe()["format"] == form
    assert workload.timetable().offsets_s[-1] == pytest.approx(last, abs=0.03)


def test_a_unit_that_no_load_reads_is_refused(make) -> None:
    """As the column is."""
    workload = make("t.csv", MINE.replace("at,", "timestamp,"), arrival_unit="s")
    with pytest.raises(ConfigError) as caught:
        TraceWorkload.check(workload.options, ClosedLoad())
    assert caught.value.problems[0].path == "workload.arrival_unit"


def test_rows_that_are_too_long(make) -> None:
    """Told by row, or left out with their times; what is left keeps its own."""
    text = "at_s,input_tokens,output_tokens\n0,10,5\n1,90,5\n3,10,90\n4,20,5\n"
    with pytest.raises(ConfigError) as caught:
        make("t.csv", text).prepare(Sampling(), 94)
    assert caught.value.message == (
        "t.csv: row 3: 90 tokens of the prompt and 5 to generate are more than the 94 that the engine takes; "
        "2 of 4 rows are too long"
    )
    workload = make("t.csv", text, too_long="skip", arrival_column="at_s")
    [found] = workload.prepare(Sampling(), 94)
    assert found.message == "2 of 4 prompts are too long for the engine and left out: t.csv: row 3, t.csv: row 4"
    assert [len(one.token_ids) for one in workload.requests(0, 3)] == [10, 20, 10]
    assert workload.timetable().offsets_s == (0.0, 4.0)
    assert (workload.describe()["rows"], workload.describe()["too_long"]) == (2, 2)
    assert make("t.csv", text, max_input_tokens=80, max_output_tokens=5).prepare(Sampling(), 94) == ()


def test_synthetic_lengths_that_are_too_long() -> None:
    """The longest of both, as such a draw will come."""
    workload = SyntheticWorkload(SyntheticOptions(input_tokens=90, output_tokens=10), None, 512)
    assert workload.prepare(Sampling(), 100) == workload.prepare(Sampling(), None) == ()
    with pytest.raises(ConfigError, match="the workload: 90 tokens of the prompt and 10 to generate"):
        workload.prepare(Sampling(), 99)
