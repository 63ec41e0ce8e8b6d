"""A server of the OpenAI interface whose answers are changed at random, the same each time for a seed and a number.

    python benchmarks/odd_answers.py KEY LOG

It prints its two ports as JSON. What is asked at `/SEED-NUMBER/…` of the first is answered as the mutation of that
number has it, at `/sound/…` as a server should. Redirects lead to the second, which writes to the file LOG which
authorization came there. `answer` is pure: bytes with the seconds before each, and how the connection ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import random
import sys
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

#: Tokens of an answer that are asked for, and the seconds before each.
TOKENS, TOKEN_S, WINDOW_S = 4, 0.004, 0.3
MODEL = "odd"
DEEP = 10_000
#: Stands in a document for text that no JSON writer writes.
RAW = "\x01raw\x01"
#: Begins the raw text of a key in which every character is escaped.
ESCAPED = "escaped:"


class Spot(NamedTuple):
    """Where answers are changed: on one page, the requests after the first `spare`, each `every`th of them."""

    page: str
    spare: int
    every: int


class Case(NamedTuple):
    """A mutation: what kind, where, and how llem is to ask; of the kind `claim` the JSON of a number of tokens."""

    seed: int
    number: int
    kind: str
    spot: Spot
    load: dict[str, Any]
    settings: dict[str, Any]
    usage: str
    claim: str = ""


class Ports(NamedTuple):
    """Of the server, and of what redirects lead to."""

    own: int
    elsewhere: int


class Answer(NamedTuple):
    """All that is written, with the seconds before each piece; then the connection is kept, closed, reset or hangs."""

    pieces: list[tuple[float, bytes]]
    end: str = "keep"


#: An offline load is the shortest, and asks for no metrics.
OFFLINE: dict[str, Any] = {"kind": "offline", "batch_size": 2}
SERVED: tuple[dict[str, Any], ...] = (
    {"kind": "closed", "concurrency": 2},
    {"kind": "closed", "concurrency": 2},
    {"kind": "open", "request_rate": 20},
)
TEXT = {"workload": {"kind": "prompts", "output_tokens": TOKENS}}
ASKING: tuple[dict[str, Any], ...] = (
    *({},) * 4,
    {"openai.return_token_ids": True},
    {"openai.prompt": "text", **TEXT},
    {"openai.endpoint": "chat", **TEXT},
    {"openai.endpoint": "chat", **TEXT},
)  # fmt: skip
SPOTS = (0, 0, 0, 1, 3, 5)
#: The kind that is not drawn.
CLAIM = "claim"


def case_of(seed: int, number: int, kinds: Sequence[str] = ()) -> Case:
    """The mutation of this number; kinds take turns."""
    draw = random.Random(f"{seed}-{number}")
    names = [name for name, (_, weight, _) in KINDS.items() for _ in range(weight) if not kinds or name in kinds]
    kind = names[(number + seed) % len(names)]
    page = draw.choice(KINDS[kind][2])
    load = draw.choice(SERVED if page == "metrics" or draw.random() < 0.3 else (OFFLINE,))
    settings = dict(draw.choice(ASKING))
    if load["kind"] == "offline":
        settings["token_times"] = draw.random() < 0.5
    usage = draw.choice(("final", "final", "continuous", "last"))
    return Case(seed, number, kind, Spot(page, draw.choice(SPOTS), draw.choice((1, 1, 1, 2, 3))), load, settings, usage)


def claim_of(value: Any, spot: Spot, load: dict[str, Any], settings: dict[str, Any]) -> Case:
    """A server that claims to have generated so many tokens."""
    return Case(0, 0, CLAIM, spot, load, settings, "final", json.dumps(value))


def name_of(case: Case) -> str:
    """In the address of its server."""
    words = (case.seed, case.number)
    return "-".join(map(str, (CLAIM, *case.spot, case.claim.encode().hex()) if case.claim else words))


def named(name: str) -> Case | None:
    """The mutation of this name; None is the sound server's."""
    first, *words = name.split("-")
    if first == CLAIM:
        page, spare, every, said = words
        return claim_of(json.loads(bytes.fromhex(said)), Spot(page, int(spare), int(every)), {}, {})
    return case_of(int(first), int(words[0])) if words else None


