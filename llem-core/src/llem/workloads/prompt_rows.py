"""What a row of a prompt file asks: by what is in it, not by the file's name.

A row is a text, an object with a prompt, a conversation as ShareGPT has it, the `messages` of an OpenAI request, or a
request of an OpenAI batch.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import attrs

from llem.workloads.conversations import (
    ASKING,
    Empty,
    Wrong,
    check_message,
    encodable,
    filled_list,
    joined_text,
    turn_of,
)
from llem.workloads.foreign import ForeignFile, whole_tokens

__all__ = ["FIELDS", "LENGTH_FIELDS", "Prompt", "Wanted", "prompts_of"]

#: Fields and columns in which a prompt is looked for, and its output length, in this order.
FIELDS = ("prompt", "text", "instruction", "input", "question")
LENGTH_FIELDS = ("output_tokens", "max_completion_tokens", "max_tokens", "output_length")
#: Fields of a batch's request that are taken, and those that change nothing of the answer.
TAKEN = {"messages", "prompt", *LENGTH_FIELDS}
IDLE = {"model", "stream", "stream_options", "user", "metadata", "store", "service_tier"}


@attrs.frozen
class Wanted:
    """What to take of each row: as the settings of `kind: file`.

    Attributes:
        lengths: the output lengths too.
        skip_empty: leave out rows with nothing to send, or without a length that is wanted.
    """

    field: str | None = None
    turns: Literal["first", "all"] | None = None
    lengths: bool = False
    output_field: str | None = None
    skip_empty: bool = False


@attrs.frozen
class Prompt:
    """A row as read.

    Attributes:
        place: where it stands, for messages.
        text, messages: one of them; messages as the source has them, up to the last that asks.
        output_tokens: how many the file says, where that was wanted.
        answer: the text whose length was wanted, where the file has that instead.
        asks: other settings that the row has for its request.
    """

    place: str
    text: str | None = None
    messages: tuple[Mapping[str, Any], ...] | None = None
    output_tokens: int | None = None
    answer: str | None = None
    asks: Mapping[str, Any] = attrs.field(factory=dict)


def prompts_of(file: ForeignFile, wanted: Wanted) -> tuple[str, list[Prompt], list[str]]:
    """What kind the rows are, the prompts, and the places of rows that were left out.

    Raises ConfigError: the row and what is wrong there, or rows of several kinds.
    """
    found: list[Prompt] = []
    skipped: list[str] = []
    first: tuple[str, str] | None = None
    for place, row in _rows(file, wanted):
        if not isinstance(row, (dict, str)):
            raise file.error("not a JSON object", 'each row must look like {"prompt": "…"}', place)
        kind = _kind(row, wanted)
        if first is None:
            first = kind, place
        elif kind != first[0]:
            message = f"this row is {kind}, and that of {first[1]} is {first[0]}"
            raise file.error(message, "one file holds rows of one kind", place)
        try:
            found.append(READERS[kind](place, row, wanted))
        except Empty as wrong:
            if not wanted.skip_empty:
                message, hint = wrong.args
                raise file.error(message, f"{hint}, or leave such rows out with `skip_empty: true`", place) from None
            skipped.append(place)
        except Wrong as wrong:
            message, hint = wrong.args
            raise file.error(message, hint, place) from None
        except RecursionError:
            raise file.error("JSON that is nested too deeply", "no format of prompts is nested so", place) from None
    return first[0] if first else TEXT, found, skipped


def _rows(file: ForeignFile, wanted: Wanted) -> Iterator[tuple[str, Any]]:
    if file.suffix == ".csv":
        return _table(file, wanted)
    if file.suffix == ".txt":
        return ((f"{file.name}:{number}", line) for number, line in file.lines())
    return ((place, row) for _, place, row in file.json_rows())


def _table(file: ForeignFile, wanted: Wanted) -> Iterator[tuple[str, Any]]:
    """Each row of a CSV as an object with the prompt's column and that of the length."""
    rows = file.table()
    _, header = next(rows, (1, []))
    names = [name.strip() for name in header]
    parts: list[tuple[str | None, Sequence[str], str]] = [(wanted.field, FIELDS, "field")]
    if wanted.lengths:
        parts.append((wanted.output_field, LENGTH_FIELDS, "output_field"))
    columns = []
    for asked, known, setting in parts:
        column = next((name for name in ((asked,) if asked else known) if name in names), None)
        if column is None:
            there = ", ".join(filter(None, names)) or "none"
            message = f"no column {asked!r}" if asked else f"no column named one of {', '.join(known)}"
            hint = f"the first row must be a header; name the column with `{setting}`"
            raise file.error(f"{message}; columns here: {there[:200]}", hint)
        if names.count(column) > 1:
            raise file.error(f"there are {names.count(column)} columns {column!r}", "rename all but one")
        columns.append(column)
    for number, cells in rows:
        yield (
            f"{file.name}: row {number}",
            {name: cells[names.index(name)] if names.index(name) < len(cells) else "" for name in columns},
        )


