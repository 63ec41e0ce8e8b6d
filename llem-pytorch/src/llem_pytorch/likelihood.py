"""Log likelihoods of given continuations, from one forward pass per batch.

The model reads a text without its last token, which is only predicted. What a causal model makes of a token does not
depend on what follows it. So rows are padded on the right without a mask, every token keeps the position that it has
alone, and a text whose input begins another one's needs no row of its own: the choices of a question that are one token
each share a row.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence

import attrs
import torch
from transformers import PreTrainedModel

from llem.backends.base import Likelihood, Scored

__all__ = ["likelihoods"]

#: Most logits of one batch.
LOGITS = 2**26
#: Most tokens of one batch, padding included. A CPU is fastest while what it computes with stays in its cache.
TOKENS, CPU_TOKENS = 2**14, 2**11
#: Most logits that are turned into float32 at once.
PIECE = 2**22


@attrs.frozen
class Row:
    """One input of the model.

    Attributes:
        first: the first column whose logits are looked at.
        places: the requests that it scores.
    """

    tokens: tuple[int, ...]
    first: int
    places: tuple[int, ...]


def likelihoods(model: PreTrainedModel, requests: Sequence[Scored], pad: int, device: torch.device) -> list[Likelihood]:
    """In the order of the requests: log P(continuation | context) in nats, and whether greedy decoding gives it.

    The logits are the model's own, without the settings of `sampling` and without a cache, from the forward pass that
    is not compiled: each batch has another shape. Whatever the model computes in, probabilities are taken in float32,
    as generation takes them, and summed in float64.
    """
    keeps = "logits_to_keep" in inspect.signature(model.forward).parameters
    found = [Likelihood(0.0, True)] * len(requests)  # an empty continuation is certain
    vocab_size = model.config.get_text_config(decoder=True).vocab_size
    tokens = CPU_TOKENS if device.type == "cpu" else TOKENS
    for batch in _batches(_rows(requests), tokens, LOGITS // vocab_size, keeps):
        for place, likelihood in _scored(model, batch, requests, pad, device, keeps):
            found[place] = likelihood
    return found


def _rows(requests: Sequence[Scored]) -> list[Row]:
    """Inputs that begin no other one, longest first, so that the batch that needs most memory comes first."""
    inputs = {place: (*one.context, *one.continuation)[:-1] for place, one in enumerate(requests) if one.continuation}
    groups: list[tuple[tuple[int, ...], list[int]]] = []
    for place in sorted(inputs, key=inputs.__getitem__, reverse=True):  # what begins a text comes right after it
        tokens = inputs[place]
        if groups and groups[-1][0][: len(tokens)] == tokens:
            groups[-1][1].append(place)
        else:
            groups.append((tokens, [place]))
    rows = [
        Row(tokens, min(len(requests[place].context) for place in places) - 1, tuple(places))
        for tokens, places in groups
    ]
    return sorted(rows, key=lambda row: -len(row.tokens))


def _batches(rows: Sequence[Row], tokens: int, columns: int, keeps: bool) -> Iterator[list[Row]]:
    """Rows that are computed together: of like length, so that little is padding, and not too many.

    Args:
        tokens: most of them, padding included, unless it is a single row.
        columns: most of them that have logits.
        keeps: whether the model makes logits of the last columns alone.
    """
    batch: list[Row] = []
    for row in rows:
        size = len(batch) + 1
        width, first = len((batch or [row])[0].tokens), min(one.first for one in (*batch, row)) if keeps else 0
        if batch and (size * width > tokens or size * (width - first) > columns):
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def _scored(
    model: PreTrainedModel,
    batch: Sequence[Row],
    requests: Sequence[Scored],
    pad: int,
    device: torch.device,
    keeps: bool,
) -> Iterator[tuple[int, Likelihood]]:
    """Places of the requests that these rows score, and their likelihoods."""
    width, first = len(batch[0].tokens), min(row.first for row in batch)
    ids = torch.tensor([(*row.tokens, *(pad,) * (width - len(row.tokens))) for row in batch], device=device)
    kept = {"logits_to_keep": width - first} if keeps else {}
    asked = [(line, place, requests[place]) for line, row in enumerate(batch) for place in row.places]
    lines = [line for line, _, one in asked for _ in one.continuation]
    columns = [len(one.context) - 1 - first + step for _, _, one in asked for step in range(len(one.continuation))]
    targets = [token for _, _, one in asked for token in one.continuation]
    with torch.inference_mode():
        # not by calling the model, which runs what is compiled for generation
        logits = model.forward(input_ids=ids, use_cache=False, **kept).logits[:, first - width :]
        norms, best = _over_vocabulary(logits)
        at, token = torch.tensor([lines, columns], device=logits.device), torch.tensor(targets, device=logits.device)
        logprobs = (logits[at[0], at[1], token].float() - norms[at[0], at[1]]).double().cpu()
        greedy = (best[at[0], at[1]] == token).cpu()
    lengths = [len(one.continuation) for _, _, one in asked]
    for (_, place, _), own, hits in zip(asked, logprobs.split(lengths), greedy.split(lengths), strict=True):
        yield place, Likelihood(float(own.sum()), bool(hits.all()))


def _over_vocabulary(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """For each row and column the logarithm of the sum of exponentials, in float32, and the likeliest token."""
    flat = logits.flatten(0, 1)
    pieces = [(piece.float().logsumexp(-1), piece.argmax(-1)) for piece in flat.split(max(1, PIECE // flat.shape[-1]))]
    norms, best = zip(*pieces, strict=True)
    return torch.cat(norms).view(logits.shape[:2]), torch.cat(best).view(logits.shape[:2])
