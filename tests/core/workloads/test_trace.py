"""Length traces: columns, published formats, order, clipping, arrivals, and errors with row and column."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llem.config.arrival import ClosedLoad, OfflineLoad, OpenLoad, ReplayLoad
from llem.config.converter import structure
from llem.config.identity import experiment_id, file_settings
from llem.config.models import Experiment
from llem.errors import ConfigError
from llem.models.resolve import resolve_model
from llem.plugins.registry import registry
from llem.workloads.synthetic import FIRST_ID, SyntheticOptions, SyntheticWorkload
from llem.workloads.trace import TraceOptions, TraceWorkload

OWN = "input_tokens,output_tokens\n10,3\n20,5\n30,1\n"
AZURE = (
    "TIMESTAMP,ContextTokens,GeneratedTokens\n"
    "2023-11-16 18:15:46.6805900,374,44\n"
    "2023-11-16 18:15:50.6805900,396,109\n"
    "2023-11-16 18:15:52.1805900,879,55\n"
)
BURST = (
    "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
    "5,ChatGPT,472,18,490,Conversation log\n"
    "45.5,GPT-4,1087,0,1087,API log\n"
    "118,ChatGPT,417,276,693,Conversation log\n"
)


@pytest.fixture
def make(tmp_path: Path):
    """Write a trace and open it."""

    def write(text: str | bytes, vocab_size: int = 512, **options: Any) -> TraceWorkload:
        path = tmp_path / "trace.csv"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return TraceWorkload(TraceOptions(path=str(path), **options), None, vocab_size)

    return write


def lengths(workload: TraceWorkload, start: int, count: int) -> list[tuple[int, int]]:
    return [(len(each.token_ids), each.output_tokens) for each in workload.requests(start, count)]


def test_lengths_in_the_order_of_rows(make) -> None:
    """Requests have the trace's lengths, and after the last row comes the first; indices go on."""
    workload = make(OWN)
    assert lengths(workload, 0, 3) == [(10, 3), (20, 5), (30, 1)]
    assert lengths(workload, 2, 3) == [(30, 1), (10, 3), (20, 5)]
    assert [each.index for each in workload.requests(2, 3)] == [2, 3, 4]


@pytest.mark.parametrize(
    ("text", "options", "first", "offsets"),
    [
        (AZURE, {}, (374, 44), (0.0, 4.0, 5.5)),
        (BURST, {"skip_empty": True}, (472, 18), (0.0, 113.0)),
        ("timestamp_s,input_tokens,output_tokens\n1.5,7,8\n1.5,7,8\n3,7,8\n", {}, (7, 8), (0.0, 0.0, 1.5)),
        (
            "b;x,a,when\n8,7,100\n9,7,101\n",
            {"input_column": "a", "output_column": "b;x", "arrival_column": "when", "arrival_unit": "s"},
            (7, 8),
            (0.0, 1.0),
        ),
    ],
    ids=["azure", "burstgpt", "own", "named"],
)
def test_published_and_named_columns(make, text, options, first, offsets) -> None:
    """Columns are known by the names that published traces have, or named; arrivals count from the first request."""
    workload = make(text, **options)
    assert lengths(workload, 0, 1) == [first]
    assert workload.timetable().offsets_s == pytest.approx(offsets)


