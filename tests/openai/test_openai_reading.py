"""What bytes mean: exchanges made by hand, whose times and counts are known."""

from __future__ import annotations

import itertools
import json
import re
import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llem.backends.wire import Asked, Exchange
from llem.errors import ConfigError, ExperimentFailed
from llem.metrics.flow import FAILED, UNFINISHED
from llem.store.models import RequestRow
from llem.store.tables import read_requests, requests_bytes
from llem_openai.counting import metrics
from llem_openai.dialect import detect
from llem_openai.failures import RequestFailed, unreached
from llem_openai.reading import Reader
from llem_openai.sse import Events

MS = 1_000_000
TTFT, TOKEN = 100 * MS, 20 * MS
KEY = "sk-secret/1234"
#: A key that JSON escapes.
KEYED = 'se"3y/cret\\x'


def exchange(*pieces, tokens=16, prompt=None, status=200, error="", ended=True):
    """One that is over, of (milliseconds since it was sent, bytes)."""
    made = Exchange(Asked(7, prompt, tokens), b"", lambda _: None, sent_ns=1)
    made.times_ns = [1 + round(at * MS) for at, _ in pieces]
    made.pieces = [data for _, data in pieces]
    made.status, made.error = status, error
    made.ended_ns = (made.times_ns[-1] if pieces else 2) if ended else 0
    return made


def event(content, name=""):
    """One event of a stream."""
    data = content if isinstance(content, str) else json.dumps(content)
    return (f"event: {name}\n" if name else "").encode() + b"data: " + data.encode() + b"\n\n"


def usage(done, prompt=32, **more):
    """The section of that name."""
    return {"usage": {"prompt_tokens": prompt, "completion_tokens": done, **more}}


def choice(part, finish=None, **more):
    """An event with a choice."""
    return {"id": "x", "choices": [{"index": 0, "finish_reason": finish, **part}], **more}


def text(said="w ", **more):
    """An event of completions."""
    return choice({"text": said}, **more)


def delta(**part):
    """An event of chat."""
    return choice({"delta": part})


def answer(events, done=16, end=None, told=None, **more):
    """A stream: each event 20 ms after the last from 100 ms on, then the end and the final usage, as they come."""
    at = [100 + 20 * place for place in range(len(events))]
    last = at[-1] if at else 100
    closing = (
        event(end or choice({"text": ""}, "length"))
        + event({"choices": [], **usage(done, **(told or {}))})
        + event("[DONE]")
    )
    return exchange(*((when, event(one)) for when, one in zip(at, events, strict=True)), (last, closing), **more)


def read(made, method="final_usage", *, key=None, token_ids=False):
    """As the wire reads it."""
    return Reader(key, method, token_ids).read(made)


def latencies(found):
    """TTFT and mean time per further token in milliseconds, by the chunks with tokens."""
    brought = [chunk for chunk in found.chunks if chunk.tokens]
    first, last = brought[0], brought[-1]
    tokens = sum(chunk.tokens for chunk in brought) - first.tokens
    return (first.time_ns - 1) / MS, (last.time_ns - first.time_ns) / MS / tokens if tokens else None


# what counts as a token

CALL = {"index": 0, "id": "t", "type": "function", "function": {"name": "f", "arguments": "x "}}
BRINGING = {
    "content": delta(content="w"),
    "parts": delta(content=[{"type": "text", "text": "w"}]),
    "tool call": delta(tool_calls=[CALL]),
    "arguments alone": delta(tool_calls=[{"index": 0, "function": {"arguments": "{"}}]),
    "custom tool": delta(tool_calls=[{"index": 0, "type": "custom", "custom": {"input": "x"}}]),
    "function call": delta(function_call={"arguments": "{"}),
    "reasoning_content": delta(reasoning_content="hm", content=None),
    "reasoning": delta(reasoning="hm"),
    "refusal": delta(refusal="no"),
    "audio": delta(audio={"id": "a", "data": "AAAA"}),
    "text": text(),
}


