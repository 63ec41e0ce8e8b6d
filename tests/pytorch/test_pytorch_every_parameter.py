"""Every typed setting takes effect: a value that is not the default is read back from the engine, or refused."""

from __future__ import annotations

import importlib.util
import inspect
import json
from collections.abc import Mapping
from typing import Any

import attrs
import pytest
from transformers import QuantizedCache as QuantizedCacheOfTransformers

from llem.config.models import Sampling
from llem.errors import ConfigError
from llem_pytorch.backend import PyTorchBackend
from llem_pytorch.config import PyTorchOptions, QuantizedCache

BITSANDBYTES = importlib.util.find_spec("bitsandbytes") is not None
#: Older versions of transformers have no cache that needs no further package.
FP8_CACHE = '"fp8"' in inspect.getsource(QuantizedCacheOfTransformers)
GREEDY, FREE = Sampling(), Sampling(ignore_eos=False)
COMPILED = {"torch_compile": True}
FOUR, EIGHT = {"load_in_4bit": True}, {"load_in_8bit": True}
DRAFTED = {"assistant_model": "shape:tiny"}
EXPERTS = {"model_type": "mixtral", "num_local_experts": 2, "num_experts_per_tok": 1}
FP8 = QuantizedCache(backend="fp8")


@attrs.frozen
class Seen:
    """Options under which `path` of the effective configuration is `value`.

    Attributes:
        model: changes of the tiny model's configuration.
        needs: module without which the check refuses the option by name.
    """

    options: Mapping[str, Any]
    path: str
    value: Any
    model: Mapping[str, Any] = {}
    sampling: Sampling = GREEDY
    needs: str | None = None


def in_4bit(name: str, value: Any) -> Seen:
    return Seen({**FOUR, name: value}, f"quantization.{name}", value, needs="bitsandbytes")


def in_8bit(name: str, value: Any) -> Seen:
    return Seen({**EIGHT, name: value}, f"quantization.{name}", value, needs="bitsandbytes")


def drafting(name: str, value: Any) -> Seen:
    return Seen({"assistant_early_exit": 1, name: value}, f"speculation.{name}", value)


