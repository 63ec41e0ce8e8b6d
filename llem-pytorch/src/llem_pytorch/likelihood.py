"""Log likelihoods of given continuations, from one forward pass per batch."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from transformers import PreTrainedModel

from llem.backends.base import Likelihood, Request, Scored
from llem_pytorch.generation import left_padded

__all__ = ["likelihoods"]

#: Most float32 logits of one batch: 256 MiB of them.
LOGITS = 2**26
#: Most tokens of one batch, padding included.
TOKENS = 2**14


def likelihoods(model: PreTrainedModel, requests: Sequence[Scored], pad: int, device: torch.device) -> list[Likelihood]:
    """In the order of the requests: log P(continuation | context) in nats, and whether greedy decoding gives it.

    The logits are the model's own, without the settings of `sampling`; probabilities are taken in float32, as
    generation takes them, whatever the model computes in.
    """
    taken = inspect.signature(model.forward).parameters
    found: dict[int, Likelihood] = {}
    for places in _batches(requests, model.config.get_text_config(decoder=True).vocab_size):
        batch = [requests[place] for place in places]
        found.update(zip(places, _batch(model, batch, pad, device, taken), strict=True))
    return [found[place] for place in range(len(requests))]


def _batches(requests: Sequence[Scored], vocab_size: int) -> Iterator[list[int]]:
    """Places of requests that are computed together: of like length, so that little is padding, and not too many."""
    batch: list[int] = []
    tail = 0
    # falling lengths, so that the first of a batch is its longest and the batch that needs most memory comes first
    for place in sorted(range(len(requests)), key=lambda one: -_length(requests[one])):
        tail = max(tail, len(requests[place].continuation))
        rows = len(batch) + 1
        width = _length(requests[batch[0] if batch else place])
        if batch and (rows * width > TOKENS or rows * (tail + 1) * vocab_size > LOGITS):
            yield batch
            batch, tail = [], len(requests[place].continuation)
        batch.append(place)
    if batch:
        yield batch


def _length(scored: Scored) -> int:
    return len(scored.context) + len(scored.continuation)


def _batch(
    model: PreTrainedModel, batch: Sequence[Scored], pad: int, device: torch.device, taken: Any
) -> Iterator[Likelihood]:
    """Prompts flush right as in generation, so that the continuations are the last columns of every row."""
    longest = max(len(scored.continuation) for scored in batch)
    texts = [Request(0, (*scored.context, *scored.continuation), 0) for scored in batch]
    ids, mask = (tensor.to(device) for tensor in left_padded(texts, pad))
    arguments: dict[str, Any] = {"input_ids": ids, "attention_mask": mask, "use_cache": False}
    if "position_ids" in taken:
        arguments["position_ids"] = (mask.cumsum(-1) - 1).clamp(min=0)
    if "logits_to_keep" in taken:
        arguments["logits_to_keep"] = longest + 1
    with torch.inference_mode():
        # the last column predicts what follows the text
        logits = model(**arguments).logits[:, -longest - 1 : -1].float()
        targets = ids[:, ids.shape[1] - longest :].to(logits.device)
        logprobs = logits.log_softmax(-1).gather(-1, targets.unsqueeze(-1)).squeeze(-1)
        greedy = logits.argmax(-1) == targets
    for scored, row, best in zip(batch, logprobs.double().cpu(), greedy.cpu(), strict=True):
        length = len(scored.continuation)
        own = slice(longest - length, longest)
        yield Likelihood(float(row[own].sum()), bool(best[own].all()))