@pytest.mark.parametrize("name", BRINGING)
def test_deltas_that_bring_tokens(name):
    """After a delta that says who speaks, each has a token: TTFT 100 ms, 20 ms a token, E2EL 400 ms."""
    role = (1, event(delta(role="assistant", content="")))
    plain = answer([BRINGING[name]] * 16)
    made = exchange(role, *((at / MS, data) for at, data in zip(plain.times_ns, plain.pieces, strict=True)))
    found = read(made)
    assert found.failure is None
    assert [chunk.tokens for chunk in found.chunks] == [1] * 16 + [0]
    assert latencies(found) == pytest.approx((100, 20))
    assert [chunk.finish_reason for chunk in found.chunks] == [None] * 16 + ["length"]
    assert found.chunks[-1].time_ns == pytest.approx(400 * MS, abs=2)


SILENT = (
    delta(role="assistant", content=""),
    delta(role="assistant", content=None, refusal=None),
    delta(),
    delta(tool_calls=[]),
    delta(tool_calls=[{"index": 0, "function": {"arguments": ""}}]),
    delta(function_call=None),
    text(""),
    {"choices": [], "prompt_filter_results": [{}]},
    {"object": "ping"},
)


@pytest.mark.parametrize("silent", SILENT, ids=str)
def test_deltas_that_bring_none(silent):
    """Who speaks, nothing, or what is no choice: no token, and no sign of progress."""
    found = read(exchange((10, event(silent)), ended=False))
    assert (list(found.chunks), found.failure) == ([], None)


def test_comments_are_no_progress():
    """Of a server that keeps its connection alive, the last token is the last one that came."""
    pieces = [(100, event(text())), *((at, b": keep-alive\n\n") for at in range(500, 5000, 500))]
    found = read(exchange(*pieces, ended=False))
    assert [chunk.time_ns for chunk in found.chunks] == [1 + 100 * MS]


# how they are counted


@pytest.mark.parametrize(
    ("told", "method"),
    [
        ([1, 2, 3, 4], "continuous_usage"),
        ([1, 1, 2, 2, 3, 3], "continuous_usage"),
        ([4, 8], "continuous_usage"),
        ([3, 6, 8], "continuous_usage"),
        ([8], "final_usage"),
        ([0, 0, 0, 0], "final_usage"),
        ([0, 0, 0, 8], "final_usage"),
        ([8, 8, 8, 8], "final_usage"),
        ([1, 1, 1, 8], "final_usage"),
        ([8, 7, 6, 5], "final_usage"),
        ([None, None, 8], "final_usage"),
        ([None, 2, 3], "final_usage"),
    ],
)
def test_continuous_usage_grows(told, method):
    """One that is zero, constant or there at the end alone is the final usage."""
    events = [text(**({} if one is None else usage(one))) for one in told]
    assert detect([delta(role="assistant", content=""), *events, choice({"text": ""}, "length")]) == method


def test_usage_that_is_zero_until_the_end():
    """Tokens are of the events: TTFT 100 ms, 20 ms a token."""
    events = [text(**usage(0))] * 16
    found = read(answer(events, end=choice({"text": ""}, "length", **usage(16))), detect(events))
    assert [chunk.tokens for chunk in found.chunks] == [1] * 16 + [0]
    assert latencies(found) == pytest.approx((100, 20))


def test_usage_that_is_one_event_late():
    """Each event's tokens are told with the next one, and those of the last by the usage alone: they came when their
    text did."""
    late = [text("w ", **usage(count)) for count in range(5)]
    found = read(answer(late, done=5, tokens=5), "continuous_usage")
    brought = [(chunk.tokens, chunk.time_ns) for chunk in found.chunks if chunk.tokens]
    assert brought == [(1, 1 + TTFT + count * TOKEN) for count in range(5)]
    assert "tokens_without_event" not in (found.chunks[-1].engine_metrics or {})


