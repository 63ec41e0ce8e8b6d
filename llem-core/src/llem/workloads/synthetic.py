"""Random token ids of chosen lengths: work of a known amount, with no text, tokenizer or licence involved."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import attrs

from llem.backends.base import Request
from llem.config.fields import option
from llem.config.models import Sampling
from llem.errors import ConfigError
from llem.findings import Finding
from llem.models.tokenizer import Tokenizer
from llem.workloads.base import Length, Workload, greatest, positive, sample, too_long

__all__ = ["FIRST_ID", "SyntheticOptions", "SyntheticWorkload", "drawn_from", "random_ids", "require_vocabulary"]

#: Ids below this are padding, beginning, end or unknown in most vocabularies of the sentencepiece family.
FIRST_ID = 3


@attrs.frozen(kw_only=True)
class SyntheticOptions:
    """Section `workload` with `kind: synthetic`."""

    kind: Literal["synthetic"] = option("synthetic", help="Random token ids of chosen lengths.")
    input_tokens: Length = option(128, help="Length of a prompt.", unit="tokens", validator=positive)
    output_tokens: Length = option(128, help="Tokens to generate for each prompt.", unit="tokens", validator=positive)
    seed: int = option(0, help="Seed of lengths and token ids.")


class SyntheticWorkload(Workload):
    """Ids uniform over [3, vocabulary size), every request different, so that no prefix cache can help.

    Request i depends on the seed and i alone. Its input length, ids and output length come from three separate
    streams: another output length leaves the prompts as they are, and a longer prompt begins with the shorter one.
    Vocabularies that keep special tokens elsewhere may see one in a prompt; engines compute them like any other.
    A salt changes the ids alone: for a server that may have kept the same prompts from an earlier run.
    """

    kind: ClassVar[str] = "synthetic"
    needs_tokenizer: ClassVar[bool] = False
    options: SyntheticOptions

    def __init__(self, options: SyntheticOptions, tokenizer: Tokenizer | None, vocab_size: int) -> None:
        require_vocabulary(vocab_size)
        super().__init__(options, tokenizer, vocab_size)

    def requests(self, start: int, count: int) -> Sequence[Request]:
        return [self._request(index) for index in range(start, start + count)]

    def _request(self, index: int) -> Request:
        length = sample(self.options.input_tokens, self._stream(index, "input"))
        token_ids = random_ids(self._stream(index, f"ids{self.salt}"), length, self.ids or self.vocab_size)
        output_tokens = sample(self.options.output_tokens, self._stream(index, "output"))
        return Request(index=index, token_ids=token_ids, output_tokens=output_tokens)

    def _stream(self, index: int, purpose: str) -> random.Random:
        return random.Random(f"synthetic/{self.options.seed}/{index}/{purpose}")

    def prepare(self, sampling: Sampling, context_length: int | None) -> Sequence[Finding]:
        """Raises ConfigError: the longest prompt with the longest output does not fit."""
        longest = greatest(self.options.input_tokens), greatest(self.options.output_tokens)
        wrong = None if context_length is None else too_long("the workload", *longest, context_length)
        if wrong is not None:
            hint = "lower `workload.input_tokens` or `workload.output_tokens`, or the `max` or `high` of either"
            raise ConfigError(wrong, hint, code="prompts_too_long")
        return ()

    def describe(self) -> Mapping[str, Any]:
        return {"kind": self.kind, **drawn_from(self)}


def random_ids(rng: random.Random, count: int, of: int | range) -> tuple[int, ...]:
    """Ids uniform over a range, or over [3, `of`). A longer draw from the same stream begins with the shorter one."""
    ids = range(FIRST_ID, of) if isinstance(of, int) else of
    draw, first, span = rng.random, ids.start, len(ids)
    return tuple([first + int(draw() * span) for _ in range(count)])


def drawn_from(workload: Workload) -> Mapping[str, Any]:
    """Of which ids a workload's random prompts are, for the record."""
    ids = workload.ids or range(FIRST_ID, workload.vocab_size)
    return {"first_id": ids.start, "vocab_size": ids.stop, "salt": workload.salt}


def require_vocabulary(vocab_size: int) -> None:
    """Raise ConfigError for a vocabulary that holds nothing but special ids."""
    if vocab_size <= FIRST_ID:
        raise ConfigError(
            f"a vocabulary of {vocab_size} is too small for synthetic prompts",
            f"it must hold more than {FIRST_ID} ids",
        )
