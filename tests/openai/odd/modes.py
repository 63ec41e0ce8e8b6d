"""The odd servers: what each does, and what is right under each load. `server.py` reads the options.

Unless a mode says otherwise, a server has its first token after 100 ms and then one each 40 ms, of six that are asked
for, and tells its usage at the end: TTFT 0.1 s, TPOT 0.04 s, E2EL 0.3 s.
"""

from __future__ import annotations

from typing import Any, NamedTuple

LOADS = ("offline", "closed", "open")
TOKENS = 6


class Times(NamedTuple):
    """Seconds that are right as medians; None where the value must be null, "any" where it cannot be known."""

    ttft: float | str | None = 0.1
    tpot: float | str | None = 0.04
    e2el: float | str | None = 0.3
    gap: float | str | None = "any"
    tokens: int = TOKENS


class Right(NamedTuple):
    """What is right: one of `ends`, and where numbers are valid these times.

    Attributes:
        ends: "measured" (done and valid, no error or warning about requests, tokens or chunks); "told" (done, and one
            of `codes` is among the findings); "invalid" (done, not valid, with one of `codes`); "failed" (no result,
            and an error that has `words`).
        null, values: metrics that are null, and those that have a value, besides the times.
        within_s: the experiment must have ended by then, loading included.
    """

    ends: tuple[str, ...]
    times: Times = Times()
    codes: tuple[str, ...] = ()
    words: str = ""
    null: tuple[str, ...] = ()
    values: dict[str, float] = {}
    within_s: float = 30.0


class Mode(NamedTuple):
    """A server: what it does, its options, the settings of llem besides, what is right; by load where that differs."""

    does: str
    options: dict[str, Any]
    right: Right
    settings: dict[str, Any] = {}
    offline: Right | None = None
    open: Right | None = None
    closed: Right | None = None
    loads: tuple[str, ...] = LOADS
    alone: bool = False  # it ends the command

    def right_for(self, load: str) -> Right:
        """Under one load."""
        found: Right | None = getattr(self, load)
        return found or self.right


USUAL = Times()
MEASURED = Right(("measured",))
#: All at once at the end of a request.
TOGETHER = Times(0.3, None, 0.3, None)
#: Failures within a window are this error. `request_errors` alone tells of failures outside (see `harness.ended`).
FAILED_CODES = ("requests_failed",)
COUNT_CODES = ("token_count_mismatch", "requests_failed")
#: Some requests fail: they are counted, and the run goes on with the right times of the others.
SOME_FAIL = Right(("told",), codes=FAILED_CODES)
#: A batch with a failed request is no batch.
BATCH_FAILS = Right(("failed",), words=r"\w")
TEXT = {"workload": {"kind": "prompts", "output_tokens": TOKENS}}
CHAT = {"openai.endpoint": "chat", **TEXT}
#: Every fourth request, after the first four, which the engine and the warm-up take.
SOME = {"every": 4, "spare": 4}
LATE = Right(("told",), codes=FAILED_CODES, within_s=40.0)


#: Of servers that hang. Others have longer, so that a machine that is busy is no failure.
SHORT = {"openai.timeout_s": 1.0, "openai.deadline_s": 5.0}


def failed(words: str, within_s: float = 30.0) -> Right:
    """No result, and an error with these words (a regular expression)."""
    return Right(("failed",), words=words, within_s=within_s)


def unsound(words: str = r"\w", *codes: str) -> Right:
    """Failed or invalid: in no case a valid number."""
    return Right(("failed", "invalid"), words=words, codes=codes or COUNT_CODES)


def shared_out(times: Times) -> Right:
    """Events that tell of fewer tokens than the usage at the end: llem shares them out, and says so of a load."""
    return Right(("told",), times, codes=("tokens_untold",))


def some(fault: str, does: str, right: Right = SOME_FAIL, offline: Right = BATCH_FAILS, **options: Any) -> Mode:
    """A fault of every fourth request."""
    settings = SHORT if right is LATE else {}
    return Mode(f"every fourth request {does}", {"fault": fault, **SOME, **options}, right, settings, offline=offline)