def test_continuous_usage_tells_the_tokens_of_a_chunk():
    """Four tokens a chunk; the first is of the role alone and has none, whatever its usage says."""
    role = choice({"delta": {"role": "assistant", "content": ""}}, **usage(1))
    events = [choice({"delta": {"content": "w" * 4}}, **usage(4 * place)) for place in range(1, 5)]
    found = read(answer([role, *events]), "continuous_usage")
    assert [chunk.tokens for chunk in found.chunks] == [4, 4, 4, 4, 0]
    assert latencies(found)[0] == pytest.approx(120)


def test_a_whole_answer_in_one_chunk():
    """All its tokens are in the one chunk, by either way of counting, and by an answer that is no stream."""
    whole = choice({"message": {"content": "w " * 16}}, "length", **usage(16))
    for made, method in (
        (answer([text("w " * 16, **usage(16))]), "final_usage"),
        (answer([text("w " * 16, **usage(16))]), "continuous_usage"),
        (exchange((100, json.dumps(whole)[:40].encode()), (100, json.dumps(whole)[40:].encode())), "final_usage"),
    ):
        found = read(made, method)
        assert found.failure is None
        assert [chunk.tokens for chunk in found.chunks] == [16, 0]
        assert latencies(found) == (pytest.approx(100), None)


def test_tokens_that_no_event_told_came_with_those_that_did():
    """Four tokens an event: 5 ms a token where events are 20 ms apart. One more than events: with the last text.

    There is no chunk of its own for the rest, whose gap would be none; its number is told.
    """
    found = read(answer([text("w " * 4)] * 4))
    assert [chunk.tokens for chunk in found.chunks] == [4, 4, 4, 4, 0]
    assert latencies(found) == pytest.approx((100, 5))
    assert found.chunks[-1].engine_metrics == {"prompt_tokens": 32, "tokens_without_event": 12}
    assert [chunk.tokens for chunk in read(answer([text()] * 15)).chunks] == [1] * 14 + [2, 0]
    brought = [chunk.time_ns for chunk in found.chunks if chunk.tokens]
    assert len(set(brought)) == len(brought)


def said(content, **more):
    """An event of chat that says something."""
    return choice({"delta": {"content": content}}, **more)


def test_reasoning_that_is_hidden_came_before_the_first_token():
    """60 of 76 tokens are of reasoning, of which no event tells: they are not spread over the 15 gaps."""
    told = {"completion_tokens_details": {"reasoning_tokens": 60}}
    found = read(answer([said("w ")] * 16, done=76, told=told))
    assert [chunk.tokens for chunk in found.chunks] == [61] + [1] * 15 + [0]
    assert found.chunks[-1].engine_metrics == {"prompt_tokens": 32, "tokens_without_event": 60, "tokens_hidden": 60}


def test_reasoning_that_is_shown_is_not_hidden():
    """Four tokens an event, of thoughts first: all of them came with the events."""
    told = {"completion_tokens_details": {"reasoning_tokens": 8}}
    thoughts = [choice({"delta": {"reasoning_content": "w " * 4}})] * 2
    found = read(answer([*thoughts, said("w " * 4), said("w " * 4)], told=told))
    assert [chunk.tokens for chunk in found.chunks] == [4, 4, 4, 4, 0]
    assert "tokens_hidden" not in found.chunks[-1].engine_metrics


def test_text_after_done_is_no_part_of_the_answer():
    """Clients stop there. A finish reason or a usage that comes late is taken, for nothing else tells of them."""
    token, end = event(text()), event(choice({"text": ""}, "length"))
    done, counts = event("[DONE]"), event({"choices": [], **usage(2)})
    late = read(exchange((100, token), (120, token + end + counts + done), (140, token)))
    early = read(exchange((100, token), (120, token + done + end + counts)))
    for found in (late, early):
        assert found.failure is None
        assert latencies(found) == pytest.approx((100, 20))


def test_a_prompt_as_text_may_have_any_number_of_tokens():
    """The server's own number is told; what was asked with has no say."""
    found = Reader(None, "final_usage", False, exact_prompt=False).read(answer([text()] * 16, prompt=31))
    assert found.failure is None
    assert found.chunks[-1].engine_metrics == {"prompt_tokens": 32}


