"""Likelihoods are those of a computation by hand, whatever is scored together."""

from __future__ import annotations

import inspect

import attrs
import pytest
import torch

from llem.backends.base import Request, Scored
from llem.config.models import Sampling
from llem.errors import ConfigError
from llem_pytorch import likelihood

SIZES = ((3, 5), (40, 1), (1, 9), (12, 12), (7, 1), (2, 30))


def texts():
    return [
        Scored(
            tuple((11 + 29 * row + 7 * place) % 500 for place in range(context)),
            tuple((3 + 17 * row + 5 * place) % 500 for place in range(continuation)),
        )
        for row, (context, continuation) in enumerate(SIZES)
    ]


def by_hand(model, scored):
    """One text at a time, without padding, from plain transformers."""
    ids = torch.tensor([[*scored.context, *scored.continuation][:-1]])
    with torch.no_grad():
        logprobs = model(input_ids=ids).logits[0].float().log_softmax(-1)
    places = range(len(scored.context) - 1, ids.shape[1])
    found = [logprobs[place] for place in places]
    total = sum(float(row[token]) for row, token in zip(found, scored.continuation, strict=True))
    return total, all(int(row.argmax()) == token for row, token in zip(found, scored.continuation, strict=True))


@pytest.mark.parametrize("options", [{}, {"attn_implementation": "eager"}, {"use_cache": False}])
def test_same_as_by_hand(load, options):
    """Log probability and greedy flag are those of transformers, of texts of all lengths in one call."""
    engine = load(options)
    for found, scored in zip(engine.loglikelihood(texts()), texts(), strict=True):
        total, greedy = by_hand(engine.model, scored)
        assert found.logprob == pytest.approx(total, abs=1e-4)
        assert found.greedy is greedy


def test_greedy_continuation_is_greedy(load, requests_of):
    """What generate gives is marked greedy, in half precision too, and another last token is not."""
    engine, batch = load(dtype="bfloat16"), requests_of((9, 6), (4, 6))
    done = engine.generate(batch, Sampling())
    right = [Scored(one.token_ids, two.token_ids) for one, two in zip(batch, done, strict=True)]
    wrong = [Scored(one.context, (*one.continuation[:-1], (one.continuation[-1] + 1) % 512)) for one in right]
    assert [one.greedy for one in engine.loglikelihood(right)] == [True, True]
    assert [one.greedy for one in engine.loglikelihood(wrong)] == [False, False]


def test_small_batches_give_the_same(load, monkeypatch):
    """However many are computed at once, and in whatever order, each gets its own likelihood."""
    engine = load()
    together = engine.loglikelihood(texts())
    monkeypatch.setattr(likelihood, "CPU_TOKENS", 45)
    apart = engine.loglikelihood(texts())
    assert [one.greedy for one in apart] == [one.greedy for one in together]
    assert [one.logprob for one in apart] == pytest.approx([one.logprob for one in together], abs=1e-4)


@pytest.fixture
def inputs(monkeypatch):
    """Load notes here what each forward pass was given."""
    seen = []

    def watch(engine):
        forward = engine.model.forward
        parameters = inspect.signature(forward)

        def noting(**given):
            seen.append((*given["input_ids"].shape, given.get("logits_to_keep")))
            return forward(**given)

        noting.__signature__ = parameters
        monkeypatch.setattr(engine.model, "forward", noting)
        return seen

    return watch


def test_batches_are_bounded(load, monkeypatch, inputs):
    """No batch has more tokens or logits than the limits, unless it is a single text."""
    engine = load()
    sizes = inputs(engine)
    monkeypatch.setattr(likelihood, "CPU_TOKENS", 60)
    monkeypatch.setattr(likelihood, "LOGITS", 30 * 512)
    engine.loglikelihood(texts())
    assert sum(rows for rows, *_ in sizes) == len(SIZES)
    assert max(rows for rows, *_ in sizes) > 1
    assert all(rows == 1 or (rows * width <= 60 and rows * kept <= 30) for rows, width, kept in sizes)


