"""The core's perplexity on this engine is the loss of transformers' own model, in float32 to 1e-4."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from llem.evaluators.base import Context
from llem.evaluators.items import follows
from llem.evaluators.perplexity import PerplexityEvaluator, PerplexityOptions
from llem.models.tokenizer import ByteTokenizer, HubTokenizer

TEXT = "".join(f"Sentence {n} of a text, with naïve words and {n * n} digits.\n" for n in range(120))


@pytest.fixture(scope="module")
def tokenizer() -> HubTokenizer:
    """A byte-level BPE of 400 tokens, with a token that begins a text."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator([TEXT], trainer)
    inner.post_processor = processors.ByteLevel(trim_offsets=False)
    return HubTokenizer(PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>"), "made here")


def scores(engine: Any, tokenizer: Any, path: Path, tiny: Any, experiment: Any, **settings: Any) -> Any:
    """Bits per byte and the perplexity of tokens."""
    evaluator = PerplexityEvaluator(PerplexityOptions(tasks=(str(path),), **settings))
    context = Context(str(path), experiment(), tiny(), lambda done, total: None, lambda: None)
    evaluator.check(context.experiment, context.model)
    evaluator.prepare(tokenizer, context)
    return evaluator.evaluate(engine, tokenizer, context)


def loss(model: Any, ids: list[int], known: int) -> float:
    """Sum of transformers' own loss over the tokens after the first `known` ones, in nats."""
    given = torch.tensor([ids])
    labels = given.clone()
    labels[:, :known] = -100
    with torch.no_grad():
        return float(model(input_ids=given, labels=labels).loss) * (len(ids) - known)


def test_a_text_that_fits_has_the_loss_of_transformers(load, tiny, experiment, tokenizer, tmp_path: Path) -> None:
    """Predicted at once, from the token that begins a text on."""
    text = TEXT[:300]
    (tmp_path / "t.txt").write_text(text, encoding="utf-8")
    engine = load()
    per_byte, per_token = scores(engine, tokenizer, tmp_path / "t.txt", tiny, experiment, max_length=256, stride=255)
    ids = tokenizer.encode(text, special_tokens=False)
    nats = loss(engine.model, [tokenizer.bos_token_id, *ids], 1)

    assert len(ids) < 255
    assert per_byte.value == pytest.approx(nats / math.log(2) / len(text.encode()), rel=1e-6)
    assert math.log(per_token.value) == pytest.approx(nats / len(ids), abs=1e-4)


@pytest.mark.parametrize(("length", "stride"), [(64, 32), (256, 128), (128, 16)])
def test_a_long_text_has_that_of_strided_windows(
    load, tiny, experiment, tokenizer, tmp_path: Path, length: int, stride: int
) -> None:
    """Of all its passages together, each token from the tokens of the whole text before it."""
    (tmp_path / "t.txt").write_text(TEXT, encoding="utf-8")
    engine = load()
    per_byte, per_token = scores(
        engine, tokenizer, tmp_path / "t.txt", tiny, experiment, max_length=length, stride=stride
    )
    ids, starts = tokenizer.encode_starts(TEXT)
    cuts = [end for end in (TEXT.find("\n", 2048) + 1, 0) if end]
    while (end := TEXT.find("\n", cuts[-1] + 2048) + 1) > 0:
        cuts.append(end)
    edges = [sum(start < cut for start in starts) for cut in (0, *cuts, len(TEXT))]
    nats, whole = 0.0, [tokenizer.bos_token_id, *ids]
    for begin, end in itertools.pairwise(edges):
        parts = -(-(end - begin) // stride)
        for part in range(parts):
            first, last = (begin + (end - begin) * (part + more) // parts for more in (0, 1))
            known = min(first + 1, length - stride)
            nats += loss(engine.model, whole[first + 1 - known : last + 1], known)

    assert per_byte.n == len(edges) - 1 > 3
    assert ids == tokenizer.encode(TEXT, special_tokens=False)
    assert sum(item.weight for item in per_token.items) == len(ids)
    assert sum(item.weight for item in per_byte.items) == len(TEXT.encode())
    assert per_byte.value == pytest.approx(nats / math.log(2) / len(TEXT.encode()), rel=1e-6)
    assert math.log(per_token.value) == pytest.approx(nats / len(ids), abs=1e-4)
    assert all(map(follows, (per_byte, per_token)))


def test_passages_are_the_same_for_bytes(load, tiny, experiment, tokenizer, tmp_path: Path) -> None:
    """So that models with other tokenizers are compared passage by passage; bytes alone lack the first one."""
    (tmp_path / "t.txt").write_text(TEXT, encoding="utf-8")
    engine = load()
    ours, of_bytes = (
        scores(engine, one, tmp_path / "t.txt", tiny, experiment)[0] for one in (tokenizer, ByteTokenizer(512))
    )

    assert [item.id for item in ours.items] == [item.id for item in of_bytes.items]
    assert [item.weight for item in ours.items][1:] == [item.weight for item in of_bytes.items][1:]
    assert ours.items[0].weight == of_bytes.items[0].weight + 1