# what a sound server answers


def documents(page: str, body: dict[str, Any], count: int, usage: str) -> list[Any]:
    """JSON values, or lines of text: what the answer is made of. The first is all of it unless it is a stream."""
    if page == "answer":
        return _events(body, usage) if body.get("stream") else [_whole(body)]
    if page == "models":
        entry = {"id": MODEL, "object": "model", "root": "an/odd-one", "max_model_len": 4096, "owned_by": "odd"}
        return [{"object": "list", "data": [entry]}]
    if page == "metrics":
        return _metrics(count)
    if page == "health":
        return [{}]
    if page == "version":
        return [{"version": "1.2.3", "build": {"commit": "abc"}, "workers": 2, "ratio": 0.5, "beta": True}]
    return [{"detail": "Not Found"}]


def _prompt(body: dict[str, Any]) -> int:
    prompt = body.get("prompt") or "".join(str(one["content"]) for one in body.get("messages", ()))
    return len(prompt if isinstance(prompt, list) else prompt.encode())


def _usage(body: dict[str, Any], done: int) -> dict[str, Any]:
    prompt = _prompt(body)
    return {
        "prompt_tokens": prompt, "completion_tokens": done, "total_tokens": prompt + done,
        "prompt_tokens_details": {"cached_tokens": 0}, "completion_tokens_details": {"reasoning_tokens": 0},
    }  # fmt: skip


def _choice(body: dict[str, Any], part: str, first: int, tokens: int, finish: str | None) -> dict[str, Any]:
    text = "w " * tokens
    said = {part: {"content": text}} if "messages" in body else {"text": text}
    ids = {"token_ids": list(range(first, first + tokens))} if body.get("return_token_ids") else {}
    return {"index": 0, **said, **ids, "logprobs": None, "finish_reason": finish}


def _asked(body: dict[str, Any]) -> int:
    return min(int(body.get("max_tokens", TOKENS)), 64)


def _whole(body: dict[str, Any]) -> dict[str, Any]:
    asked = _asked(body)
    choice = _choice(body, "message", 0, asked, "length")
    return {"id": "c", "object": "o", "model": MODEL, "choices": [choice], "usage": _usage(body, asked)}


def _events(body: dict[str, Any], usage: str) -> list[dict[str, Any]]:
    asked, found = _asked(body), []
    for place in range(asked):
        last = place == asked - 1
        choice = _choice(body, "delta", place, 1, "length" if last else None)
        told = usage == "continuous" or (usage == "last" and last)
        event = {"id": "c", "object": "o", "model": MODEL, "choices": [choice]}
        found.append({**event, "usage": _usage(body, place + 1)} if told else event)
    if usage == "final":
        found.append({"id": "c", "object": "o", "model": MODEL, "choices": [], "usage": _usage(body, asked)})
    return found


def _metrics(count: int) -> list[str]:
    labels = '{model_name="odd",engine="0"}'
    return [
        "# HELP vllm:num_requests_running Number of requests",
        "# TYPE vllm:num_requests_running gauge",
        f"vllm:num_requests_running{labels} 2.0",
        f"vllm:num_requests_waiting{labels} 0.0",
        f"vllm:kv_cache_usage_perc{labels} 0.25",
        f"vllm:prompt_tokens_total{labels} {100.0 * count}",
        f"vllm:generation_tokens_total{labels} {50.0 * count}",
        f"vllm:prefix_cache_queries_total{labels} {100.0 * count}",
        f"vllm:prefix_cache_hits_total{labels} {10.0 * count}",
        f"vllm:num_preemptions_total{labels} 0.0",
        'vllm:cache_config_info{enable_prefix_caching="True",block_size="16"} 1.0',
    ]


# how it is written


