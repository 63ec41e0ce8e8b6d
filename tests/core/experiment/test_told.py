"""Requests as other tools tell them: real files of these tools, shortened, and the arithmetic of their rows."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from llem.experiment.told import Unreadable, read_told
from llem.metrics.flow import FAILED, UNFINISHED

DATA = Path(__file__).parents[2] / "data" / "requests"
WALL_NS = 1_796_000_000_000_000_000


def told(name: str):
    return read_told(DATA / name, since_s=0.0, wall_ns=WALL_NS)


def written(tmp_path: Path, document: object):
    path = tmp_path / "file.json"
    path.write_text(json.dumps(document))
    return read_told(path, since_s=0.0, wall_ns=WALL_NS)


def test_aiperf():
    """Wall-clock times, chunks, the server's own count of tokens, and the figures of the summary beside it."""
    found = told("aiperf-0.13.0.jsonl")
    first = found.rows[0]
    raw = json.loads((DATA / "aiperf-0.13.0.jsonl").read_text().splitlines()[0])
    gaps = raw["metrics"]["inter_chunk_latency"]["value"]

    assert (found.tool, found.model, found.chunks, found.wall) == ("AIPerf 0.13.0", "mock", True, True)
    assert len(found.rows) == 4
    assert first.start_ns == raw["metadata"]["request_start_ns"] - WALL_NS
    assert first.token_times_ns[0] - first.start_ns == pytest.approx(170_039_310, abs=1)
    assert len(first.token_times_ns) == len(gaps) + 1
    assert first.output_tokens == 24  # AIPerf's own tokenizer makes 48 of the text
    assert {"output_token_throughput avg", "time_to_first_token p99"} <= {one.name for one in found.stated}


def test_aiperf_leaves_out_its_warm_up_and_knows_failures(tmp_path):
    """Requests of the warm-up are none of the window; failed and cancelled ones have no tokens."""
    lines = (DATA / "aiperf-0.13.0.jsonl").read_text().splitlines()
    warm, failed, cancelled, good = (json.loads(line) for line in lines)
    warm["metadata"]["benchmark_phase"] = "warmup"
    failed["error"] = {"code": 500}
    cancelled["metadata"]["was_cancelled"] = True
    path = tmp_path / "profile_export.jsonl"
    path.write_text("\n".join(json.dumps(one) for one in (warm, failed, cancelled, good)))
    found = read_told(path, since_s=0.0, wall_ns=WALL_NS)

    assert [row.finish_reason for row in found.rows] == [FAILED, UNFINISHED, None]
    assert [row.output_tokens for row in found.rows] == [0, 0, 24]
    assert (found.tool, found.stated) == ("AIPerf", ())


def test_guidellm():
    """First and last token of each request, by the wall clock, and the tool's own figures."""
    found = told("guidellm-0.8.1.json")
    raw = json.loads((DATA / "guidellm-0.8.1.json").read_text())["benchmarks"][0]["requests"]["successful"][0]
    first, timings = found.rows[0], raw["info"]["timings"]

    assert (found.tool, found.model, found.chunks, found.wall) == ("GuideLLM 0.8.1", "mock", False, True)
    assert len(found.rows) == 4
    assert (first.input_tokens, first.output_tokens, first.chunk_tokens) == (64, 24, (1, 23))
    assert first.end_ns == first.token_times_ns[1]
    ttft_ms = (first.token_times_ns[0] - first.start_ns) / 1e6
    assert ttft_ms == pytest.approx(raw["time_to_first_token_ms"], abs=0.01)
    assert first.end_ns / 1e9 == pytest.approx(timings["last_token_iteration"] - WALL_NS / 1e9, abs=1e-3)
    assert {"output_tokens_per_second mean", "time_to_first_token_ms p99"} <= {one.name for one in found.stated}


def test_guidellm_requests_that_did_not_end_well(tmp_path):
    """Errored ones failed, incomplete ones did not end; a figure of several benchmarks together is not stated."""
    document = json.loads((DATA / "guidellm-0.8.1.json").read_text())
    requests = document["benchmarks"][0]["requests"]
    one, two, *rest = requests["successful"]
    for broken in (one, two):
        broken["info"]["timings"] |= {"first_token_iteration": None, "last_token_iteration": None}
    requests |= {"successful": rest, "errored": [one], "incomplete": [two]}
    document["benchmarks"].append(document["benchmarks"][0])
    found = written(tmp_path, document)

    assert [row.finish_reason for row in found.rows] == [None, None, FAILED, UNFINISHED] * 2
    assert found.stated == ()


