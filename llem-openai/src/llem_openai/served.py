"""The model that a server serves: whether it is the one that was named, its tokenizer, and prompts without one."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from llem.backends.base import Request
from llem.config.models import Experiment
from llem.errors import ConfigError, LlemError
from llem.findings import Finding, finding
from llem.models.resolve import resolve_model
from llem.models.spec import ModelSpec, vocabulary_of
from llem.plugins.registry import registry
from llem_openai.checks import sends_text
from llem_openai.config import OpenAIOptions
from llem_openai.dialect import PROBE, PROBE_TOKENS

__all__ = [
    "COMMON",
    "FEW",
    "Prompts",
    "context_of",
    "differing",
    "draws_ids",
    "first_request",
    "random_ids",
    "tokenizer_model",
    "wanted",
    "words",
]

#: Token ids that the vocabularies of language models have in common, special tokens aside: the smallest of them have
#: 32,000 ids, and those that begin with special ones (Mistral's Tekken) keep the first 1,000 for them.
COMMON = range(1_000, 32_000)
#: Those of toy models and of models of bytes.
FEW = range(3, 256)

#: Words that are one token each, with the space before them, in most vocabularies.
_TEXT = """
    the of and to in is that it was for on are as with his they at be this from have or by one had not but what
    all were when we there can an your which their said if do will each about how up out them then she many some
    so these would other into has more her two like him see time could no make than first been its who now people
    my made over did down only way find use may water long little very after words called just where most know get
    through back much before go good new write our used me man too any day same right look think also around
    another came come work three word must because does part even place well such here take why things help put
    years different away again off went old number great tell men say small every found still between name should
    home big give air line set own under read last never us left end along while might next sound below saw
    something thought both few those always looked show large often together asked house world going want school
    important until form food keep children feet land side without boy once animals life enough took sometimes
    four head above kind began almost live page got earth need far hand high year mother light parts country
    father let night following picture being study second eyes soon times story boys since white days ever paper
    hard near sentence better best across during
"""
WORDS = tuple(_TEXT.split())


def words(token_ids: Sequence[int]) -> str:
    """A text of about so many tokens, another one for other ids."""
    return " ".join(WORDS[token % len(WORDS)] for token in token_ids)


def wanted(options: OpenAIOptions, model: ModelSpec) -> str | None:
    """The name of the model at the server, where somebody says it."""
    named = model.name.partition(":")[2] if model.source == "served" else ""
    return options.served_model or named or None


def tokenizer_model(model: ModelSpec, entry: Mapping[str, Any]) -> ModelSpec | None:
    """The model whose tokenizer the prompts are made with: the one that was named, else the served one where it lies on
    this machine, as a folder or in the cache of the Hub. None where it does not.

    Args:
        entry: of the server's list; vLLM tells as `root` what it has loaded.
    """
    if model.source != "served":
        return model
    for name in reversed(_names(entry)):
        folder = _folder(name)
        if folder is not None:
            try:
                return resolve_model(folder)
            except LlemError:  # a folder that holds something else
                continue
    return None


def _names(entry: Mapping[str, Any]) -> list[str]:
    """What the server calls the model: its id, and what it has loaded where that is told."""
    return [name for name in (entry["id"], entry.get("root")) if isinstance(name, str) and name and name.isprintable()]


def _folder(name: str) -> str | None:
    if os.path.isabs(name):
        return name if Path(name, "config.json").is_file() else None
    try:
        from huggingface_hub import try_to_load_from_cache
        from huggingface_hub.errors import HFValidationError
    except ImportError:
        return None
    try:
        found = try_to_load_from_cache(name, "config.json")
    except HFValidationError:
        return None
    return str(Path(found).parent) if isinstance(found, str) else None


def differing(model: ModelSpec, entry: Mapping[str, Any], options: OpenAIOptions) -> Iterator[Finding]:
    """That the server serves another model than was named, by all names that it tells."""
    if model.source == "served":
        return
    told = _names(entry)
    own = {model.name, os.path.basename(model.name.rstrip("/")), *filter(None, [model.path])}
    if own & {*told, *map(os.path.realpath, told)} or os.path.basename(told[0].rstrip("/")) in own:
        return
    message = (
        f"`model` is {model.name}, and the server serves {' from '.join(told)}: prompts are made for the first, "
        "figures are of the second"
    )
    yield finding("served_model_differs", message, named=model.name, served=told)


@attrs.frozen
class Prompts:
    """How prompts are made for the served model.

    Attributes:
        model: whose tokenizer and vocabulary they have; None where nobody here has them.
        decode: token ids to text, where prompts are sent as text.
        source: of that text, for the record; None where token ids are sent.
        salt: see `llem.backends.base.Engine.salt`.
        ids: of which random prompts are; None: of the vocabulary of `model`.
    """

    model: ModelSpec | None
    decode: Callable[[Sequence[int]], str] | None
    source: str | None
    salt: str
    ids: range | None = None

    @classmethod
    def of(cls, options: OpenAIOptions, experiment: Experiment, model: ModelSpec, entry: Mapping[str, Any]) -> Prompts:
        """Raises LlemError: the tokenizer of the model that was named cannot be loaded, and its text is to be sent."""
        own = tokenizer_model(model, entry)
        decode, source = _decoder(own, model, experiment) if sends_text(options) else (None, None)
        return cls(own, decode, source, secrets.token_hex(8) if _salted(options) else "")


#: Requests among which one is looked for that fits into the server's context.
TRIED = 64
#: Under which of these names servers tell how long prompt and answer may be together.
CONTEXT = ("max_model_len", "context_length", "context_window")


def context_of(entry: Mapping[str, Any]) -> int | None:
    """Tokens that prompt and answer may have together, by the server's list of models (vLLM, SGLang and others)."""
    return next((tokens for name in CONTEXT if (tokens := _tokens(entry.get(name)))), None)


