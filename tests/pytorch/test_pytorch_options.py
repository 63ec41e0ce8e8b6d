"""Every option is seen in the effective configuration, or refused with its name."""

from __future__ import annotations

import importlib.util
import json

import attrs
import pytest
import torch

from llem.config.models import OfflineLoad, Sampling
from llem.errors import ConfigError
from llem_pytorch.backend import PyTorchBackend
from llem_pytorch.config import PyTorchOptions

GREEDY = Sampling()
BITSANDBYTES = importlib.util.find_spec("bitsandbytes") is not None
COMPILED = {"torch_compile": True, "torch_compile_backend": "eager"}

#: options, dotted path into the effective configuration, value there
SEEN = [
    ({"attn_implementation": "eager"}, "attn_implementation", "eager"),
    ({"float32_matmul_precision": "medium"}, "float32_matmul_precision", "medium"),
    ({"num_threads": 3}, "threads", 3),
    ({"torch_compile": True}, "compile.compiled", "forward"),
    ({"torch_compile": True, "cache_implementation": "static"}, "compile.compiled", "decode_step"),
    ({"torch_compile": True, "torch_compile_mode": "max-autotune"}, "compile.mode", "max-autotune"),
    (
        {"torch_compile": True, "torch_compile_mode": "default", "cache_implementation": "static"},
        "compile.mode",
        "default",
    ),
    ({"torch_compile": True, "torch_compile_backend": "eager"}, "compile.backend", "eager"),
    ({"torch_compile": True, "torch_compile_fullgraph": True}, "compile.fullgraph", True),
    ({"torch_compile": True, "torch_compile_dynamic": True}, "compile.dynamic", True),
    ({"cache_implementation": "static"}, "cache_implementation", "static"),
    ({"use_cache": False}, "cache_implementation", None),
    ({"num_beams": 3}, "generation.num_beams", 3),
    ({"num_beams": 2, "length_penalty": 0.5}, "generation.length_penalty", 0.5),
    ({"num_beams": 2, "early_stopping": True}, "generation.early_stopping", True),
    ({"no_repeat_ngram_size": 3}, "generation.no_repeat_ngram_size", 3),
    ({"prompt_lookup_num_tokens": 2}, "generation.prompt_lookup_num_tokens", 2),
    ({"device_map": "auto"}, "device_map", {"": "cpu"}),
    ({"device_map": "auto", "max_memory": {"cpu": "1GiB"}}, "max_memory", {"cpu": "1GiB"}),
]
QUANTISED = [
    ({"load_in_8bit": True}, "quantization.load_in_8bit", True),
    ({"load_in_4bit": True}, "quantization.load_in_4bit", True),
    ({"load_in_4bit": True}, "quantization.bnb_4bit_compute_dtype", "float32"),
    ({"load_in_4bit": True, "bnb_4bit_compute_dtype": "bfloat16"}, "quantization.bnb_4bit_compute_dtype", "bfloat16"),
    ({"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}, "quantization.bnb_4bit_quant_type", "nf4"),
    ({"load_in_4bit": True, "bnb_4bit_use_double_quant": True}, "quantization.bnb_4bit_use_double_quant", True),
]
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
    ({}, {"sampling": Sampling(top_p=0.9)}, "sampling.top_p"),
    ({}, {"sampling": Sampling(repetition_penalty=0.0)}, "sampling.repetition_penalty"),
]
ELSEWHERE = {"adapter"}  # seen in test_pytorch_loading


def at(tree, path):
    for name in path.split("."):
        tree = tree[name]
    return tree


@pytest.mark.parametrize(("options", "path", "value"), SEEN)
def test_option_is_in_effect(load, options, path, value):
    """A value is read back from the loaded engine, and all of it is JSON."""
    effective = load(options).effective_config()
    assert at(effective, path) == value
    json.dumps(effective, allow_nan=False)


def test_values_in_the_table_are_not_the_defaults(load):
    """The table above would fail for an option that is ignored; one device leaves a device map no choice."""
    effective = load().effective_config()
    effective["compile"] = {"compiled": "none", "mode": None, "backend": None, "fullgraph": None, "dynamic": None}
    for options, path, value in SEEN:
        assert at(effective, path) != value or "device_map" in options


@pytest.mark.skipif(not BITSANDBYTES, reason="bitsandbytes is not installed")
@pytest.mark.parametrize(("options", "path", "value"), QUANTISED)
def test_quantisation_is_in_effect(load, requests_of, options, path, value):
    """A shape is quantised too: fewer bytes for the same number of parameters, and it generates."""
    engine, plain = load(options), load()
    assert at(engine.effective_config(), path) == value
    assert engine.architecture().parameters == plain.architecture().parameters
    assert engine.architecture().weight_bytes < plain.architecture().weight_bytes
    assert len(engine.generate(requests_of((3, 4)), GREEDY)[0].token_ids) == 4


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


def test_tables_cover_every_option():
    """No field of PyTorchOptions is missing from the tables above."""
    seen = {name for options, *_ in (*SEEN, *QUANTISED) for name in options}
    refused = {parameter.removeprefix("pytorch.") for *_, parameter in REFUSED}
    assert {field.name for field in attrs.fields(PyTorchOptions)} == seen | (refused - {"gpus", "token_times"}) - {
        name for name in refused if name.startswith("sampling.")
    } | ELSEWHERE


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
