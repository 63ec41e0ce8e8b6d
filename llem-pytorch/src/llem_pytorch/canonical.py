"""Which settings change nothing: equal to what the engine does by itself, or without effect beside the others.

Only what is certain whatever the model is in here: not the attention kernel and the cache that a model takes by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs

from llem.backends.base import DTYPE_BITS
from llem.config.identity import unset
from llem.config.models import Experiment, Sampling
from llem_pytorch.config import STATIC_CACHES, PyTorchOptions

__all__ = ["canonical", "weight_bits"]

#: Option to the value that is the same as leaving it out.
DEFAULTS: dict[str, Any] = {
    "num_beams": 1,
    "use_cache": True,
    "no_repeat_ngram_size": 0,
    "length_penalty": 1.0,
    "early_stopping": False,
    "load_in_4bit": False,
    "load_in_8bit": False,
    "bnb_4bit_quant_type": "fp4",
    "bnb_4bit_use_double_quant": False,
    "torch_compile_backend": "inductor",
    "torch_compile_fullgraph": False,
    "merge_adapter": False,
}


def canonical(options: PyTorchOptions, experiment: Experiment) -> Experiment:
    """The experiment without such settings; itself where it has none."""
    plain = dict.fromkeys(_options_without_effect(options, experiment))
    sampling = _sampling(experiment.sampling)
    if not plain and sampling is experiment.sampling:
        return experiment
    return attrs.evolve(experiment, options=attrs.evolve(options, **plain), sampling=sampling)


def _options_without_effect(options: PyTorchOptions, experiment: Experiment) -> Iterator[str]:
    yield from unset(options, DEFAULTS)
    static = options.cache_implementation in STATIC_CACHES
    if options.torch_compile is False and not static:  # transformers compiles by itself for a static cache alone
        yield "torch_compile"
    if options.torch_compile_mode == ("reduce-overhead" if static else "default"):
        yield "torch_compile_mode"
    own = "bfloat16" if experiment.dtype == "auto" else experiment.dtype
    if options.bnb_4bit_compute_dtype == own:
        yield "bnb_4bit_compute_dtype"


def _sampling(sampling: Sampling) -> Sampling:
    """Greedy decoding draws nothing, and a penalty of 1 or a whole probability is none."""
    plain: dict[str, Any] = {}
    if sampling.temperature == 0 and sampling.seed != 0:
        plain["seed"] = 0
    if sampling.repetition_penalty == 1:
        plain["repetition_penalty"] = None
    if sampling.top_p == 1:
        plain["top_p"] = None
    return attrs.evolve(sampling, **plain) if plain else sampling


def weight_bits(options: PyTorchOptions, experiment: Experiment) -> float | None:
    """Bits of a parameter, by dtype; None where weights are quantised, may lie elsewhere, or are loaded another way."""
    elsewhere = options.device_map is not None and not options.device_map.startswith("cuda")
    if options.load_in_4bit or options.load_in_8bit or elsewhere or getattr(options, "extra_model", None):
        return None
    return DTYPE_BITS.get(experiment.dtype)