def test_token_ids_of_events():
    """They are the tokens where they were asked for, and must be as many."""
    events = [choice({"text": "w", "token_ids": [3, 4]})] * 8
    found = read(answer(events), "token_ids", token_ids=True)
    assert [chunk.token_ids for chunk in found.chunks] == [(3, 4)] * 8 + [()]
    short = read(answer(events[:7]), "token_ids", token_ids=True)
    assert short.failure == "the events brought 14 tokens, and the usage says 16"


# what cannot be right fails one request

BROKEN = {
    "no finish reason": (lambda: answer([text()] * 4, end=text("")), "before its finish_reason"),
    "no usage": (lambda: exchange((1, event(text(finish="length")))), "tells no usage"),
    "usage without a number": (lambda: exchange((1, event(text(finish="stop", usage={"a": 1})))), "tells no usage"),
    "too many events": (lambda: answer([text()] * 16, done=8), "events brought 16 tokens, and the usage says 8"),
    "usage shrinks": (lambda: answer([text(**usage(one)) for one in (3, 2)]), "goes down, from 3 to 2"),
    "negative": (lambda: answer([text()], done=-1), "counts -1 generated"),
    "a fraction": (lambda: answer([text()], done=1.5), r"counts 1\.5 generated"),
    "true": (lambda: answer([text()], done=True), "counts True generated"),
    "text": (lambda: answer([text()], done="9" * 99), "counts '999"),
    "absurd": (lambda: answer([text()], done=10**30), "counts 1000000000000000000000000000000 generated"),
    "too many": (lambda: answer([text()], done=10**6), "counts 1000000 generated"),
    "not JSON": (lambda: exchange((1, event("{oops"))), r"neither an event nor JSON: '\{oops'"),
    "a number of 5,000 digits": (lambda: exchange((1, event('{"a": ' + "9" * 5000))), "neither an event nor JSON"),
    "deep": (lambda: exchange((1, event('{"a":' + "[" * 100_000))), "neither an event nor JSON"),
    "a list": (lambda: exchange((1, event("[1]"))), "neither an event nor JSON"),
    "a page": (lambda: exchange((1, b"<html>\n<body>hello</body>")), "neither an event nor JSON: '<html>"),
    "nothing": (lambda: exchange(), "answers nothing"),
    "comments alone": (lambda: exchange((1, b": ping\n\n")), "neither an event nor JSON"),
    "choices": (lambda: exchange((1, event({"choices": {"a": 1}}))), "`choices` is no list"),
    "delta": (lambda: exchange((1, event(choice({"delta": "x"})))), "a delta is no object"),
    "usage": (lambda: exchange((1, event(text(usage=[1])))), "`usage` is no object"),
    "finish_reason": (lambda: exchange((1, event(text(finish={"a": 1})))), "`finish_reason` is no text"),
    "token_ids": (lambda: exchange((1, event(choice({"text": "", "token_ids": ["a"]})))), "`token_ids` is no list"),
    "error": (lambda: answer([text(), {"error": {"message": "engine broke", "code": 500}}]), r"\(500\): engine broke"),
    "error as text": (lambda: answer([text(), {"error": "engine broke"}]), "engine broke"),
    "object error": (lambda: answer([text(), {"object": "error", "message": "aborted", "code": 500}]), "aborted"),
    "type error": (lambda: answer([text(), {"type": "error", "message": "overloaded"}]), "overloaded"),
    "named error": (lambda: exchange((1, event(text())), (2, event({"message": "bad"}, "error"))), "bad"),
    "named error, plain": (lambda: exchange((1, event("Internal error", "error"))), "Internal error"),
    "error with 400, after tokens": (lambda: answer([text(), {"error": {"message": "bad", "code": 400}}]), "bad"),
    "error, not streamed": (lambda: exchange((1, b'{"error": {"message": "queue full"}}')), "queue full"),
    "the connection": (lambda: exchange((1, event(text())), error="the connection to x broke: y"), "x broke: y"),
    "an error before the connection": (
        lambda: exchange((1, event({"error": "engine broke"})), error="the connection to x broke: y"),
        "engine broke",
    ),
    "503": (lambda: exchange((1, b'{"error": {"message": "on purpose"}}'), status=503), r"\(503\): on purpose"),
    "429": (lambda: exchange((1, b"slow down"), status=429), r"\(429\): slow down"),
    "another prompt": (lambda: answer([text()] * 16, prompt=31), "counts 32 tokens in a prompt of 31"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_one_failed_request(name):
    """Its message is kept and bounded; on its way a request has not failed yet."""
    make, message = BROKEN[name]
    found = read(make())
    assert found.failure is not None
    assert re.search(message, found.failure), found.failure
    assert len(found.failure) < 700
    made = make()
    made.ended_ns, made.status, made.error = 0, 0, ""
    assert read(made).failure is None


@pytest.mark.parametrize("name", ["error", "error as text", "object error", "type error", "named error"])
def test_what_came_before_an_error_is_kept(name):
    """Its tokens were generated."""
    assert [chunk.tokens for chunk in read(BROKEN[name][0]()).chunks] == [1]


FATAL = {
    "refused": (
        exchange((1, b'{"error": {"message": "unknown field x"}}'), status=400),
        ConfigError,
        "unknown field x",
    ),
    "unauthorised": (exchange((1, b"Unauthorized"), status=401), ConfigError, "api_key_env"),
    "redirect": (exchange(status=307, error="the server redirects to http://else"), ConfigError, "http://else"),
    "refused in a stream": (exchange((1, event({"error": {"message": "bad", "code": 400}}))), ConfigError, "bad"),
    "memory": (exchange((1, b'{"message": "CUDA out of memory."}'), status=500), ExperimentFailed, "out of memory"),
    "memory in a stream": (answer([text(), {"error": "CUDA out of memory"}]), ExperimentFailed, "out of memory"),
    "gone": (exchange(error=unreached("u", ConnectionRefusedError(111, "refused"))), ExperimentFailed, "is gone"),
    "no files": (exchange(error=unreached("u", OSError(24, "x"))), ExperimentFailed, "Too many open files"),
    "no trust": (
        exchange(error=unreached("u", ssl.SSLCertVerificationError(1, "self-signed"))),
        ExperimentFailed,
        "self",
    ),
}


@pytest.mark.parametrize("name", FATAL)
def test_what_every_request_would_meet(name):
    """It ends the experiment, with words and a hint."""
    made, kind, message = FATAL[name]
    with pytest.raises(kind, match=re.escape(message)) as failed:
        read(made)
    assert failed.value.hint


def test_out_of_memory_is_an_outcome():
    """Whatever its status."""
    with pytest.raises(ExperimentFailed) as failed:
        read(FATAL["memory"][0])
    assert failed.value.code == "oom"


# what a server says about itself and about the key


def test_figures_are_seconds_and_can_be_right():
    """vLLM tells milliseconds; what is no figure, no name or beyond all bounds is left out."""
    told = {
        "queue_time_ms": 12.0,
        "generation_time_ms": None,
        "nan_ms": float("nan"),
        "endless_ms": float("inf"),
        "negative_ms": -1,
        "long_ms": 10**30,
        "true_ms": True,
        "speculative_decoding": {"a": 1},
        "=HYPERLINK(1)_ms": 1.0,
    }
    assert metrics({}, told, Asked(0, 3, 4), 100) == {"queue_time_s": 0.012}
    assert metrics({}, [1], Asked(0, 3, 4), 100) is None


@pytest.mark.parametrize(("cached", "kept"), [(0, 0), (32, 32), (33, None), (-1, None), (1.5, None), (True, None)])
def test_cached_tokens_are_within_the_prompt(cached, kept):
    """What cannot be is left out."""
    found = (
        metrics(usage(4, prompt_tokens_details={"cached_tokens": cached})["usage"], None, Asked(0, 32, 4), 100) or {}
    )
    assert found.get("cached_tokens") == kept


@pytest.mark.parametrize(
    ("told", "kept"), [(40, 40), (10_200, 10_200), (10_201, None), (2**30, None), (-1, None), (True, None), ("4", None)]
)
def test_a_prompt_of_text_has_no_more_tokens_than_its_request_can(told, kept):
    """Two a byte, and a template's: a server's number beyond is none."""
    found = metrics({"prompt_tokens": told}, None, Asked(0, None, 4), 100) or {}
    assert found.get("prompt_tokens") == kept


def test_how_much_was_sent_is_known_when_the_message_is_let_go_of():
    """After a load its answers are read: a long prompt of text keeps its number of tokens."""
    long = Exchange(Asked(7, None, 1), bytes(20_000), lambda _: None, sent_ns=1)
    whole = answer([text()], done=1, told={"prompt": 30_000}, tokens=1)
    long.times_ns, long.pieces, long.status, long.ended_ns = whole.times_ns, whole.pieces, 200, whole.ended_ns
    long.message = b""
    found = Reader(None, "final_usage", False, exact_prompt=False).read(long)
    assert found.chunks[-1].engine_metrics == {"prompt_tokens": 30_000}


@pytest.mark.parametrize("code", [True, 10**30, -1, 0, 200, 307, "429", None, 1e300])
def test_a_code_within_an_answer_that_is_no_refusal(code):
    """It is the request's failure, in words that stay short."""
    found = read(exchange((1, event({"error": {"message": "no", "code": code}}))))
    assert found.failure == "the server failed (500): no"


@pytest.mark.parametrize(
    "error",
    [[KEYED], {"code": 500, "type": KEYED}, {"message": {"a": KEYED}}, {KEYED: 1}],
    ids=["list", "field", "message", "name"],
)
def test_an_error_without_a_message_hides_the_key_however_json_writes_it(error):
    """The key has a quote, which JSON escapes."""
    reader = Reader(KEYED, "final_usage", token_ids=False)
    for found in (
        exchange((1, event({"error": error}))),
        exchange((1, json.dumps({"error": error}).encode()), status=503),
    ):
        with pytest.raises(RequestFailed) as raised:
            reader.chunks(found)
        assert "3y" not in raised.value.message
        assert "***" in raised.value.message


def test_an_error_that_nests_too_deeply_is_told_as_such():
    """Whatever of it can be read."""
    error: object = "x"
    for _ in range(300):
        error = {"a": [error]}
    reader = Reader(KEYED, "final_usage", token_ids=False)
    with pytest.raises(RequestFailed, match="the server failed"):
        reader.chunks(exchange((1, event({"error": error}))))


@pytest.mark.parametrize(
    "said",
    [KEY, KEY.replace("/", "\\/"), "\\u0073" + KEY[1:]],
    ids=["plain", "escaped slash", "escaped letter"],
)
def test_the_key_is_hidden_wherever_a_server_repeats_it(said):
    """Finish reason, error, figure's name, page: however it is spelt in JSON."""
    made = (
        answer([text()] * 16, end='{"choices": [{"text": "", "finish_reason": "KEY"}]}'.replace("KEY", said)),
        answer([text(), '{"error": {"message": "bad key KEY"}}'.replace("KEY", said)]),
        answer(['{"choices": [{"text": "w"}], "metrics": {"KEY_ms": 1}}'.replace("KEY", said)]),
        exchange((1, event('{"error": "KEY"}'.replace("KEY", said), "error"))),
    )
    for one in made:
        assert KEY not in repr(read(one, key=KEY))
    assert read(made[0], key=KEY).chunks[-1].finish_reason == "***"


def test_the_key_is_hidden_in_what_is_no_json():
    """A page, an error's page, a redirect, a broken connection."""
    for one in (
        exchange((1, b"<html>" + b"x" * 60 + KEY.encode())),
        exchange((1, KEY.encode()), status=500),
        exchange((1, event(KEY, "error"))),
        exchange(error=f"broke: {KEY}"),
    ):
        assert "***" in read(one, key=KEY).failure or "sk-" not in read(one, key=KEY).failure
        assert KEY[:8] not in read(one, key=KEY).failure
    with pytest.raises(ConfigError) as failed:
        read(exchange(status=302, error=f"the server redirects to http://x/?k={KEY}"), key=KEY)
    assert KEY not in str(failed.value)


def test_texts_of_a_server_are_bounded():
    """A finish reason has no more than a line of letters that can be stored."""
    [*_, last] = read(answer([text()] * 16, end=text("", finish="a\nb\ud800" + "c" * 10_000))).chunks
    assert last.finish_reason == "a b?" + "c" * 60
    failure = read(exchange((1, event({"error": "x" * 10_000})))).failure
    assert len(failure) < 600


# events, in all legal forms

NO_LINE_END = st.text().map(lambda t: t.encode()).filter(lambda b: b.strip() and b"\n" not in b and b"\r" not in b)


@given(st.lists(NO_LINE_END), st.sampled_from([b"\r\n", b"\n", b"\r"]), st.data())
def test_events_do_not_depend_on_how_they_arrive(datas, end, data):
    """Cut anywhere, the same events come out, whatever characters they hold and however lines end."""
    whole = b"".join(b"data: " + one + end + end for one in datas)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)))))
    events = Events()
    bounds = [0, *cuts, len(whole)]
    found = [event for low, high in itertools.pairwise(bounds) for event in events.feed(whole[low:high])]
    assert found == [(b"", one) for one in datas]


