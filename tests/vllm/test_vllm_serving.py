"""Serving loads: one engine in a process of its own, streamed from an event loop."""

from __future__ import annotations

import asyncio
import time

import psutil
import pytest

from llem.backends.base import Request, Scored
from llem.config.models import ClosedLoad, Sampling
from llem.errors import ConfigError, LlemError
from llem.plugins import Reference
from llem.testing.conformance import LikelihoodConformance, StreamConformance
from llem_vllm.config import VllmOptions
from llem_vllm.hooks import llem_backends

pytestmark = pytest.mark.process

GREEDY = Sampling()
SIZES = ((3, 9), (17, 4), (1, 12), (8, 1))


@pytest.fixture(scope="module")
def serving(opened):
    """One engine for this file; named so that the class below can call it `engine` as well."""
    options = {"in_process": None, "max_model_len": 256}
    with opened(options, load=ClosedLoad(concurrency=4)) as engine:
        yield engine


@pytest.fixture(scope="module")
def loop():
    """The load generator's event loop: one for the life of the engine."""
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def engine(serving):
    """The engine."""
    return serving


@pytest.fixture(scope="module")
def runner(loop):
    """The loop."""
    return loop


def test_facts_before_any_stream(engine):
    """What runs is known before the load generator has a loop."""
    effective = engine.effective_config()
    assert (effective["engine_process"], effective["engine_class"]) == ("own", "ServingEngine")
    assert engine.architecture().vocab_size == 512
    assert (
        engine.memory().peak_bytes > engine._workers[0]["weight_bytes"] if engine._workers[0]["weight_bytes"] else True
    )


class TestServing(StreamConformance, LikelihoodConformance):
    """What llem relies on in an engine that streams and scores, on this file's engine."""

    hooks = "llem_vllm.hooks"

    def reference(self) -> Reference:
        return llem_backends()[0]

    @pytest.fixture(scope="class")
    @classmethod
    def options(cls) -> VllmOptions:
        """The section of this file's engine, in short."""
        return VllmOptions(enforce_eager=True)

    @pytest.fixture(scope="class")
    @classmethod
    def vocab_size(cls) -> int:
        """Of the tests' own shape."""
        return 512

    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls, serving):
        """Loaded once for all of this file."""
        return serving

    @pytest.fixture(scope="class")
    @classmethod
    def runner(cls, loop):
        """The loop that it streams in."""
        return loop


async def collect(engine, request):
    """Every chunk of one request."""
    return [chunk async for chunk in engine.stream(request, GREEDY)]


async def together(engine, requests):
    """Every chunk of several requests in flight at once."""
    return await asyncio.gather(*[collect(engine, request) for request in requests])


def ids(chunks):
    """Tokens of a stream."""
    return tuple(token for chunk in chunks for token in chunk.token_ids)


def test_streams_give_the_same_tokens(engine, runner, requests_of):
    """Streams in flight together bring what a batch brings, in exact number, from their first token on."""
    batch = requests_of(*SIZES)
    before = time.monotonic_ns()
    streams = runner.run(together(engine, batch))
    after = time.monotonic_ns()
    assert [ids(chunks) for chunks in streams] == [done.token_ids for done in engine.generate(batch, GREEDY)]
    for chunks, (_, count) in zip(streams, SIZES, strict=True):
        assert sum(chunk.tokens for chunk in chunks) == count
        assert [chunk.finish_reason for chunk in chunks] == [None] * (len(chunks) - 1) + ["length"]
        times = [chunk.time_ns for chunk in chunks]
        assert times == sorted(times)
        assert before <= times[0] <= times[-1] <= after


def test_last_chunk_has_the_engines_times(engine, runner, requests_of):
    """Queued, prefill and decode stand in the last chunk alone, and fit into the time it took."""
    (chunks,) = runner.run(together(engine, requests_of((5, 20))))
    metrics = chunks[-1].engine_metrics
    assert {"queued_s", "prefill_s", "decode_s", "ttft_s"} <= set(metrics)
    assert all(0 <= metrics[name] < 60 for name in metrics)
    assert all(chunk.engine_metrics is None for chunk in chunks[:-1])
    seen = (chunks[-1].time_ns - chunks[0].time_ns) / 1e9
    assert metrics["decode_s"] == pytest.approx(seen, abs=0.5)


def test_closing_a_stream_aborts_the_request(engine, runner):
    """A stream that is closed early leaves nothing running, and the others are not touched."""

    async def leave_early():
        stream = engine.stream(Request(0, (9, 8, 7), 200), GREEDY)
        chunks = [await anext(stream), await anext(stream)]
        other = asyncio.create_task(collect(engine, Request(1, (5, 6), 30)))
        await asyncio.sleep(0)
        await stream.aclose()
        return chunks, engine.llm.output_processor.get_num_unfinished_requests(), await other

    chunks, running, other = runner.run(leave_early())
    assert sum(chunk.tokens for chunk in chunks) < 200
    assert running <= 1  # the other one
    assert len(ids(other)) == 30
    assert engine.llm.output_processor.get_num_unfinished_requests() == 0


def test_cancelling_a_stream_aborts_the_request(engine, runner):
    """A load generator that stops cancels its tasks; the engine forgets their requests."""

    async def cancel():
        task = asyncio.create_task(collect(engine, Request(0, (9, 8, 7), 200)))
        await asyncio.sleep(0.2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return engine.llm.output_processor.get_num_unfinished_requests()

    assert runner.run(cancel()) == 0


def test_likelihoods(engine, runner, requests_of):
    """Evaluators score on the same engine, between streams: a greedy continuation is one, another is less likely."""
    (request,) = requests_of((6, 3))
    best = ids(runner.run(collect(engine, request)))
    good, bad = engine.loglikelihood([Scored(request.token_ids, best), Scored(request.token_ids, (1, 2, 3))])
    assert (good.greedy, bad.greedy) == (True, False)
    assert 0 > good.logprob > bad.logprob
    assert ids(runner.run(collect(engine, request))) == best


def test_prompt_that_does_not_fit(engine, runner):
    """Too long a prompt is refused to its stream; the engine goes on."""
    with pytest.raises(ConfigError, match="maximum"):
        runner.run(collect(engine, Request(0, tuple(range(5, 305)), 4)))
    assert len(ids(runner.run(collect(engine, Request(1, (5, 6), 3))))) == 3


def test_another_loop_is_refused_while_the_first_is_open(engine, runner):
    """Two loops would take each other's tokens, so the second one is refused."""
    runner.run(collect(engine, Request(0, (5, 6), 2)))
    with asyncio.Runner() as second, pytest.raises(LlemError, match="another event loop"):
        second.run(collect(engine, Request(1, (5, 6), 2)))
    engine._loop = runner.get_loop()


def test_close_ends_the_engines_processes(engine, runner, workers):
    """Nothing is left that would hold a GPU. Last in this file: it closes the engine."""
    children = workers()
    assert children
    engine.close()
    _, alive = psutil.wait_procs(children, timeout=20)
    assert alive == []
