"""Tokens, counts and likelihoods of one engine, against transformers with the same weights."""

from __future__ import annotations

import asyncio

import attrs
import pytest
import torch

from llem.backends.base import Scored
from llem.config.models import Sampling
from llem.errors import ConfigError
from llem_vllm import likelihood

pytestmark = pytest.mark.process

GREEDY = Sampling()
SIZES = ((3, 9), (17, 4), (1, 12), (8, 1), (30, 20))


@pytest.fixture(scope="module")
def engine(opened):
    """One engine for this file, which keeps the engine's times of requests."""
    with opened({"request_metrics": True, "max_model_len": 128}) as engine:
        yield engine


def greedy(model, prompt, count):
    """Tokens that transformers makes."""
    ids = torch.tensor([prompt])
    with torch.inference_mode():
        made = model.generate(ids, max_new_tokens=count, do_sample=False, eos_token_id=None, pad_token_id=0)
    return tuple(made[0, len(prompt) :].tolist())


def test_same_tokens_as_transformers(engine, reference, requests_of):
    """With the same seeded weights in float32, greedy decoding gives the same ids and counts."""
    batch = requests_of(*SIZES)
    found = [done.token_ids for done in engine.generate(batch, GREEDY)]
    assert found == [greedy(reference, request.token_ids, request.output_tokens) for request in batch]


def test_same_tokens_as_llem_pytorch(engine, tiny, requests_of):
    """The backend `pytorch` gives the same completions, count for count and id for id."""
    backend = pytest.importorskip("llem_pytorch.backend")
    from llem.backends.base import Placement
    from llem.config.models import Experiment

    asked = Experiment(backend="pytorch", dtype="float32", device="cpu", options=None)
    other = backend.PyTorchBackend(None).load(asked, tiny(), Placement("cpu"))
    batch = requests_of(*SIZES)
    try:
        there = [(done.index, done.token_ids, done.finish_reason) for done in other.generate(batch, GREEDY)]
    finally:
        other.close()
    assert [(one.index, one.token_ids, one.finish_reason) for one in engine.generate(batch, GREEDY)] == there


def test_same_tokens_with_token_times(engine, requests_of):
    """Recording token times changes no token, and gives each one a time in order."""
    batch = requests_of(*SIZES)
    timed = engine.generate(batch, GREEDY, token_times=True)
    assert [one.token_ids for one in timed] == [one.token_ids for one in engine.generate(batch, GREEDY)]
    assert [len(one.token_times_ns) for one in timed] == [size for _, size in SIZES]
    assert len(set(timed[4].token_times_ns)) == 20  # each step has a time of its own


def test_engine_metrics(engine, requests_of):
    """The engine's own times are there, in seconds, and not negative; a longer output decodes for longer."""
    short, long = (one.engine_metrics for one in engine.generate(requests_of((3, 2), (3, 40)), GREEDY))
    for name in ("queued_s", "prefill_s", "decode_s", "ttft_s"):
        assert 0 <= short[name] < 60
    assert long["decode_s"] > short["decode_s"] > 0


def test_likelihoods_against_transformers(engine, reference):
    """Sums of log probabilities agree to float32's accuracy, and greedy says whether decoding would give the text."""
    context = (5, 6, 7)
    best = greedy(reference, context, 3)
    asked = [Scored(context, best), Scored(context, (9, 10)), Scored((40,), (41, 42, 43, 44))]
    found = engine.loglikelihood(asked)
    for one, scored in zip(found, asked, strict=True):
        ids = torch.tensor([[*scored.context, *scored.continuation]])
        with torch.inference_mode():
            logprobs = reference(ids).logits.log_softmax(-1)[0]
        places = range(len(scored.context) - 1, ids.shape[1] - 1)
        true = sum(float(logprobs[place, ids[0, place + 1]]) for place in places)
        assert one.logprob == pytest.approx(true, abs=1e-3)
    assert [one.greedy for one in found] == [True, False, False]


def test_the_longest_text(engine, reference):
    """vLLM takes a prompt of one token less than its limit, and all of it is scored; one more is refused in advance."""
    assert engine.scored_length() == 127
    text = tuple((3 + 7 * place) % 500 for place in range(127))
    [found] = engine.loglikelihood([Scored(text[:60], text[60:])])
    with torch.inference_mode():
        logprobs = reference(torch.tensor([text[:-1]])).logits.log_softmax(-1)[0]
    true = sum(float(logprobs[place - 1, text[place]]) for place in range(60, 127))
    assert found.logprob == pytest.approx(true, abs=1e-2)
    with pytest.raises(ConfigError, match="128 tokens exceeds the 127"):
        engine.loglikelihood([Scored(text[:60], text[60:]), Scored(text, (1,))])


def test_portions(engine, monkeypatch):
    """However many tokens are given to vLLM at once, each text has its own likelihood."""
    asked = [Scored((5, place), (place, 9, 11)) for place in range(40)]
    together = engine.loglikelihood(asked)
    monkeypatch.setattr(likelihood, "TOKENS", 12)
    assert [len(portion) for portion in likelihood.portions(asked)] == [2] * 20
    apart = engine.loglikelihood(asked)
    assert [one.logprob for one in apart] == pytest.approx([one.logprob for one in together], abs=1e-3)


def test_sampling_changes_tokens(engine, requests_of):
    """A temperature draws other tokens than greedy decoding does, still in exact number."""
    batch = requests_of((6, 30))
    drawn = engine.generate(batch, attrs.evolve(GREEDY, temperature=2.0))[0].token_ids
    assert len(drawn) == 30
    assert drawn != engine.generate(batch, GREEDY)[0].token_ids


def test_prompt_that_does_not_fit(engine, requests_of):
    """Too long a prompt is the user's mistake, told with what to change; the engine goes on."""
    with pytest.raises(ConfigError, match="max_model_len"):
        engine.generate(requests_of((140, 4)), GREEDY)
    assert len(engine.generate(requests_of((3, 4)), GREEDY)[0].token_ids) == 4


def test_sampling_that_vllm_refuses(engine, requests_of):
    """What vLLM's own validation refuses is a ConfigError with its words."""
    with pytest.raises(ConfigError, match="top_p"):
        engine.generate(requests_of((3, 4)), attrs.evolve(GREEDY, temperature=1.0, top_p=0.0))


def test_offline_engine_does_not_stream(engine, requests_of):
    """It says which load to set."""

    async def first():
        return await anext(engine.stream(requests_of((3, 4))[0], GREEDY))

    with pytest.raises(ConfigError, match=r"load\.kind"):
        asyncio.run(first())


def test_end_of_sequence_stops_without_a_tokenizer(opened, reference, requests_of, tiny):
    """With ignore_eos off, the id in the model's configuration ends a completion, which then holds it."""
    (request,) = requests_of((3, 9))
    ids = greedy(reference, request.token_ids, 9)
    place = next(i for i in range(2, 9) if ids[i] not in ids[:i])
    with opened(spec=tiny(eos_token_id=ids[place]), sampling=Sampling(ignore_eos=False)) as engine:
        (done,) = engine.generate([request], Sampling(ignore_eos=False))
        assert (done.token_ids, done.finish_reason) == (ids[: place + 1], "stop")
        (whole,) = engine.generate([request], GREEDY)
        assert (whole.token_ids, whole.finish_reason) == (ids, "length")
