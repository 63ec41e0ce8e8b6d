"""Models to JSON and back: exactly, and nothing that is not what was written."""

from __future__ import annotations

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llem.errors import StoreError
from llem.findings import Finding
from llem.meters.trace import TraceRow
from llem.store.convert import dump, load
from llem.store.files import canonical, digest, parse, parse_at, to_text
from llem.store.models import EnergyReading, ErrorBudget, Quantity, RequestRow
from llem.store.tables import read_requests, read_trace, requests_bytes, trace_bytes

finite = st.floats(allow_nan=False, allow_infinity=False)
whole = st.integers(min_value=0, max_value=2**62)
names = st.text(alphabet="abcxyz:-_0123456789", min_size=1, max_size=12)
budgets = st.builds(ErrorBudget, finite, finite, finite, st.none() | finite)
readings = st.builds(
    EnergyReading,
    names,
    names,
    st.sampled_from(["gpu", "cpu"]),
    st.sampled_from(["measured", "modelled"]),
    st.text(max_size=20),
    st.none() | finite,
    st.none() | budgets,
    st.none() | finite,
    st.none() | whole,
    st.none() | finite,
    st.none() | names,
)
trace_rows = st.builds(TraceRow, names, names, st.sampled_from(["counter_j", "power_w"]), whole, whole, finite)
wholes = st.none() | st.lists(whole, max_size=5).map(tuple)
request_rows = st.builds(
    RequestRow, whole, whole, st.none() | whole, whole, whole, whole, wholes,
    scheduled_ns=st.none() | whole,
    chunk_tokens=wholes,
    finish_reason=st.none() | st.sampled_from(["length", "stop", "error"]),
    engine_metrics=st.none() | st.dictionaries(names, finite, max_size=3),
)  # fmt: skip


@given(readings)
def test_readings_round_trip(reading):
    """Every reading comes back equal, floats to the bit, None as None."""
    assert load(parse(to_text(dump(reading))), EnergyReading, "file") == reading


@given(st.lists(trace_rows, max_size=20).map(tuple))
def test_traces_round_trip(tmp_path_factory, rows):
    """A stored trace is the trace, and equal traces are equal bytes."""
    path = tmp_path_factory.mktemp("t") / "trace.csv.gz"
    path.write_bytes(trace_bytes(rows))
    assert read_trace(path) == rows
    assert trace_bytes(read_trace(path)) == path.read_bytes()


@given(st.lists(request_rows, max_size=20).map(tuple))
def test_requests_round_trip(tmp_path_factory, rows):
    """Stored requests are the requests; no token times and an empty list of them stay different."""
    path = tmp_path_factory.mktemp("r") / "requests.csv.gz"
    path.write_bytes(requests_bytes(rows))
    assert read_requests(path) == rows


@pytest.mark.parametrize(
    "bad",
    [
        {"finish_reason": "a,b"},
        {"finish_reason": ""},
        {"engine_metrics": {"a=b": 1.0}},
        {"engine_metrics": {"a;b": 1.0}},
        {"engine_metrics": {"a": float("nan")}},
    ],
)
def test_requests_that_cannot_be_stored(bad):
    """A separator in a word is refused when it is written, not met when it is read."""
    with pytest.raises(ValueError, match="cannot be stored"):
        requests_bytes([attrs.evolve(RequestRow(0, 0, 1, 1, 0, 1), **bad)])


def test_bytes_do_not_carry_the_time():
    """The compressed file holds no time stamp, so that a store can be made again byte for byte."""
    assert trace_bytes(())[4:8] == b"\0\0\0\0"


def test_trial_round_trips(store):
    """A whole trial, with its findings and nested readings, survives the file."""
    trial = store.trials("exp-one")[0]
    changed = attrs.evolve(trial, findings=(Finding("throttled", "error", "hot", {"gpu": "x", "seen": [1, 2.5]}),))
    assert load(parse(to_text(dump(changed))), type(trial), "file") == changed


@pytest.mark.parametrize(
    "change",
    [
        {"value": "1.0"},
        {"n": 2.9},
        {"n": True},
        {"unit": None},
        {"surprise": 1},
        {"value": [1]},
    ],
)
def test_nothing_is_coerced(change):
    """A wrong type or an unknown key is an error that names the file, not a converted value."""
    with pytest.raises(StoreError, match=r"x\.json: not a quantity") as caught:
        load({**dump(Quantity(1.0, "J")), **change}, Quantity, "x.json")
    assert caught.value.code == "store_corrupt"


def test_nan_is_not_json():
    """NaN and infinity are refused in both directions."""
    with pytest.raises(ValueError, match="not JSON compliant"):
        to_text({"a": float("nan")})
    with pytest.raises(ValueError, match="Infinity"):
        parse('{"a": Infinity}')


def test_digest_ignores_order_and_spacing():
    """The digest is of the content, not of its layout; a changed last digit changes it."""
    assert digest({"a": 1, "b": 2.5}) == digest(parse('{"b":2.5,\n "a":1}'))
    assert digest({"a": 0.1}) != digest({"a": 0.10000000000000002})
    assert canonical({"b": "é", "a": None}) == '{"a":null,"b":"é"}'.encode()


@pytest.mark.parametrize("bad", [{"domain": "a,b"}, {"meter": "a\nb"}, {"value": float("inf")}])
def test_rows_that_cannot_be_stored(bad):
    """A separator in a name or an infinite value is refused when it is written, not met when it is read."""
    row = attrs.evolve(TraceRow("m", "d", "power_w", 0, 1, 2.0), **bad)
    with pytest.raises(ValueError, match="cannot be stored"):
        trace_bytes([row])


@pytest.mark.parametrize("read", [parse, lambda text: parse_at(text, 0)])
def test_a_document_that_nests_too_deeply_is_no_json(read):
    """So that whoever reads it names the file, and nothing ends as a bug."""
    with pytest.raises(ValueError, match="nests too deeply"):
        read("[" * 100_000)
