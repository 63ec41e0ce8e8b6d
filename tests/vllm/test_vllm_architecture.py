"""Sizes from vLLM's configuration and its workers' reports, told by hand: no engine runs here."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from llem.models.shapes import SHAPES
from llem_vllm.architecture import architecture_of

LLAMA = SHAPES["llama-3.1-8b"].kwargs()
PARAMETERS, TABLE = 8_030_261_248, 128_256 * 4096
MIXTRAL = {
    **LLAMA,
    "model_type": "mixtral",
    "vocab_size": 32000,
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
    "sliding_window": None,
}


class Config(SimpleNamespace):
    """Fields by name, as transformers' configurations have them."""

    def to_dict(self) -> dict[str, Any]:
        return dict(vars(self))


def configured(config: dict[str, Any], *, quantization: str | None = None, **more: Any) -> SimpleNamespace:
    """What vLLM keeps of a model of text."""
    told = Config(**config)
    model = SimpleNamespace(hf_config=told, hf_text_config=told, dtype="torch.bfloat16", quantization=quantization)
    return SimpleNamespace(model_config=model, **more)


def worker(**changes: Any) -> dict[str, Any]:
    """A worker that holds everything in 16 bits."""
    held = {"weight_bytes": 2 * PARAMETERS, "lookup_bytes": 2 * TABLE, "expert_bytes": 0}
    return {"weights_packed": False, "kv_cache_dtype": ["bfloat16"], **held, **changes}


def test_dense():
    """The input table is looked up, not read; half as many bytes for a cache in FP8."""
    sizes = architecture_of(configured(LLAMA), [worker()])
    assert sizes is not None
    assert (sizes.parameters, sizes.active_parameters) == (PARAMETERS, PARAMETERS - TABLE)
    assert (sizes.weight_bytes, sizes.read_bytes) == (2 * PARAMETERS, 2 * (PARAMETERS - TABLE))
    assert (sizes.windows, sizes.experts, sizes.unfit, sizes.other_products) == ((), 1, None, False)
    half = architecture_of(configured(LLAMA), [worker(kv_cache_dtype=["uint8"])])
    assert half is not None
    assert half.kv_bytes_per_token * 2 == sizes.kv_bytes_per_token


@pytest.mark.parametrize(("method", "other"), [("awq_marlin", False), ("gptq", False), ("fp8", True), ("new", True)])
def test_quantised(method, other):
    """Bytes are those that the workers hold, 16-bit tables apart; what may compute in FP8 is told."""
    held = worker(weight_bytes=5_600_000_000)
    sizes = architecture_of(configured(LLAMA, quantization=method), [held])
    assert sizes is not None
    assert sizes.read_bytes == 5_600_000_000 - 2 * TABLE
    assert sizes.other_products is other


def test_experts():
    """A pass reads the experts of one token at least: two of eight, over all workers."""
    each = worker(weight_bytes=47_000_000_000, lookup_bytes=131_072_000, expert_bytes=45_000_000_000)
    sizes = architecture_of(configured(MIXTRAL), [each, each])
    assert sizes is not None
    assert sizes.experts == 8
    assert sizes.read_bytes == 2 * (47_000_000_000 - 131_072_000 - 45_000_000_000 * 3 // 4)
    unseen = architecture_of(configured(MIXTRAL), [worker()])
    assert unseen is not None
    assert unseen.read_bytes is None, "no worker told which bytes are the experts'"


def test_windows():
    """A sliding window is in the sizes."""
    sizes = architecture_of(configured({**LLAMA, "model_type": "mistral", "sliding_window": 4096}), [worker()])
    assert sizes is not None
    assert sizes.windows == ((4096, 32),)


def test_passes():
    """Drafted tokens and beams are told."""
    drafting = architecture_of(configured(LLAMA, speculative_config=SimpleNamespace(method="ngram")), [worker()])
    beams = architecture_of(configured(LLAMA, speculative_config=None), [worker()], beams=True)
    assert drafting is not None
    assert beams is not None
    assert (drafting.unfit, beams.unfit) == ("speculative", "passes_unknown")


@pytest.mark.parametrize("family", ["deepseek_v3", "mamba", "gpt_oss"])
def test_unknown_families(family):
    """What cannot be counted from a configuration has no sizes."""
    assert architecture_of(configured({**LLAMA, "model_type": family}), [worker()]) is None


def test_more_than_text():
    """A model with other parts than its decoder has no sizes: the workers' bytes are of all parts."""
    config = configured(LLAMA)
    config.model_config.hf_config = Config(model_type="llava")
    assert architecture_of(config, [worker()]) is None
