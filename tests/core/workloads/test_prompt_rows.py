"""What a row asks: each form of prompt file, told by its content; and what a workload makes of it."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from llem.config.arrival import ClosedLoad, ReplayLoad
from llem.config.converter import structure
from llem.config.models import Sampling
from llem.errors import ConfigError
from llem.models.tokenizer import ByteTokenizer
from llem.workloads.files import FileOptions, FileWorkload, parse_prompts
from llem.workloads.prompt_rows import Wanted


class Templated(ByteTokenizer):
    """Bytes with a chat template that refuses a system's message, as some do."""

    @property
    def chat_template(self) -> str | None:
        return "{role}"

    def chat_text(self, messages, *, generation_prompt: bool = True) -> str:
        if any(message["role"] == "system" for message in messages):
            raise ConfigError("the chat template refuses the messages: no system", "")
        return "".join(f"<{message['role'][0]}:{message['content']}>" for message in messages)

    def encode_chat(self, user: str) -> list[int]:
        return self.encode(self.chat_text([{"role": "user", "content": user}]))


@pytest.fixture
def make(tmp_path: Path):
    """Write a prompt file and open it; the tokenizer has a chat template."""

    def write(name: str, text: str | bytes | list[Any], tokenizer: Any = None, **options: Any) -> FileWorkload:
        if isinstance(text, list):
            text = "\n".join(map(json.dumps, text))
        path = tmp_path / name
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        section = structure(FileOptions, {"path": str(path), **options})
        FileWorkload.check(section, ClosedLoad())
        return FileWorkload(section, Templated(512) if tokenizer is None else tokenizer or None, 512)

    return write


TALK = [
    {"from": "system", "value": "Be brief."},
    {"from": "human", "value": "Who?"},
    {"from": "gpt", "value": "Me."},
    {"from": "user", "value": "Why?"},
    {"from": "gpt", "value": "Because it is so."},
]
MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": [{"type": "text", "text": "Who"}, {"type": "text", "text": "?"}], "name": "ann"},
    {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "function": {"name": "who"}}]},
    {"role": "tool", "content": "you", "tool_call_id": "1"},
    {"role": "assistant", "content": "You."},
]


def test_first_turn_of_a_conversation(make) -> None:
    """As vLLM's benchmark takes it: the first human turn as a text, and the length of the answer to it."""
    [one] = make("s.json", json.dumps([{"id": "a", "conversations": TALK}]), output_tokens="file").requests(0, 1)
    assert (one.text, one.messages, bytes(one.token_ids), one.output_tokens) == ("Who?", None, b"Who?", len("Me."))


def test_all_turns_of_a_conversation(make) -> None:
    """Up to the last turn of the user, with OpenAI's roles; the answer that followed gives the length."""
    rows = [{"conversations": TALK[1:]}]
    [one] = make("s.jsonl", rows, turns="all", output_tokens="file").requests(0, 1)
    assert one.text is None
    assert [(said["role"], said["content"]) for said in one.messages] == [
        ("user", "Who?"),
        ("assistant", "Me."),
        ("user", "Why?"),
    ]
    assert bytes(one.token_ids) == b"<u:Who?><a:Me.><u:Why?>"
    assert one.output_tokens == len("Because it is so.")


def test_messages_as_given(make) -> None:
    """Tools, names and parts stay as they are; the answer at the end is not sent, and is what is asked for."""
    [one] = make("m.jsonl", [{"messages": MESSAGES[1:]}], output_tokens="file").requests(0, 1)
    assert list(one.messages) == MESSAGES[1:4]
    assert bytes(one.token_ids) == b"<u:Who?><a:><t:you>"
    assert one.output_tokens == len("You.")
    [first] = make("m.jsonl", [{"messages": MESSAGES[1:]}], turns="first").requests(0, 1)
    assert (list(first.messages), first.output_tokens) == (MESSAGES[1:2], 128)


def test_requests_of_a_batch(make) -> None:
    """A batch's prompts or messages, with `max_completion_tokens` or `max_tokens`."""
    chat = [{"role": "user", "content": "Hi"}]
    rows = [
        {"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": {"messages": chat, **body}}
        for body in ({"max_completion_tokens": 7, "max_tokens": 9}, {"max_tokens": 5})
    ]
    found = make("b.jsonl", rows, output_tokens="file").requests(0, 2)
    assert [(list(one.messages), one.output_tokens) for one in found] == [(chat, 7), (chat, 5)]
    plain = [{"custom_id": "1", "url": "/v1/completions", "body": {"prompt": "Hi", "max_tokens": 3}}]
    [one] = make("b.jsonl", plain, output_tokens="file").requests(0, 1)
    assert (one.text, one.messages, one.output_tokens) == ("Hi", None, 3)