class Made:
    """An answer in the making: kinds of mutations change one of its layers."""

    def __init__(self, body: dict[str, Any], found: list[Any], key: str, elsewhere: int) -> None:
        self.body, self.documents, self.key, self.elsewhere = body, found, key, elsewhere
        self.stream = bool(body.get("stream"))
        text = bool(found) and isinstance(found[0], str)
        kind = "text/plain" if text else "text/event-stream" if self.stream else "application/json"
        self.status, self.reason = "200", "OK"
        self.head = [("content-type", kind)]
        self.frames: list[bytes] = []
        self.length: int | None = None
        self.wire: Answer | None = None
        self.claim = ""

    def encode(self) -> None:
        """Documents to bytes."""
        if self.documents and isinstance(self.documents[0], str):
            self.frames = ["\n".join(map(str, self.documents)).encode(errors="surrogatepass") + b"\n"]
        elif self.stream:
            self.frames = [b"data: %s\n\n" % written(one) for one in self.documents] + [b"data: [DONE]\n\n"]
        else:
            self.frames = [written(one) for one in self.documents]

    def pieces(self) -> list[bytes]:
        """The head, and the body: in chunks where it is a stream."""
        names = {name.lower() for name, _ in self.head}
        head = list(self.head)
        body = self.frames
        if not names & {"content-length", "transfer-encoding"}:
            if self.stream:
                head.append(("transfer-encoding", "chunked"))
                body = [b"%x\r\n%s\r\n" % (len(one), one) for one in self.frames if one] + [b"0\r\n\r\n"]
            else:
                head.append(("content-length", str(sum(map(len, self.frames)))))
        lines = "".join(f"{name}: {value}\r\n" for name, value in head)
        first = f"HTTP/1.1 {self.status} {self.reason}\r\n{lines}\r\n".encode("utf-8", "surrogatepass")
        return [first, *body]


def answer(case: Case | None, page: str, body: dict[str, Any], count: int, key: str, elsewhere: int) -> Answer:
    """What is written to the `count`th request for a page."""
    known = ("answer", "models", "metrics", "health", "version")
    made = Made(body, documents(page, body, count, case.usage if case else "final"), key, elsewhere)
    made.status = "200" if page in known else "404"
    change, stage, draw = None, "", random.Random(0)
    if case is not None and page == case.spot.page:
        after = count - case.spot.spare
        if after > 0 and after % case.spot.every == 0:
            stage = "documents" if case.claim else KINDS[case.kind][0]
            change = CHANGES[case.kind]
            made.claim = case.claim
            draw = random.Random(f"{case.seed}-{case.number}-{count if draw_anew(case) else 0}")
    if change and stage == "documents":
        change(made, draw)
    made.encode()
    if change and stage in ("frames", "head"):
        change(made, draw)
    pieces = made.pieces()
    waits = [TOKEN_S if page == "answer" else 0.0] * len(pieces)
    timed = Answer(list(zip(waits, pieces, strict=True)))
    if change and stage == "wire":
        made.wire = timed
        change(made, draw)
        return made.wire
    return timed


def draw_anew(case: Case) -> bool:
    """Whether each answer is changed in another way."""
    return case.number % 2 == 0


def written(value: Any) -> bytes:
    """JSON, with raw text where a document has that."""
    try:
        text = json.dumps(value, ensure_ascii=isinstance(value, dict) and len(value) % 2 == 0)
    except (ValueError, RecursionError):
        text = "null"
    while RAW in text or json.dumps(RAW)[1:-1] in text:
        text = text.replace(json.dumps(RAW)[1:-1], RAW)
        before, _, rest = text.partition(f'"{RAW}')
        if not rest:
            break
        raw, _, after = rest.partition(f'{RAW}"')
        text = before + raws(raw) + after
    return text.encode("utf-8", "surrogatepass")


def raws(name: str) -> str:
    """Text by its name: too long, or odd, for a document."""
    if name.startswith(ESCAPED):
        said = bytes.fromhex(name.removeprefix(ESCAPED)).decode()
        return '"' + "".join(f"\\u{ord(one):04x}" for one in said) + '"'
    return {
        "deep": "[" * DEEP + "]" * DEEP,
        "deeper": '{"a":' * DEEP + "1" + "}" * DEEP,
        "digits": "9" * 5000,
        "brackets": "[" * 200_000,
    }.get(name, name)


# what is changed: values

