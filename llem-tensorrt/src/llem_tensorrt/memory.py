"""How GPUs will hold a model, from the settings alone."""

from __future__ import annotations

from llem.backends.base import DTYPE_BITS, Holding
from llem.config.models import Experiment
from llem.models.spec import ModelSpec
from llem_tensorrt.config import TensorRTOptions

__all__ = ["holding"]

#: Of the weights that an algorithm quantises; embeddings, which it leaves alone, and scales have more.
_QUANTISED = {"FP8": 8.0, "FP8_BLOCK_SCALES": 8.0, "NVFP4": 4.0, "W4A16_AWQ": 4.0, "W4A8_AWQ": 4.0}


def holding(options: TensorRTOptions, experiment: Experiment, model: ModelSpec) -> Holding:
    """Bits of weights and cache. Tensor and pipeline parallel GPUs share one model between them.

    The bits of weights are known of a shape alone: TensorRT-LLM looks for the quantisation of a real model in a file
    of its own beside the checkpoint's configuration. `extra` may say anything.
    """
    cache = options.kv_cache_config
    known = model.source == "shape" and not options.extra
    bits = DTYPE_BITS.get(experiment.dtype) if options.quant_algo is None else _QUANTISED[options.quant_algo]
    return Holding(
        weight_bits=bits if known else None, cache_bits=8.0 if cache is not None and cache.dtype == "fp8" else None
    )
