"""How well a model predicts texts of the user's: bits per byte and perplexity, from rolling likelihoods.

Every token of a text is predicted once, from the tokens before it. Bits per byte is Σ −log2 P(token) / Σ UTF-8 bytes;
unlike the perplexity of tokens, it compares models with different tokenizers.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import math
import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import attrs

from llem.backends.base import Engine, Likelihood, Scored
from llem.config.fields import at_least, option
from llem.config.models import Experiment, Quality
from llem.errors import ConfigError, ExperimentFailed, Problem
from llem.evaluators.base import Context, Evaluator, Item, Score
from llem.evaluators.items import score_of
from llem.evaluators.texts import PASSAGE, Text, passages
from llem.foreign.files import LARGEST, Unread, read
from llem.models.spec import ModelSpec
from llem.models.tokenizer import Tokenizer
from llem.workloads.foreign import json_texts, plain_text

__all__ = ["PerplexityEvaluator", "PerplexityOptions"]

#: Tokens of a text that are scored together, unless the section or the engine says otherwise. The same for every
#: engine, so that a longer context of one is not taken for better weights.
DEFAULT_LENGTH = 2048
#: Tokens of texts that one call of the engine scores, about: enough for a full batch, few enough to be stopped soon.
AT_ONCE = 2**14
#: Names of files with a document a row; any other is one plain text.
JSON_SUFFIXES = (".jsonl", ".ndjson")


@attrs.frozen(kw_only=True)
class PerplexityOptions(Quality):
    """Section `quality` with `evaluator: perplexity`. A task is the path of a .jsonl file or of a text file."""

    evaluator: Literal["perplexity"] = option("perplexity", help="Bits per byte and perplexity of your own texts.")
    tasks: tuple[str, ...] = option(
        help="Paths of files: .jsonl with one document a line, or any other name for one plain text.",
        validator=attrs.fields(Quality).tasks.validator,
        file=True,
    )
    limit: int | None = option(
        None,
        help="Of each file, at most so many documents of a .jsonl, or passages (about 2,048 characters) of a plain "
        "text. Null takes all.",
        validator=at_least(1),
    )
    field: str = option("text", help="Field that holds the text in a .jsonl file.")
    max_length: int | None = option(
        None,
        help="Tokens of a context and what is predicted from it, together. Null takes 2048, or as many as the engine "
        "scores at once if they are fewer.",
        unit="tokens",
        validator=at_least(2),
    )
    stride: int | None = option(
        None,
        help="Tokens that are predicted at once, at most. Each follows at least `max_length` − `stride` tokens, or all "
        "that its document has before it. Null takes half of `max_length`.",
        unit="tokens",
        validator=at_least(1),
    )


@attrs.frozen
class _Read:
    """A file as read, and its texts as token ids."""

    sha256: str
    texts: tuple[Text, ...]
    prefix: Literal["bos", "eos"] | None


class PerplexityEvaluator(Evaluator):
    """Scores text files. See `PerplexityOptions` for what is predicted from what."""

    name: ClassVar[str] = "perplexity"
    options: PerplexityOptions

    def __init__(self, options: PerplexityOptions) -> None:
        super().__init__(options)
        self._read: dict[str, _Read] = {}
        self._about: dict[str, Any] = {}

    def needs(self) -> Collection[str]:
        return ("loglikelihood",)

    def check(self, experiment: Experiment, model: ModelSpec) -> None:
        """Raises ConfigError: a file is missing, unreadable, not UTF-8 or empty, or the stride leaves no context."""
        if self.options.stride is not None and self.options.stride >= (self.options.max_length or math.inf):
            raise _refusal("quality.stride", *_stride_problem(self.options.stride, self.options.max_length))
        for number, task in enumerate(self.options.tasks):
            _documents(task, self.options.field, f"quality.tasks[{number}]")

    def prepare(self, tokenizer: Tokenizer, context: Context) -> None:
        """Read the file and make its tokens."""
        sha256, documents = _documents(context.task, self.options.field, "quality.tasks")
        if _is_json(context.task):
            documents = documents[: self.options.limit]
        prefix = _prefix(tokenizer)
        begin = {"bos": tokenizer.bos_token_id, "eos": tokenizer.eos_token_id}.get(prefix or "")
        texts = []
        for name, document in _named(documents):
            ids, starts = tokenizer.encode_starts(document)
            texts.append(Text(name, document, tuple(ids), None if starts is None else tuple(starts), begin))
        self._read[context.task] = _Read(sha256, tuple(texts), prefix)

    def evaluate(self, engine: Engine, tokenizer: Tokenizer, context: Context) -> Sequence[Score]:
        """Bits per byte, and the perplexity of tokens.

        Raises:
            ConfigError: `max_length` is more than the engine scores, or nothing is left to predict.
            ExperimentFailed: the engine gives a probability of 0, or no number.
        """
        read = self._read[context.task]
        length, stride = self._lengths(engine)
        single = not _is_json(context.task)
        found = [(text, passage) for text in read.texts for passage in passages(text)]
        found = found[: self.options.limit] if single else found
        if not found:
            raise _refusal("quality.tasks", f"{context.task} has no token to predict", "give it more text")
        asked = [list(text.requests(passage, stride, length)) for text, passage in found]
        nats = _nats(engine, asked, context)
        self._about = {
            "sha256": read.sha256,
            "documents": len(read.texts),
            "bytes": sum(passage.bytes for _, passage in found),
            "tokens": sum(passage.tokens for _, passage in found),
            "max_length": length,
            "stride": stride,
            "first_token_follows": read.prefix or "nothing: it is not scored",
            "passage_characters": PASSAGE,
        }
        rows = [(passage.id, "" if single else text.name, passage) for text, passage in found]
        per_byte = [
            Item(name, one / math.log(2) / passage.bytes, weight=float(passage.bytes), cluster=cluster)
            for (name, cluster, passage), one in zip(rows, nats, strict=True)
        ]
        per_token = [
            Item(name, one / passage.tokens, weight=float(passage.tokens), cluster=cluster)
            for (name, cluster, passage), one in zip(rows, nats, strict=True)
        ]
        return [
            score_of(context.task, "bits_per_byte", per_byte, higher_is_better=False),
            score_of(context.task, "token_perplexity", per_token, aggregation="exp", higher_is_better=False),
        ]

    def _lengths(self, engine: Engine) -> tuple[int, int]:
        """Tokens of a context and what is predicted, and tokens that are predicted at once."""
        known, asked = engine.scored_length(), self.options.max_length
        if asked is not None and known is not None and asked > known:
            about = f"is {asked}, and the engine scores texts of {known} tokens at most"
            raise _refusal("quality.max_length", about, f"set {known} or less, or leave it out")
        length = asked or min(DEFAULT_LENGTH, known or DEFAULT_LENGTH)
        stride = self.options.stride or length // 2
        if stride >= length:
            raise _refusal("quality.stride", *_stride_problem(stride, length))
        return length, stride

    def describe(self) -> Mapping[str, Any]:
        """Of the task that was evaluated last: hash of the file, lengths, and what was scored."""
        return dict(self._about)


def _nats(engine: Engine, asked: Sequence[Sequence[Scored]], context: Context) -> list[float]:
    """−ln P of each passage, whose requests are given; asked in calls of about `AT_ONCE` tokens."""
    context.progress(0, len(asked))
    found = []
    for group in _batches(asked):
        context.check_stop()
        scored = iter(engine.loglikelihood(list(itertools.chain.from_iterable(group))))
        found += [-math.fsum(map(_logprob, itertools.islice(scored, len(requests)))) for requests in group]
        context.progress(len(found), len(asked))
    return found


def _batches(asked: Iterable[Sequence[Scored]]) -> Iterator[list[Sequence[Scored]]]:
    group: list[Sequence[Scored]] = []
    tokens = 0
    for requests in asked:
        more = sum(len(one.context) + len(one.continuation) for one in requests)
        if group and tokens + more > AT_ONCE:
            yield group
            group, tokens = [], 0
        group.append(requests)
        tokens += more
    yield group


def _logprob(found: Likelihood) -> float:
    if not math.isfinite(found.logprob):
        what = f"the engine gives a text the log probability {found.logprob}"
        raise ExperimentFailed(what, "a dtype with more range may help: `dtype: float32`", "quality")
    return found.logprob


def _prefix(tokenizer: Tokenizer) -> Literal["bos", "eos"] | None:
    """What a text's first token is predicted from: the token that begins texts, else the one that ends them."""
    if tokenizer.bos_token_id is not None:
        return "bos"
    return None if tokenizer.eos_token_id is None else "eos"


