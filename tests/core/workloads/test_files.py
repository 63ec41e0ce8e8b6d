"""Prompts from files: formats, order, wrap-around, truncation, chat, and errors with file and line."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llem.errors import ConfigError
from llem.models.tokenizer import ByteTokenizer
from llem.workloads.base import Uniform
from llem.workloads.files import FileOptions, FileWorkload, parse_prompts
from llem.workloads.prompt_rows import Wanted


class ChatBytes(ByteTokenizer):
    """Bytes with a chat template, as no shape has one."""

    @property
    def chat_template(self) -> str | None:
        return "<{}>"

    def encode_chat(self, user: str) -> list[int]:
        return self.encode(f"<{user}>")


def make(path: Path, vocab_size: int = 512, **options: Any) -> FileWorkload:
    return FileWorkload(FileOptions(path=str(path), **options), ChatBytes(512), vocab_size)


def texts(workload: FileWorkload, start: int, count: int) -> list[str]:
    return [bytes(r.token_ids).decode() for r in workload.requests(start, count)]


@pytest.fixture
def letters(tmp_path: Path) -> Path:
    path = tmp_path / "letters.txt"
    path.write_text("alpha\n\n  beta  \r\ngamma\n   \ndelta", encoding="utf-8")
    return path


def test_text_file(letters: Path) -> None:
    """One prompt a line, blank lines skipped, white space around it removed."""
    assert texts(make(letters), 0, 4) == ["alpha", "beta", "gamma", "delta"]


def test_wraps_around(letters: Path) -> None:
    """After the last prompt comes the first; indices go on."""
    workload = make(letters)
    assert texts(workload, 3, 3) == ["delta", "alpha", "beta"]
    assert [r.index for r in workload.requests(3, 3)] == [3, 4, 5]


@given(
    start=st.integers(0, 50),
    count=st.integers(0, 12),
    seed=st.integers(),
    order=st.sampled_from(["file", "shuffled"]),
)
def test_random_access(tmp_path_factory: pytest.TempPathFactory, start: int, count: int, seed: int, order: str) -> None:
    """A stretch of the sequence is the same however it is asked for, output lengths included."""
    path = tmp_path_factory.getbasetemp() / "random-access.txt"
    path.write_text("\n".join("abcdefg"))
    options = {"order": order, "seed": seed, "output_tokens": Uniform(low=1, high=50)}
    assert make(path, **options).requests(start, count) == make(path, **options).requests(0, start + count)[start:]


def test_shuffled_is_a_permutation_that_depends_on_the_seed(tmp_path: Path) -> None:
    """Every prompt comes once in each pass, in an order the seed fixes."""
    path = tmp_path / "p.txt"
    path.write_text("\n".join(f"prompt {i}" for i in range(30)))
    first, again, other = (texts(make(path, order="shuffled", seed=s), 0, 30) for s in (1, 1, 2))
    assert first == again != other
    assert sorted(first) == sorted(texts(make(path), 0, 30)) != first
    assert texts(make(path, order="shuffled", seed=1), 30, 30) == first


def test_jsonl_fields_in_order(tmp_path: Path) -> None:
    """The first known field of each line is the prompt; `field` names another."""
    path = tmp_path / "p.jsonl"
    rows = [{"text": "t", "prompt": "p"}, {"question": "q", "answer": "a"}, {"input": "i", "instruction": "n"}]
    path.write_text("\n".join(json.dumps(row) for row in rows))
    assert texts(make(path), 0, 3) == ["p", "q", "n"]
    path.write_text(json.dumps({"prompt": "p", "answer": "a"}))
    assert texts(make(path, field="answer"), 0, 1) == ["a"]


@given(st.lists(st.text(min_size=1).filter(lambda t: t.strip()), min_size=1, max_size=5))
def test_jsonl_keeps_every_character(prompts: list[str]) -> None:
    """Texts come out as they went in, line separators of Unicode included."""
    rows = [json.dumps({"prompt": p}, ensure_ascii=False).encode("utf-8", "surrogatepass") for p in prompts]
    assert [one.text for one in parse_prompts("p.jsonl", b"\n".join(rows)).prompts] == prompts


def test_truncation_keeps_the_beginning(letters: Path) -> None:
    """Longer prompts are cut to the first tokens, shorter ones left alone."""
    assert texts(make(letters, input_tokens=4), 0, 2) == ["alph", "beta"]


def test_chat_uses_the_template_and_records_it(letters: Path) -> None:
    """With chat the template is applied, and its hash stored; without, neither."""
    workload = make(letters, chat=True)
    assert texts(workload, 0, 1) == ["<alpha>"]
    assert workload.describe()["chat"] is True
    assert workload.describe()["chat_template_sha256"] == hashlib.sha256(b"<{}>").hexdigest()
    assert make(letters).describe()["chat_template_sha256"] is None


def test_chat_where_there_is_no_template(letters: Path) -> None:
    """A shape asked for chat is an error, not a plain prompt."""
    workload = FileWorkload(FileOptions(path=str(letters), chat=True), ByteTokenizer(512), 512)
    with pytest.raises(ConfigError, match="no chat template"):
        workload.requests(0, 1)


def test_description_names_the_content_not_the_place(letters: Path) -> None:
    """What is stored is the file's name, hash and number of prompts: no path, JSON values only."""
    described = make(letters).describe()
    assert described["file"] == "letters.txt"
    assert described["sha256"] == hashlib.sha256(letters.read_bytes()).hexdigest()
    assert (described["prompts"], described["when_exhausted"]) == (4, "wrap")
    assert str(letters.parent) not in json.dumps(described)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.jsonl", b'{"prompt": "a"}\n{"prompt": ', "p.jsonl:2: not JSON"),
        ("p.jsonl", b'{"prompt": "a"}\n\n["b"]', "p.jsonl:3: not a JSON object"),
        ("p.jsonl", b'{"b": 1, "a": 2}', "p.jsonl:1: no field any of prompt, .*; fields here: a, b"),
        ("p.jsonl", b'{"prompt": 3}', "p.jsonl:1: field 'prompt' holds int"),
        ("p.jsonl", b'{"prompt": " "}', "p.jsonl:1: field 'prompt' is empty"),
        ("p.txt", b"good\n\xff\xfe", "p.txt:2: not UTF-8"),
        ("p.txt", b"\n \n", "p.txt: no prompts"),
        ("p.xml", b"a,b", "p.xml: unknown kind"),
        ("p", b"a", "p: unknown kind"),
    ],
)
def test_bad_files_are_refused_with_the_place(name: str, content: bytes, message: str) -> None:
    """Each fault names the file, the line and what is wrong there."""
    with pytest.raises(ConfigError, match=message):
        parse_prompts(name, content)


