"""Operations by formula against those that torch counts while a model runs, prefill and one step of decoding apart."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from llem.metrics.work import WindowWork, window_work
from llem.models.shapes import SHAPES
from llem.models.sizes import decoder_sizes
from llem.models.spec import Architecture
from llem.store.models import RequestRow
from llem_pytorch.architecture import architecture_of

SIZES = {
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "vocab_size": 512,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
}
EXPERTS = {"num_local_experts": 8, "num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 96}
SWITCHED = {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 3}
#: Families, what is special in their configuration, and (tokens, layers) of the windows that they must come out with.
CASES: dict[str, tuple[str, dict[str, Any], tuple[tuple[int, int], ...]]] = {
    "llama": ("llama", {}, ()),
    "tied": ("qwen2", {"tie_word_embeddings": True}, ()),
    "upper layers slide": ("qwen2", SWITCHED, ((16, 1),)),
    "all layers slide": ("mistral", {"sliding_window": 16}, ((16, 4),)),
    "every second slides": ("gemma2", {"sliding_window": 16}, ((16, 2),)),
    "five of six slide": ("gemma3_text", {"sliding_window": 16, "num_hidden_layers": 6}, ((16, 5),)),
    "experts": ("mixtral", {**EXPERTS, "sliding_window": None}, ()),
    "narrow experts": ("qwen3_moe", EXPERTS, ()),
    "a shared expert": ("qwen2_moe", {**EXPERTS, "shared_expert_intermediate_size": 64}, ()),
    "experts and windows": ("gpt_oss", {**EXPERTS, "sliding_window": 16}, ((16, 2),)),
}
PROMPT = 40
BITSANDBYTES = importlib.util.find_spec("bitsandbytes") is not None


def made(
    family: str, /, device: str = "cpu", torch_dtype: torch.dtype = torch.float32, **sizes: Any
) -> PreTrainedModel:
    """A model of random weights that computes attention and experts by plain matrix products."""
    config = AutoConfig.for_model(family, **sizes)
    with torch.device(device):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(
            config, dtype=torch_dtype, attn_implementation="eager", experts_implementation="eager"
        )
    return model.eval()


def counted(model: PreTrainedModel, ids: torch.Tensor, cache: Any = None) -> tuple[int, Any]:
    """Operations of one pass as torch counts them, logits of the last position only; and the cache."""
    counter = FlopCounterMode(display=False)
    with torch.inference_mode(), counter:
        out = model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
    return counter.get_total_flops(), out.past_key_values


def by_formula(sizes: Architecture, inputs: int, outputs: int) -> WindowWork:
    """Work of one request."""
    work = window_work(sizes, (RequestRow(0, 0, inputs, outputs, 0, 1),))
    assert work is not None
    return work


def masked(sizes: Architecture, inputs: int) -> int:
    """Operations that plain matrix products do for pairs of tokens which the mask then hides."""
    windows = dict(sizes.windows or ())
    endless = sizes.layers - sum(windows.values())
    seen = sum(
        layers * sum(min(place, width) for place in range(1, inputs + 1))
        for width, layers in [(inputs, endless), *windows.items()]
    )
    return 4 * sizes.heads * sizes.head_dim * (sizes.layers * inputs**2 - seen)


@pytest.mark.parametrize(("family", "special", "windows"), CASES.values(), ids=CASES)
def test_operations_are_those_that_torch_counts(family, special, windows):
    """Within 1 % (norms and biases are no matrix products) for a prompt, and for one token after it, in each family.

    The step also shows the window: transformers' cache keeps a sliding layer's window and no more.
    """
    model = made(family, **{**SIZES, **special})
    sizes = architecture_of(model)
    assert sizes is not None
    assert sizes.windows == windows
    work = by_formula(sizes, PROMPT, 2)
    prompt, cache = counted(model, torch.arange(5, 5 + PROMPT)[None])
    step, _ = counted(model, torch.tensor([[7]]), cache)
    assert work.prefill_flops + masked(sizes, PROMPT) == pytest.approx(prompt, rel=0.01)
    assert work.decode_flops == pytest.approx(step, rel=0.01)


@pytest.mark.parametrize(("name", "share"), [("llama-3.1-8b", 0.070), ("qwen2.5-0.5b", 0.375)])
def test_logits_are_of_the_last_position(name, share):
    """At full size, on no device: the formula is what torch counts, and counting logits for all of a prompt is not."""
    config = SHAPES[name].kwargs()
    model = made(config.pop("model_type"), "meta", torch.bfloat16, **config)
    sizes = architecture_of(model)
    assert sizes is not None
    work = by_formula(sizes, 256, 1)
    prompt, _ = counted(model, torch.zeros((1, 256), dtype=torch.long, device="meta"))
    assert work.prefill_flops + masked(sizes, 256) == pytest.approx(prompt, rel=2e-3)
    everywhere = 2 * sizes.projection * 255
    assert everywhere / work.prefill_flops == pytest.approx(share, abs=0.01)


#: Published parameters and active ones, in billions: the model cards of Mixtral 8x7B, Qwen3-30B-A3B, Gemma 2 9B.
PUBLISHED = {
    "mixtral": (
        {"num_hidden_layers": 32, "hidden_size": 4096, "intermediate_size": 14336, "vocab_size": 32000,
         "num_attention_heads": 32, "num_key_value_heads": 8, "num_local_experts": 8, "num_experts_per_tok": 2},
        46.7, 12.75,
    ),
    "qwen3_moe": (
        {"num_hidden_layers": 48, "hidden_size": 2048, "intermediate_size": 6144, "vocab_size": 151936,
         "num_attention_heads": 32, "num_key_value_heads": 4, "head_dim": 128, "num_experts": 128,
         "num_experts_per_tok": 8, "moe_intermediate_size": 768},
        30.5, 3.04,
    ),
    "gemma2": (
        {"num_hidden_layers": 42, "hidden_size": 3584, "intermediate_size": 14336, "vocab_size": 256000,
         "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 256},
        9.24, 9.24,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("family", "case"), PUBLISHED.items(), ids=PUBLISHED)
def test_full_sizes(family, case):
    """Counted on a model without weights, and from its configuration alone, parameters are the published ones."""
    config, billions, active = case
    model = made(family, "meta", torch.bfloat16, **config)
    sizes, told = architecture_of(model), decoder_sizes(model.config.to_dict())
    assert sizes is not None
    assert told is not None
    assert sizes.parameters / 1e9 == pytest.approx(billions, rel=0.005)
    assert sizes.active_parameters / 1e9 == pytest.approx(active, rel=0.005)
    assert sizes.read_bytes == 2 * sizes.active_parameters
    assert (told.parameters, told.active_parameters) == (sizes.parameters, sizes.active_parameters)
    assert (told.windows, told.kv_heads, told.head_dim) == (sizes.windows, sizes.kv_heads, sizes.head_dim)


LATENT = {"kv_lora_rank": 32, "q_lora_rank": 48, "qk_rope_head_dim": 16, "v_head_dim": 32, "qk_nope_head_dim": 32}
UNKNOWN = {
    "latent attention": ("deepseek_v3", {**LATENT, **EXPERTS, "n_routed_experts": 8, "n_group": 1, "topk_group": 1}),
    "state spaces": ("mamba", {}),
    "a hybrid": ("jamba", EXPERTS),
    "convolutions": ("lfm2", {}),
    "linear attention": ("qwen3_next", EXPERTS),
    "chunked attention": ("llama4_text", {**EXPERTS, "intermediate_size_mlp": 64}),
    "layers that share a cache": ("gemma3n_text", {"num_hidden_layers": 30, "num_kv_shared_layers": 10}),
    "heads that differ between layers": ("gemma4_text", {}),
    "an encoder-decoder": ("bart", {}),
    "one head of keys for all": ("gpt_bigcode", {}),
}


@pytest.mark.parametrize(("family", "special"), UNKNOWN.values(), ids=UNKNOWN)
def test_what_the_formula_does_not_count_is_unknown(family, special):
    """Layers of another kind have no sizes rather than wrong ones."""
    config = AutoConfig.for_model(family, **{**SIZES, **special})
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    assert architecture_of(model) is None


class Packed(torch.nn.Module):
    """A linear layer as AWQ keeps it: eight numbers of 4 bits in an int32, a zero point and a scale for each 32."""

    def __init__(self, layer: torch.nn.Linear, group: int = 32) -> None:
        super().__init__()
        self.in_features, self.out_features = layer.in_features, layer.out_features
        rows, columns = self.in_features, self.out_features
        self.register_buffer("qweight", torch.zeros((rows, columns // 8), dtype=torch.int32))
        self.register_buffer("qzeros", torch.zeros((rows // group, columns // 8), dtype=torch.int32))
        self.register_buffer("scales", torch.zeros((rows // group, columns), dtype=torch.float16))


def packed(method: str = "awq") -> PreTrainedModel:
    """A tiny llama in half precision, its layers' linear parts packed."""
    model = made("llama", torch_dtype=torch.float16, **SIZES)
    for layer in model.model.layers:
        for parent in (layer.self_attn, layer.mlp):
            for name, child in list(parent.named_children()):
                if isinstance(child, torch.nn.Linear):
                    setattr(parent, name, Packed(child))
    model.config.quantization_config = {"quant_method": method}
    return model


