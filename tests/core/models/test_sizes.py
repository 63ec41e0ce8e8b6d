"""What a configuration tells of windows, experts and kinds of layers, with and without what transformers adds."""

from __future__ import annotations

import pytest

from llem.models.shapes import SHAPES
from llem.models.sizes import attention_windows, decoder_sizes, experts_of, is_plain_decoder

WINDOW = {"sliding_window": 128}


@pytest.mark.parametrize(
    ("config", "windows"),
    [
        ({"model_type": "llama"}, ()),
        ({"model_type": "mistral", **WINDOW}, ((128, 12),)),
        ({"model_type": "mistral", "sliding_window": None}, ()),
        ({"model_type": "mistral"}, None),
        ({"model_type": "qwen2", **WINDOW}, ()),
        ({"model_type": "qwen2", "use_sliding_window": False, **WINDOW}, ()),
        ({"model_type": "qwen2", "use_sliding_window": True, "max_window_layers": 8, **WINDOW}, ((128, 4),)),
        ({"model_type": "qwen2", "use_sliding_window": True, "max_window_layers": 28, **WINDOW}, ()),
        ({"model_type": "gemma2", **WINDOW}, ((128, 6),)),
        ({"model_type": "gemma3_text", **WINDOW}, ((128, 10),)),
        ({"model_type": "gpt_oss", **WINDOW}, ((128, 6),)),
        ({"model_type": "a-new-one", **WINDOW}, None),
        ({"model_type": "a-new-one", "layer_types": ["full_attention"] * 12, **WINDOW}, ()),
        ({"model_type": "x", "layer_types": ["sliding_attention"] * 5 + ["full_attention"] * 7, **WINDOW}, ((128, 5),)),
        ({"model_type": "x", "layer_types": ["sliding_attention"] * 12}, None),
        ({"model_type": "x", "layer_types": ["chunked_attention"] * 12, **WINDOW}, None),
        ({"model_type": "x", "layer_types": ["full_attention"] * 11}, None),
    ],
)
def test_windows(config, windows):
    """By `layer_types` where they are told, by the family where it is known, and else not at all."""
    assert attention_windows(config, 12) == windows


@pytest.mark.parametrize(
    ("config", "experts"),
    [
        ({}, (1, 1)),
        ({"num_local_experts": 8, "num_experts_per_tok": 2}, (2, 8)),
        ({"n_routed_experts": 64, "num_experts_per_tok": 6}, (6, 64)),
        ({"num_experts": 8}, None),
        ({"num_experts": 8, "num_local_experts": 16, "num_experts_per_tok": 2}, None),
        ({"num_experts": 2, "num_experts_per_tok": 4}, None),
    ],
)
def test_experts(config, experts):
    """A token's experts and all of them, by the names in use; what is not told or contradicts itself is not known."""
    assert experts_of(config) == experts


@pytest.mark.parametrize(
    "odd",
    [
        {"kv_lora_rank": 512},
        {"mamba_d_state": 16},
        {"attention_chunk_size": 8192},
        {"num_kv_shared_layers": 10},
        {"layer_types": ["full_attention", "linear_attention"]},
        {"is_encoder_decoder": True},
        {"model_type": "diffllama"},
    ],
)
def test_other_kinds_of_layers(odd):
    """Layers that the formulas do not fit are told by their settings, and such a model has no sizes."""
    config = {**SHAPES["tiny"].config, **odd}
    assert not is_plain_decoder(config)
    assert decoder_sizes(config) is None


@pytest.mark.parametrize("name", SHAPES)
def test_sizes_of_every_shape(name):
    """Named shapes are dense, have no windows, and leave out the input embedding unless it is tied."""
    config = SHAPES[name].config
    sizes = decoder_sizes(config)
    assert sizes is not None
    assert (sizes.windows, sizes.experts) == ((), 1)
    table = config["vocab_size"] * config["hidden_size"]
    assert sizes.parameters - sizes.active_parameters == (0 if config["tie_word_embeddings"] else table)
