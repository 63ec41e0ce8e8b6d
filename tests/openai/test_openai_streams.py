"""Tokens of streams: counted by the server's usage, in order, to the last one."""

from __future__ import annotations

import os
import resource
import time

import pytest

from llem.backends.base import Request
from llem.config.models import Sampling
from llem.errors import ConfigError, ExperimentFailed
from llem_openai.failures import RequestFailed

pytestmark = pytest.mark.process

GREEDY = Sampling()


@pytest.mark.parametrize(
    ("flags", "options", "method"),
    [
        ((), {}, "continuous_usage"),
        (("--refuse", "continuous_usage_stats"), {}, "final_usage"),
        (("--usage", "final"), {}, "final_usage"),
        (("--usage", "final"), {"return_token_ids": True}, "token_ids"),
        (("--per-event", "3"), {}, "continuous_usage"),
        (("--per-event", "3", "--usage", "final"), {}, "final_usage"),
        (("--text", "\u2028\u0085"), {}, "continuous_usage"),
        (("--text", "", "--usage", "final"), {}, "final_usage"),
        (("--pieces", "2"), {}, "continuous_usage"),
    ],
)
def test_tokens_sum_to_the_usage(running, load, requests_of, flags, options, method, streamed):
    """However a server tells them, each request has its number of tokens, and the last chunk alone ends it."""
    server = running(*flags)
    engine = load({"base_url": server.url, **options})
    assert engine.effective_config()["token_counts"] == method
    requests = requests_of((3, 7), (5, 1), (1, 12))
    for request, chunks in zip(requests, streamed(engine, requests), strict=True):
        assert sum(chunk.tokens for chunk in chunks) == request.output_tokens
        assert [chunk.finish_reason for chunk in chunks] == [None] * (len(chunks) - 1) + ["length"]
        assert [chunk.time_ns for chunk in chunks] == sorted(chunk.time_ns for chunk in chunks)
        if options:
            assert sum(len(chunk.token_ids) for chunk in chunks) == request.output_tokens


def test_each_token_has_its_own_chunk(running, load, requests_of, streamed):
    """With continuous usage a token that comes alone is a chunk of one."""
    [chunks] = streamed(load({"base_url": running("--delay", "0.01").url}), requests_of((3, 6)))
    assert [chunk.tokens for chunk in chunks] == [1] * 6 + [0]


def test_what_no_event_told_is_shared_out_and_said(running, load, requests_of, streamed):
    """Final usage with three tokens an event: shared out, as many as the usage says, and those beyond one beside."""
    engine = load({"base_url": running("--per-event", "3", "--usage", "final").url})
    [chunks] = streamed(engine, requests_of((3, 7)))
    assert [chunk.tokens for chunk in chunks] == [2, 2, 3, 0]
    assert chunks[-1].engine_metrics == {"cached_tokens": 2, "tokens_without_event": 4}


def test_more_events_than_tokens_is_an_error(running, load):
    """Where a token comes in several pieces and only the end is counted, nothing is made up."""
    server = running("--pieces", "2", "--usage", "final")
    with pytest.raises(ExperimentFailed, match="events brought 16 tokens, and the usage says 8"):
        load({"base_url": server.url})


def test_a_server_without_usage_is_refused(running, load):
    """Tokens cannot be counted, so nothing is measured."""
    with pytest.raises(ExperimentFailed, match="tells no usage"):
        load({"base_url": running("--usage", "none").url})


def test_a_prompt_that_was_changed_is_an_error(running, load):
    """A server that adds a token to token ids does other work than was asked for."""
    with pytest.raises(ExperimentFailed, match="counts 9 tokens in a prompt of 8"):
        load({"base_url": running("--more-prompt", "1").url})


def test_a_prompt_as_text_may_have_other_tokens_which_are_told(running, load, requests_of):
    """Its number by the server stands in the request's metrics."""
    engine = load({"base_url": running("--more-prompt", "1").url, "prompt": "text"})
    [done] = engine.generate(requests_of((3, 4)), GREEDY)
    assert done.engine_metrics == {"cached_tokens": 2, "prompt_tokens": 4}


def test_token_ids_that_do_not_come_are_an_error(running, load):
    """A server that ignores the wish is not believed to have fulfilled it."""
    with pytest.raises(ConfigError, match="gives no token ids"):
        load({"base_url": running("--no-ids").url, "return_token_ids": True})


@pytest.mark.parametrize("field", ["ignore_eos", "min_tokens"])
def test_a_refused_ignore_eos_says_what_to_do(running, load, field):
    """The server's words and the setting that helps."""
    with pytest.raises(ConfigError, match=f"400.*unknown field {field}") as failed:
        load({"base_url": running("--refuse", field).url})
    assert "openai.ignore_eos_fields" in failed.value.hint