def test_what_begins_a_text_needs_no_row(load, inputs):
    """Choices of one token share a row, as do texts that begin another; each has the likelihood that it has alone."""
    engine = load()
    asked = [
        *(Scored((5, 6, 7, 8), (token,)) for token in range(20, 24)),
        Scored((5, 6), (7, 8, 20, 30, 40)),
        Scored((5,), (6, 9)),
        Scored((5, 6), (7, 8)),
    ]
    alone = [engine.loglikelihood([one])[0] for one in asked]
    sizes = inputs(engine)
    found = engine.loglikelihood(asked)
    assert [rows for rows, *_ in sizes] == [1]
    assert [one.logprob for one in found] == pytest.approx([one.logprob for one in alone], abs=1e-5)
    assert [one.greedy for one in found] == [one.greedy for one in alone]


def test_a_model_that_makes_all_logits(load, inputs):
    """A forward pass that takes no `logits_to_keep` gives the same likelihoods."""
    engine = load()
    expected = engine.loglikelihood(texts())
    forward = engine.model.forward

    def older(input_ids, use_cache):
        return forward(input_ids=input_ids, use_cache=use_cache)

    engine.model.forward = older
    found = engine.loglikelihood(texts())
    assert [one.logprob for one in found] == pytest.approx([one.logprob for one in expected], abs=1e-5)


@pytest.mark.parametrize(
    "config",
    [
        {
            "model_type": "gpt2",
            "n_embd": 64,
            "n_layer": 2,
            "n_head": 4,
            "vocab_size": 512,
            "n_positions": 64,
        },
        {
            "model_type": "opt",
            "hidden_size": 64,
            "ffn_dim": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "vocab_size": 512,
            "max_position_embeddings": 64,
            "word_embed_proj_dim": 64,
        },
        {"model_type": "mistral", "sliding_window": 8},
        {"model_type": "bloom", "hidden_size": 64, "n_layer": 2, "n_head": 4, "vocab_size": 512},
    ],
    ids=lambda config: config["model_type"],
)
def test_positions_and_windows(load, tiny, config):
    """Absolute positions, sliding windows and ALiBi: a text has the likelihood that it has alone, without padding."""
    known = tiny(**config)
    if "hidden_size" in config or "n_embd" in config:  # no llama by another name
        known = attrs.evolve(known, config=config)
    engine = load(spec=known)
    for found, scored in zip(engine.loglikelihood(texts()), texts(), strict=True):
        total, greedy = by_hand(engine.model, scored)
        assert found.logprob == pytest.approx(total, abs=1e-4)
        assert found.greedy is greedy


@pytest.mark.parametrize(
    "options",
    [
        {"cache_implementation": "static", "max_cache_len": 40},
        {"prompt_lookup_num_tokens": 3},
        {"torch_compile": True, "torch_compile_backend": "eager", "torch_compile_fullgraph": True},
    ],
    ids=["static", "lookup", "compiled"],
)
def test_settings_of_generation_have_no_part(load, options):
    """Caches, drafts and what is compiled neither change nor limit likelihoods, before and after a generation."""
    plain, engine = load(), load(options)
    expected = [one.logprob for one in plain.loglikelihood(texts())]
    batch = [Request(0, (1, 2, 3, 4), 5)]
    before = engine.loglikelihood(texts())
    done = engine.generate(batch, Sampling())
    after = engine.loglikelihood(texts())
    assert [one.logprob for one in before] == pytest.approx(expected, abs=1e-5)
    assert after == before
    assert engine.generate(batch, Sampling()) == done


def test_nothing_to_score(load):
    """No texts give no likelihoods; an empty continuation is certain."""
    engine = load()
    assert engine.loglikelihood([]) == []
    [found] = engine.loglikelihood([Scored((1, 2), ())])
    assert (found.logprob, found.greedy) == (0.0, True)


def test_the_longest_text(load):
    """A text has one token more than the model has positions; one more is refused with both figures."""
    engine = load()
    assert engine.scored_length() == 257
    longest = Scored(tuple(range(200)), tuple(range(57)))
    [found] = engine.loglikelihood([longest])
    assert found.logprob == pytest.approx(by_hand(engine.model, longest)[0], abs=1e-3)
    with pytest.raises(ConfigError, match="258 tokens exceeds the 257 that are scored"):
        engine.loglikelihood([Scored(tuple(range(200)), tuple(range(58)))])
