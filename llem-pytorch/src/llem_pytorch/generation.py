"""What one call of `model.generate` gets: settings, padded batch, clock of tokens."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any

import attrs
import torch
from transformers import CompileConfig, GenerationConfig, PreTrainedModel
from transformers.generation.streamers import BaseStreamer

from llem.backends.base import Completion, Request
from llem.config.models import Sampling
from llem_pytorch.config import STATIC_CACHES, PyTorchOptions, QuantizedCache
from llem_pytorch.speculation import LOOKBEHIND

__all__ = ["SpecialIds", "TokenClock", "completions", "decode_compilation", "generation_config", "left_padded"]

#: Of `extra_generation`, what reaches transformers by another way than the settings of each call.
ELSEWHERE = (*LOOKBEHIND, "stop_strings")


@attrs.frozen
class SpecialIds:
    """Ids with a meaning for generation.

    Attributes:
        pad: fills prompts on the left and finished sequences on the right; masked, and never returned.
        eos: any of these ends a sequence; may be empty.
    """

    pad: int
    eos: tuple[int, ...]

    @classmethod
    def of(cls, model: PreTrainedModel) -> SpecialIds:
        """From the model's generation settings, else its configuration; ids outside the vocabulary are left out.

        Padding must only be a row of the embedding, so an end-of-sequence id or 0 does where there is no padding id.
        """
        settings, config = model.generation_config, model.config.get_text_config(decoder=True)
        vocabulary = range(config.vocab_size)
        ends = getattr(settings, "eos_token_id", None)
        ends = getattr(config, "eos_token_id", None) if ends is None else ends
        listed = [] if ends is None else ends if isinstance(ends, list) else [ends]
        eos = tuple(end for end in listed if end in vocabulary)
        candidates = (getattr(settings, "pad_token_id", None), getattr(config, "pad_token_id", None), *eos, 0)
        return cls(next(pad for pad in candidates if pad is not None and pad in vocabulary), eos)


def decode_compilation(options: PyTorchOptions) -> CompileConfig | None:
    """How transformers compiles the decode step; None where it is not asked to (no compilation, or no static cache)."""
    if options.torch_compile is not True or options.cache_implementation not in STATIC_CACHES:
        return None
    backend = options.torch_compile_backend or "inductor"
    own_mode = "reduce-overhead" if backend == "inductor" else None
    settings = CompileConfig(
        fullgraph=bool(options.torch_compile_fullgraph),
        dynamic=options.torch_compile_dynamic,
        backend=backend,
        mode=options.torch_compile_mode or (None if options.torch_compile_options else own_mode),  # type: ignore[arg-type]
        options=dict(options.torch_compile_options) if options.torch_compile_options else None,
    )
    settings._compile_all_devices = True  # type: ignore[assignment]  # else transformers skips the CPU in silence
    return settings


def generation_config(
    options: PyTorchOptions, sampling: Sampling, ids: SpecialIds, new_tokens: int | None
) -> GenerationConfig:
    """Every setting of generation, explicit.

    With `ignore_eos` there is no end-of-sequence id at all, so no stopping test and no logits processor runs for it
    and each sequence has exactly `new_tokens` tokens. What `sampling` leaves None is off (transformers' own default
    would be top_k 50). `extra_generation` adds fields that are not in here.
    """
    settings: dict[str, Any] = {
        **{name: value for name, value in (options.extra_generation or {}).items() if name not in ELSEWHERE},
        "max_new_tokens": new_tokens,
        "do_sample": sampling.temperature > 0,
        "num_beams": options.num_beams or 1,
        "use_cache": options.use_cache is not False,
        "cache_implementation": options.cache_implementation,
        "cache_config": _given(options.cache_config),
        "max_cache_len": options.max_cache_len,
        "prefill_chunk_size": options.prefill_chunk_size,
        "repetition_penalty": 1.0 if sampling.repetition_penalty is None else sampling.repetition_penalty,
        "no_repeat_ngram_size": options.no_repeat_ngram_size or 0,
        "guidance_scale": options.guidance_scale,
        "min_new_tokens": None
        if options.min_new_tokens is None
        else min(options.min_new_tokens, new_tokens or sys.maxsize),
        "prompt_lookup_num_tokens": options.prompt_lookup_num_tokens,
        "max_matching_ngram_size": options.max_matching_ngram_size,
        "assistant_early_exit": options.assistant_early_exit,
        "pad_token_id": ids.pad,
        "eos_token_id": None if sampling.ignore_eos or not ids.eos else list(ids.eos),
        "compile_config": decode_compilation(options),
        "disable_compile": True if options.torch_compile is False else None,
    }
    if settings["num_beams"] > 1:
        settings["length_penalty"] = 1.0 if options.length_penalty is None else options.length_penalty
        settings["early_stopping"] = options.early_stopping or False
    if settings["do_sample"]:
        settings["temperature"] = sampling.temperature
        settings["top_k"] = sampling.top_k or 0
        settings["top_p"] = 1.0 if sampling.top_p is None else sampling.top_p
        settings["min_p"] = sampling.min_p
    return GenerationConfig(**settings)


def _given(cache: QuantizedCache | None) -> dict[str, Any] | None:
    return None if cache is None else attrs.asdict(cache, filter=lambda _, value: value is not None)


def left_padded(requests: Sequence[Request], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and attention mask, both (batch, longest prompt) int64 on the CPU, prompts flush right."""
    width = max(len(request.token_ids) for request in requests)
    gaps = [width - len(request.token_ids) for request in requests]
    if not any(gaps):
        ids = torch.tensor([request.token_ids for request in requests], dtype=torch.long)
        return ids, torch.ones_like(ids)
    rows = [(pad,) * gap + request.token_ids for gap, request in zip(gaps, requests, strict=True)]
    mask = [[0] * gap + [1] * (width - gap) for gap in gaps]
    return torch.tensor(rows, dtype=torch.long), torch.tensor(mask, dtype=torch.long)


def completions(
    requests: Sequence[Request],
    rows: Sequence[Sequence[int]],
    eos: Sequence[int],
    times_ns: Sequence[int] | None,
    stops: Sequence[int],
) -> list[Completion]:
    """Cut each row of generated ids to what its request asked for, and after the first id that is in `eos`.

    Args:
        stops: per row the number of tokens after which its text ended it; 0 where it did not.
    """
    done = []
    for request, row, stop in zip(requests, rows, stops, strict=True):
        tokens, reason = tuple(row[: request.output_tokens]), "length"
        if 0 < stop <= len(tokens):
            tokens, reason = tokens[:stop], "stop"
        end = next((place for place, token in enumerate(tokens) if token in eos), None) if eos else None
        if end is not None:
            tokens, reason = tokens[: end + 1], "stop"
        times = None if times_ns is None else tuple(times_ns[: len(tokens)])
        done.append(Completion(request.index, tokens, reason, times))
    return done


class TokenClock(BaseStreamer):  # type: ignore[misc]
    """Notes the monotonic time at which each step's tokens are in host memory; a batch steps together."""

    def __init__(self, batch: int) -> None:
        self.batch = batch
        self.times_ns: list[int] = []
        self._prompt_seen = False

    def put(self, value: torch.Tensor) -> None:
        """Called once with the prompt, then at each step; with prompt lookup a step brings several tokens at once."""
        now = time.monotonic_ns()
        if not self._prompt_seen:
            self._prompt_seen = True
            return
        self.times_ns.extend([now] * (value.numel() // self.batch))

    def end(self) -> None:
        """Nothing is held back."""