def test_vllm():
    """A real file: the time of each chunk by the monotonic clock, and the tool's own figures."""
    found = told("vllm-0.32.0.json")
    raw = json.loads((DATA / "vllm-0.32.0.json").read_text())
    first = found.rows[0]

    assert (found.tool, found.model, found.chunks, found.wall) == ("vLLM bench", "mock", True, False)
    assert [row.output_tokens for row in found.rows] == raw["output_lens"]
    assert first.start_ns == pytest.approx(raw["start_times"][0] * 1e9, abs=1)
    assert first.end_ns - first.start_ns == pytest.approx(raw["latencies"][0] * 1e9, rel=0.01)
    assert {"output_throughput", "mean_ttft_ms", "p99_ttft_ms"} <= {one.name for one in found.stated}


VLLM = {
    "request_throughput": 1.0,
    "start_times": [10.0, 10.5, 11.0],
    "ttfts": [0.2, 0.1, 0.0],
    "itls": [[0.1, 0.2], [], []],
    "input_lens": [4, 5, 6],
    "output_lens": [3, 4, 0],
    "errors": ["", "", "HTTP 500"],
    "model_id": "some/model",
}


def test_vllm_times_are_of_the_monotonic_clock(tmp_path):
    """Chunks come at the start, the time to first token, and the gaps after it."""
    one, two, failed = written(tmp_path, VLLM).rows

    assert one.token_times_ns == (10_200_000_000, 10_300_000_000, 10_500_000_000)
    assert (one.chunk_tokens, one.end_ns) == (None, 10_500_000_000)
    assert (two.token_times_ns, two.chunk_tokens) == ((10_600_000_000,), (4,))
    assert (failed.finish_reason, failed.output_tokens) == (FAILED, 0)


@pytest.mark.parametrize(("tokens", "chunks"), [(7, 3), (2, 5), (1, 1), (1, 4), (64, 9)])
def test_tokens_are_spread_over_chunks_and_none_is_lost(tmp_path, tokens, chunks):
    """Where a chunk brings several tokens, or none, their sum is what the tool counted."""
    document = {**VLLM, "itls": [[0.1] * (chunks - 1), [], []], "output_lens": [tokens, 4, 0]}
    row = written(tmp_path, document).rows[0]
    spread = row.chunk_tokens or (1,) * chunks

    assert (sum(spread), len(spread), min(spread) >= 0) == (tokens, chunks, True)


def test_columns_of_different_length_are_damage(tmp_path):
    """Half of a request is not guessed."""
    with pytest.raises(Unreadable, match="damaged"):
        written(tmp_path, {**VLLM, "ttfts": [0.1]})


def test_text_that_no_tool_wrote(tmp_path):
    """Bytes and folders are said to be what they are."""
    path = tmp_path / "binary"
    path.write_bytes(b"\xff\xfe\x00")
    for one, told in ((path, "cannot be read"), (tmp_path, "is a folder")):
        with pytest.raises(Unreadable, match=told):
            read_told(one, since_s=0.0, wall_ns=0)


ONE = {
    "model_id": "m", "request_throughput": 1.0, "start_times": [1.0], "ttfts": [0.1], "itls": [[0.1]],
    "input_lens": [4], "output_lens": [2], "errors": [""],
}  # fmt: skip


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("output_lens", [2.5], "number of tokens"),
        ("output_lens", [10**30], "number of tokens"),
        ("input_lens", ["4"], "number of tokens"),
        ("input_lens", [None], "number of tokens"),
        ("input_lens", [True], "number of tokens"),
        ("ttfts", [-0.1], "run backwards"),
        ("itls", [[-0.05]], "run backwards"),
        ("model_id", {"a": 1}, "no text"),
    ],
)
def test_requests_that_cannot_have_happened_are_not_taken(tmp_path, key, value, why):
    """What was stored of them could not be read again, or would be a false figure."""
    with pytest.raises(Unreadable, match=why):
        written(tmp_path, {**ONE, key: value})


def test_a_figure_that_is_no_number_is_left_out(tmp_path):
    """A store holds neither NaN nor infinity, and a trial is not lost for one."""
    found = written(tmp_path, {**ONE, "duration": float("nan"), "output_throughput": float("inf")})
    assert [one.name for one in found.stated] == ["request_throughput"]


def test_a_file_that_nests_too_deeply_is_unreadable(tmp_path):
    """And no bug of llem."""
    path = tmp_path / "file.json"
    path.write_text("[" * 100_000)
    with pytest.raises(Unreadable, match="neither JSON"):
        read_told(path, since_s=0.0, wall_ns=WALL_NS)


@pytest.mark.timeout(20)
def test_a_pipe_tells_no_requests(tmp_path):
    """It is refused at once."""
    os.mkfifo(tmp_path / "a.json")
    with pytest.raises(Unreadable, match=r"^it is no regular file$"):
        read_told(tmp_path / "a.json", since_s=0.0, wall_ns=WALL_NS)
