"""Files that no program should have written: each is one message and exit 2, before anything is loaded."""

from __future__ import annotations

import gzip
import os
import tracemalloc
from functools import partial
from pathlib import Path

import pytest

from llem.errors import ConfigError
from llem.foreign.files import unpacked
from llem.workloads import foreign

DEEP = b"[" * 100_000 + b"]" * 100_000
GOOD = b'{"prompt": "a"}\n'
HEAD = b"timestamp_ms,input_tokens,output_tokens\n"
TRACE = {"kind": "trace", "load.kind": "replay"}

#: Name to bytes, settings of the workload and the load, and what the message says.
FILES: dict[str, tuple[str, bytes, dict[str, str], str]] = {
    "empty": ("p.jsonl", b"", {}, "p.jsonl: no prompts"),
    "blank": ("p.txt", b"\r\n \r\n", {}, "p.txt: no prompts"),
    "empty array": ("p.json", b"[]", {}, "p.json: no prompts"),
    "empty table": ("p.csv", b"", {}, "p.csv: no column named one of prompt"),
    "no header": ("p.csv", b"hello,3\n", {}, "the first row must be a header"),
    "only a mark": ("p.jsonl", b"\xef\xbb\xbf", {}, "p.jsonl: no prompts"),
    "UTF-16": ("p.txt", "héllo\n".encode("utf-16"), {}, "p.txt:1: holds a NUL byte"),
    "Latin-1": ("p.csv", b"prompt\nh\xe9llo\n", {}, "p.csv:2: not UTF-8"),
    "NUL": ("p.jsonl", GOOD + b'{"prompt": "\0"}', {}, "p.jsonl:2: holds a NUL byte"),
    "deep line": ("p.jsonl", GOOD + b'{"prompt": ' + DEEP + b"}", {}, "p.jsonl:2: not JSON (it nests too deeply)"),
    "deep array": ("p.json", DEEP, {}, "p.json: not JSON (it nests too deeply)"),
    "half an array": ("p.json", b'["a", ', {}, "p.json: not JSON"),
    "number": ("p.jsonl", b"5\n", {}, "p.jsonl:1: not a JSON object"),
    "null in an array": ("p.json", b'["a", null]', {}, "p.json: row 2: not a JSON object"),
    "endless number": ("p.jsonl", b'{"prompt": "a", "n": 1e999}', {}, "1e999 is beyond any number"),
    "no number": ("p.jsonl", b'{"prompt": "a", "n": NaN}', {}, "NaN is not a JSON number"),
    "long number": ("p.jsonl", b'{"prompt": "a", "n": ' + b"9" * 5000 + b"}", {}, "p.jsonl:1: not JSON"),
    "surrogate": ("p.jsonl", b'{"prompt": "\\ud800"}', {}, "p.jsonl:1: field 'prompt' has half of a character"),
    "surrogate in a turn": (
        "p.jsonl", b'{"messages": [{"role": "user", "content": "\\udc00"}]}', {}, "has half of a character",
    ),
    "mixed": ("p.jsonl", GOOD + b'{"messages": []}', {}, "this row is messages, and that of p.jsonl:1 is an object"),
    "mixed texts": ("p.json", b'["a", {"prompt": "b"}]', {}, "p.json: row 2: this row is an object with a prompt"),
    "huge length": (
        "p.jsonl", b'{"prompt": "a", "max_tokens": 1' + b"0" * 18 + b"}", {"workload.output_tokens": "file"},
        "field 'max_tokens': is 1000000000000000000 tokens, more than any model takes",
    ),
    "negative length": (
        "p.csv", b"prompt,max_tokens\na,-4\n", {"workload.output_tokens": "file"}, "p.csv: row 2: field 'max_tokens'",
    ),
    "length of 0": (
        "p.csv", b"prompt,max_tokens\na,0\n", {"workload.output_tokens": "file"}, "must be at least 1, got 0",
    ),
    "length true": (
        "p.jsonl", b'{"prompt": "a", "max_tokens": true}', {"workload.output_tokens": "file"}, "must be at least 1",
    ),
    "no length": ("p.jsonl", GOOD, {"workload.output_tokens": "file"}, "p.jsonl:1: no output length"),
    "no answer": (
        "p.json", b'[{"conversations": [{"from": "human", "value": "a"}]}]', {"workload.output_tokens": "file"},
        "p.json: row 1: no answer follows the prompt",
    ),
    "no turn": ("p.json", b'[{"conversations": []}]', {}, "p.json: row 1: field 'conversations' is empty"),
    "turns of text": ("p.json", b'[{"conversations": ["a"]}]', {}, "row 1: turn 1 is no JSON object"),
    "odd speaker": ("p.json", b'[{"conversations": [{"from": {}, "value": "a"}]}]', {}, "row 1: turn 1 is from '{}'"),
    "image": (
        "p.jsonl", b'{"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}', {},
        "p.jsonl:1: message 1 has a part 'image_url', and llem sends text alone",
    ),
    "embeddings": (
        "p.jsonl", b'{"custom_id": "a", "url": "/v1/embeddings", "body": {"input": "a"}}', {}, "'/v1/embeddings'",
    ),
    "a body of text": ("p.jsonl", b'{"custom_id": "a", "body": "a"}', {}, "p.jsonl:1: `body` holds str"),
    "no gzip": ("p.jsonl.gz", GOOD, {}, "is damaged"),
    "half a gzip": ("p.jsonl.gz", gzip.compress(GOOD * 99)[:-9], {}, "is damaged"),
    "endless time": ("t.csv", HEAD + b"1e999,1,1\n2,1,1\n", TRACE, "row 2, column 'timestamp_ms': must be a finite"),
    "negative time": ("t.csv", HEAD + b"-1,1,1\n2,1,1\n", TRACE, "t.csv: row 2, column 'timestamp_ms': is negative"),
    "unsorted": ("t.csv", HEAD + b"3,1,1\n2,1,1\n", TRACE, "t.csv: row 3, column 'timestamp_ms': is before"),
    "an age": ("t.csv", HEAD + b"0,1,1\n9e15,1,1\n", TRACE, "t.csv: row 3, column 'timestamp_ms': is 2.85e+05 years"),
    "a date beyond": ("t.csv", HEAD + b"9999-12-31T23:59:59-23:59,1,1\n" * 2, TRACE, "all 2 arrive at once"),
    "endless line": (
        "t.jsonl", b'{"timestamp_ms": 1e999, "input_length": 1, "output_length": 1}', TRACE, "must be a finite number",
    ),
    "trace of texts": ("t.jsonl", b'"a"\n', TRACE, "t.jsonl:1: not a JSON object"),
    "deep trace": ("t.json", DEEP, TRACE, "t.json: not JSON (it nests too deeply)"),
    "true tokens": (
        "t.jsonl", b'{"timestamp_ms": 1, "input_length": true, "output_length": 1}', TRACE,
        "row 1, column 'input_length': holds bool",
    ),
    "no tokens": (
        "t.jsonl", b'{"timestamp_ms": 1, "input_length": 1, "output_length": 1}\n{"timestamp_ms": 1}', TRACE,
        "t.jsonl: row 2, column 'input_length': is empty",
    ),
    "hashes of text": (
        "t.jsonl", b'{"timestamp": 1, "input_length": 1, "output_length": 1, "hash_ids": "a"}', TRACE,
        "row 1, column 'hash_ids': is no array of numbers",
    ),
    "too few hashes": (
        "t.jsonl", b'{"timestamp": 1, "input_length": 600, "output_length": 1, "hash_ids": [4]}', TRACE,
        "has 1 hashes, and a prompt of 600 tokens has 2 blocks of 512",
    ),
    "XML": ("p.xml", b"<a/>", {}, "p.xml: unknown kind of prompt file"),
}  # fmt: skip