def test_settings_of_a_batch_that_are_not_followed_are_told(make) -> None:
    """By name and first row; what the experiment does anyway, or changes nothing, is not told."""
    bodies = [
        {"temperature": 0, "top_p": 1, "stream": True, "model": "m", "max_tokens": 128, "tools": [], "n": 1},
        {"temperature": 0.7, "max_tokens": 128},
        {"temperature": 0.7, "stop": ["."], "max_tokens": 9},
    ]
    rows = [{"custom_id": "1", "url": "/v1/completions", "body": {"prompt": "Hi", **body}} for body in bodies]
    [found] = make("b.jsonl", rows).prepare(Sampling(), None)
    assert (found.code, found.severity) == ("prompts_ask_otherwise", "warning")
    assert found.message.endswith("2 of 3 rows ask for settings that are not followed: "
                                  "max_tokens (b.jsonl:3), stop (b.jsonl:3), temperature (b.jsonl:2)")  # fmt: skip
    assert make("b.jsonl", rows[:1]).prepare(Sampling(), None) == []
    assert make("b.jsonl", rows[1:2]).prepare(Sampling(temperature=0.7), None) == []
    [found] = make("b.jsonl", rows, output_tokens="file").prepare(Sampling(), None)
    assert found.evidence["settings"] == ["stop", "temperature"]


@pytest.mark.parametrize(("name", "value"), [("temperature", 0), ("top_k", 0), ("seed", 0), ("logprobs", 0)])
def test_a_setting_of_zero_is_a_setting(make, name, value) -> None:
    """It is no `false`, which says that something is left out."""
    rows = [{"custom_id": "1", "url": "/v1/completions", "body": {"prompt": "Hi", name: value, "echo": False}}]
    [found] = make("b.jsonl", rows).prepare(Sampling(temperature=0.7, seed=3), None)
    assert found.evidence["settings"] == [name]


def test_a_length_in_a_conversations_row_goes_before_its_answer(make) -> None:
    """Where `output_field` names it, or a field of a known name has it; a null is none."""
    turns = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "five whole words of answer"}]
    share, plain = {"conversations": turns, "n": 77}, {"messages": [{"role": "user", "content": "Hi"}]}
    answered = {"messages": [*plain["messages"], {"role": "assistant", "content": "yes"}], "max_tokens": None}

    [named] = make("s.json", [share], output_tokens="file", output_field="n").requests(0, 1)
    [counted] = make("s.json", [share], output_tokens="file").requests(0, 1)
    [null] = make("m.jsonl", [answered], output_tokens="file").requests(0, 1)
    assert (named.output_tokens, counted.output_tokens > 1, null.output_tokens >= 1) == (77, True, True)
    with pytest.raises(ConfigError, match="no output length"):
        make("s.json", [{"conversations": turns}], output_tokens="file", output_field="n")


def test_columns_of_a_table(make) -> None:
    """A column by a known name or by `field`; cells keep their line ends, and may be long."""
    long = "x" * 200_000
    text = f'\ufeffid,question,n\r\n1,"a,\nb",3\r\n\r\n2,{long},4\r\n'
    found = make("t.csv", text, output_tokens="file", output_field="n").requests(0, 2)
    assert [(one.text, one.output_tokens) for one in found] == [("a,\nb", 3), (long, 4)]
    assert make("t.csv", text, field="id").requests(1, 1)[0].text == "2"
    with pytest.raises(ConfigError, match="no column 'q'; columns here: id, question, n"):
        make("t.csv", text, field="q")
    with pytest.raises(ConfigError, match=r"t\.csv: row 3: field 'question' is empty|'prompt' is empty"):
        make("t.csv", "prompt,b\nx,y\n,z\n")


@pytest.mark.parametrize(
    ("name", "text"),
    [("a.json", '["one", "two"]'), ("a.jsonl", '\n ["one",\n "two"]'), ("a.json", '{"text": "one"}\n{"text": "two"}')],
)
def test_an_array_or_lines_whatever_the_name(make, name: str, text: str) -> None:
    """`.json` and `.jsonl` say the same: what stands in the file decides."""
    assert [one.text for one in make(name, text).requests(0, 3)] == ["one", "two", "one"]


