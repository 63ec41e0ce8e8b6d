"""The echo backend: the whole interface of an engine, without a model."""

from __future__ import annotations

import asyncio
import itertools
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llem.backends.base import Placement, Request
from llem.backends.echo import EchoBackend, EchoOptions
from llem.config.models import Experiment, Sampling
from llem.models.resolve import resolve_model

EXPERIMENT = Experiment(backend="echo")
TINY = resolve_model("shape:tiny")
batches = st.lists(
    st.tuples(st.lists(st.integers(0, 9), min_size=1, max_size=6).map(tuple), st.integers(1, 20)), max_size=4
).map(lambda rows: [Request(i, ids, n) for i, (ids, n) in enumerate(rows)])


def load(**options: float):
    return EchoBackend(EchoOptions(**options)).load(EXPERIMENT, TINY, Placement("cpu"))


@given(batches, st.booleans())
def test_echoes_the_prompt_to_the_asked_length(requests: list[Request], token_times: bool) -> None:
    """Each completion repeats its own prompt, in the order of the requests, with exactly the asked tokens."""
    completions = load().generate(requests, Sampling(), token_times=token_times)
    assert [c.index for c in completions] == [r.index for r in requests]
    for request, completion in zip(requests, completions, strict=True):
        assert len(completion.token_ids) == request.output_tokens
        assert all(t == request.token_ids[i % len(request.token_ids)] for i, t in enumerate(completion.token_ids))
        assert (completion.token_times_ns is not None) == token_times


def test_token_times_are_monotonic_and_delayed() -> None:
    """There is one time per token, none earlier than the delay after the one before."""
    before = time.monotonic_ns()
    (one,) = load(token_seconds=0.002).generate([Request(0, (1,), 5)], Sampling(), token_times=True)
    assert one.token_times_ns is not None
    times = [before, *one.token_times_ns]
    assert len(times) == 6
    assert all(b - a >= 2_000_000 for a, b in itertools.pairwise(times))


def test_further_requests_wait_for_a_slot() -> None:
    """With two slots the third request begins when one of the first two has ended; a slot that is let go is free."""
    engine = load(token_seconds=0.02, slots=2)

    async def streamed(index: int) -> list[int]:
        return [chunk.time_ns async for chunk in engine.stream(Request(index, (1,), 4), Sampling())]

    async def together() -> list[list[int]]:
        given_up = asyncio.create_task(streamed(9))
        await asyncio.sleep(0.01)
        given_up.cancel()
        return await asyncio.gather(*(streamed(index) for index in range(3)))

    first, second, third = asyncio.run(together())
    assert third[0] - min(first[-1], second[-1]) >= 20_000_000
    assert max(first[0], second[0]) < min(first[-1], second[-1])


def test_says_what_it_is() -> None:
    """It admits to no architecture, no memory reading, and no effect of dtype, device or sampling."""
    engine = load(token_seconds=0.5)
    effective = engine.effective_config()
    assert json.loads(json.dumps(effective)) == effective
    assert effective["token_seconds"] == 0.5
    assert effective["dtype"] is None
    assert engine.architecture() is None
    engine.reset_memory()
    assert (engine.memory().peak_bytes, engine.memory().reason) == (None, "not_supported")
    engine.close()


def test_accepts_any_experiment_and_no_options() -> None:
    """A dry run may put it in the place of any other backend."""
    backend = EchoBackend(None)
    assert backend.options == EchoOptions()
    assert list(backend.check(EXPERIMENT, resolve_model("org/name"))) == []


def test_negative_delay_is_refused() -> None:
    """Time does not run backwards."""
    with pytest.raises(ValueError, match="must be between 0"):
        EchoOptions(token_seconds=-1)


def test_stop_texts_end_an_answer() -> None:
    """With the token that completes one; a stream ends there too, and its last chunk says why."""
    request = Request(0, tuple(b"abcdef"), 20, stop=("zz", "de"))
    engine = load()
    [done] = engine.generate([request], Sampling(), token_times=True)

    async def streamed():
        return [chunk async for chunk in engine.stream(request, Sampling())]

    chunks = asyncio.run(streamed())
    assert (bytes(done.token_ids), done.finish_reason, len(done.token_times_ns)) == (b"abcde", "stop", 5)
    assert [chunk.finish_reason for chunk in chunks] == [None] * 4 + ["stop"]