@pytest.mark.parametrize("end", [b"\r\n", b"\n", b"\r"])
def test_an_event_is_there_with_its_last_byte(end):
    """Its time is that of the piece that ends it, with a carriage return alone too."""
    first, second = b"data: a" + end + end, b"data: b" + end + end
    events = Events()
    assert [len(events.feed(bytes([byte]))) for byte in first] == [0] * (len(first) - len(end)) + [1] + [0] * (
        len(end) - 1
    )
    assert events.feed(second) == [(b"", b"b")]


def test_other_lines_are_passed_over():
    """Comments, ids and empty data are no events; several data lines are one; a name stands beside."""
    told = b"\xef\xbb\xbf: ping\n\nevent: x\nid: 3\nretry: 5\ndata: a\ndata:b\n\n"
    told += b"data\n\ndata:\n\ndata:  c\n\nevent: y\n\ndata: d\n\n"
    assert Events().feed(told) == [(b"x", b"a\nb"), (b"", b" c"), (b"", b"d")]


def test_a_long_line_in_many_pieces_takes_no_time():
    """Each byte is looked at once: a megabyte that comes byte by byte is no hang."""
    events = Events()
    assert [found for _ in range(1_000_000) for found in events.feed(b"x")] == []
    assert events.feed(b"\n\n") == []