def test_packed_weights_are_counted_as_loaded():
    """4-bit weights with scales and zero points; embeddings and the output projection as they are, in 16 bits."""
    plain, sizes = architecture_of(made("llama", torch_dtype=torch.float16, **SIZES)), architecture_of(packed())
    assert plain is not None
    assert sizes is not None
    assert (sizes.parameters, sizes.active_parameters) == (plain.parameters, plain.active_parameters)
    table, norms = 512 * 128, (2 * 4 + 1) * 128
    linear = plain.parameters - 2 * table - norms
    held = linear // 2 + linear // 32 // 2 + linear // 32 * 2
    assert sizes.read_bytes == held + 2 * (table + norms)
    assert sizes.weight_bytes == sizes.read_bytes + 2 * table
    assert plain.weight_bytes / plain.parameters == 2
    by_proportion = sizes.weight_bytes * sizes.active_parameters / sizes.parameters
    assert by_proportion / sizes.read_bytes > 1.1, "which is what a rule of proportion would say"


def test_unknown_packing_is_unknown():
    """Of a quantisation that llem does not know, neither numbers nor bytes are guessed."""
    assert architecture_of(packed("a-new-one")) is None


@pytest.mark.skipif(not BITSANDBYTES, reason="bitsandbytes is not installed")
def test_nf4_weights_are_counted_as_loaded(load, tiny):
    """Half a byte a number and a scale of four bytes for each 64; tables and the output projection in 16 bits."""
    plain = load(spec=tiny(), dtype="bfloat16").architecture()
    sizes = load({"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}, tiny(), dtype="bfloat16").architecture()
    assert sizes.parameters == plain.parameters
    table, norms = 512 * 64, (2 * 2 + 1) * 64
    linear = plain.parameters - 2 * table - norms
    assert sizes.read_bytes == linear // 2 + linear // 64 * 4 + 2 * (table + norms)
    assert sizes.weight_bytes == sizes.read_bytes + 2 * table


@pytest.mark.parametrize(
    ("options", "unfit"),
    [
        ({}, None),
        ({"prompt_lookup_num_tokens": 3}, "speculative"),
        ({"assistant_early_exit": 1}, "speculative"),
        ({"num_beams": 2}, "passes_unknown"),
        ({"guidance_scale": 1.5}, "passes_unknown"),
        ({"use_cache": False}, "passes_unknown"),
    ],
)
def test_passes_that_do_not_follow_from_tokens(load, options, unfit):
    """Drafted tokens, beams, guidance and recomputation are told with the sizes."""
    assert load(options).architecture().unfit == unfit
