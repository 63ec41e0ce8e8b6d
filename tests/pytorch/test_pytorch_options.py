"""Options that contradict each other are refused with their names, and variants agree."""

from __future__ import annotations

import importlib.util

import attrs
import pytest
import torch

from llem.config.models import OfflineLoad, Sampling
from llem.errors import ConfigError
from llem_pytorch.backend import PyTorchBackend
from llem_pytorch.config import PyTorchOptions, QuantizedCache

GREEDY = Sampling()
BITSANDBYTES = importlib.util.find_spec("bitsandbytes") is not None
COMPILED = {"torch_compile": True, "torch_compile_backend": "eager"}

#: options, changes of the experiment, parameter named in the refusal
REFUSED = [
    ({"load_in_4bit": True, "load_in_8bit": True}, {}, "pytorch.load_in_8bit"),
    ({"bnb_4bit_compute_dtype": "float16"}, {}, "pytorch.bnb_4bit_compute_dtype"),
    ({"bnb_4bit_quant_type": "nf4", "load_in_8bit": True}, {}, "pytorch.bnb_4bit_quant_type"),
    ({"bnb_4bit_use_double_quant": False}, {}, "pytorch.bnb_4bit_use_double_quant"),
    ({"torch_compile_mode": "default"}, {}, "pytorch.torch_compile_mode"),
    ({"torch_compile_mode": "default", **COMPILED}, {}, "pytorch.torch_compile_mode"),
    ({"torch_compile_backend": "eager"}, {}, "pytorch.torch_compile_backend"),
    ({"torch_compile_fullgraph": True, "torch_compile": False}, {}, "pytorch.torch_compile_fullgraph"),
    ({"torch_compile_dynamic": False}, {}, "pytorch.torch_compile_dynamic"),
    ({"attn_implementation": "flash_attention_2"}, {}, "pytorch.attn_implementation"),
    ({"attn_implementation": "flex_attention"}, {}, "pytorch.attn_implementation"),
    ({"attn_implementation": "flash_attention_3"}, {"device": "cuda"}, "pytorch.attn_implementation"),
    ({"cache_implementation": "static", "use_cache": False}, {}, "pytorch.cache_implementation"),
    ({"cache_implementation": "offloaded"}, {}, "pytorch.cache_implementation"),
    ({"length_penalty": 2.0}, {}, "pytorch.length_penalty"),
    ({"early_stopping": False, "num_beams": 1}, {}, "pytorch.early_stopping"),
    ({"num_beams": 2}, {"token_times": True}, "token_times"),
    ({"num_beams": 2, "prompt_lookup_num_tokens": 3}, {}, "pytorch.prompt_lookup_num_tokens"),
    ({"prompt_lookup_num_tokens": 3}, {"load": OfflineLoad(batch_size=2)}, "pytorch.prompt_lookup_num_tokens"),
    ({"prompt_lookup_num_tokens": 3, "use_cache": False}, {}, "pytorch.prompt_lookup_num_tokens"),
    ({"max_memory": {"cpu": "1GiB"}}, {}, "pytorch.max_memory"),
    ({}, {"gpus": (0, 1), "device": "cuda"}, "gpus"),
    ({"device_map": "cuda:0"}, {}, "pytorch.device_map"),
    ({"adapter_revision": "main"}, {}, "pytorch.adapter_revision"),
    ({"merge_adapter": True}, {}, "pytorch.merge_adapter"),
    ({"adapter": "./nowhere"}, {}, "pytorch.adapter"),
    ({"torch_compile_options": {}}, {}, "pytorch.torch_compile_options"),
    (
        {"torch_compile": True, "torch_compile_mode": "default", "torch_compile_options": {"epilogue_fusion": True}},
        {},
        "pytorch.torch_compile_options",
    ),
    ({"bnb_4bit_quant_storage": "uint8"}, {}, "pytorch.bnb_4bit_quant_storage"),
    ({"llm_int8_threshold": 5.0, "load_in_4bit": True}, {}, "pytorch.llm_int8_threshold"),
    ({"llm_int8_skip_modules": ("lm_head",)}, {}, "pytorch.llm_int8_skip_modules"),
    (
        {"load_in_8bit": True, "llm_int8_enable_fp32_cpu_offload": True},
        {},
        "pytorch.llm_int8_enable_fp32_cpu_offload",
    ),
    ({"llm_int8_has_fp16_weight": True}, {}, "pytorch.llm_int8_has_fp16_weight"),
    ({"cache_config": QuantizedCache(nbits=2)}, {}, "pytorch.cache_config"),
    (
        {"cache_implementation": "quantized", "cache_config": QuantizedCache(backend="fp8", nbits=4)},
        {},
        "pytorch.cache_config.nbits",
    ),
    ({"cache_implementation": "quantized"}, {}, "pytorch.cache_implementation"),
    ({"max_cache_len": 9}, {}, "pytorch.max_cache_len"),
    ({"prefill_chunk_size": 9, "use_cache": False}, {}, "pytorch.prefill_chunk_size"),
    ({"min_new_tokens": 3}, {}, "pytorch.min_new_tokens"),
    ({"guidance_scale": 1.0}, {}, "pytorch.guidance_scale"),
    ({"guidance_scale": 2.0, "num_beams": 2}, {}, "pytorch.guidance_scale"),
    ({"guidance_scale": 2.0, "prompt_lookup_num_tokens": 2}, {}, "pytorch.prompt_lookup_num_tokens"),
    ({"max_matching_ngram_size": 3}, {}, "pytorch.max_matching_ngram_size"),
    ({"num_assistant_tokens": 3}, {}, "pytorch.num_assistant_tokens"),
    ({"num_assistant_tokens_schedule": "constant"}, {}, "pytorch.num_assistant_tokens_schedule"),
    ({"assistant_confidence_threshold": 0.0}, {}, "pytorch.assistant_confidence_threshold"),
    ({"assistant_model": "shape:tinyy"}, {}, "pytorch.assistant_model"),
    ({"assistant_model": "shape:tiny"}, {"load": OfflineLoad(batch_size=2)}, "pytorch.assistant_model"),
    ({"assistant_early_exit": 1, "prompt_lookup_num_tokens": 2}, {}, "pytorch.prompt_lookup_num_tokens"),
    ({"offload_folder": "here"}, {}, "pytorch.offload_folder"),
    ({"offload_buffers": True}, {}, "pytorch.offload_buffers"),
    ({}, {"sampling": Sampling(top_p=0.9)}, "sampling.top_p"),
    ({}, {"sampling": Sampling(repetition_penalty=0.0)}, "sampling.repetition_penalty"),
]