CASES: Mapping[str, Seen] = {
    "attn_implementation": Seen({"attn_implementation": "eager"}, "attn_implementation", "eager"),
    "experts_implementation": Seen(
        {"experts_implementation": "batched_mm"}, "experts_implementation", "batched_mm", EXPERTS
    ),
    "use_kernels": Seen({"use_kernels": True}, "use_kernels", True, needs="kernels"),
    "float32_matmul_precision": Seen({"float32_matmul_precision": "medium"}, "float32_matmul_precision", "medium"),
    "num_threads": Seen({"num_threads": 3}, "threads", 3),
    "torch_compile": Seen(COMPILED, "compile.compiled", "forward"),
    "torch_compile_mode": Seen({**COMPILED, "torch_compile_mode": "max-autotune"}, "compile.mode", "max-autotune"),
    "torch_compile_backend": Seen({**COMPILED, "torch_compile_backend": "eager"}, "compile.backend", "eager"),
    "torch_compile_fullgraph": Seen({**COMPILED, "torch_compile_fullgraph": True}, "compile.fullgraph", True),
    "torch_compile_dynamic": Seen({**COMPILED, "torch_compile_dynamic": True}, "compile.dynamic", True),
    "torch_compile_options": Seen(
        {**COMPILED, "torch_compile_options": {"epilogue_fusion": False}},
        "compile.options",
        {"epilogue_fusion": False},
    ),
    "load_in_4bit": Seen(FOUR, "quantization.load_in_4bit", True, needs="bitsandbytes"),
    "load_in_8bit": Seen(EIGHT, "quantization.load_in_8bit", True, needs="bitsandbytes"),
    "bnb_4bit_compute_dtype": in_4bit("bnb_4bit_compute_dtype", "bfloat16"),
    "bnb_4bit_quant_type": in_4bit("bnb_4bit_quant_type", "nf4"),
    "bnb_4bit_use_double_quant": in_4bit("bnb_4bit_use_double_quant", True),
    "bnb_4bit_quant_storage": in_4bit("bnb_4bit_quant_storage", "bfloat16"),
    "llm_int8_threshold": in_8bit("llm_int8_threshold", 3.5),
    "llm_int8_skip_modules": Seen(
        {**EIGHT, "llm_int8_skip_modules": ("lm_head", "q_proj")},
        "quantization.llm_int8_skip_modules",
        ["lm_head", "q_proj"],
        needs="bitsandbytes",
    ),
    "llm_int8_enable_fp32_cpu_offload": Seen(
        {**EIGHT, "llm_int8_enable_fp32_cpu_offload": True, "device_map": "auto"},
        "quantization.llm_int8_enable_fp32_cpu_offload",
        True,
        needs="bitsandbytes",
    ),
    "llm_int8_has_fp16_weight": in_8bit("llm_int8_has_fp16_weight", True),
    "cache_implementation": Seen({"cache_implementation": "static"}, "cache_implementation", "static"),
    "cache_config": Seen(
        {"cache_implementation": "quantized", "cache_config": FP8}, "generation.cache_config", {"backend": "fp8"}
    ),
    "max_cache_len": Seen({"cache_implementation": "static", "max_cache_len": 99}, "generation.max_cache_len", 99),
    "use_cache": Seen({"use_cache": False}, "cache_implementation", None),
    "prefill_chunk_size": Seen({"prefill_chunk_size": 4}, "generation.prefill_chunk_size", 4),
    "num_beams": Seen({"num_beams": 3}, "generation.num_beams", 3),
    "length_penalty": Seen({"num_beams": 2, "length_penalty": 0.5}, "generation.length_penalty", 0.5),
    "early_stopping": Seen({"num_beams": 2, "early_stopping": "never"}, "generation.early_stopping", "never"),
    "no_repeat_ngram_size": Seen({"no_repeat_ngram_size": 3}, "generation.no_repeat_ngram_size", 3),
    "min_new_tokens": Seen({"min_new_tokens": 7}, "generation.min_new_tokens", 7, sampling=FREE),
    "guidance_scale": Seen({"guidance_scale": 1.5}, "generation.guidance_scale", 1.5),
    "prompt_lookup_num_tokens": Seen({"prompt_lookup_num_tokens": 2}, "speculation.prompt_lookup_num_tokens", 2),
    "max_matching_ngram_size": Seen(
        {"prompt_lookup_num_tokens": 2, "max_matching_ngram_size": 4}, "speculation.max_matching_ngram_size", 4
    ),
    "assistant_model": Seen(DRAFTED, "speculation.assistant_model", "shape:tiny"),
    "assistant_early_exit": Seen({"assistant_early_exit": 1}, "speculation.assistant_early_exit", 1),
    "num_assistant_tokens": drafting("num_assistant_tokens", 3),
    "num_assistant_tokens_schedule": drafting("num_assistant_tokens_schedule", "heuristic"),
    "assistant_confidence_threshold": drafting("assistant_confidence_threshold", 0.1),
    "device_map": Seen({"device_map": "auto"}, "device_map", {"": "cpu"}),
    "max_memory": Seen({"device_map": "auto", "max_memory": {"cpu": "1GiB"}}, "max_memory", {"cpu": "1GiB"}),
    "offload_buffers": Seen({"device_map": "auto", "offload_buffers": True}, "offload_buffers", True),
}
#: Proved by tests of their own, since they need files.
ELSEWHERE = {
    "offload_folder": "test_weights_are_offloaded",
    "adapter": "test_pytorch_loading.py: test_adapter",
    "merge_adapter": "test_pytorch_loading.py: test_adapter",
    "adapter_revision": "test_pytorch_loading.py: test_adapter_revision",
    "extra_generation": "test_pytorch_extra.py",
    "extra_model": "test_pytorch_extra.py",
}
#: With one device a device map has no choice, so its value is the default's; that it was made is another matter.
SAME = {"device_map"}


def at(tree: Any, path: str) -> Any:
    for name in path.split("."):
        tree = None if tree is None else tree.get(name)
    return tree


@pytest.mark.parametrize("name", [field.name for field in attrs.fields(PyTorchOptions)])
def test_setting_has_a_case(name):
    """No setting is without a proof that it takes effect."""
    assert (name in CASES) != (name in ELSEWHERE)


@pytest.mark.parametrize("name", CASES)
def test_setting_takes_effect(load, experiment, tiny, requests_of, name):
    """The value is read back from the loaded engine, which without it has another, and generates; all of it is JSON."""
    case = CASES[name]
    assert name in case.options
    if case.needs is not None and importlib.util.find_spec(case.needs) is None:
        asked = experiment(case.options)
        found = PyTorchBackend(asked.options).check(asked, tiny())
        assert any(f"needs {case.needs}" in one.message for one in found)
        return
    spec = tiny(**case.model)
    engine = load(case.options, spec, sampling=case.sampling)
    effective = engine.effective_config()
    assert at(effective, case.path) == case.value
    json.dumps(effective, allow_nan=False)
    if name == "cache_config" and not FP8_CACHE:
        with pytest.raises(ConfigError, match="fp8"):
            engine.generate(requests_of((9, 4)), case.sampling)
    elif "torch_compile" not in case.options:  # compiled ones generate in test_pytorch_options
        assert engine.generate(requests_of((9, 4)), case.sampling)[0].token_ids
    engine.close()  # puts back what is set for the whole process
    without = {key: value for key, value in case.options.items() if key != name}
    if name not in SAME and not PyTorchBackend(PyTorchOptions(**without)).check(experiment(without), spec):
        assert at(load(without, spec, sampling=case.sampling).effective_config(), case.path) != case.value


