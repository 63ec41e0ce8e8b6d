"""Speculation: tokens are drafted (looked up, or by another model or first layers) and verified in one step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from llem.backends.check import Refusal
from llem.config.models import Experiment
from llem.errors import ConfigError
from llem.models.resolve import resolve_model
from llem_pytorch.config import STATIC_CACHES, PyTorchOptions

__all__ = ["DRAFTING", "LOOKBEHIND", "drafting_settings", "speculation_faults"]

KINDS = ("prompt_lookup_num_tokens", "assistant_model", "assistant_early_exit")
#: Settings of drafting by a model; transformers reads them from the drafting model's own settings.
DRAFTING = ("num_assistant_tokens", "num_assistant_tokens_schedule", "assistant_confidence_threshold")
#: As DRAFTING, where the drafting model has another vocabulary.
LOOKBEHIND = ("assistant_lookbehind", "target_lookbehind")


def drafting_settings(options: PyTorchOptions) -> dict[str, Any]:
    """What the drafting model's GenerationConfig must hold."""
    typed = {name: value for name in DRAFTING if (value := getattr(options, name)) is not None}
    extra = {name: value for name, value in (options.extra_generation or {}).items() if name in LOOKBEHIND}
    return {**typed, **extra}


def speculation_faults(options: PyTorchOptions, experiment: Experiment) -> Iterator[Refusal]:
    """What is wrong with speculation: without effect, several kinds of it, or where it does not work."""
    asked = [name for name in KINDS if getattr(options, name) is not None]
    by_model = options.assistant_model is not None or options.assistant_early_exit is not None
    if options.max_matching_ngram_size is not None and options.prompt_lookup_num_tokens is None:
        yield "pytorch.max_matching_ngram_size", "has no effect without prompt_lookup_num_tokens"
    for name in DRAFTING:
        if getattr(options, name) is not None and not by_model:
            yield f"pytorch.{name}", "has no effect without assistant_model or assistant_early_exit"
    for name in ("assistant_ensemble_weight", "speculation_type", *LOOKBEHIND):
        if name in (options.extra_generation or {}) and options.assistant_model is None:
            yield f"pytorch.extra_generation.{name}", "has no effect without assistant_model"
    if options.assistant_model is not None:
        try:
            resolve_model(options.assistant_model)
        except ConfigError as error:
            yield "pytorch.assistant_model", error.message
    if not asked:
        return
    path = f"pytorch.{asked[0]}"
    if len(asked) > 1:
        yield path, f"tokens are drafted in one way; leave out all but one of {', '.join(asked)}"
    if (options.num_beams or 1) > 1:
        yield path, "does not work with beam search; leave num_beams at 1"
    if options.guidance_scale is not None:
        yield path, "does not work with guidance_scale, which goes one token at a time"
    if experiment.load.kind == "offline" and experiment.load.batch_size > 1:
        yield path, f"works for one request at a time; load.batch_size is {experiment.load.batch_size}"
    if options.use_cache is False or options.cache_implementation in STATIC_CACHES:
        yield path, "needs a dynamic cache; leave use_cache and cache_implementation out"