@pytest.mark.skipif(BITSANDBYTES, reason="bitsandbytes is installed")
@pytest.mark.parametrize("name", ["load_in_4bit", "load_in_8bit"])
def test_quantisation_needs_its_package(experiment, tiny, name):
    """Without bitsandbytes the finding says what to install."""
    asked = experiment({name: True})
    (found,) = PyTorchBackend(asked.options).check(asked, tiny())
    assert "llem-pytorch[quantization]" in found.message


@pytest.mark.parametrize(("options", "changes", "parameter"), REFUSED)
def test_contradiction_is_refused(experiment, tiny, options, changes, parameter):
    """The check names the parameter, with the code backend_check."""
    asked = experiment(options, **changes)
    found = PyTorchBackend(asked.options).check(asked, tiny())
    assert {one.code for one in found} == {"backend_check"}
    assert parameter in {one.evidence["parameter"] for one in found}


def test_every_option_is_documented():
    """Each field has help and None as its default: the engine's own."""
    for field in attrs.fields(PyTorchOptions):
        assert field.metadata["help"]
        assert field.default is None


def test_defaults_pass_the_check(experiment, tiny):
    """The default configuration has no findings, on any device."""
    for device in ("auto", "cpu", "cuda"):
        asked = experiment(device=device)
        assert PyTorchBackend().check(asked, tiny()) == []


def test_device_is_checked_again_when_it_is_known(load):
    """What `device: auto` left open is refused at load, not passed on to fail inside torch."""
    with pytest.raises(ConfigError, match="offloaded moves the cache off a GPU"):
        load({"cache_implementation": "offloaded"}, device="auto")


def test_process_settings_are_put_back(load, tiny):
    """Threads and matmul precision are as before once the engine is closed, and after a load that failed."""
    before = torch.get_num_threads(), torch.get_float32_matmul_precision()
    options = {"num_threads": 3, "float32_matmul_precision": "medium"}
    engine = load(options)
    assert torch.get_num_threads() == 3
    engine.close()
    assert (torch.get_num_threads(), torch.get_float32_matmul_precision()) == before
    with pytest.raises(ConfigError):
        load(options, spec=tiny(model_type="no-such-type"))
    assert (torch.get_num_threads(), torch.get_float32_matmul_precision()) == before


@pytest.mark.parametrize("cache", [None, "static"])
def test_compiled_gives_the_same_tokens(load, requests_of, cache):
    """Both ways of compiling run, compile something, and change no greedy token (float32)."""
    torch._dynamo.reset()
    batch = requests_of((4, 6), (6, 4))
    plain = load({"cache_implementation": cache}).generate(batch, GREEDY)
    compiled = load({"cache_implementation": cache, **COMPILED}).generate(batch, GREEDY)
    assert compiled == plain
    assert sum(torch._dynamo.utils.counters["stats"].values()) > 0


@pytest.mark.parametrize(
    "options", [{"use_cache": False}, {"cache_implementation": "static"}, {"attn_implementation": "eager"}]
)
def test_variants_agree(load, requests_of, options):
    """Caches and kernels change cost, not greedy tokens (float32)."""
    batch = requests_of((4, 8), (9, 3))
    assert load(options).generate(batch, GREEDY) == load().generate(batch, GREEDY)


def test_beams_give_exact_counts(load, requests_of):
    """Beam search keeps counts exact, and refuses token times also when asked directly."""
    engine = load({"num_beams": 3})
    assert [len(one.token_ids) for one in engine.generate(requests_of((4, 6), (2, 3)), GREEDY)] == [6, 3]
    with pytest.raises(ConfigError, match="beam search"):
        engine.generate(requests_of((4, 6)), GREEDY, token_times=True)