USAGE = {
    "plain": Mode("nothing odd", {}, MEASURED),
    "continuous": Mode("usage with each event", {"usage": "continuous"}, MEASURED),
    "usage_none": Mode("no usage at all", {"usage": "none"}, failed("usage")),
    "usage_null": Mode("usage null but for the end", {"usage": "null"}, MEASURED),
    "usage_zero": Mode("usage zero to the end", {"usage": "zero"}, unsound("usage|token")),
    "usage_zero_then_final": Mode("usage zero but for the last event", {"usage": "zero_then_final"}, MEASURED),
    "usage_last_chunk": Mode("usage in the event that ends", {"usage": "last_chunk"}, MEASURED),
    "usage_shrinking": Mode("usage that falls", {"usage": "shrinking"}, unsound("usage|token")),
    "usage_negative": Mode("usage below zero", {"completion": -6}, unsound("usage|token")),
    "usage_float": Mode("usage 6.0", {"completion": 6.0}, failed("usage")),
    "usage_fraction": Mode("usage 5.5", {"completion": 5.5}, unsound("usage|token")),
    "usage_string": Mode('usage "6"', {"completion": "6"}, failed("usage")),
    "usage_true": Mode("usage true", {"completion": True}, unsound("usage|token")),
    "usage_list": Mode("usage is a list", {"completion": "list"}, unsound("usage|token|list")),
    "usage_enormous": Mode("usage 10**30", {"completion": 10**30}, unsound("usage|token")),
    "usage_larger": Mode("one token more in the usage than asked for", {"completion_add": 1}, unsound()),
    "usage_smaller": Mode("a token less in the usage than events", {"completion_add": -1}, unsound()),
    "prompt_longer": Mode("a prompt token more than sent", {"prompt_add": 1}, failed("prompt")),
    "prompt_shorter": Mode("a prompt token less than sent", {"prompt_add": -1}, failed("prompt")),
    "prompt_as_text": Mode(
        "other tokens in a prompt of text", {"prompt_add": 1}, MEASURED, {"openai.prompt": "text", **TEXT}
    ),
    "prompt_enormous": Mode(
        "a prompt of 10**30 tokens",
        {"usage_extra": {"prompt_tokens": 10**30}},
        MEASURED,
        {"openai.prompt": "text", **TEXT},
    ),
    "cached_more_than_prompt": Mode(
        "more cached tokens than the prompt has",
        {"usage_extra": {"prompt_tokens_details": {"cached_tokens": 10**6}}},
        MEASURED,
    ),
    "cached": Mode(
        "half of each prompt is cached",
        {"usage_extra": {"prompt_tokens_details": {"cached_tokens": 4}}},
        Right(("told",), codes=("cache_warm",), values={"cached_tokens_share": 0.5}),
    ),
    "cached_odd": Mode(
        "cached tokens as a word", {"usage_extra": {"prompt_tokens_details": {"cached_tokens": "many"}}}, MEASURED
    ),
    "details_odd": Mode("details are a list", {"usage_extra": {"prompt_tokens_details": [1]}}, MEASURED),
    "metrics_nan": Mode(
        "metrics beside the usage that are no numbers",
        {"extra": {"metrics": {"x_ms": float("nan"), "y_ms": "z"}}},
        MEASURED,
    ),
}

