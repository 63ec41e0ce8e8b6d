"""Workloads that read prompts as text share this: order, tokenisation, truncation, wrap-around."""

from __future__ import annotations

import hashlib
import random
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import attrs

from llem.backends.base import Request
from llem.config.fields import at_least, option
from llem.errors import ConfigError
from llem.models.tokenizer import Tokenizer
from llem.workloads.base import Length, Workload, positive, sample

__all__ = ["PromptOptions", "PromptSet", "PromptWorkload"]


def _not_with_chat(instance: PromptOptions, attribute: Any, value: int | None) -> None:
    if value is not None and instance.chat:
        raise ValueError("cannot be combined with chat: cutting would remove the end of the chat template")


@attrs.frozen(kw_only=True)
class PromptOptions:
    """Settings shared by all workloads that read prompts as text."""

    output_tokens: Length = option(128, help="Tokens to generate for each prompt.", unit="tokens", validator=positive)
    input_tokens: int | None = option(
        None,
        help="Cut longer prompts to this many tokens from the start. Null leaves them whole.",
        unit="tokens",
        validator=[at_least(1), _not_with_chat],
    )
    chat: bool = option(False, help="Put each prompt into the model's chat template as one user message.")
    order: Literal["file", "shuffled"] = option(
        "file", help="The file's order, or shuffled once by the seed. Every pass has the same order."
    )
    seed: int = option(0, help="Seed of the order and of random output lengths.")


@attrs.frozen
class PromptSet:
    """Prompts as read.

    Attributes:
        name: of the file, without its folder.
        sha256: of the file's bytes.
        prompts: texts in file order, at least one.
        places: where each stands (`file:line`), for messages.
    """

    name: str
    sha256: str
    prompts: tuple[str, ...]
    places: tuple[str, ...]


class PromptWorkload(Workload):
    """Prompts in a fixed order, beginning again after the last. Each is tokenised once.

    Raises ConfigError on construction when the prompts cannot be read.
    """

    options: PromptOptions

    def __init__(self, options: PromptOptions, tokenizer: Tokenizer | None, vocab_size: int) -> None:
        super().__init__(options, tokenizer, vocab_size)
        if tokenizer is None:
            raise ConfigError(f"workload {self.kind!r} reads text and needs a tokenizer", "use `kind: synthetic`")
        self._encode = tokenizer.encode_chat if options.chat else tokenizer.encode
        self._chat_template = tokenizer.chat_template if options.chat else None
        self.prompt_set = self.read()
        self._order = _order(len(self.prompt_set.prompts), options)
        self._token_ids: dict[int, tuple[int, ...]] = {}

    @abstractmethod
    def read(self) -> PromptSet:
        """Read the prompts. Raises ConfigError naming file and line."""

    def requests(self, start: int, count: int) -> Sequence[Request]:
        return [self._request(index) for index in range(start, start + count)]

    def _request(self, index: int) -> Request:
        token_ids = self._tokens(self._order[index % len(self._order)])
        rng = random.Random(f"{self.kind}/{self.options.seed}/{index}/output")
        return Request(index=index, token_ids=token_ids, output_tokens=sample(self.options.output_tokens, rng))

    def _tokens(self, position: int) -> tuple[int, ...]:
        known = self._token_ids.get(position)
        if known is not None:
            return known
        ids = tuple(self._encode(self.prompt_set.prompts[position])[: self.options.input_tokens])
        place = self.prompt_set.places[position]
        if not ids:
            raise ConfigError(f"{place}: the prompt has no tokens", "remove the line, or use another tokenizer")
        if max(ids) >= self.vocab_size:
            raise ConfigError(
                f"{place}: token id {max(ids)} is outside the model's vocabulary of {self.vocab_size}",
                "the tokenizer does not belong to this model",
            )
        self._token_ids[position] = ids
        return ids

    def describe(self) -> Mapping[str, Any]:
        template = self._chat_template
        return {
            "kind": self.kind,
            "file": self.prompt_set.name,
            "sha256": self.prompt_set.sha256,
            "prompts": len(self.prompt_set.prompts),
            "order": self.options.order,
            "when_exhausted": "wrap",
            "chat": self.options.chat,
            "chat_template_sha256": None if template is None else hashlib.sha256(template.encode()).hexdigest(),
        }


def _order(count: int, options: PromptOptions) -> Sequence[int]:
    """Positions in the order of use. Sorts by random keys: `Random.shuffle` may change between Python versions."""
    if options.order == "file":
        return range(count)
    rng = random.Random(f"order/{options.seed}")
    keys = [rng.random() for _ in range(count)]
    return sorted(range(count), key=keys.__getitem__)