ABSURD: tuple[Any, ...] = (
    10**30, -(10**30), 2**63, 2**53, 2**31, 10**9, 10**6, 9999, -1, -4, 0, 1.5, 4.0, 1e300, True, False, None, "4",
    "", [], {}, [4], {"a": 4}, f"{RAW}1e999{RAW}", f"{RAW}-1e999{RAW}", f"{RAW}NaN{RAW}", f"{RAW}Infinity{RAW}",
    f"{RAW}1e-400{RAW}", f"{RAW}4e0{RAW}", f"{RAW}digits{RAW}", f"{RAW}deep{RAW}", 3, 5, 8,
)  # fmt: skip
COMMANDS = (
    "\x1b]0;owned\x07", "\x1b[2J\x1b[31mred", "\x9b31m", "\u202egnp.exe", "\u2066a\u2069", "\x00", "\x7f\x08\x08", "\r",
    "\n\nerror: owned", "\u2028x\u2029", "\ud800", "\udfff\ud800", "\u0085",
)  # fmt: skip
TEXTS: tuple[Any, ...] = (
    *COMMANDS, "", " ", "x" * 2_000_000, "é" * 5000, "=HYPERLINK(\"http://h\")", "@SUM(1)", "../../etc/passwd",
    "<script>alert(1)</script>", "%s{0}", "a,b", "unfinished", "\u200b\ue000", "null", "error", "[DONE]",
    "data: [DONE]", "a" * 300, "日本",
)  # fmt: skip