TEXT, PROMPT, SHAREGPT = "a text", "an object with a prompt", "a conversation"
MESSAGES, BATCH, BATCH_CHAT = "messages", "a batch request with a prompt", "a batch request with messages"


def _kind(row: Any, wanted: Wanted) -> str:
    if not isinstance(row, dict):
        return TEXT
    if wanted.field is not None:
        return PROMPT
    if "body" in row and {"custom_id", "url", "method"} & set(row):
        return BATCH_CHAT if isinstance(row["body"], dict) and "messages" in row["body"] else BATCH
    if "conversations" in row:
        return SHAREGPT
    return MESSAGES if "messages" in row else PROMPT


def _plain(place: str, row: Any, wanted: Wanted) -> Prompt:
    _one_text(wanted)
    if wanted.lengths:
        raise Wrong("a text has no output length", "set `output_tokens` to a length")
    if wanted.field is not None:
        raise Wrong(f"a text has no field {wanted.field!r}", "remove `field`, or use objects")
    return Prompt(place, text=_text(row, "the row"))


def _object(place: str, row: Mapping[str, Any], wanted: Wanted) -> Prompt:
    _one_text(wanted)
    key = next((name for name in ((wanted.field,) if wanted.field else FIELDS) if name in row), None)
    if key is None:
        keys = ", ".join(sorted(map(str, row)))[:200] or "none"
        told = repr(wanted.field) if wanted.field else f"any of {', '.join(FIELDS)}, messages, conversations"
        raise Wrong(f"no field {told}; fields here: {keys}", "name the field of the text with `field`")
    return Prompt(place, text=_text(row[key], f"field {key!r}"), output_tokens=_length(row, wanted))


def _sharegpt(place: str, row: Mapping[str, Any], wanted: Wanted) -> Prompt:
    if {"image", "images", "video"} & set(row):
        raise Wrong("the conversation is about an image, and llem sends text alone", "remove the row")
    turns = [turn_of(number, turn) for number, turn in enumerate(filled_list(row, "conversations"), start=1)]
    whole = wanted.turns == "all"
    asking = [number for number, (speaker, _) in enumerate(turns) if speaker == "user"]
    if not asking:
        raise Empty("no turn of `human` or `user`", "remove the row")
    last = asking[-1] if whole else asking[0]
    if not turns[last][1].strip():
        raise Empty("the user's turn is empty", "remove the row")
    after = turns[last + 1] if last + 1 < len(turns) else ("", "")
    given = _tells_length(row, wanted)
    answer = _answer(after[1] if after[0] == "assistant" else "") if wanted.lengths and not given else None
    length = _length(row, wanted) if given else None
    if not whole:
        return Prompt(place, text=turns[last][1], output_tokens=length, answer=answer)
    messages = tuple({"role": speaker, "content": value} for speaker, value in turns[: last + 1])
    return Prompt(place, messages=messages, output_tokens=length, answer=answer)