def test_named_field_that_is_not_there() -> None:
    """A field asked for by name has no substitute."""
    with pytest.raises(ConfigError, match=r"p\.jsonl:1: no field 'q'; fields here: prompt"):
        parse_prompts("p.jsonl", b'{"prompt": "a"}', Wanted("q"))
    with pytest.raises(ConfigError, match="has no field 'q'"):
        parse_prompts("p.txt", b"a", Wanted("q"))


def test_missing_file(tmp_path: Path) -> None:
    """A file that cannot be read is the user's mistake, with the reason."""
    with pytest.raises(ConfigError, match="No such file"):
        make(tmp_path / "nothing.txt")


def test_ids_outside_the_vocabulary_are_refused(letters: Path) -> None:
    """A tokenizer that does not belong to the model is noticed before the engine crashes on it."""
    with pytest.raises(ConfigError, match=r"letters\.txt:1: token id 1.. is outside"):
        make(letters, vocab_size=100).requests(0, 1)


def test_text_without_a_tokenizer(letters: Path) -> None:
    """Where nobody has the tokenizer, requests have the text alone; what needs tokens is refused."""
    [first, *_] = FileWorkload(FileOptions(path=str(letters)), None, 512).requests(0, 2)
    assert (first.text, first.messages, first.token_ids) == ("alpha", None, ())
    with pytest.raises(ConfigError, match="cannot be cut by tokens"):
        FileWorkload(FileOptions(path=str(letters), input_tokens=3), None, 512)


def test_cutting_a_chat_is_refused() -> None:
    """Truncation would remove the end of the template, so the two settings exclude each other."""
    with pytest.raises(ValueError, match="cannot be combined with chat"):
        FileOptions(path="p.txt", chat=True, input_tokens=8)
    with pytest.raises(ValueError, match="at least 1"):
        FileOptions(path="p.txt", input_tokens=0)