@pytest.mark.parametrize("form", ["\r\n", "\r", ": ping\n\n", "no space", "empty data", "named"])
def test_streams_in_all_legal_forms(form):
    """TTFT 100 ms and 20 ms a token, however events are written."""

    def written(data):
        if form == "no space":
            return data.replace(b"data: ", b"data:")
        if form == "named":
            return b"event: message\nid: 1\n" + data
        if form == "empty data":
            return b"data:\n\n" + data
        return b": ping\n\n" + data if ":" in form else data.replace(b"\n", form.encode())

    made = answer([delta(content="w")] * 16)
    last = made.pieces.pop().split(b"\n\n")
    made.pieces = [written(data) for data in made.pieces] + [b"".join(written(one + b"\n\n") for one in last if one)]
    found = read(made)
    assert found.failure is None
    assert latencies(found) == pytest.approx((100, 20))


@given(st.data())
def test_any_cut_of_a_stream_is_the_same_answer(data):
    """Tokens and reasons do not hang on where a read ends."""
    plain = answer([delta(role="assistant"), *[delta(content="w")] * 15, delta(tool_calls=[CALL])])
    whole = b"".join(plain.pieces)
    cuts = [0, *sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=20))), len(whole)]
    found = read(exchange(*((10 * place, whole[a:b]) for place, (a, b) in enumerate(itertools.pairwise(cuts)))))
    assert found.failure is None
    assert [chunk.tokens for chunk in found.chunks] == [1] * 16 + [0]
    assert [chunk.time_ns for chunk in found.chunks] == sorted(chunk.time_ns for chunk in found.chunks)