def _messages(place: str, row: Mapping[str, Any], wanted: Wanted) -> Prompt:
    found = filled_list(row, "messages")
    for number, message in enumerate(found, start=1):
        check_message(f"message {number}", message)
    asking = [number for number, message in enumerate(found) if message["role"] in ASKING]
    if not asking:
        raise Empty("no message of a user or a tool, which an answer could follow", "remove the row")
    last = asking[0] if wanted.turns == "first" else asking[-1]
    if found[last]["role"] == "user" and not joined_text(found[last].get("content")).strip():
        raise Empty(f"message {last + 1} is empty", "remove the row")
    encodable(json.dumps(found, ensure_ascii=False), "a message")
    given = _tells_length(row, wanted)
    answer = None
    if wanted.lengths and not given:
        after = found[last + 1] if last + 1 < len(found) else {}
        answer = _answer(joined_text(after.get("content")) if after.get("role") == "assistant" else "")
    return Prompt(
        place, messages=tuple(found[: last + 1]), output_tokens=_length(row, wanted) if given else None, answer=answer
    )


def _batch(place: str, row: Mapping[str, Any], wanted: Wanted) -> Prompt:
    body, url = row["body"], row.get("url", "/v1/chat/completions")
    if not isinstance(body, dict):
        raise Wrong(f"`body` holds {type(body).__name__}, not an object", "a body is the JSON of one request")
    if not isinstance(url, str) or not url.rstrip("/").endswith("completions"):
        raise Wrong(f"the request is for {str(url)[:60]!r}", "llem sends requests of completions and chat/completions")
    asks = {name: value for name, value in body.items() if name not in TAKEN | IDLE and value is not None}
    if not wanted.lengths:
        told = next((body[name] for name in LENGTH_FIELDS if body.get(name) is not None), None)
        asks |= {} if told is None else {"max_tokens": told}
    if "messages" in body:
        return attrs.evolve(_messages(place, body, wanted), asks=asks)
    _one_text(wanted)
    if "prompt" not in body:
        raise Wrong("the body has neither `messages` nor `prompt`", "a batch holds requests for text")
    return Prompt(place, text=_text(body["prompt"], "`prompt`"), output_tokens=_length(body, wanted), asks=asks)


READERS: Mapping[str, Callable[[str, Any, Wanted], Prompt]] = {
    TEXT: _plain,
    PROMPT: _object,
    SHAREGPT: _sharegpt,
    MESSAGES: _messages,
    BATCH: _batch,
    BATCH_CHAT: _batch,
}


def _one_text(wanted: Wanted) -> None:
    if wanted.turns is not None:
        raise Wrong("a text has no turns", "remove `turns`")


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise Wrong(f"{where} holds {type(value).__name__}, not text", "texts are JSON strings")
    if not value.strip():
        raise Empty(f"{where} is empty", "remove the row")
    return encodable(value, where)


def _answer(text: str) -> str:
    if not text.strip():
        raise Empty("no answer follows the prompt, so there is no output length", "set `output_tokens` to a length")
    return text


def _tells_length(row: Mapping[str, Any], wanted: Wanted) -> bool:
    """Whether a conversation's output length is a number of the row, and not the length of the answer that follows."""
    return wanted.lengths and (
        wanted.output_field is not None or any(row.get(name) is not None for name in LENGTH_FIELDS)
    )


def _length(row: Mapping[str, Any], wanted: Wanted) -> int | None:
    """The output length in a row; None where it is not wanted."""
    if not wanted.lengths:
        return None
    names = (wanted.output_field,) if wanted.output_field else LENGTH_FIELDS
    key = next((name for name in names if row.get(name) is not None), None)
    if key is None:
        raise Wrong(
            f"no output length ({', '.join(names)})", "name its field with `output_field`, or set `output_tokens`"
        )
    value = row[key]
    found = whole_tokens(str(value).strip()) if isinstance(value, (int, float, str)) and value is not True else 0
    if isinstance(found, str) or not found:
        told = found if isinstance(found, str) else f"must be at least 1, got {str(value)[:40]}"
        raise Wrong(f"field {key!r}: {told}", "a whole number of tokens")
    return found