def _tokens(told: object) -> int | None:
    """A number of tokens; None for what is none, such as "8k"."""
    try:
        tokens = int(told) if isinstance(told, (int, float, str)) and not isinstance(told, bool) else 0
    except (ValueError, OverflowError):
        return None
    return tokens if tokens > 0 else None


def draws_ids(experiment: Experiment) -> bool:
    """Whether prompts are random token ids, rather than texts of somebody's."""
    section = experiment.workload
    return section is None or not registry().load("workload", section.kind).needs_tokenizer


def first_request(experiment: Experiment, options: OpenAIOptions, prompts: Prompts, context: int | None) -> Request:
    """The workload's first request that fits into the server's context, with `PROBE_TOKENS` of output where these do.
    Random prompts are others than those that will be measured. `PROBE` for an experiment without a workload, and where
    none of the first requests fits: preparing the workload tells that.

    Raises LlemError: the workload cannot be made, or needs a tokenizer that is not there.
    """
    from llem.models.tokenizer import load_tokenizer

    if experiment.workload is None:
        return PROBE
    cls, own = registry().load("workload", experiment.workload.kind), prompts.model
    trusted = {"trust_remote_code": experiment.trust_remote_code}
    tokenizer = load_tokenizer(own, **trusted) if cls.needs_tokenizer and own is not None else None
    workload = cls(experiment.workload, tokenizer, vocabulary_of(own))
    workload.salt, workload.ids = f"{prompts.salt}/probe", prompts.ids
    workload.sends_messages = options.endpoint == "chat"
    for index in range(TRIED):
        [request] = workload.requests(index, 1)
        left = PROBE_TOKENS if context is None or not request.token_ids else context - len(request.token_ids)
        if left > 0:
            return attrs.evolve(request, output_tokens=min(left, PROBE_TOKENS))
    return PROBE


def _salted(options: OpenAIOptions) -> bool:
    """A server that llem starts has met no prompt; outputs of engines are compared for the same prompts only."""
    return not (options.command or options.return_token_ids) if options.salt is None else options.salt


def _decoder(
    own: ModelSpec | None, model: ModelSpec, experiment: Experiment
) -> tuple[Callable[[Sequence[int]], str], str]:
    from llem.models.tokenizer import load_tokenizer

    if own is not None:
        try:
            made = load_tokenizer(own, trust_remote_code=experiment.trust_remote_code)
        except LlemError:
            if own is model:  # somebody named it
                raise
        else:
            return made.decode, f"the tokenizer of {own.name}"
    return words, "common words"


def random_ids(try_prompt: Callable[[Sequence[int]], object]) -> range:
    """Of which ids a prompt may be for a server whose vocabulary is not known: of those that it takes.

    Args:
        try_prompt: sends a prompt; raises ConfigError where the server refuses it.
    """
    try:
        try_prompt((COMMON[0], COMMON[-1]))
    except ConfigError:
        return FEW
    return COMMON