@given(st.lists(st.binary(max_size=200), max_size=6), st.sampled_from(["final_usage", "continuous_usage", "token_ids"]))
def test_any_bytes_are_an_answer_or_a_failure(pieces, method):
    """No other error comes out of them."""
    found = read(exchange(*enumerate(pieces, start=1)), method)
    assert found.failure is not None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
PLACES = ("choices", "usage", "metrics", "delta", "message", "text", "content", "tool_calls", "function", "token_ids",
          "finish_reason", "completion_tokens", "prompt_tokens", "prompt_tokens_details", "cached_tokens", "audio",
          "function_call", "object", "type")  # fmt: skip


@given(st.sampled_from(PLACES), JSON, st.booleans())
def test_any_value_in_any_place_is_an_answer_or_a_failure(place, value, twice):
    """Wrongly shaped events fail their request, with a message."""
    part = {
        "delta": {"content": "w", "tool_calls": [CALL], "audio": {"data": "A"}},
        "token_ids": [1],
        "finish_reason": "stop",
    }
    whole = {"choices": [part], **usage(1, prompt_tokens_details={"cached_tokens": 1}), "metrics": {"a_ms": 1}}

    def changed(known):
        if isinstance(known, dict):
            return {name: value if name == place else changed(one) for name, one in known.items()} | (
                {place: value} if place not in known and twice else {}
            )
        return [changed(one) for one in known] if isinstance(known, list) else known

    for method in ("final_usage", "continuous_usage", "token_ids"):
        try:
            found = read(exchange((1, event(changed(whole)))), method)
        except ConfigError:
            continue
        for chunk in found.chunks:
            assert 0 <= chunk.tokens <= 10_160
        assert found.failure is None or isinstance(found.failure, str)


