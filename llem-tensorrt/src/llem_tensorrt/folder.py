"""A folder that stands for a shape: its configuration as files, without weights."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["checkpoint_config", "write_shape"]


def write_shape(folder: Path, config: Mapping[str, Any], quant_algo: str | None) -> None:
    """Write `config.json`, and for a quantised shape `hf_quant_config.json` as ModelOpt's checkpoints have it."""
    (folder / "config.json").write_text(json.dumps(checkpoint_config(config), indent=2), encoding="utf-8")
    if quant_algo is not None:
        quantisation = {
            "producer": {"name": "llem", "version": "0"},
            "quantization": {"quant_algo": quant_algo, "kv_cache_quant_algo": None, "exclude_modules": ["lm_head"]},
        }
        (folder / "hf_quant_config.json").write_text(json.dumps(quantisation, indent=2), encoding="utf-8")


def checkpoint_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """A shape's configuration in the form of published checkpoints, which every version of transformers reads.

    Shapes have the form of transformers 5 (`rope_parameters`, `dtype`); TensorRT-LLM 1.x is built on transformers 4,
    which would pass over those names and compute with the default rotary base.
    """
    made = copy.deepcopy(dict(config))
    rope = made.pop("rope_parameters", None)
    if rope is not None:
        made["rope_theta"] = rope.pop("rope_theta", 10000.0)
        kind = rope.get("rope_type", "default")
        made["rope_scaling"] = None if kind == "default" else rope
    if "dtype" in made:
        made["torch_dtype"] = made.pop("dtype")
    return made