@pytest.mark.filterwarnings("ignore:You are calling .generate:UserWarning")  # of weights that lie nowhere yet
def test_weights_are_offloaded(load, requests_of, tmp_path):
    """What device_map finds no memory for lies in the folder, is seen in the map, and computes the same tokens."""
    options = {"device_map": "auto", "max_memory": {"cpu": "200KB"}, "offload_folder": str(tmp_path / "off")}
    engine, batch = load(options), requests_of((5, 4))
    assert "disk" in engine.effective_config()["device_map"].values()
    assert list((tmp_path / "off").iterdir())
    assert engine.generate(batch, GREEDY) == load().generate(batch, GREEDY)


@pytest.mark.skipif(not BITSANDBYTES, reason="bitsandbytes is not installed")
@pytest.mark.parametrize("options", [FOUR, EIGHT])
def test_quantisation_shrinks_the_weights(load, options):
    """A shape is quantised too: fewer bytes for the same number of parameters."""
    engine, plain = load(options), load()
    assert engine.architecture().parameters == plain.architecture().parameters
    assert engine.architecture().weight_bytes < plain.architecture().weight_bytes


@pytest.mark.skipif(not BITSANDBYTES, reason="bitsandbytes is not installed")
def test_4bit_computes_in_the_dtype(load):
    """What bitsandbytes would compute in float32 it computes in the experiment's dtype."""
    engine = load(FOUR, dtype="bfloat16")
    assert engine.effective_config()["quantization"]["bnb_4bit_compute_dtype"] == "bfloat16"


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ({**COMPILED, "cache_implementation": "static"}, "compile.compiled"),
        ({**COMPILED, "torch_compile_mode": "default", "cache_implementation": "static"}, "compile.mode"),
        (
            {**COMPILED, "torch_compile_options": {"epilogue_fusion": False}, "cache_implementation": "static"},
            "compile.options",
        ),
    ],
)
def test_decode_step_is_compiled_as_asked(load, options, path):
    """With a static cache the settings of compilation reach transformers' own compilation of the decode step."""
    expected = {
        "compile.compiled": "decode_step",
        "compile.mode": "default",
        "compile.options": {"epilogue_fusion": False},
    }
    assert at(load(options).effective_config(), path) == expected[path]


def forwards(engine, batch, sampling=GREEDY):
    """Calls of the model while it generates, and the tokens."""
    calls = []
    hook = engine.model.register_forward_hook(lambda *_: calls.append(1))
    done = engine.generate(batch, sampling)
    hook.remove()
    return len(calls), done[0].token_ids


def test_chunks_of_a_prompt(load, requests_of):
    """A prompt of 12 tokens in chunks of 4 takes two calls more, and gives the same tokens."""
    batch = requests_of((12, 6))
    plain, chunked = forwards(load(), batch), forwards(load({"prefill_chunk_size": 4}), batch)
    assert chunked == (plain[0] + 2, plain[1])


def test_guidance_computes_twice(load, requests_of):
    """Each step also runs the model without the prompt, and the tokens differ."""
    batch = requests_of((12, 6))
    plain, guided = forwards(load(), batch), forwards(load({"guidance_scale": 3.0}), batch)
    assert guided[0] == 2 * plain[0]
    assert guided[1] != plain[1]


@pytest.mark.parametrize("options", [{"assistant_model": "same"}, {"assistant_early_exit": 1}])
def test_drafts_change_no_token(load, tiny, tmp_path, requests_of, options):
    """Speculation gives the greedy tokens; drafts of the very same model are all right, so it is called less."""
    load().model.save_pretrained(tmp_path)
    if "assistant_model" in options:
        options = {"assistant_model": str(tmp_path), "num_assistant_tokens": 5, "assistant_confidence_threshold": 0.0}
    batch = requests_of((12, 20))
    plain, fast = forwards(load(), batch), forwards(load(options), batch)
    assert fast[1] == plain[1]
    if "assistant_model" in options:
        assert fast[0] < plain[0] / 3


def test_drafts_of_another_vocabulary(load, tiny):
    """A draft with other tokens is refused where tokenizers cannot translate, with both sizes."""
    with pytest.raises(ConfigError, match="drafts from 512 tokens for a model of 1024"):
        load(DRAFTED, tiny(vocab_size=1024))


def test_no_end_before_the_minimum(load, tiny, requests_of):
    """min_new_tokens keeps the end away until then."""
    batch = requests_of((4, 12))
    end = load().generate(batch, GREEDY)[0].token_ids[1]
    spec = tiny(eos_token_id=[end])
    assert len(load(spec=spec, sampling=FREE).generate(batch, FREE)[0].token_ids) <= 2
    assert len(load({"min_new_tokens": 6}, spec, sampling=FREE).generate(batch, FREE)[0].token_ids) >= 6