CHUNKS = {
    "one_chunk": Mode("all tokens in one event", {"per_chunk": 6, "ttft": 0.3}, Right(("measured",), TOGETHER)),
    "one_chunk_continuous": Mode(
        "all tokens in one event, usage with it",
        {"per_chunk": 6, "ttft": 0.3, "usage": "continuous"},
        Right(("measured",), TOGETHER),
    ),
    "three_a_chunk": Mode(
        "three tokens an event, usage with each",
        {"per_chunk": 3, "usage": "continuous"},
        Right(("measured",), Times(0.1, 0.04, 0.22, 0.12)),
    ),
    "three_a_chunk_final": Mode(
        "three tokens an event, usage at the end",
        {"per_chunk": 3},
        shared_out(Times(0.1, "any", 0.22, 0.12)),
        offline=Right(("measured",), Times(0.1, "any", 0.22, 0.12)),
    ),
    "pieces": Mode("each token in two events", {"pieces": 2, "usage": "continuous"}, MEASURED),
    "pieces_final": Mode("each token in two events, usage at the end", {"pieces": 2}, unsound("token")),
    "twice": Mode("each event twice, usage at the end", {"twice": True}, unsound("token")),
    "twice_continuous": Mode("each event twice, usage with each", {"twice": True, "usage": "continuous"}, MEASURED),
    "empties": Mode("two empty events after each token", {"empties": 2}, MEASURED),
    "no_text": Mode(
        "events without text, usage at the end",
        {"text": ""},
        Right(("measured",), TOGETHER),
    ),
    "no_text_continuous": Mode("events without text, usage with each", {"text": "", "usage": "continuous"}, MEASURED),
    "held": Mode(
        "the text of two tokens comes with the third",
        {"held": 2},
        shared_out(Times(0.18, "any", 0.3)),
        offline=Right(("measured",), Times(0.18, "any", 0.3)),
    ),
    "role_first": Mode("a role without text at once", {"role_first": True}, MEASURED, CHAT),
    "reasoning_content": Mode("thoughts as reasoning_content", {"field": "reasoning_content"}, MEASURED, CHAT),
    "reasoning": Mode("thoughts as reasoning", {"field": "reasoning"}, MEASURED, CHAT),
    "half_reasoning": Mode("thoughts first", {"reasoning": 3}, MEASURED, CHAT),
    "reasoning_uncounted": Mode(
        "thoughts that the usage leaves out", {"reasoning": 3, "uncounted": 3}, unsound("token"), CHAT
    ),
    "refusal": Mode("a refusal instead of content", {"field": "refusal"}, MEASURED, CHAT),
    "tool_calls": Mode("tool calls", {"field": "tool_calls", "role_first": True}, MEASURED, CHAT),
    "function_call": Mode("a function call of the old kind", {"field": "function_call"}, MEASURED, CHAT),
    "finish_missing": Mode("no finish reason", {"finish": None}, unsound("finish|end", "requests_failed")),
    "finish_strange": Mode("a finish reason that nobody knows", {"finish": "eos_token"}, MEASURED),
    "finish_number": Mode("a finish reason that is a number", {"finish": 7}, failed("finish_reason")),
    "finish_object": Mode("a finish reason that is an object", {"finish": {"type": "stop"}}, failed("finish_reason")),
    "finish_huge": Mode("a finish reason of 2 MB", {"finish": "huge"}, MEASURED),
    "finish_key": Mode(
        "the key in the finish reason", {"finish": "sk-odd-secret"}, MEASURED, {"openai.api_key_env": "ODD_KEY"}
    ),
    "two_choices": Mode("two choices", {"choices": "two", "completion_add": 6}, unsound("token|choice")),
    "choices_dict": Mode("choices are an object", {"choices": "dict"}, unsound()),
    "other_model": Mode("the name of another model in each event", {"model": "gpt-0"}, MEASURED),
    "stops_early": Mode("an end after three tokens", {"eos": 3}, unsound("token", "token_count_mismatch")),
    "more_tokens": Mode("two tokens more than asked for", {"more": 2}, unsound("token", "token_count_mismatch")),
    "surrogates": Mode("half a character, as JSON may have it", {"text": "\ud800"}, MEASURED),
    "line_separators": Mode("characters at which Python splits lines", {"sse": "raw"}, MEASURED),
    "jitter": Mode(
        "a TTFT of 50 and 150 ms in turn", {"jitter": [0.05, 0.15]}, Right(("measured",), Times("any", 0.04, "any"))
    ),
    "no_waiting": Mode(
        "everything at once",
        {"ttft": 0.0, "itl": 0.0},
        Right(("measured", "told"), Times("any", "any", "any"), codes=("chunks_together",)),
    ),
    "slow": Mode("a TTFT of half a second", {"ttft": 0.5}, Right(("measured",), Times(0.5, 0.04, 0.7))),
    "very_slow": Mode(
        "requests longer than the window",
        {"ttft": 1.5},
        Right(("measured", "invalid", "told"), Times(1.5, "any", 1.7), codes=("no_completions", "not_stationary")),
        offline=Right(("measured",), Times("any", "any", "any")),
        settings={"openai.timeout_s": 3.0, "openai.deadline_s": 10.0},
    ),
    "queue": Mode(
        "one request at a time: an open load beyond the capacity",
        {"slots": 1},
        Right(("measured",), Times(0.4, 0.04, 0.6)),
        offline=Right(("measured",), Times("any", 0.04, 0.6)),
        open=Right(
            ("told",),
            Times("any", 0.04, "any"),
            codes=("over_saturated", "not_stationary", "requests_unfinished"),
            within_s=40,
        ),
        settings={"openai.timeout_s": 20.0, "openai.deadline_s": 20.0},
    ),
}