def test_packed_files(make) -> None:
    """The name before `.gz` says what it is."""
    assert make("p.txt.gz", gzip.compress(b"one\ntwo\n")).requests(1, 1)[0].text == "two"


def test_each_shape_is_read(make, shapes) -> None:
    """Whole files as people have them, each row a prompt."""
    for name in ("sharegpt.json", "messages.jsonl", "batch.jsonl", "table.csv"):
        assert len(parse_prompts(name, shapes[name](50, 3).encode()).prompts) == 50


def test_rows_without_a_prompt_or_an_answer(make) -> None:
    """Refused by row, or left out and counted."""
    talks = [TALK[1:], [], [{"from": "gpt", "value": "So."}], [{"from": "human", "value": "Eh?"}]]
    text = json.dumps([{"conversations": talk} for talk in talks])
    with pytest.raises(ConfigError, match=r"s\.json: row 2: field 'conversations' is empty\n.*skip_empty: true"):
        make("s.json", text)
    workload = make("s.json", text, skip_empty=True, output_tokens="file")
    [found] = workload.prepare(Sampling(), None)
    assert (found.code, found.severity) == ("prompts_skipped", "info")
    assert found.message == (
        "3 rows have no prompt or no answer and are left out: s.json: row 2, s.json: row 3, s.json: row 4"
    )
    assert (workload.describe()["prompts"], workload.describe()["skipped_rows"]) == (1, 3)


def test_too_long_is_told_by_row_or_left_out(make) -> None:
    """Prompt and longest output against the engine's context, before the first request; the sequence stays the same."""
    rows = [{"prompt": text} for text in ("a" * 90, "short", "é" * 50, "fits" * 5)]
    options = {"output_tokens": {"kind": "uniform", "low": 1, "high": 10}, "order": "shuffled"}
    with pytest.raises(ConfigError) as caught:
        make("p.jsonl", rows, **options).prepare(Sampling(), 99)
    assert caught.value.code == "prompts_too_long"
    assert caught.value.message == (
        "p.jsonl:1: 90 tokens of the prompt and 10 to generate are more than the 99 that the engine takes; "
        "2 of 4 rows are too long"
    )
    assert make("p.jsonl", rows, **options).prepare(Sampling(), 110) == []
    assert make("p.jsonl", rows, **options).prepare(Sampling(), None) == []
    one, again = (make("p.jsonl", rows, too_long="skip", **options) for _ in range(2))
    [found] = one.prepare(Sampling(), 99)
    again.prepare(Sampling(), 99)
    assert found.code == "prompts_skipped"
    assert found.evidence == {"skipped": 2, "of": 4, "rows": ["p.jsonl:1", "p.jsonl:3"], "why": "too_long"}
    assert one.requests(0, 9) == again.requests(0, 9)
    assert {each.text for each in one.requests(0, 9)} == {"short", "fits" * 5}
    assert one.describe()["too_long"] == 2
    none_fits = make("p.jsonl", rows, too_long="skip", **options)
    with pytest.raises(ConfigError, match="4 of 4 rows are too long"):
        none_fits.prepare(Sampling(), 5)


def test_the_length_of_each_row_counts(make) -> None:
    """With lengths of the file, a row is held against the context with its own."""
    rows = [{"prompt": "a", "max_tokens": 9}, {"prompt": "a", "max_tokens": 200}]
    workload = make("p.jsonl", rows, output_tokens="file", too_long="skip")
    workload.prepare(Sampling(), 100)
    assert [one.output_tokens for one in workload.requests(0, 2)] == [9, 9]


def test_a_template_that_refuses_a_row_does_so_before_the_first_request(make) -> None:
    """Named by row, also where no context is known."""
    rows = [{"messages": MESSAGES[1:2]}, {"messages": MESSAGES[:2]}]
    with pytest.raises(ConfigError, match=r"m\.jsonl:2: the chat template refuses"):
        make("m.jsonl", rows).prepare(Sampling(), None)


