"""The built-in prompt set: complete, varied, and unchanged."""

from __future__ import annotations

import json
from importlib import resources

from llem.models.tokenizer import ByteTokenizer
from llem.workloads.files import FILE, BuiltinOptions, BuiltinWorkload


def make(**options: object) -> BuiltinWorkload:
    return BuiltinWorkload(BuiltinOptions(**options), ByteTokenizer(512), 512)  # type: ignore[arg-type]


def test_is_varied() -> None:
    """Sixty-four different prompts of many kinds and lengths."""
    lines = resources.files("llem.workloads").joinpath(FILE).read_text("utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    assert len({row["prompt"] for row in rows}) == len(rows) == 64
    assert len({row["category"] for row in rows}) >= 8
    lengths = sorted(len(row["prompt"]) for row in rows)
    assert lengths[0] < 50
    assert lengths[-1] > 2000


def test_any_stretch_is_mixed() -> None:
    """The order in the file mixes the kinds, so that a small batch is not all of one."""
    lines = resources.files("llem.workloads").joinpath(FILE).read_text("utf-8").splitlines()
    kinds = [json.loads(line)["category"] for line in lines]
    assert all(len(set(kinds[i : i + 8])) >= 4 for i in range(len(kinds) - 8))


def test_requests_and_options_are_those_of_files() -> None:
    """It gives requests like a file does: cut, in order, wrapping around."""
    workload = make(input_tokens=16, output_tokens=9)
    requests = workload.requests(0, 65)
    assert all(1 <= len(r.token_ids) <= 16 and r.output_tokens == 9 for r in requests)
    assert requests[64].token_ids == requests[0].token_ids
    assert make(order="shuffled").requests(0, 64) != make().requests(0, 64)


def test_set_is_unchanged() -> None:
    """Results of different versions are comparable only while the prompts stay: the hash may not move."""
    assert make().describe()["sha256"] == "f9d7b03c7c1d25aa4d5dfe712b8492802bc2f653df43c1101f63590728f0faca"