STREAM = {
    "done_missing": Mode("no [DONE]", {"done": "missing"}, MEASURED),
    "done_early": Mode("[DONE] before finish reason and usage", {"done": "early"}, MEASURED),
    "done_twice": Mode("[DONE] twice", {"done": "twice"}, MEASURED),
    "after_done": Mode("a token after [DONE]", {"done": "after"}, MEASURED),
    "open_after_done": Mode(
        "a stream that is not closed after [DONE]",
        {"done": "hang"},
        failed("no token came"),
        SHORT,
    ),
    "crlf": Mode("lines that end in CR and LF", {"sse": "crlf"}, MEASURED),
    "cr": Mode("lines that end in CR", {"sse": "cr"}, MEASURED),
    "comments": Mode("comments around each event", {"sse": "comments"}, MEASURED),
    "named": Mode("names, ids and retry times of events", {"sse": "named"}, MEASURED),
    "no_space": Mode("no space after data:", {"sse": "no_space"}, MEASURED),
    "empty_data": Mode("an event without data before each", {"sse": "empty_data"}, MEASURED),
    "many_lines": Mode("the data of an event in two lines", {"sse": "many_lines"}, MEASURED),
    "ping": Mode("an event {} before each", {"sse": "ping"}, MEASURED),
    "bytes": Mode("29 bytes at a time", {"sse": "bytes"}, MEASURED),
    "bom": Mode("a byte order mark first", {"before": "\ufeff"}, MEASURED),
    "ndjson": Mode("lines of JSON without data:", {"sse": "ndjson"}, failed(r"\w")),
    "latin1": Mode("bytes that are no UTF-8", {"sse": "latin1"}, failed("neither an event nor JSON")),
    "plain_json": Mode(
        "a whole answer where a stream is asked for",
        {"http": "json"},
        Right(("measured",), TOGETHER),
    ),
    "http10": Mode("HTTP/1.0, ended by closing", {"http": "close"}, MEASURED),
    "length": Mode(
        "a stream of known length, at once",
        {"http": "length"},
        Right(("measured",), TOGETHER),
    ),
    "trailers": Mode("trailers after the last chunk", {"http": "trailers"}, MEASURED),
    "extensions": Mode("chunk extensions", {"http": "extensions"}, MEASURED),
    "early_hints": Mode("an interim answer first", {"http": "early"}, MEASURED),
    "gzip": Mode("says gzip and is not", {"head": ["content-encoding: gzip"]}, failed("compressed")),
    "other_type": Mode("a stream that calls itself text/html", {"type": "text/html"}, MEASURED),
    "huge_header": Mode("a header of 100 kB", {"head": ["x-odd: " + "x" * 100_000]}, MEASURED),
    "huge_event": Mode(
        "an event of 2 MB in every fourth request",
        {"text": "huge", **SOME},
        Right(("measured", "told"), Times("any", "any", "any"), ("client_lag", "chunks_together"), within_s=40),
        offline=Right(("measured",), Times("any", "any", "any"), within_s=40),
    ),
    "empty_body": Mode("200 with an empty body", {"status": 200, "body": " "}, failed(r"\w")),
    "html": Mode("200 with a page for people", {"status": 200, "body": "<html>hello</html>"}, failed(r"\w")),
    "no_content": Mode("204", {"status": 204, "body": " "}, failed(r"\w")),
    "redirect_here": Mode(
        "307 to itself",
        {"status": 307, "head": ["location: /elsewhere"]},
        failed("307"),
        {"openai.api_key_env": "ODD_KEY"},
    ),
}

STATUS = {
    f"status_{code}": Mode(f"{code} to everything", {"status": code}, failed(str(code)))
    for code in (401, 403, 404, 413, 422, 429, 500, 503)
} | {
    "html_502": Mode("a page of a proxy with 502", {"status": 502, "body": "<html>Bad Gateway</html>"}, failed("502")),
    "retry_after": Mode("429 with Retry-After", {"status": 429, "head": ["retry-after: 1"]}, failed("429")),
    "long_refusal": Mode("a refusal of 2 MB", {"status": 500, "body": "x" * 2_000_000}, failed("500")),
    "refusal_with_key": Mode(
        "a refusal that repeats the key",
        {"status": 400, "body": '{"error": "sk-odd-secret"}'},
        failed("400"),
        {"openai.api_key_env": "ODD_KEY"},
    ),
    "some_429": some("", "429", status=429),
    "some_500": some("", "500", status=500),
    "some_503_under_load": Mode(
        "503 to what comes while two are in flight",
        {"status": 503, "beyond": 1},
        Right(("told", "failed"), Times("any", "any", "any"), codes=FAILED_CODES, words="503"),
    ),
}