def refused(run_llem, path: str, settings: dict[str, str]) -> str:
    """What llem says of a file; it must end with 2, one message, and nothing measured or stored."""
    settings = {"workload.path": path, "device": "cpu", **settings}
    kind = settings.pop("kind", "file")
    flags = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    done = run_llem("run", "-b", "echo", "-o", "out", "--set", f"workload.kind={kind}", *flags)
    assert done.exit_code == 2, done
    assert done.stderr.count("error:") == 1
    assert "Traceback" not in done.stderr
    assert not Path("out").exists()
    return done.stderr


@pytest.mark.parametrize("name", FILES)
def test_one_message_and_exit_2(run_llem, name: str) -> None:
    """The message names the file and the row, and nothing is loaded for it."""
    file, content, settings, words = FILES[name]
    Path(file).write_bytes(content)

    assert words in " ".join(refused(run_llem, file, dict(settings)).split())


@pytest.mark.parametrize("kind", ["file", "trace"])
def test_what_is_no_regular_file(run_llem, kind: str) -> None:
    """A folder, a pipe that nobody writes to, and a device that never ends are refused at once."""
    Path("folder.jsonl").mkdir()
    os.mkfifo("pipe.jsonl")
    Path("null.jsonl").symlink_to("/dev/zero")
    for name in ("folder.jsonl", "pipe.jsonl", "null.jsonl", "nowhere.jsonl", "a\0b.jsonl"):
        refused(run_llem, name, {"kind": kind})


def test_a_small_file_that_unpacks_to_a_large_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more is unpacked than would be read of any file."""
    monkeypatch.setattr(foreign, "unpacked", partial(unpacked, most=2**22))
    path = tmp_path / "bomb.txt.gz"
    path.write_bytes(gzip.compress(b"a" * 2**26))
    tracemalloc.start()
    with pytest.raises(ConfigError, match="unpacks to more than"):
        foreign.read_foreign(str(path), "prompt file", "prompts_unreadable")
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert most < 2**23


def test_a_file_that_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused by its size, with what to do."""
    monkeypatch.setattr(foreign, "LARGEST", 100)
    (tmp_path / "p.txt").write_bytes(b"a" * 101)
    with pytest.raises(ConfigError, match=r"has more than 0 MiB\n  name a regular, whole file of at most 0 MiB"):
        foreign.read_foreign(str(tmp_path / "p.txt"), "prompt file", "prompts_unreadable")