def _is_json(task: str) -> bool:
    return os.path.splitext(task)[1].lower() in JSON_SUFFIXES


def _named(documents: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Documents by a digest of their text; of equal ones each further one with its number."""
    seen: Counter[str] = Counter()
    for document in documents:
        name = hashlib.sha256(document.encode()).hexdigest()[:16]
        seen[name] += 1
        yield name if seen[name] == 1 else f"{name}~{seen[name]}", document


def _documents(task: str, field: str, path: str) -> tuple[str, Sequence[str]]:
    """SHA-256 of a file, and its documents. Raises ConfigError with the path to the setting."""
    try:
        changed = Path(task).expanduser().stat()
        return _parsed(task, field, path, (changed.st_mtime_ns, changed.st_size))
    except Unread as error:
        raise _refusal(path, f"{task} {error}", "name a file of texts") from error
    except OSError as error:
        hint = "a path that is not absolute starts from the folder llem is run in"
        raise _refusal(path, f"{task} cannot be read: {error.strerror}", hint) from error


@functools.lru_cache(maxsize=4)
def _parsed(task: str, field: str, path: str, changed: tuple[int, int]) -> tuple[str, Sequence[str]]:
    """As `_documents`, kept: a plan checks each of its points. `changed`: a file that changed is read anew."""
    file = Path(task).expanduser()
    content = read(file, LARGEST)
    try:
        if _is_json(task):
            documents = [text for _, text in json_texts(file.name, content, field)]
        else:
            documents = [text] if (text := plain_text(file.name, content)).strip() else []
    except ConfigError as error:
        raise _refusal(path, error.message, error.hint) from error
    if not documents:
        raise _refusal(path, f"{task} holds no text", "give a file with text")
    try:
        "".join(documents).encode()
    except UnicodeEncodeError as error:
        raise _refusal(path, f"{task} has half of a character (a lone surrogate)", "write the text anew") from error
    return hashlib.sha256(content).hexdigest(), documents


def _stride_problem(stride: int, length: int | None) -> tuple[str, str]:
    return f"is {stride}, which leaves no context within {length} tokens", "set a stride below `max_length`"


def _refusal(path: str, about: str, hint: str) -> ConfigError:
    return ConfigError("quality cannot be evaluated", problems=(Problem(path, about, hint),))