def test_clocks_that_change(make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dates without a zone are read alike on every machine, also in the night in which its clocks change."""
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        text = "timestamp,input_tokens,output_tokens\n2023-03-26 01:30:00,1,1\n2023-03-26 03:30:00,1,1\n"
        assert make(text).timetable().offsets_s == (0.0, 7200.0)
    finally:
        monkeypatch.undo()
        time.tzset()


def test_rows_without_tokens_are_counted(make) -> None:
    """Rows that were left out are recorded, and neither their lengths nor their times are used."""
    workload = make(BURST, skip_empty=True)
    assert workload.describe()["skipped_rows"] == 1
    assert lengths(workload, 0, 3) == [(472, 18), (417, 276), (472, 18)]


def test_arrivals_go_on(make) -> None:
    """Passes follow each other by the mean gap, so that arrivals ascend without an end."""
    times = make(AZURE).timetable()
    assert [times.time_s(index) for index in range(7)] == pytest.approx([0, 4, 5.5, 8.25, 12.25, 13.75, 16.5])


@given(seed=st.integers(), start=st.integers(0, 50), count=st.integers(0, 6))
def test_random_access(tmp_path_factory: pytest.TempPathFactory, seed: int, start: int, count: int) -> None:
    """A stretch of the sequence is the same however it is asked for; ids stay inside the vocabulary."""
    path = tmp_path_factory.getbasetemp() / "random-access.csv"
    path.write_text(OWN)
    options = TraceOptions(path=str(path), seed=seed)
    some = TraceWorkload(options, None, 300).requests(start, count)
    assert some == TraceWorkload(options, None, 300).requests(0, start + count)[start:]
    assert all(FIRST_ID <= token < 300 for each in some for token in each.token_ids)


def test_no_two_requests_are_alike(make) -> None:
    """Ids differ from pass to pass and with the seed, so that no prefix cache can help."""
    first, again = make(OWN).requests(0, 4)[0], make(OWN).requests(0, 4)[3]
    assert len(first.token_ids) == len(again.token_ids)
    assert first.token_ids != again.token_ids
    assert make(OWN, seed=1).requests(0, 1)[0].token_ids != first.token_ids


def test_clipping_is_recorded(make) -> None:
    """Lengths above a limit become the limit; the record says how many did, and what the trace was."""
    workload = make(OWN, max_input_tokens=20, max_output_tokens=2)
    assert lengths(workload, 0, 3) == [(10, 2), (20, 2), (20, 1)]
    told = workload.describe()
    assert (told["clipped_inputs"], told["clipped_outputs"]) == (1, 2)
    assert (told["rows"], told["skipped_rows"], told["file"]) == (3, 0, "trace.csv")
    assert told["sha256"] == hashlib.sha256(OWN.encode()).hexdigest()
    assert told["mean_input_tokens"] == pytest.approx(50 / 3)
    assert told["columns"] == {"input": "input_tokens", "output": "output_tokens", "arrival": None}


def test_clipped_prompt_begins_the_whole_one(make) -> None:
    """A limit cuts the end off a prompt and changes nothing else."""
    whole, cut = make(OWN).requests(2, 1)[0], make(OWN, max_input_tokens=4).requests(2, 1)[0]
    assert whole.token_ids[:4] == cut.token_ids


@pytest.mark.parametrize(
    "text",
    [
        "\ufeffinput_tokens,output_tokens\r\n10,3\r\n",
        "input_tokens , output_tokens\n\n 10 , 3.0\n",
        'note,input_tokens,output_tokens\n"a, b\nc",10,3\n',
    ],
    ids=["bom-crlf", "spaces", "quoted"],
)
def test_forms_of_csv(make, text) -> None:
    """Byte order marks, line ends, blank rows, spaces and quoted cells are as programs write them."""
    assert lengths(make(text), 0, 1) == [(10, 3)]


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        ("", {}, "trace.csv: is empty"),
        ("\n \n", {}, "trace.csv: is empty"),
        (
            "a,b\n1,2\n",
            {},
            "no column named one of input_tokens, ContextTokens, Request tokens, input_length; columns here: a, b",
        ),
        (OWN, {"input_column": "input_token"}, "did you mean 'input_tokens'"),
        ("input_tokens;output_tokens\n1;2\n", {}, "separated by commas"),
        ("input_tokens,n\n1,2\n", {}, "name it with `output_column`"),
        (OWN, {"arrival_column": "when"}, "no column 'when'"),
        ("input_tokens,output_tokens\n", {}, "no requests"),
        (OWN + "x,3\n", {}, "row 5, column 'input_tokens': must be a whole number of tokens, got 'x'"),
        (OWN + "4,-3\n", {}, "row 5, column 'output_tokens': must be a whole number of tokens, got '-3'"),
        (OWN + "4,3.5\n", {}, "row 5, column 'output_tokens'"),
        (OWN + "4,10000001\n", {}, "row 5, column 'output_tokens': is 10000001 tokens, more than any model takes"),
        (OWN + "9" * 5000 + ",3\n", {}, "row 5, column 'input_tokens': is 99999999999999999999… tokens"),
        (OWN + "4\n", {}, "row 5, column 'output_tokens': is empty"),
        (OWN + "\n,4\n", {}, "row 6, column 'input_tokens': is empty"),
        (BURST, {}, "row 3, column 'Response tokens': is 0"),
        ("input_tokens,output_tokens,input_tokens\n1,2,3\n", {}, "2 columns 'input_tokens'"),
        (OWN.encode() + b"\xff,1\n", {}, "not UTF-8"),
        (OWN + '"4,1\n', {}, "not a CSV"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(make, text, options, words) -> None:
    """An error names the file, the row and the column, what is wrong there, and what would be right."""
    with pytest.raises(ConfigError) as caught:
        make(text, **options)
    assert words in str(caught.value)
    assert "trace.csv" in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (OWN, "no column of arrival times"),
        ("timestamp,input_tokens,output_tokens\nnoon,1,1\n", "row 2, column 'timestamp': must be a number or a date"),
        ("timestamp,input_tokens,output_tokens\nnan,1,1\n", "row 2, column 'timestamp': must be a finite number"),
        ("timestamp_s,input_tokens,output_tokens\n2,1,1\n3,1,1\n1,1,1\n", "row 4, column 'timestamp_s': is before"),
        ("timestamp_s,input_tokens,output_tokens\n2,1,1\n", "one request has no gap to the next"),
        ("timestamp_s,input_tokens,output_tokens\n2,1,1\n2,1,1\n", "all 2 arrive at once"),
        (
            "timestamp,input_tokens,output_tokens\n0,1,1\n2023-11-16 18:15:46,1,1\n",
            "row 3, column 'timestamp': is a date, and the row above has a number",
        ),
        (
            "timestamp,input_tokens,output_tokens\n2023-11-16 18:15,1,1\n2023-11-16 18:16,1,1\n9,1,1\n",
            "row 4, column 'timestamp': is a number, and the row above has a date",
        ),
    ],
)
def test_wrong_arrivals_are_told_when_they_are_asked_for(make, text, words) -> None:
    """Lengths can be used whatever the times are; a replay is refused, before anything is loaded and after."""
    workload = make(text)
    assert len(workload.requests(0, 1)) == 1
    TraceWorkload.check(workload.options, ClosedLoad())
    for ask in (workload.timetable, lambda: TraceWorkload.check(workload.options, ReplayLoad())):
        with pytest.raises(ConfigError) as caught:
            ask()
        assert words in str(caught.value)
        assert "trace.csv" in caught.value.message


@pytest.mark.parametrize("load", [OfflineLoad(), ClosedLoad(), OpenLoad(request_rate=1.0)])
def test_a_column_that_no_load_reads_is_refused(make, load) -> None:
    """Naming the setting and what would use it; unnamed, the column may be there or not."""
    text = "when_s,input_tokens,output_tokens\n2,1,1\n3,1,1\n"
    TraceWorkload.check(make(text).options, load)
    options = make(text, arrival_column="when_s").options
    TraceWorkload.check(options, ReplayLoad())
    with pytest.raises(ConfigError) as caught:
        TraceWorkload.check(options, load)
    [problem] = caught.value.problems
    assert str(problem) == (
        f"workload.arrival_column: has no effect with a load of kind {load.kind!r} "
        "(remove it, or set `load: {kind: replay}`)"
    )


def test_other_workloads_have_nothing_to_replay() -> None:
    """Refused at `load.kind`; their other loads are not asked about."""
    SyntheticWorkload.check(SyntheticOptions(), OpenLoad(request_rate=1.0))
    with pytest.raises(ConfigError) as caught:
        SyntheticWorkload.check(SyntheticOptions(), ReplayLoad())
    [problem] = caught.value.problems
    assert problem.path == "load.kind"
    assert problem.message == "is 'replay', and requests of the workload 'synthetic' have no arrival times"


def test_missing_file(tmp_path: Path) -> None:
    """A file that is not there is told by the name the user gave."""
    with pytest.raises(ConfigError, match=r"trace '.*nowhere\.csv' cannot be read"):
        TraceWorkload(TraceOptions(path=str(tmp_path / "nowhere.csv")), None, 512)


def test_vocabulary_of_special_ids(make) -> None:
    """A vocabulary without ordinary ids is refused."""
    with pytest.raises(ConfigError, match="too small"):
        make(OWN, vocab_size=FIRST_ID)


def test_content_is_part_of_the_identity(tmp_path: Path) -> None:
    """The trace's content, not its name, names an experiment."""
    model = resolve_model("shape:tiny")

    def identity(name: str, digest: str) -> str:
        experiment = Experiment(backend="echo", workload=TraceOptions(path=name))
        assert file_settings(experiment, lambda _: False) == {"workload.path": name}
        return experiment_id(experiment, model, {"workload.path": digest})

    assert identity("a.csv", "one") == identity("b.csv", "one") != identity("a.csv", "two")


def test_it_is_found_by_its_kind() -> None:
    """`kind: trace` is built in, and its section is typed."""
    reference = registry().reference("workload", "trace")
    assert reference.load() is TraceWorkload
    section = structure(reference.load_config(), {"kind": "trace", "path": "t.csv", "max_input_tokens": 9})
    assert section == TraceOptions(path="t.csv", max_input_tokens=9)
    with pytest.raises(ConfigError, match="max_output_tokens"):
        structure(TraceOptions, {"path": "t.csv", "max_output_tokens": 0})