FAULTS = {
    "truncated": some("truncate", "ends without its finish reason"),
    "truncated_done": some("truncate_done", "says [DONE] without its finish reason"),
    "no_finish": some("no_finish", "has all tokens and no finish reason"),
    "truncated_always": Mode("every stream breaks off", {"fault": "truncate"}, failed(r"\w")),
    "reset": some("reset", "is reset"),
    "reset_always": Mode("every stream is reset", {"fault": "reset"}, failed(r"\w")),
    "half_close": some("half_close", "is closed in the middle"),
    "hangs_before": some("hang_before", "is never answered", LATE),
    "hangs_before_always": Mode(
        "nothing is ever answered", {"fault": "hang_before"}, failed("no token came", 15), SHORT
    ),
    "hangs_headers": some("hang_headers", "has headers alone", LATE),
    "hangs_headers_always": Mode(
        "headers, and nothing more", {"fault": "hang_headers"}, failed("no token came", 15), SHORT
    ),
    "hangs": some("hang_mid", "stops in the middle", LATE),
    "hangs_with_patience": Mode(
        "every fourth request stops in the middle, and its patience is longer than the load",
        {"fault": "hang_mid", **SOME},
        Right(("invalid",), codes=("requests_hang",), within_s=40.0),
        {"openai.timeout_s": 600, "openai.deadline_s": 600},
        loads=("closed", "open"),
    ),
    "hangs_behind_comments": some("hang_comments", "stops behind comments", LATE),
    "hangs_behind_comments_always": Mode(
        "every stream stops behind comments", {"fault": "hang_comments"}, failed("no token came", 15), SHORT
    ),
    "hangs_behind_empty_events": some("hang_empty", "stops behind events without text", LATE),
    "hangs_after_warm_up": Mode(
        "nothing is answered after the warm-up",
        {"fault": "hang_before", "spare": 4},
        Right(("failed", "invalid"), words="no token came", codes=("no_completions", "requests_failed"), within_s=40),
        SHORT,
    ),
    "drips": some("drip", "brings a byte a second", LATE),
    "endless": some(
        "endless",
        "never ends",
        LATE,
    ),
    "error_object": some("error_object", "has an error in the stream"),
    "error_400": some("error_400", "has an error 400 in the stream"),
    "error_string": some("error_string", "has an error in words"),
    "error_vllm": some("error_vllm", "has an error as vLLM writes it"),
    "error_goes_on": some("error_goes_on", "has errors and goes on"),
    "error_always": Mode(
        "an error in every stream", {"fault": "error_object"}, failed("the engine aborted the request")
    ),
    "no_json": some("no_json", "has an event that is no JSON"),
    "list_event": some("list", "has an event that is a list"),
    "number_event": some("number", "has an event that is a number"),
    "deep_event": some("deep", "has brackets 200,000 deep"),
    "choices_text": some("choices_text", "has choices that are text"),
    "choices_numbers": some("choices_numbers", "has choices that are numbers"),
    "delta_list": some("delta_list", "has a delta that is a list"),
}

PAGES = {
    "closes_each": Mode("closes after each answer and says so", {"http": "announced"}, MEASURED),
    "closes_third": Mode("closes after each third answer unannounced", {"close_after": 3}, MEASURED),
    "closes_each_unannounced": Mode("closes after each answer unannounced", {"close_after": 1}, MEASURED),
    "closes_idle": Mode(
        "closes what is idle for 20 ms",
        {"idle_s": 0.02},
        MEASURED,
    ),
    "one_connection": Mode(
        "closes every connection but the first two at once",
        {"most": 2},
        MEASURED,
        open=Right(("measured", "told"), codes=FAILED_CODES),
    ),
    "dies": Mode(
        "is gone after six requests",
        {"own_port": True, "dies_after": 6},
        Right(("failed", "invalid"), Times("any", "any", "any"), words=r"\w", codes=("requests_failed",)),
    ),
    "restarts": Mode(
        "is gone for 0.3 s after six requests",
        {"own_port": True, "dies_after": 6, "back_s": 0.3},
        Right(("failed", "told"), words=r"\w", codes=FAILED_CODES),
    ),
    "models_empty": Mode("an empty list of models", {"models": []}, failed("0 models|no model|model")),
    "models_two": Mode("two models", {"models": [{"id": "a"}, {"id": "b"}]}, failed("2 models|served_model")),
    "models_odd": Mode("a list of models with other things", {"models": [1, None, "x"]}, failed("model")),
    "models_object": Mode("models that are an object", {"models": {"id": "odd"}}, failed("model")),
    "models_huge": Mode("a list of models of 2 MB", {"models": "huge"}, failed("no list of models")),
    "models_number": Mode(
        "a model whose name is a number", {"models": [{"id": 7}]}, failed("no model that has a name")
    ),
    "models_escapes": Mode(
        "a model whose name has control sequences",
        {"models": [{"id": "\x1b[31mred\x07"}]},
        failed("no model that has a name"),
    ),
    "models_key": Mode(
        "a model whose name is the key",
        {"models": [{"id": "sk-odd-secret"}]},
        MEASURED,
        {"openai.api_key_env": "ODD_KEY"},
    ),
    "models_404": Mode("no list of models", {"models_status": 404}, failed("404|model"), alone=True),
    "health_404": Mode("no /health", {"health": 404}, MEASURED),
    "health_503": Mode("/health 503 for good", {"health": 503}, failed("503"), alone=True),
}