def test_an_ignore_eos_that_is_not_honoured_shows_in_the_counts(running, load, requests_of):
    """The server's own number comes back, for the procedure to compare with what was asked for."""
    engine = load({"base_url": running("--eos", "5", "--know-eos").url})
    assert [done.tokens for done in engine.generate(requests_of((3, 9), (3, 4)), GREEDY)] == [5, 4]


def test_end_of_sequence_stops_a_stream(running, load, requests_of, streamed):
    """Without ignore_eos the reason is the server's."""
    sampling = Sampling(ignore_eos=False)
    engine = load({"base_url": running("--eos", "2").url}, sampling=sampling)
    [chunks] = streamed(engine, requests_of((3, 9)), sampling)
    assert sum(chunk.tokens for chunk in chunks) == 2
    assert chunks[-1].finish_reason == "stop"


def test_text_endpoints_give_counts_without_ids(running, load, requests_of):
    """Chat: no token ids, their number by the usage, whole and streamed."""
    engine = load({"base_url": running().url, "endpoint": "chat"})
    for times in (False, True):
        found = engine.generate(requests_of((3, 5), (4, 2)), GREEDY, token_times=times)
        assert [(done.token_ids, done.tokens) for done in found] == [(None, 5), (None, 2)]
        assert [len(done.token_times_ns or ()) for done in found] == ([5, 2] if times else [0, 0])


def test_a_batch_runs_together(running, load, requests_of):
    """All requests of a batch are at the server at once."""
    server = running("--delay", "0.2")
    load({"base_url": server.url}).generate(requests_of(*[(3, 10)] * 150), GREEDY)
    assert server.log()["most_in_flight"] == 150


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--fail-after", "3"), "the engine broke"),
        (("--drop-after", "3"), "the connection to .* broke"),
        (("--status", "503"), r"failed \(503\): on purpose"),
        (("--status", "429"), r"failed \(429\): on purpose"),
    ],
)
def test_a_request_that_fails_is_one_request(running, load, requests_of, flags, message, streamed):
    """In a stream it is no error that ends the load; in a batch it is the end, with the server's words."""
    server = running(*flags, "--spare", "1")
    engine = load({"base_url": server.url})
    with pytest.raises(ExperimentFailed, match=message):
        engine.generate(requests_of((3, 9), (3, 9)), GREEDY, token_times=True)
    with pytest.raises(RequestFailed, match=message):
        streamed(engine, requests_of((3, 9)))


def test_a_batch_that_is_stalled_behind_comments_ends(running, load, requests_of):
    """Comments are no tokens: after so long without one the batch has failed, in clear words."""
    server = running("--comments-after", "3", "--spare", "1")
    engine = load({"base_url": server.url, "timeout_s": 1.0})
    began = time.monotonic()
    with pytest.raises(ExperimentFailed, match=r"no token came for 1 s\n.*openai\.timeout_s"):
        engine.generate(requests_of((3, 9), (3, 9), (3, 9)), GREEDY, token_times=True)
    assert 1.0 <= time.monotonic() - began < 20
    until = time.monotonic() + 20
    while server.log()["in_flight"]:
        assert time.monotonic() < until, "the server still works on them"
        time.sleep(0.05)


def test_a_server_that_is_gone_is_the_end(running, load, requests_of, streamed):
    """Nothing listens any more: no further request need be tried."""
    server = running()
    engine = load({"base_url": server.url})
    server.stop()
    with pytest.raises(ExperimentFailed, match="is gone"):
        streamed(engine, requests_of((3, 9)))


def test_the_limit_of_open_files_is_told(running, load, requests_of):
    """It is this process that can open no more connections: the server is not gone."""
    engine = load({"base_url": running("--delay", "0.2").url})
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 8, hard))
    try:
        with pytest.raises(ExperimentFailed, match=r"no further connection can be opened: Too many open files"):
            engine.generate(requests_of(*[(3, 9)] * 40), GREEDY)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_the_refusal_of_one_request_has_the_servers_words(running, load):
    """A batch with a request that the server does not take is the user's to mend."""
    engine = load({"base_url": running("--refuse", "4321").url})
    with pytest.raises(ConfigError, match="unknown field 4321"):
        engine.generate([Request(0, (1, 2), 4321)], GREEDY)


def test_out_of_memory_is_recognised():
    """Whatever its status, it is the outcome oom."""
    from llem_openai.failures import refused

    error = refused(500, b'{"error": {"message": "CUDA out of memory."}}', None)
    assert isinstance(error, ExperimentFailed)
    assert error.code == "oom"


def test_streams_run_in_a_loop_of_their_own(running, load, requests_of, streamed):
    """A batch and a stream, each in its event loop, in turn."""
    engine = load({"base_url": running().url})
    batch = requests_of((3, 4))
    assert engine.generate(batch, GREEDY)[0].tokens == 4
    [chunks] = streamed(engine, batch)
    assert sum(chunk.tokens for chunk in chunks) == 4