def spellings(key: str) -> tuple[str, ...]:
    """The key as a server may repeat it."""
    escaped = f"{RAW}{ESCAPED}{key.encode().hex()}{RAW}"
    return (
        key, f"Bearer {key}", f"a key: {key} was given {key}{key}", escaped, key + "x" * 1000,
        "x" * 490 + key, "x" * 4090 + key, "x" * 60 + key, f"{key}\n{key}", f"http://u:{key}@h/?key={key}",
    )  # fmt: skip


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every container with every key of it."""
    found: list[tuple[Any, Any]] = []
    if isinstance(value, (dict, list)):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            found += [(value, key), *places(value[key])]
    return found


def odd_value(made: Made, draw: random.Random) -> Any:
    kind = draw.random()
    if kind < 0.5:
        return draw.choice(ABSURD)
    if kind < 0.75:
        return draw.choice(TEXTS)
    if kind < 0.85:
        return draw.choice(spellings(made.key))
    return draw.choice((f"{RAW}deep{RAW}", f"{RAW}deeper{RAW}", f"{RAW}brackets{RAW}", [[]] * 3, {"": None}, [None]))


def some_documents(made: Made, draw: random.Random) -> list[Any]:
    """All, or one of them."""
    found = [one for one in made.documents if isinstance(one, (dict, list))]
    return found if draw.random() < 0.4 or not found else [draw.choice(found)]


def change_value(made: Made, draw: random.Random) -> None:
    place = draw.random()
    for one in some_documents(made, draw):
        known = places(one)
        holder, key = known[int(place * len(known))] if known else (made.documents, 0)
        holder[key] = odd_value(made, draw)


def change_field(made: Made, draw: random.Random) -> None:
    """Removed, renamed, doubled, moved, wrapped, added; or the whole document."""
    place, way = draw.random(), draw.choice(("remove", "rename", "double", "move", "wrap", "add", "whole", "text"))
    for one in some_documents(made, draw):
        known = places(one)
        if not known:
            continue
        holder, key = known[int(place * len(known))]
        value = holder[key]
        if way == "remove":
            del holder[key]
        elif way == "rename" and isinstance(holder, dict):
            holder[draw.choice(("error", "choices", "usage", "id", "text", "message", *COMMANDS))] = holder.pop(key)
        elif way == "double" and isinstance(holder, list):
            holder.append(json.loads(json.dumps(value, default=str)))
        elif way == "move":
            other, name = draw.choice(known)
            if name in (other if isinstance(other, dict) else range(len(other))):
                other[name] = draw.choice((value if not isinstance(value, (dict, list)) else 1, None))
        elif way == "wrap":
            holder[key] = draw.choice(([value], {"a": value}, [value, value], str(value)))
        elif way == "add" and isinstance(holder, dict):
            holder[draw.choice(("error", "object", "type", "message", "x" * 300_000))] = odd_value(made, draw)
        elif way in ("whole", "text"):
            at = made.documents.index(one)
            made.documents[at] = odd_value(made, draw) if way == "whole" else [one]


def change_count(made: Made, draw: random.Random) -> None:
    """A number that the server claims of tokens; it brings as many as before."""
    value = draw.choice(ABSURD)
    name = draw.choice(
        (*("completion_tokens",) * 4, "prompt_tokens", "cached_tokens", "reasoning_tokens", "total_tokens")
    )
    told = [one["usage"] for one in made.documents if isinstance(one, dict) and isinstance(one.get("usage"), dict)]
    for usage in told if draw.random() < 0.5 else told[-1:]:
        for part in (usage, usage["prompt_tokens_details"], usage["completion_tokens_details"]):
            if name in part:
                part[name] = value


def claim(made: Made, draw: random.Random) -> None:
    """Wherever the answer tells it."""
    for one in made.documents:
        if isinstance(one.get("usage"), dict):
            one["usage"]["completion_tokens"] = json.loads(made.claim)


def change_key(made: Made, draw: random.Random) -> None:
    """The key of the request, in a text, as a name, in an error or in a header."""
    said, way = draw.choice(spellings(made.key)), draw.choice(("text", "text", "text", "name", "error", "head", "html"))
    if way == "error":
        made.status = draw.choice(("200", "400", "401", "404", "429", "500", "503"))
        shape = draw.choice(
            ({"error": {"message": said}}, {"error": said}, {"detail": [said]}, {"message": said}, [said])
        )
        made.documents = [shape]
    elif way == "html":
        made.documents, made.stream = [f"<html>{said.replace(RAW, '')}</html>"], False
        made.head = [("content-type", "text/html")]
        made.status = draw.choice(("200", "500", "403"))
    elif way == "head":
        value = said.replace(RAW, "").replace("\n", " ")
        made.head.append((draw.choice(("server", "location", "content-encoding", "x-key", "set-cookie")), value))
    else:
        for one in some_documents(made, draw):
            for holder, key in places(one):
                if way == "text" and isinstance(holder[key], str):
                    holder[key] = said
            if way == "name" and isinstance(one, dict):
                holder = draw.choice([one, *(h[k] for h, k in places(one) if isinstance(h[k], dict))])
                holder[said.replace(RAW, "")] = draw.choice((said, 1, 0.5))


def change_metrics(made: Made, draw: random.Random) -> None:
    """A figure, its name or its labels."""
    values = (
        "1e999", "-1e999", "nan", "NaN", "+Inf", "-5", "1e300", str(10**30), "1e18", "9" * 5000, "0x10", "1_000", "٣",
        "", "1 2 3", "true", "0", "1e-400", "2.5", made.key, *COMMANDS,
    )  # fmt: skip
    lines = [place for place, line in enumerate(made.documents) if line.startswith("vllm:")]
    way = draw.choice(("value", "value", "value", "name", "label", "many", "line"))
    for at in draw.sample(lines, draw.choice((1, 2, len(lines)))):
        name, _, value = made.documents[at].rpartition(" ")
        if way == "value":
            value = draw.choice(values)
        elif way == "name":
            name = draw.choice((name[1:], name.upper(), "x" * 300_000, made.key, *COMMANDS)) + draw.choice(("", "{}"))
        elif way == "label":
            name = name.replace("odd", draw.choice((made.key, '"', "}", "x" * 300_000, *COMMANDS)))
        made.documents[at] = f"{name} {value}" if way != "line" else draw.choice((name, "", "}{ 1", "# " + made.key))
        if way == "many":
            made.documents += [f"{name}{place} {value}" for place in range(5)] + [f"{name} {value}"] * 30_000
            return


# what is changed: bytes


def change_bytes(made: Made, draw: random.Random) -> None:
    at = draw.randrange(len(made.frames))
    content = bytearray(made.frames[at] or b" ")
    way = draw.choice(("flip", "flip", "cut", "insert", "repeat", "null"))
    place = draw.randrange(len(content))
    if way == "flip":
        for _ in range(draw.choice((1, 1, 3, 30))):
            content[draw.randrange(len(content))] = draw.randrange(256)
    elif way == "cut":
        del content[place : place + draw.randrange(1, len(content) + 1)]
    elif way == "insert":
        content[place:place] = draw.choice(
            (b"\x1b]0;x\x07", b"\xff\xfe", b"\x00" * 100, b"\xef\xbb\xbf", made.key.encode())
        )
    elif way == "repeat":
        content += bytes(content[place:]) * draw.choice((1, 50, 3000))
    else:
        content[:] = bytes(len(content))
    made.frames[at] = bytes(content)


def change_chunks(made: Made, draw: random.Random) -> None:
    """Pieces cut in other places, merged, in another order, doubled, left out."""
    way, frames = draw.choice(("cut", "merge", "order", "double", "drop", "bytes", "mix")), list(made.frames)
    if way == "merge":
        frames = [b"".join(frames)]
    elif way == "bytes":
        frames = [bytes([one]) for one in b"".join(frames)]
    elif way == "order":
        draw.shuffle(frames)
    elif way == "double":
        frames = [one for one in frames for _ in range(draw.choice((1, 1, 2)))]
    elif way == "drop":
        del frames[draw.randrange(len(frames))]
    else:
        whole = b"".join(frames)
        cuts = sorted(draw.randrange(len(whole) + 1) for _ in range(draw.choice((1, 5, 40))))
        frames = [whole[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
        if way == "mix":
            draw.shuffle(frames)
    made.frames = frames


def change_framing(made: Made, draw: random.Random) -> None:
    """Of server-sent events."""
    old, new = draw.choice((
        (b"data: ", b"data:"), (b"data: ", b"data : "), (b"data: ", b"Data: "), (b"data: ", b"event: error\ndata: "),
        (b"data: ", b""), (b"data: ", b"data: data: "), (b"data: ", b"\xef\xbb\xbfdata: "), (b"data: ", b": "),
        (b"\n\n", b"\n"), (b"\n\n", b"\r\r"), (b"\n\n", b"\r\n\r\n"), (b"\n\n", b"\n\ndata\n\n"), (b"\n\n", b""),
        (b"\n\n", b"\x00\n\n"), (b"\n\n", b"\xe2\x80\xa8"), (b"[DONE]", b""), (b"[DONE]", b"[DONE"),
        (b"[DONE]", b"DONE"), (b"data: ", b"event: " + b"x" * 300_000 + b"\ndata: "),
        (b"data: ", b"id: \x00\nretry: -1\ndata: "),
        (b"data: ", b": " + b"x" * 2_000_000 + b"\ndata: "), (b"{", b"\n\n{"), (b'"choices"', b'\ndata: "choices"'),
        (b"data: ", b"event: error\ndata: " + made.key.encode() + b"\n\ndata: "),
    ))  # fmt: skip
    every = draw.random() < 0.5
    at = draw.randrange(len(made.frames))
    made.frames = [one.replace(old, new) if every or place == at else one for place, one in enumerate(made.frames)]


def change_head(made: Made, draw: random.Random) -> None:
    """Headers that are wrong, odd, or not true."""
    body = b"".join(made.frames)
    way = draw.choice(("length", "encoding", "gzip", "packed", "odd", "many", "huge", "both", "chunked", "type"))
    if way == "length":
        wrong = (len(body) + 9, max(len(body) - 9, 0), 0, -1, 10**30, "x", "", "1, 2", f"{len(body)} ", 2**63, "0x10")
        made.head.append(("content-length", str(draw.choice(wrong))))
    elif way == "encoding":
        coding = draw.choice(
            ("gzip", "br", "identity", "x" * 300_000, made.key, "\x1b[2J", "deflate", "gzip, identity")
        )
        made.head.append((draw.choice(("content-encoding", "transfer-encoding")), coding))
    elif way in ("gzip", "packed"):
        packed = gzip.compress(body, mtime=0) if way == "gzip" else zlib.compress(bytes(50_000_000))
        made.frames = [packed]
        made.head.append(("content-encoding", "gzip" if way == "gzip" else "deflate"))
    elif way == "many":
        made.head += [(f"x-{place}", "y") for place in range(20_000)]
    elif way == "huge":
        made.head.append(("x-" + "x" * draw.choice((10, 70_000)), "y" * draw.choice((70_000, 3_000_000))))
    elif way == "both":
        made.head += [("content-length", "5"), ("transfer-encoding", "chunked")]
    elif way == "chunked":
        made.head.append(
            ("transfer-encoding", draw.choice(("Chunked", "chunked, chunked", "chunked;a=b", "\tchunked")))
        )
    elif way == "type":
        made.head = [("content-type", draw.choice(("text/html", "", "x/y; charset=utf-16", "\x1b[2J", made.key)))]
    else:
        name = draw.choice(("server", "connection", "date", "x-odd", "trailer", "upgrade", "location", "retry-after"))
        value = draw.choice(("close", "upgrade", "", "\x1b]0;owned\x07", "\x00", "é\x9b", made.key, "-1", "1e999"))
        made.head.append((name, value))


def change_redirect(made: Made, draw: random.Random) -> None:
    """To another port, and by name to another host."""
    made.status = draw.choice(("301", "302", "303", "307", "308", "300", "304", "399"))
    host = draw.choice(("127.0.0.1", "localhost"))
    there = f"http://{host}:{made.elsewhere}/v1/models"
    odd = (
        there, there, there, f"//{host}:{made.elsewhere}/", f"http://{made.key}@{host}:{made.elsewhere}/", "\x1b[2J",
        "", f"{there}?key={made.key}", "/health", "file:///etc/passwd", "x" * 70_000, "http://[", "ftp://h/",
    )  # fmt: skip
    made.head.append(("location", draw.choice(odd)))


def change_status(made: Made, draw: random.Random) -> None:
    """A refusal, or a status that is none."""
    made.status = draw.choice((
        *("400", "401", "403", "404", "408", "413", "422", "425", "429", "451", "500", "501", "502", "503", "504"),
        *("204", "201", "206", "299", "100", "101", "103", "999", "0", "-1", "2000", "abc", "", "600", "١٠٠"),
    ))  # fmt: skip
    made.reason = draw.choice(("OK", "", "\x1b[2J", made.key, "x" * 300_000))
    if draw.random() < 0.5:
        made.head.append(
            ("retry-after", draw.choice(("1", "-1", "1e999", str(10**30), "Wed, 21 Oct 2015 07:28:00 GMT", "x")))
        )
    said = draw.choice((*TEXTS, made.key, 10**30, None, [1], {"message": None}, {"code": 10**30}, {"code": "400"}))
    shape = draw.choice(({"error": said}, {"error": {"message": said, "code": said}}, {"detail": said}, said, None))
    if shape is not None:
        made.stream, made.frames = False, [written(shape)]


# what is changed: the connection


def change_connection(made: Made, draw: random.Random) -> None:
    """Reset, closed early, dripping, silent; something before or after the answer; another answer at once."""
    assert made.wire is not None
    pieces = [content for _, content in made.wire.pieces]
    whole = b"".join(pieces)
    at = draw.randrange(len(whole))
    way = draw.choice(
        ("reset", "close", "drip", "hang", "cut", "after", "before", "twice", "nothing", "slow", "interim", "garbage")
    )
    if way in ("reset", "close", "hang"):
        made.wire = Answer([(0.0, whole[:at])], way)
    elif way == "nothing":
        made.wire = Answer([], draw.choice(("reset", "close", "hang")))
    elif way == "drip":
        made.wire = Answer([(0.0, whole[:at]), *((0.3, bytes([one])) for one in whole[at : at + 400])], "close")
    elif way == "slow":
        made.wire = Answer([(draw.choice((0.1, 0.6)), one) for one in pieces])
    elif way == "cut":
        made.wire = Answer(
            [(0.001, whole[begin : begin + 7]) for begin in range(0, min(len(whole), 4000), 7)] + [(0.0, whole[4000:])]
        )
    elif way == "garbage":
        odd = (
            b"\x16\x03\x01\x02\x00",
            b"SSH-2.0-x\r\n",
            b"HTTP/9.9 200 OK\r\n\r\n",
            b"\x00" * 2**20,
            b"x" * 3_000_000,
            b"\r\n" * 1000,
        )
        made.wire = Answer([(0.0, draw.choice(odd))], draw.choice(("close", "keep", "hang")))
    else:
        interim = b"HTTP/1.1 10%d X\r\nlink: <x>\r\n\r\n" % draw.choice((0, 2, 3))
        before = {"before": b"\r\n\x00", "interim": interim * draw.choice((1, 3, 2000))}.get(way, b"")
        after = {"after": b"\x1b]0;x\x07" * 9, "twice": whole}.get(way, b"")
        made.wire = Answer([(0.0, before), *made.wire.pieces, (0.0, after)])


ANSWER, PAGES = ("answer",), ("models", "version", "health")
#: Of each kind: which layer it changes, how often it is drawn, and on which pages.
KINDS: dict[str, tuple[str, int, tuple[str, ...]]] = {
    "count": ("documents", 5, ANSWER),
    "value": ("documents", 4, (*ANSWER * 3, *PAGES)),
    "field": ("documents", 3, (*ANSWER * 3, *PAGES)),
    "key": ("documents", 4, (*ANSWER * 3, *PAGES)),
    "metrics": ("documents", 2, ("metrics",)),
    "bytes": ("frames", 2, (*ANSWER * 4, *PAGES, "metrics")),
    "chunks": ("frames", 2, ANSWER),
    "framing": ("frames", 2, ANSWER),
    "head": ("head", 2, (*ANSWER * 3, *PAGES, "metrics")),
    "redirect": ("head", 2, (*ANSWER, *PAGES, "metrics")),
    "status": ("head", 2, (*ANSWER * 3, *PAGES, "metrics")),
    "connection": ("wire", 2, (*ANSWER * 4, *PAGES, "metrics")),
}  # fmt: skip
CHANGES: dict[str, Callable[[Made, random.Random], None]] = {
    CLAIM: claim,
    "count": change_count, "value": change_value, "field": change_field, "key": change_key, "metrics": change_metrics,
    "bytes": change_bytes, "chunks": change_chunks, "framing": change_framing, "head": change_head,
    "redirect": change_redirect, "status": change_status, "connection": change_connection,
}  # fmt: skip


# the server

PATHS = {"v1/models": "models", "health": "health", "metrics": "metrics", "version": "version",
         "v1/completions": "answer", "v1/chat/completions": "answer"}  # fmt: skip


class Server:
    """Both ports."""

    def __init__(self, key: str, log: Path) -> None:
        self.key, self.log, self.elsewhere = key, log, 0
        self.counts: dict[tuple[str, str], int] = {}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
            while await self.one(reader, writer):
                pass
        writer.close()

    async def one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request; whether there may be another."""
        line, *headers = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        fields = {name.lower(): value for name, _, value in (one.partition(": ") for one in headers)}
        body = json.loads(await reader.readexactly(int(fields.get("content-length", 0))) or b"{}")
        _, name, rest = line.split(" ")[1].split("/", 2)
        page = PATHS.get(rest, "other")
        count = self.counts[name, page] = self.counts.get((name, page), 0) + 1
        made = answer(named(name), page, body, count, self.key, self.elsewhere)
        for seconds, content in made.pieces:
            await asyncio.sleep(seconds)
            writer.write(content)
            await writer.drain()
        if made.end == "hang":
            await reader.read(1)  # until the client has enough
        if made.end == "reset":
            writer.transport.abort()
        return made.end == "keep"

    async def note(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """What came by a redirect."""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            head = await reader.readuntil(b"\r\n\r\n")
            with self.log.open("ab") as file:
                file.write(head)
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
        writer.close()


async def main(key: str, log: str) -> None:
    server = Server(key, Path(log))
    ports = []
    for handler in (server.note, server.serve):
        made = await asyncio.start_server(handler, "127.0.0.1", 0, limit=2**24)
        ports.append(made.sockets[0].getsockname()[1])
        server.elsewhere = ports[0]
    print(json.dumps({"elsewhere": ports[0], "own": ports[1]}), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(*sys.argv[1:]))
