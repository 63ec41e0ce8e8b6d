"""Folders that vLLM loads a model from: a user's own, or one made for a `shape:` model."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from llem.config.models import Experiment
from llem.models.spec import ModelSpec

__all__ = ["has_tokenizer", "model_folder", "write_seeded"]

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "tekken.json", "vocab.json", "vocab.txt")


@contextmanager
def model_folder(experiment: Experiment, spec: ModelSpec, *, seeded: bool) -> Iterator[str]:
    """What to name as vLLM's `model`. A folder made for a shape is removed at the end."""
    if spec.source != "shape":
        yield spec.path if spec.source == "folder" and spec.path is not None else spec.name
        return
    with TemporaryDirectory(prefix="llem-shape-") as folder:
        if seeded:
            write_seeded(spec, experiment.dtype, folder)
        else:
            _write_config(spec, Path(folder))
        yield folder


def has_tokenizer(spec: ModelSpec) -> bool:
    """Whether the model comes with a tokenizer; of a Hub id this is taken for granted."""
    if spec.source == "folder" and spec.path is not None:
        return any((Path(spec.path) / name).is_file() for name in TOKENIZER_FILES)
    return spec.source == "hub"


def _write_config(spec: ModelSpec, folder: Path) -> None:
    """Configuration only. vLLM reads the end-of-sequence id from generation_config.json where there is no tokenizer."""
    config: dict[str, Any] = dict(spec.config or {})
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    special = {name: config[name] for name in ("bos_token_id", "eos_token_id") if config.get(name) is not None}
    (folder / "generation_config.json").write_text(json.dumps(special), encoding="utf-8")


def write_seeded(spec: ModelSpec, dtype: str, folder: str) -> None:
    """The weights that transformers makes of this shape on the CPU with its seed, as safetensors.

    They need the model's size in host memory and on disk, once each.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = copy.deepcopy(dict(spec.config or {}))
    name = config.get("dtype") or config.get("torch_dtype") or "bfloat16" if dtype == "auto" else dtype
    with torch.random.fork_rng(devices=[]):  # the caller's generator is left as it was
        torch.manual_seed(spec.seed)
        made = AutoModelForCausalLM.from_config(
            AutoConfig.for_model(**config), dtype=getattr(torch, str(name).removeprefix("torch."))
        )
    made.save_pretrained(folder)
