"""Which settings change nothing, because vLLM cannot tell them from being left out; and how its GPUs hold a model.

Only defaults that mean "none of it" are in here, or "as the model has it": others change from one version to the next.
"""

from __future__ import annotations

from typing import Any

import attrs

from llem.backends.base import DTYPE_BITS, Holding
from llem.config.identity import unset
from llem.config.models import Experiment
from llem_vllm.config import VllmOptions

__all__ = ["canonical", "holding"]

#: Option to the value that is the same as leaving it out.
DEFAULTS: dict[str, Any] = {
    "kv_cache_dtype": "auto",
    "disable_sliding_window": False,
    "cpu_offload_gb": 0.0,
    "long_prefill_token_threshold": 0,
    "scheduling_policy": "fcfs",
    "stream_interval": 1,
    "moe_backend": "auto",
    "linear_backend": "auto",
    "model_impl": "auto",
    "enforce_eager": False,
    "load_format": "auto",
    "shape_weights": "dummy",
    "tensor_parallel_size": 1,
    "pipeline_parallel_size": 1,
    "data_parallel_size": 1,
    "prefill_context_parallel_size": 1,
    "decode_context_parallel_size": 1,
    "enable_expert_parallel": False,
    "enable_eplb": False,
    "enable_dbo": False,
    "disable_custom_all_reduce": False,
    "lora_dtype": "auto",
    "fully_sharded_loras": False,
    "beam_width": 1,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "min_tokens": 0,
    "seed_per_request": False,
}
#: The same of `sampling`: what is None there goes to vLLM as these values.
SAMPLING: dict[str, float] = {"top_p": 1.0, "min_p": 0.0, "repetition_penalty": 1.0}


def canonical(options: VllmOptions, experiment: Experiment) -> Experiment:
    """The experiment without such settings; itself where it has none."""
    plain, sampling = unset(options, DEFAULTS), unset(experiment.sampling, SAMPLING)
    if not plain and not sampling:
        return experiment
    return attrs.evolve(
        experiment,
        options=attrs.evolve(options, **plain),
        sampling=attrs.evolve(experiment.sampling, **sampling),
    )


def holding(options: VllmOptions, experiment: Experiment) -> Holding:
    """Bits by dtype, and a whole model for each data parallel rank.

    The bits are left open where weights are quantised, may lie elsewhere, or `extra` may say so. Experts that are
    spread over the ranks are no copies.
    """
    elsewhere = options.quantization is not None or options.cpu_offload_gb or options.extra
    eight = (options.kv_cache_dtype or "").startswith("fp8")
    return Holding(
        weight_bits=None if elsewhere else DTYPE_BITS.get(experiment.dtype),
        cache_bits=8.0 if eight else DTYPE_BITS.get(options.kv_cache_dtype or ""),
        copies=1 if options.enable_expert_parallel else options.data_parallel_size or 1,
    )
