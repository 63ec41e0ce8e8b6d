"""lm-eval's view of the loaded engine: the model that its tasks ask.

Tokens, truncation and cutting of answers follow `lm_eval.models.huggingface.HFLM`, so that scores equal those of
lm-eval's own model on the same weights.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import attrs
import jinja2
from lm_eval.api.model import TemplateLM
from lm_eval.defaults import DEFAULT_MAX_LENGTH
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from llem.backends.base import Completion, Engine, Likelihood, Request, Scored
from llem.errors import ConfigError, ExperimentFailed, Problem
from llem.models.tokenizer import Tokenizer
from llem_lmeval.answers import AnswerSettings, answer_settings
from llem_lmeval.config import LmEvalOptions
from llem_lmeval.quiet import Progress

__all__ = ["EngineLM"]

#: Requests given to the engine at a time: a batch of answers is padded, likelihoods are batched by the engine itself.
ANSWERS, LIKELIHOODS = 32, 512
#: Tokenised texts between two signs of life.
TEXTS = 256


@attrs.frozen
class _Asked:
    """One answer that is asked for: place among the requests, the prompt as tokens and text, and its settings."""

    place: int
    tokens: tuple[int, ...]
    context: str
    settings: AnswerSettings


class EngineLM(TemplateLM):
    """The model that lm-eval asks: the engine that was measured.

    Attributes:
        cut: how many texts were too long and were cut on the left.
        batch_size: requests given to the engine at a time, of each kind that was asked.
        system_dropped: whether the chat template refused system messages, which were then left out as lm-eval does.
    """

    def __init__(
        self, engine: Engine, tokenizer: Tokenizer, options: LmEvalOptions, name: str, progress: Progress
    ) -> None:
        super().__init__()
        self._engine, self._tokens, self._options, self._name = engine, tokenizer, options, name
        self._progress = progress
        self._bos, self._eos = tokenizer.bos_token_id, tokenizer.eos_token_id
        self._encode = functools.lru_cache(maxsize=64)(self._encoded)  # a question comes once for each of its choices
        self.cut = 0
        self.batch_size: dict[str, int] = {}
        self.system_dropped = False

    # what TemplateLM asks for

    @property
    def eot_token_id(self) -> int:
        """The token that ends a text."""
        if self._eos is None:
            raise _no_token()
        return self._eos

    @property
    def prefix_token_id(self) -> int:
        """What stands before a text that nothing precedes: the beginning-of-sequence token, else the end."""
        return self.eot_token_id if self._bos is None else self._bos

    @property
    def max_length(self) -> int:
        """Tokens that the model reads of a text whose likelihood is asked for; the last one it predicts is one more."""
        scored = self._engine.scored_length()
        return self._longest(None if scored is None else scored - 1)

    def _longest(self, known: int | None) -> int:
        asked = self._options.max_length
        if asked is not None and known is not None and asked > known:
            problem = Problem("quality.max_length", f"{asked} tokens, and the engine takes {known}", f"at most {known}")
            raise ConfigError("texts would be too long", problems=(problem,))
        return asked or known or DEFAULT_MAX_LENGTH

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs: Any) -> list[int]:
        """Token ids; a text that begins with the prefix token gets no other one."""
        begins = self._bos if self._bos is not None else self._eos
        return list(self._encode(string, add_special_tokens, begins))

    def _encoded(self, text: str, special: bool | None, begins: int | None) -> tuple[int, ...]:
        if special is None and begins is not None and text.startswith(self._tokens.token_text(begins)):
            special = False
        wanted = self._options.add_bos_token if special is None else special
        ids = self._tokens.encode(text, special_tokens=wanted is not False)
        if special is None and wanted and self._bos is not None and ids[:1] != [self._bos]:
            ids = [self._bos, *ids]  # its tokenizer adds none by itself
        return tuple(ids)

    def _at_a_time(self, kind: str, default: int) -> int:
        self.batch_size[kind] = self._options.batch_size or default
        return self.batch_size[kind]

    # likelihoods

    def loglikelihood(self, requests: Sequence[Any], disable_tqdm: bool = True) -> list[tuple[float, bool]]:
        """As `TemplateLM.loglikelihood`, with signs of life."""
        self._progress.begin()
        pairs = []
        for number, request in enumerate(requests):
            if number % TEXTS == 0:
                self._progress.alive()
            context, continuation = request.args[:2]
            pairs.append(((context, continuation), *self._pair(context, continuation)))
        return self._loglikelihood_tokens(pairs)

    def _pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        if context:
            before, ids = self._encode_pair(context, continuation)
            return before or [self.prefix_token_id], ids  # of a context of spaces no token is left
        ids = self.tok_encode(continuation, add_special_tokens=False)
        if ids and ids[0] == self.prefix_token_id:
            return ids[:1], ids[1:]
        return [self.prefix_token_id], ids

    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[Any, list[int], list[int]]], **kwargs: Any
    ) -> list[tuple[float, bool]]:
        texts = [self._scored(*each) for each in requests]
        return [(one.logprob, one.greedy) for one in self._score(texts, range(len(texts)))]

    def _scored(self, said: tuple[str, str] | None, context: list[int], continuation: list[int]) -> Scored:
        """Cut on the left to what the model reads and the one token that it predicts."""
        longest = self._max_read
        if not continuation or len(continuation) > longest:
            about = "has no token of its own" if not continuation else f"has {len(continuation)} tokens"
            raise ConfigError(
                f"a continuation {about}, where 1 to {longest} can be scored: {str(said and said[1])[:80]!r}",
                "mend the task's document, or choose another task",
            )
        surplus = len(context) + len(continuation) - longest - 1
        if surplus > 0:
            self.cut += 1
            context = context[surplus:]
        return Scored(tuple(context), tuple(continuation))

    @functools.cached_property
    def _max_read(self) -> int:
        return self.max_length

    def _score(self, texts: Sequence[Scored], owners: Sequence[int]) -> list[Likelihood]:
        """In the order of the texts; a request is done with the last text that it owns.

        The longest come first, so that a batch holds like lengths, and one that needs too much memory fails at once.
        Texts that differ in the last token alone stand side by side: an engine computes their input once.
        """
        keys = [(*one.context, *one.continuation) for one in texts]
        order = sorted(range(len(texts)), key=lambda place: (-len(keys[place]), keys[place]))
        left: dict[int, int] = {}
        for owner in owners:
            left[owner] = left.get(owner, 0) + 1
        found: dict[int, Likelihood] = {}
        for places in _chunks(order, self._at_a_time("scored", LIKELIHOODS)):
            self._progress.alive()
            found.update(zip(places, self._engine.loglikelihood([texts[place] for place in places]), strict=True))
            for place in places:
                left[owners[place]] -= 1
            self._progress.add(sum(left[owner] == 0 for owner in {owners[place] for place in places}))
        return [found[place] for place in range(len(texts))]

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = True) -> list[float]:
        """Of whole texts, in windows of the model's own context, each token predicted once (lm-eval's windows)."""
        self._progress.begin()
        windows: list[Scored] = []
        owners: list[int] = []
        for number, request in enumerate(requests):
            if number % TEXTS == 0:
                self._progress.alive()
            tokens = self.tok_encode(request.args[-1] if len(request.args) > 1 else request.args[0])
            for window in get_rolling_token_windows(tokens, self.prefix_token_id, self._max_read, 1):
                context, continuation = make_disjoint_window(window)
                windows.append(Scored(tuple(context), tuple(continuation)))
                owners.append(number)
        totals = [0.0] * len(requests)
        for owner, one in zip(owners, self._score(windows, owners), strict=True):
            totals[owner] += one.logprob
        self._progress.add(len(requests) - len(set(owners)))  # empty texts
        return totals

    # answers

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = True) -> list[str]:
        """Answers, cut at the first text that ends them; those of one kind together, the longest prompts first."""
        self._progress.begin()
        asked: dict[AnswerSettings, list[_Asked]] = {}
        for place, request in enumerate(requests):
            if place % TEXTS == 0:
                self._progress.alive()
            context, kwargs = request.args[:2]
            settings = answer_settings(kwargs, self._options.seeds.torch)
            asked.setdefault(settings, []).append(_Asked(place, self._prompt(context, settings), context, settings))
        said: dict[int, str] = {}
        for settings, group in asked.items():
            group.sort(key=lambda one: (-len(one.tokens), one.context))
            for batch in _chunks(group, self._at_a_time("generated", ANSWERS)):
                self._progress.alive()
                # asked again in the same words, another place is another draw
                sent = [Request(one.place, one.tokens, settings.max_tokens, settings.until) for one in batch]
                done = self._engine.generate(sent, settings.sampling)
                said.update((one.place, self._text(made, settings)) for one, made in zip(batch, done, strict=True))
                self._progress.add(len(batch))
        return [said[place] for place in range(len(requests))]

    def _prompt(self, context: str, settings: AnswerSettings) -> tuple[int, ...]:
        room = self._room - settings.max_tokens
        if room < 1:
            about = f"answers of {settings.max_tokens} tokens leave no room for a prompt in {self._room}"
            problem = Problem("quality.gen_kwargs", about, "set max_gen_toks to fewer")
            raise ConfigError("answers would be too long", problems=(problem,))
        tokens = self._encode(context, None, self._bos) or (self.prefix_token_id,)
        self.cut += len(tokens) > room
        return tokens[-room:]

    @functools.cached_property
    def _room(self) -> int:
        return self._longest(self._engine.context_length())

    def _text(self, made: Completion, settings: AnswerSettings) -> str:
        eos = "" if self._eos is None else self._tokens.token_text(self._eos)
        if made.token_ids is not None:
            ids = list(made.token_ids)
            ids = ids[: ids.index(self._eos)] if self._eos in ids else ids
            return settings.cut(self._tokens.decode(ids, strict=False), eos)
        if made.text is None:
            raise ExperimentFailed("the engine gives neither the tokens nor the text of an answer", code="quality")
        return settings.cut(made.text, eos)

    # chat

    @property
    def tokenizer_name(self) -> str:
        """The model's name."""
        return self._name

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """The model's template, where one is applied."""
        return self._tokens.chat_template if chat_template else None

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """The messages as text. A template that refuses system messages gets them without, as in lm-eval's own model.

        Raises ConfigError where there is no template.
        """
        say: Callable[[list[dict[str, str]]], str] = functools.partial(
            self._tokens.chat_text, generation_prompt=add_generation_prompt
        )
        try:
            return say(chat_history)
        except jinja2.TemplateError:
            if all(one["role"] != "system" for one in chat_history):
                raise
            self.system_dropped = True
            return say([one for one in chat_history if one["role"] != "system"])


def _chunks(items: Sequence[Any], size: int) -> list[Any]:
    return [items[start : start + size] for start in range(0, len(items), size)]


def _no_token() -> ConfigError:
    return ConfigError(
        "the tokenizer has no token that begins or ends a text, and a text that nothing precedes needs one",
        "choose tasks whose prompts are not empty, or another model",
    )