def test_a_whole_answer_that_failed():
    """The same words as of a stream."""
    reader = Reader(None, "final_usage", token_ids=False)
    assert reader.whole(exchange((1, b'{"choices": []}'))) == {"choices": []}
    for made, message in (
        (exchange((1, b'{"error": "x"}')), "x"),
        (exchange((1, b"[1]")), "neither an event nor JSON"),
        (exchange(error="the connection to x broke"), "broke"),
    ):
        with pytest.raises(RequestFailed, match=message):
            reader.whole(made)


@pytest.mark.parametrize(
    "reason", ["a,b", "\x9b31m", "\x1b]0;x\x07", "\u200b", "\ue000", "\ud800", "a;b=c", "x" * 5000, "\n\n"]
)
def test_any_finish_reason_can_be_stored(tmp_path, reason):
    """In a row, and read again as it was; one of blanks alone is none, so that the answer has not ended."""
    found = read(exchange((1, event(choice({"text": "w"}, reason, **usage(1)))), tokens=1))
    if reason.isspace():
        assert "ended before its finish_reason" in found.failure
        assert not any(chunk.finish_reason for chunk in found.chunks)
        return
    assert found.failure is None
    assert found.chunks
    told = found.chunks[-1].finish_reason
    row = RequestRow(0, 0, 3, 1, start_ns=1, end_ns=2, token_times_ns=(2,), finish_reason=told)
    (tmp_path / "rows.csv.gz").write_bytes(requests_bytes([row]))
    assert told
    assert read_requests(tmp_path / "rows.csv.gz") == (row,)


@pytest.mark.parametrize("written", ["{}", " {}", "{}\n", "\t{} "])
@pytest.mark.parametrize("reason", [FAILED, UNFINISHED])
def test_finish_reasons_that_are_llems_own_words(reason, written):
    """A server that says so has failed, however it writes them: no row may say that of an answer which counts."""
    found = read(exchange((1, event(choice({"text": "w"}, written.format(reason), **usage(1)))), tokens=1))
    assert found.failure == f"the server ended the answer with the finish reason {reason}"