def test_without_a_tokenizer(make) -> None:
    """Conversations go out as given; a length that must be counted is refused."""
    workload = make("m.jsonl", [{"messages": MESSAGES}], tokenizer=False)
    assert workload.prepare(Sampling(), 10) == []
    [one] = workload.requests(0, 1)
    assert (list(one.messages), one.token_ids, one.text) == (MESSAGES[:4], (), None)
    assert workload.describe()["tokenized"] is False
    with pytest.raises(ConfigError, match="answers cannot be counted"):
        make("m.jsonl", [{"messages": MESSAGES}], tokenizer=False, output_tokens="file")


def test_what_a_cut_text_is(make) -> None:
    """Token ids alone: its text is not the source's. A chat's text is one message of a user."""
    cut, whole = make("p.txt", "alphabet\nabc\n", input_tokens=4).requests(0, 2)
    assert (bytes(cut.token_ids), cut.text) == (b"alph", None)
    assert (bytes(whole.token_ids), whole.text) == (b"abc", "abc")
    [chat] = make("p.txt", "abc\n", chat=True).requests(0, 1)
    assert (bytes(chat.token_ids), chat.text, chat.messages) == (
        b"<u:abc>", None, ({"role": "user", "content": "abc"},),
    )  # fmt: skip


def test_how_many_prompts_differ(make) -> None:
    """Rows that say the same are one prompt, for whoever asks when they come again."""
    assert make("p.txt", "a\nb\na\n").distinct == 2
    workload = make("m.jsonl", [{"messages": MESSAGES[1:2]}] * 3)
    assert (workload.distinct, workload.describe()["distinct"], workload.describe()["prompts"]) == (1, 1, 3)


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        ("a\n", {"turns": "first"}, "a text has no turns"),
        ("a\n", {"output_tokens": "file"}, "a text has no output length"),
    ],
)
def test_settings_that_a_text_cannot_follow(make, text: str, options: dict[str, Any], words: str) -> None:
    """Refused, not ignored."""
    with pytest.raises(ConfigError, match=words):
        make("p.txt", text, **options)


def test_settings_that_go_together(make) -> None:
    """A cut of a conversation, a field of no length, and a replay are refused before anything is loaded."""
    with pytest.raises(ConfigError, match="`input_tokens` cuts texts, and its rows are messages"):
        make("m.jsonl", [{"messages": MESSAGES}], input_tokens=5)
    with pytest.raises(ConfigError, match="unless `output_tokens: file`"):
        make("p.jsonl", [{"prompt": "a"}], output_field="n")
    with pytest.raises(ConfigError, match="nothing to replay"):
        FileWorkload.check(make("p.txt", "a\n").options, ReplayLoad())
    with pytest.raises(ConfigError, match="output_tokens"):
        structure(FileOptions, {"path": "p.txt", "output_tokens": "row"})


def test_a_field_by_name_goes_before_content() -> None:
    """`field` takes that field's text, whatever else is in the row."""
    row = json.dumps({"messages": MESSAGES, "said": "Hi"}).encode()
    [one] = parse_prompts("p.jsonl", row, Wanted("said")).prompts
    assert (one.text, one.messages) == ("Hi", None)


def test_messages_need_no_template_where_the_engine_takes_them(make):
    """Without a chat template here they have no token ids; an engine that needs ids gets an error that says so."""
    talk = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    work = make("m.jsonl", [{"messages": talk}], ByteTokenizer(512), output_tokens=5)
    with pytest.raises(ConfigError, match="no chat template"):
        work.prepare(Sampling(), 100)
    work.sends_messages = True
    assert work.prepare(Sampling(), 100) == []
    [request] = work.requests(0, 1)
    assert (list(request.messages), request.token_ids) == (talk, ())


def test_prompts_as_messages_need_no_template_either(make):
    """With `chat: true`; plain texts still have their token ids."""
    work = make("p.txt", "abc\n", ByteTokenizer(512), chat=True)
    work.sends_messages = True
    [request] = work.requests(0, 1)
    assert (request.messages, request.token_ids) == (({"role": "user", "content": "abc"},), ())
    plain = make("p.txt", "abc\n", ByteTokenizer(512))
    plain.sends_messages = True
    assert plain.requests(0, 1)[0].token_ids == tuple(b"abc")


def test_a_template_that_is_known_still_counts(make):
    """Then it is known whether a conversation fits."""
    work = make("m.jsonl", [{"messages": [{"role": "user", "content": "x" * 90}]}], output_tokens=20)
    work.sends_messages = True
    with pytest.raises(ConfigError, match=r"m\.jsonl:1"):
        work.prepare(Sampling(), 100)
