"""Workloads that read prompts as text share this: order, tokenisation, truncation, wrap-around, and what fits."""

from __future__ import annotations

import hashlib
import json
import random
from abc import abstractmethod
from array import array
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import attrs

from llem.backends.base import Request
from llem.config.fields import at_least, option
from llem.config.models import Sampling
from llem.errors import ConfigError
from llem.findings import Finding, finding
from llem.models.tokenizer import Tokenizer
from llem.workloads.base import (
    BLOCK,
    NAMED,
    TOO_LONG_HELP,
    Length,
    TooLong,
    Workload,
    greatest,
    place_of,
    sample,
    too_long,
    without_too_long,
)
from llem.workloads.conversations import joined_text
from llem.workloads.prompt_rows import Prompt

__all__ = ["PromptOptions", "PromptSet", "PromptWorkload"]

#: Special tokens that a tokenizer adds to a plain prompt, at most.
SPECIAL = 16


def _not_with_chat(instance: PromptOptions, attribute: Any, value: int | None) -> None:
    if value is not None and instance.chat:
        raise ValueError("cannot be combined with chat: cutting would remove the end of the chat template")


@attrs.frozen(kw_only=True)
class PromptOptions:
    """Settings shared by all workloads that read prompts as text."""

    input_tokens: int | None = option(
        None,
        help="Cut longer prompts to this many tokens from the start. Null leaves them whole. Needs the model's "
        "tokenizer.",
        unit="tokens",
        validator=[at_least(1), _not_with_chat],
    )
    too_long: TooLong = option("refuse", help=TOO_LONG_HELP)
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
        rows: what each row is: "a text", "messages", …
        prompts: in file order, at least one.
        skipped: places of rows that were left out because nothing is to be sent, or no length is known.
    """

    name: str
    sha256: str
    rows: str
    prompts: tuple[Prompt, ...]
    skipped: tuple[str, ...] = ()


class PromptWorkload(Workload):
    """Prompts in a fixed order, beginning again after the last. Each is tokenised once.

    Requests have the text or the messages as the source has them, and the token ids that the tokenizer makes of them;
    none where there is no tokenizer, or no chat template and the engine takes messages. A cut text has ids alone.

    Raises ConfigError on construction when the prompts cannot be read, or need a tokenizer and there is none.
    """

    options: PromptOptions

    def __init__(self, options: PromptOptions, tokenizer: Tokenizer | None, vocab_size: int) -> None:
        super().__init__(options, tokenizer, vocab_size)
        self.prompt_set = self.read()
        if tokenizer is None:
            _refuse_without_tokenizer(options, self.prompt_set)
        self._talks = options.chat or self._prompts[0].messages is not None
        self._chat_template = tokenizer.chat_template if self._talks and tokenizer is not None else None
        self._order = _order(len(self._prompts), options)
        self._token_ids: dict[int, array[int]] = {}  # 4 bytes a token, where a tuple of numbers has 36
        self._answer_tokens: dict[str, int] = {}
        self._too_long: frozenset[int] = frozenset()
        self._context: int | None = None

    @abstractmethod
    def read(self) -> PromptSet:
        """Read the prompts. Raises ConfigError naming file and line."""

    @abstractmethod
    def output_length(self) -> Length | None:
        """The setting `output_tokens`; None where the file has a length for each prompt."""

    @property
    def _prompts(self) -> Sequence[Prompt]:
        return self.prompt_set.prompts

    def prepare(self, sampling: Sampling, context_length: int | None) -> Sequence[Finding]:
        """Raises ConfigError: a prompt is too long and to be refused, or none is left; or the template refuses one."""
        self._context = context_length
        wrong = {} if self.tokenizer is None else self._beyond(context_length)
        found = without_too_long(
            [(self._prompts[position].place, message) for position, message in wrong.items()],
            len(self._prompts),
            self.options.too_long,
            "lower `workload.output_tokens`, or cut texts with `workload.input_tokens`",
        )
        self._too_long = frozenset(wrong)
        self._order = [position for position in self._order if position not in wrong]
        return [*found, *_skipped(self.prompt_set), *_otherwise(self._prompts, self.output_length(), sampling)]

    def _beyond(self, context_length: int | None) -> Mapping[int, str]:
        """Prompts that do not fit with the longest output they may get, and what is wrong with each."""
        found = {}
        for position, prompt in enumerate(self._prompts):
            if not self._surely_fits(prompt, context_length):
                given, asked = len(self._ids(position)), self._longest_output(prompt)
                message = None if context_length is None else too_long(prompt.place, given, asked, context_length)
                if message is not None:
                    found[position] = message
        return found

    def _surely_fits(self, prompt: Prompt, context_length: int | None) -> bool:
        """Without making tokens of it: each character of ASCII is one token at most, in any tokenizer."""
        texts = [text for text in (prompt.text, prompt.answer) if text is not None]
        if prompt.messages is not None or self.options.chat:
            return False  # a chat template may refuse them, and shall do so now
        if context_length is None or not all(map(str.isascii, texts)):
            return context_length is None
        given = min(len(prompt.text or ""), self.options.input_tokens or context_length) + SPECIAL
        asked = self._longest_output(prompt) if prompt.answer is None else len(prompt.answer)
        return given + asked <= context_length

    def _longest_output(self, prompt: Prompt) -> int:
        return self._told_output(prompt) or greatest(self.output_length() or 1)

    def _told_output(self, prompt: Prompt) -> int | None:
        """The output length that the file has for a prompt; None where the settings say it."""
        if prompt.answer is None:
            return prompt.output_tokens
        if prompt.answer not in self._answer_tokens:
            assert self.tokenizer is not None
            made = self.tokenizer.encode(prompt.answer, special_tokens=False)
            self._answer_tokens[prompt.answer] = max(1, len(made))
        return self._answer_tokens[prompt.answer]

    @property
    def distinct(self) -> int:
        """Different prompts among those that are used."""
        return len({_identity(self._prompts[position]) for position in self._order})

    def requests(self, start: int, count: int) -> Sequence[Request]:
        return [self._request(index) for index in range(start, start + count)]

    def _request(self, index: int) -> Request:
        position = self._order[place_of(index, len(self._order))]
        prompt, text = self._prompts[position], None
        ids = () if self.tokenizer is None else self._tokens(position)
        messages = prompt.messages
        if prompt.text is not None and self.options.chat:
            messages = ({"role": "user", "content": prompt.text},)
        elif not self._is_cut(ids):
            text = prompt.text
        told = self._told_output(prompt)
        if told is None:
            rng = random.Random(f"{self.kind}/{self.options.seed}/{index}/output")
            told = sample(self.output_length() or 1, rng)
        return Request(index=index, token_ids=ids, output_tokens=told, text=text, messages=messages)

    def _is_cut(self, ids: Sequence[int]) -> bool:
        """Whether a prompt may have lost its end: one that has just the greatest length counts as cut."""
        return self.options.input_tokens is not None and len(ids) >= self.options.input_tokens

    def _tokens(self, position: int) -> tuple[int, ...]:
        if position not in self._token_ids:
            self._token_ids[position] = array("I", self._ids(position))
        return tuple(self._token_ids[position])

    def _ids(self, position: int) -> tuple[int, ...]:
        """The token ids of a prompt, cut where that is asked for."""
        prompt = self._prompts[position]
        if self.sends_messages and self._talks and self._chat_template is None:
            return ()  # the engine has a template
        try:
            ids = tuple(self._encode(prompt)[: self.options.input_tokens])
        except ConfigError as error:  # of a chat template, which does not know the row
            raise attrs.evolve(error, message=f"{prompt.place}: {error.message}") from error
        if not ids:
            raise ConfigError(f"{prompt.place}: the prompt has no tokens", "remove the row, or use another tokenizer")
        if max(ids) >= self.vocab_size:
            raise ConfigError(
                f"{prompt.place}: token id {max(ids)} is outside the model's vocabulary of {self.vocab_size}",
                "the tokenizer does not belong to this model",
            )
        return ids

    def _encode(self, prompt: Prompt) -> list[int]:
        assert self.tokenizer is not None
        if prompt.messages is not None:
            # templates take texts; parts of text are their text together
            plain = [{**message, "content": joined_text(message.get("content"))} for message in prompt.messages]
            return self.tokenizer.encode(self.tokenizer.chat_text(plain), special_tokens=False)
        assert prompt.text is not None
        return self.tokenizer.encode_chat(prompt.text) if self.options.chat else self.tokenizer.encode(prompt.text)

    def describe(self) -> Mapping[str, Any]:
        template = self._chat_template
        return {
            "kind": self.kind,
            "file": self.prompt_set.name,
            "sha256": self.prompt_set.sha256,
            "rows": self.prompt_set.rows,
            "prompts": len(self._order),
            "distinct": self.distinct,
            "block": BLOCK,
            "skipped_rows": len(self.prompt_set.skipped),
            "too_long": len(self._too_long),
            "context_length": self._context,
            "tokenized": self.tokenizer is not None,
            "order": self.options.order,
            "when_exhausted": "wrap",
            "chat": self.options.chat,
            "chat_template_sha256": None if template is None else hashlib.sha256(template.encode()).hexdigest(),
        }


def _identity(prompt: Prompt) -> str:
    return prompt.text if prompt.text is not None else json.dumps(prompt.messages, sort_keys=True)


def _refuse_without_tokenizer(options: PromptOptions, prompts: PromptSet) -> None:
    """Raise ConfigError for what cannot be done with text alone."""
    why = "nothing here has the tokenizer of the model that is measured"
    if options.input_tokens is not None:
        hint = "leave `workload.input_tokens` out, or name the model whose tokenizer it is with `model`"
        raise ConfigError(f"prompts cannot be cut by tokens: {why}", hint, code="tokenizer_unavailable")
    if any(prompt.answer is not None for prompt in prompts.prompts):
        hint = "set `workload.output_tokens` to a length, or name the model whose tokenizer it is with `model`"
        raise ConfigError(f"answers cannot be counted in tokens: {why}", hint, code="tokenizer_unavailable")


def _skipped(prompts: PromptSet) -> Sequence[Finding]:
    if not prompts.skipped:
        return ()
    named, count = prompts.skipped[:NAMED], len(prompts.skipped)
    message = f"{count} rows have no prompt or no answer and are left out: {', '.join(named)}{' …' * (count > NAMED)}"
    of = count + len(prompts.prompts)
    return (finding("prompts_skipped", message, skipped=count, of=of, rows=list(named), why="empty"),)


#: Settings of a request that mean the same as to leave them out.
NEUTRAL: Mapping[str, Any] = {
    "top_p": 1, "top_k": -1, "min_p": 0, "repetition_penalty": 1, "frequency_penalty": 0, "presence_penalty": 0, "n": 1,
}  # fmt: skip


def _otherwise(prompts: Sequence[Prompt], length: Length | None, sampling: Sampling) -> Sequence[Finding]:
    """What rows ask of their requests that the experiment does otherwise."""
    done = {**attrs.asdict(sampling), "max_tokens": length}
    followed = {**NEUTRAL, **{name: value for name, value in done.items() if value is not None}}
    asked = [(name, prompt.place) for prompt in prompts for name, value in prompt.asks.items()
             if value != followed.get(name) and value is not False and value not in ([], {})]  # fmt: skip
    if not asked:
        return ()
    first, rows = dict(reversed(asked)), {place for _, place in asked}
    named = ", ".join(f"{name} ({place})" for name, place in sorted(first.items()))
    message = f"{len(rows)} of {len(prompts)} rows ask for settings that are not followed: {named}"
    return (finding("prompts_ask_otherwise", message, rows=len(rows), of=len(prompts), settings=sorted(first)),)


def _order(count: int, options: PromptOptions) -> Sequence[int]:
    """Positions in the order of use. Sorts by random keys: `Random.shuffle` may change between Python versions."""
    rng = random.Random(f"order/{options.seed}")
    keys = [rng.random() for _ in range(count)]
    return range(count) if options.order == "file" else sorted(range(count), key=keys.__getitem__)
