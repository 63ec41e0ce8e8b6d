"""Likelihoods are those of a computation by hand, whatever is scored together."""

from __future__ import annotations

import pytest
import torch

from llem.backends.base import Scored
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
    ids = torch.tensor([[*scored.context, *scored.continuation]])
    with torch.no_grad():
        logprobs = model(input_ids=ids).logits[0].float().log_softmax(-1)
    places = range(len(scored.context) - 1, ids.shape[1] - 1)
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
    monkeypatch.setattr(likelihood, "TOKENS", 45)
    apart = engine.loglikelihood(texts())
    assert [one.greedy for one in apart] == [one.greedy for one in together]
    assert [one.logprob for one in apart] == pytest.approx([one.logprob for one in together], abs=1e-4)


def test_batches_are_bounded(load, monkeypatch):
    """No batch has more tokens or logits than the limits, unless it is a single text."""
    engine, sizes = load(), []
    monkeypatch.setattr(likelihood, "TOKENS", 60)
    monkeypatch.setattr(likelihood, "LOGITS", 30 * 512)
    engine.model.register_forward_pre_hook(
        lambda _module, _args, given: sizes.append((*given["input_ids"].shape, given["logits_to_keep"])),
        with_kwargs=True,
    )
    engine.loglikelihood(texts())
    assert sum(rows for rows, *_ in sizes) == len(SIZES)
    assert all(rows == 1 or (rows * width <= 60 and rows * kept <= 30) for rows, width, kept in sizes)


def test_nothing_to_score(load):
    """No texts give no likelihoods; an empty continuation is certain."""
    engine = load()
    assert engine.loglikelihood([]) == []
    [found] = engine.loglikelihood([Scored((1, 2), ())])
    assert (found.logprob, found.greedy) == (0.0, True)


def test_too_long_a_text(load):
    """A text beyond the model's positions is refused with both figures."""
    with pytest.raises(ConfigError, match="300 tokens exceeds the model's 256 positions"):
        load().loglikelihood([Scored((1,) * 290, (2,) * 10)])