#: Cases of which the right values were known before they were run.
SIXTEEN = {"workload": {"kind": "synthetic", "input_tokens": 32, "output_tokens": 16}}
LIMIT = {**SIXTEEN, "slo": {"tpot_s": 0.05, "attainment": 0.9}}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
CASES = {
    "case_tool_calls": Mode(
        "tool calls after a role",
        {"ttft": 0.1, "itl": 0.02, "role_first": True, "field": "tool_calls"},
        Right(("measured",), Times(0.1, 0.02, 0.4, tokens=16)),
        {**CHAT, "workload": {"kind": "prompts", "output_tokens": 16}, "openai.extra_body": {"tools": [TOOL]}},
    ),
    "case_zero_then_final": Mode(
        "usage zero until the last event",
        {"ttft": 0.1, "itl": 0.02, "usage": "zero_then_final"},
        Right(("measured",), Times(0.1, 0.02, 0.4, tokens=16)),
        SIXTEEN,
    ),
    "case_one_chunk": Mode(
        "all tokens in one event, usage with it; a limit of TPOT",
        {"ttft": 0.4, "itl": 0.0, "per_chunk": 16, "usage": "continuous"},
        Right(
            ("measured", "told"),
            Times(0.4, None, 0.4, None, 16),
            null=("slo_attainment", "goodput_requests_per_s"),
            codes=("slo_missed",),
        ),
        LIMIT,
        offline=Right(("measured",), Times(0.4, None, 0.4, None, 16)),
        loads=("closed", "open"),
    ),
    "case_one_chunk_final": Mode(
        "all tokens in one event, usage at the end; a limit of TPOT",
        {"ttft": 0.4, "itl": 0.0, "per_chunk": 16},
        Right(
            ("measured", "told"),
            Times(0.4, None, 0.4, None, 16),
            null=("slo_attainment", "goodput_requests_per_s"),
            codes=("slo_missed",),
        ),
        LIMIT,
        loads=("closed", "open"),
    ),
    "case_four_a_chunk": Mode(
        "four tokens an event, usage at the end",
        {"ttft": 0.1, "itl": 0.01, "per_chunk": 4},
        shared_out(Times(0.1, "any", 0.22, 0.04, 16)),
        SIXTEEN,
        offline=Right(("measured",), Times(0.1, "any", 0.22, 0.04, 16)),
    ),
    "case_broken_stream": Mode(
        "every fortieth stream breaks off",
        {"ttft": 0.05, "itl": 0.01, "fault": "truncate", "spare": 8, "every": 40},
        Right(("told",), Times(0.05, 0.01, 0.2, tokens=16), FAILED_CODES, within_s=60),
        {**SIXTEEN, "trials": 4, "load": {"kind": "closed", "concurrency": 4}},
        loads=("closed",),
    ),
    "case_keep_alives": Mode(
        "every ninth stream stalls behind comments",
        {"ttft": 0.05, "itl": 0.01, "fault": "hang_comments", "every": 9},
        failed("silent|no token"),
        {**SIXTEEN, "openai.timeout_s": 2.0, "load": {"kind": "offline", "batch_size": 3}},
        loads=("offline",),
    ),
}

MODES: dict[str, Mode] = {**USAGE, **CHUNKS, **STREAM, **STATUS, **FAULTS, **PAGES, **CASES}
