"""Every option is seen in vLLM's own configuration, or refused with its name."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import attrs
import pytest

from llem.backends.base import Request
from llem.config.arrival import ClosedLoad, OfflineLoad, OpenLoad, ReplayLoad
from llem.config.converter import structure
from llem.config.models import Sampling
from llem.errors import ConfigError, MachineError
from llem.workloads.synthetic import SyntheticOptions
from llem_vllm.arguments import engine_arguments, keeps_metrics, sampling_arguments
from llem_vllm.backend import VllmBackend
from llem_vllm.config import VllmOptions
from llem_vllm.effective import configuration, plain
from llem_vllm.folders import model_folder
from llem_vllm.inventory import CLASSES, bundled, installed
from llem_vllm.overruled import PATHS, refuse_overruled
from llem_vllm.process import EngineEnvironment

#: Whether the processor multiplies in bfloat16, for which vLLM's CPU build has code of its own.
BFLOAT16 = "avx512_bf16" in Path("/proc/cpuinfo").read_text(encoding="utf-8")
SERVING = {"load": ClosedLoad(concurrency=4)}
GPU = {"device": "cuda"}
LORA = {"adapter": "org/adapter"}
NGRAM = {"speculative_method": "ngram", "num_speculative_tokens": 3}
#: Accepts drafted tokens at a rate that is asked for.
SYNTHETIC = {"rejection_sample_method": "synthetic", "synthetic_acceptance_length": 2.5}

#: options, changes of the experiment, path into vLLM's configuration after it has filled in its defaults, value there
CONFIGURED = [
    ({"gpu_memory_utilization": 0.5}, {}, "cache_config.gpu_memory_utilization", 0.5),
    ({"kv_cache_memory_bytes": 123 << 20}, {}, "cache_config.kv_cache_memory_bytes", 123 << 20),
    ({"kv_cache_dtype": "fp8"}, {"dtype": "bfloat16"}, "cache_config.cache_dtype", "fp8"),
    ({"block_size": 64}, {}, "cache_config.block_size", 64),
    ({"num_gpu_blocks_override": 77}, {}, "cache_config.num_gpu_blocks_override", 77),
    ({"enable_prefix_caching": False}, {}, "cache_config.enable_prefix_caching", False),
    ({"prefix_caching_hash_algo": "sha256_cbor"}, {}, "cache_config.prefix_caching_hash_algo", "sha256_cbor"),
    ({"max_model_len": 96}, {}, "model_config.max_model_len", 96),
    ({"disable_sliding_window": True}, {}, "model_config.disable_sliding_window", True),
    ({"disable_hybrid_kv_cache_manager": True}, {}, "scheduler_config.disable_hybrid_kv_cache_manager", True),
    ({"max_num_seqs": 5}, {}, "scheduler_config.max_num_seqs", 5),
    ({"max_num_batched_tokens": 640}, {}, "scheduler_config.max_num_batched_tokens", 640),
    ({"enable_chunked_prefill": False}, {}, "scheduler_config.enable_chunked_prefill", False),
    ({"long_prefill_token_threshold": 48}, {}, "scheduler_config.long_prefill_token_threshold", 48),
    ({"prefill_schedule_interval": 3}, {}, "scheduler_config.prefill_schedule_interval", 3),
    ({"scheduling_policy": "priority"}, {}, "scheduler_config.policy", "priority"),
    ({"stream_interval": 4}, SERVING, "scheduler_config.stream_interval", 4),
    ({"moe_backend": "triton"}, {}, "kernel_config.moe_backend", "triton"),
    ({"linear_backend": "torch"}, {}, "kernel_config.linear_backend", "torch"),
    ({"model_impl": "transformers"}, {}, "model_config.model_impl", "transformers"),
    ({"enforce_eager": True}, {}, "model_config.enforce_eager", True),
    ({"optimization_level": 1}, {}, "optimization_level", 1),
    ({"performance_mode": "throughput"}, {}, "performance_mode", "throughput"),
    ({"compilation_mode": 1}, {}, "compilation_config.mode", 1),
    ({"compilation_mode": 1, "compilation_backend": "eager"}, {}, "compilation_config.backend", "eager"),
    ({"compile_sizes": (4, 8)}, {}, "compilation_config.compile_sizes", [4, 8]),
    ({"custom_ops": ("all",)}, {}, "compilation_config.custom_ops", ["all"]),
    ({"quantization": "fp8"}, {"dtype": "bfloat16"}, "model_config.quantization", "fp8"),
    ({"tensor_parallel_size": 2}, {}, "parallel_config.tensor_parallel_size", 2),
    ({"pipeline_parallel_size": 2}, {}, "parallel_config.pipeline_parallel_size", 2),
    ({"data_parallel_size": 2}, SERVING, "parallel_config.data_parallel_size", 2),
    (
        {"distributed_executor_backend": "uni", "in_process": True},
        {},
        "parallel_config.distributed_executor_backend",
        "uni",
    ),
    ({"logprobs_mode": "processed_logprobs", "logprobs": 2}, {}, "model_config.logprobs_mode", "processed_logprobs"),
    ({**LORA}, {}, "lora_config.max_loras", 1),
    ({**LORA, "max_loras": 3}, {}, "lora_config.max_loras", 3),
    ({**LORA, "max_lora_rank": 64}, {}, "lora_config.max_lora_rank", 64),
    ({**LORA, "max_cpu_loras": 7}, {}, "lora_config.max_cpu_loras", 7),
    ({**LORA, "lora_dtype": "bfloat16"}, {}, "lora_config.lora_dtype", "bfloat16"),
    ({**LORA, "fully_sharded_loras": True}, {}, "lora_config.fully_sharded_loras", True),
    (NGRAM, {}, "speculative_config.method", "ngram"),
    (NGRAM, {}, "speculative_config.num_speculative_tokens", 3),
    ({**NGRAM, "prompt_lookup_max": 6}, {}, "speculative_config.prompt_lookup_max", 6),
    ({**NGRAM, "prompt_lookup_max": 6, "prompt_lookup_min": 2}, {}, "speculative_config.prompt_lookup_min", 2),
    ({"beam_width": 15}, {}, "model_config.max_logprobs", 30),
    ({"extra": {"max_logprobs": 44}}, {}, "model_config.max_logprobs", 44),
    ({"extra": {"use_fp64_gumbel": True}}, {}, "model_config.use_fp64_gumbel", True),
    ({"extra": {"renderer_num_workers": 2}}, {}, "model_config.renderer_num_workers", 2),
    ({"extra": {"additional_config": {"x": 1}}}, {}, "additional_config.x", 1),
    ({"extra": {"gdn_prefill_backend": "triton"}}, {}, "additional_config.gdn_prefill_backend", "triton"),
    ({"extra": {"shutdown_timeout": 3}}, {}, "shutdown_timeout", 3),
    ({"extra": {"kernel_config": {"enable_jit_warmup": False}}}, {}, "kernel_config.enable_jit_warmup", False),
    ({"extra": {"hf_overrides": {"rope_theta": 5000.0}}}, {}, "model_config.hf_overrides.rope_theta", 5000.0),
    ({**LORA, "extra": {"specialize_active_lora": True}}, {}, "lora_config.specialize_active_lora", True),
    (
        {"extra": {"compilation_config": {"cudagraph_num_of_warmups": 2}}},
        {},
        "compilation_config.cudagraph_num_of_warmups",
        2,
    ),
    (
        {**NGRAM, "extra": {"speculative_config": {"disable_padded_drafter_batch": True}}},
        {},
        "speculative_config.disable_padded_drafter_batch",
        True,
    ),
    (
        {**NGRAM, "extra": {"speculative_config": SYNTHETIC}},
        {},
        "speculative_config.rejection_sample_method",
        "synthetic",
    ),
]
#: Options for hardware that is not here: seen in vLLM's EngineArgs, which has validated them. Path into it, value.
ENGINE_ARGS = [
    ({"cpu_offload_gb": 2.5}, {}, "cpu_offload_gb", 2.5),
    ({"kv_offloading_size": 3.0}, {}, "kv_offloading_size", 3.0),
    ({"kv_offloading_size": 3.0, "kv_offloading_backend": "lmcache"}, {}, "kv_offloading_backend", "lmcache"),
    ({"async_scheduling": False}, {}, "async_scheduling", False),
    ({"attention_backend": "FLASHINFER"}, {}, "attention_backend", "FLASHINFER"),
    ({"disable_cascade_attn": True}, {}, "disable_cascade_attn", True),
    ({"enable_flashinfer_autotune": False}, {}, "enable_flashinfer_autotune", False),
    ({"cudagraph_mode": "FULL_DECODE_ONLY"}, {}, "compilation_config.cudagraph_mode", "FULL_DECODE_ONLY"),
    ({"cudagraph_capture_sizes": (1, 2, 4)}, {}, "cudagraph_capture_sizes", [1, 2, 4]),
    ({"max_cudagraph_capture_size": 16}, {}, "max_cudagraph_capture_size", 16),
    ({"prefill_context_parallel_size": 2}, {"gpus": (0, 1)}, "prefill_context_parallel_size", 2),
    (
        {"decode_context_parallel_size": 2, "tensor_parallel_size": 2},
        {"gpus": (0, 1)},
        "decode_context_parallel_size",
        2,
    ),
    ({"enable_expert_parallel": True}, {}, "enable_expert_parallel", True),
    ({"enable_expert_parallel": True, "enable_eplb": True}, {}, "enable_eplb", True),
    ({"all2all_backend": "deepep_low_latency"}, {}, "all2all_backend", "deepep_low_latency"),
    ({"enable_dbo": True}, {}, "enable_dbo", True),
    (
        {"tensor_parallel_size": 2, "disable_custom_all_reduce": True},
        {"gpus": (0, 1)},
        "disable_custom_all_reduce",
        True,
    ),
    ({"speculative_model": "org/draft", "num_speculative_tokens": 2}, {}, "speculative_config.model", "org/draft"),
    (
        {"speculative_model": "org/draft", "draft_tensor_parallel_size": 1},
        {},
        "speculative_config.draft_tensor_parallel_size",
        1,
    ),
    ({"request_metrics": True}, {}, "disable_log_stats", False),
    ({"extra": {"mm_processor_cache_gb": 1.5}}, {}, "mm_processor_cache_gb", 1.5),
]
OPEN_END = {"sampling": Sampling(ignore_eos=False)}
WARM = {"sampling": Sampling(temperature=0.7, seed=3)}
#: options, changes of the experiment, field of vLLM's SamplingParams, value there
SAMPLED = [
    ({"presence_penalty": 0.5}, {}, "presence_penalty", 0.5),
    ({"frequency_penalty": -0.5}, {}, "frequency_penalty", -0.5),
    ({"min_tokens": 3}, OPEN_END, "min_tokens", 3),
    ({"logprobs": 2}, {}, "logprobs", 2),
    ({"detokenize": True}, {}, "detokenize", True),
    ({"detokenize": True, "stop": ("end",)}, OPEN_END, "stop", ["end"]),
    ({"stop_token_ids": (7,)}, OPEN_END, "stop_token_ids", [7]),
    ({"seed_per_request": True}, WARM, "seed", 3 * 1_000_003 + 5),
    ({"extra_sampling": {"logit_bias": {"3": 1.0}}}, {}, "logit_bias", {"3": 1.0}),
]
#: options, changes of the experiment, parameter named in the refusal
REFUSED = [
    ({"enforce_eager": True, "compilation_mode": 3}, {}, "vllm.compilation_mode"),
    ({"enforce_eager": True, "cudagraph_capture_sizes": (1,)}, GPU, "vllm.cudagraph_capture_sizes"),
    ({"kv_offloading_backend": "native"}, GPU, "vllm.kv_offloading_backend"),
    ({"enable_prefix_caching": False, "prefix_caching_hash_algo": "sha256"}, {}, "vllm.prefix_caching_hash_algo"),
    ({}, {"phases": "differential"}, "vllm.enable_prefix_caching"),
    ({"enable_prefix_caching": True}, {"phases": "differential"}, "vllm.enable_prefix_caching"),
    ({"max_num_seqs": 64, "max_num_batched_tokens": 32}, {}, "vllm.max_num_batched_tokens"),
    ({"max_model_len": 255}, {"workload": SyntheticOptions()}, "vllm.max_model_len"),
    ({"tensor_parallel_size": 2}, GPU, "gpus"),
    ({"tensor_parallel_size": 2, "pipeline_parallel_size": 2}, {**GPU, "gpus": (0, 1)}, "gpus"),
    ({}, {**GPU, "gpus": (0, 1)}, "gpus"),
    ({"tensor_parallel_size": 3, "decode_context_parallel_size": 2}, {}, "vllm.decode_context_parallel_size"),
    ({"data_parallel_size": 2}, {}, "vllm.data_parallel_size"),
    ({"tensor_parallel_size": 2, "distributed_executor_backend": "uni"}, {}, "vllm.distributed_executor_backend"),
    ({"disable_custom_all_reduce": True}, GPU, "vllm.disable_custom_all_reduce"),
    ({"enable_eplb": True}, GPU, "vllm.enable_eplb"),
    ({"cudagraph_mode": "FULL"}, {}, "vllm.cudagraph_mode"),
    ({"async_scheduling": True}, {}, "vllm.async_scheduling"),
    ({"cpu_offload_gb": 1.0}, {}, "vllm.cpu_offload_gb"),
    ({"load_format": "safetensors"}, {}, "vllm.load_format"),
    ({"load_format": "dummy", "shape_weights": "seeded"}, {}, "vllm.load_format"),
    ({}, {"weights_seed": 3}, "weights_seed"),
    ({"max_loras": 2}, {}, "vllm.max_loras"),
    ({"adapter": "./nowhere"}, {}, "vllm.adapter"),
    ({"num_speculative_tokens": 2}, {}, "vllm.num_speculative_tokens"),
    ({"speculative_method": "ngram"}, {}, "vllm.num_speculative_tokens"),
    ({"speculative_method": "eagle", "num_speculative_tokens": 2}, {}, "vllm.speculative_model"),
    ({**NGRAM, "speculative_model": "org/draft"}, {}, "vllm.speculative_model"),
    ({"speculative_method": "suffix", "prompt_lookup_max": 3}, {}, "vllm.prompt_lookup_max"),
    ({**NGRAM, "prompt_lookup_max": 2, "prompt_lookup_min": 3}, {}, "vllm.prompt_lookup_min"),
    (NGRAM, {"sampling": Sampling(temperature=1.0, min_p=0.1)}, "sampling.min_p"),
    ({"stop": ("end",)}, OPEN_END, "vllm.stop"),
    ({"stop_token_ids": (3,)}, {}, "vllm.stop_token_ids"),
    ({"min_tokens": 3}, {}, "vllm.min_tokens"),
    ({"logprobs_mode": "raw_logits"}, {}, "vllm.logprobs_mode"),
    ({"seed_per_request": True}, {}, "vllm.seed_per_request"),
    ({"length_penalty": 2.0}, {}, "vllm.length_penalty"),
    ({"beam_width": 2}, {"token_times": True}, "token_times"),
    ({"beam_width": 2}, SERVING, "vllm.beam_width"),
    ({"beam_width": 2, **NGRAM}, {}, "vllm.beam_width"),
    ({"beam_width": 2, "presence_penalty": 0.1}, {}, "vllm.presence_penalty"),
    ({"beam_width": 2}, {"sampling": Sampling(temperature=1.0, top_p=0.9)}, "sampling.top_p"),
    ({"stream_interval": 2}, {}, "vllm.stream_interval"),
    ({"in_process": True}, SERVING, "vllm.in_process"),
    ({"request_metrics": False}, SERVING, "vllm.request_metrics"),
    ({}, {"sampling": Sampling(top_p=0.9)}, "sampling.top_p"),
    ({}, {"sampling": Sampling(repetition_penalty=0.0)}, "sampling.repetition_penalty"),
    ({"extra": {"max_num_seq": 4}}, {}, "vllm.extra.max_num_seq"),
    ({"extra": {"max_num_seqs": 4}}, {}, "vllm.extra.max_num_seqs"),
    ({"extra": {"dtype": "half"}}, {}, "vllm.extra.dtype"),
    ({"extra": {"seed": 4}}, {}, "vllm.extra.seed"),
    ({"extra": {"specialize_active_lora": True}}, {}, "vllm.extra.specialize_active_lora"),
    ({"extra": {"logging_config": {"log_level": "DEBUG"}}}, {}, "vllm.extra.logging_config"),
    ({"extra": {"compilation_config": {"mode": 3}}}, {}, "vllm.extra.compilation_config.mode"),
    ({"extra": {"compilation_config": {"mod": 3}}}, {}, "vllm.extra.compilation_config.mod"),
    ({"extra": {"compilation_config": 3}}, {}, "vllm.extra.compilation_config"),
    ({"extra": {"speculative_config": {"quantization": "fp8"}}}, {}, "vllm.extra.speculative_config"),
    ({"extra_sampling": {"temprature": 1}}, {}, "vllm.extra_sampling.temprature"),
    ({"extra_sampling": {"temperature": 1}}, {}, "vllm.extra_sampling.temperature"),
    ({"extra_sampling": {"logprobs": 1}}, {}, "vllm.extra_sampling.logprobs"),
    ({"extra_sampling": {"n": 2}}, {}, "vllm.extra_sampling.n"),
]
#: Seen with a live engine: their own files.
ELSEWHERE = {"in_process", "load_format", "shape_weights", "beam_width", "length_penalty", "adapter"}


def at(tree, path):
    for name in path.split("."):
        tree = tree[name]
    return tree


def has(tree, path):
    """Whether there is such a place: without an adapter, say, there is no section for it."""
    for name in path.split("."):
        if not isinstance(tree, dict) or name not in tree:
            return False
        tree = tree[name]
    return True


@pytest.fixture(scope="module")
def engine_args(tiny, experiment_of):
    """vLLM's EngineArgs for options, as the backend makes them."""
    from vllm.engine.arg_utils import AsyncEngineArgs

    spec = tiny()
    with model_folder(experiment_of(), spec, seeded=False) as folder:

        def make(options, **changes):
            asked = experiment_of(options, **changes)
            arguments = engine_arguments(asked, asked.options, spec, model=folder, tokenizer=False)
            return AsyncEngineArgs(**arguments)

        yield make


def resolved(arguments, options=None):
    """What vLLM makes of EngineArgs, in the environment that the backend loads in."""
    environment = EngineEnvironment.apply(VllmOptions(**(options or {})))
    try:
        return configuration(arguments.create_engine_config())
    finally:
        environment.restore()


@pytest.fixture(scope="module")
def defaults(engine_args):
    """vLLM's configuration where no option is set."""
    return resolved(engine_args({}))


@pytest.mark.process
@pytest.mark.parametrize(("options", "changes", "path", "value"), CONFIGURED)
def test_option_is_in_the_configuration(engine_args, defaults, experiment_of, tiny, options, changes, path, value):
    """A value is read back from the configuration that vLLM resolved, passes the check, and is no default."""
    told = resolved(engine_args(options, **changes), options)
    assert at(told, path) == value
    assert not has(defaults, path) or at(defaults, path) != value
    json.dumps(told, allow_nan=False)
    asked = experiment_of(options, **changes)
    refuse_overruled(asked.options, told)
    assert VllmBackend(asked.options).check(asked, tiny()) == []


@pytest.mark.process
@pytest.mark.parametrize(("options", "changes", "path", "value"), ENGINE_ARGS)
def test_option_reaches_engine_args(engine_args, experiment_of, tiny, options, changes, path, value):
    """What needs a GPU passes the check for one, and is in EngineArgs, which is what vLLM starts from."""
    assert at(plain(vars(engine_args(options, **changes))), path) == value
    asked = experiment_of(options, **{**GPU, **changes})
    assert VllmBackend(asked.options).check(asked, tiny()) == []


@pytest.mark.process
@pytest.mark.parametrize(("options", "changes", "name", "value"), SAMPLED)
def test_option_is_in_sampling_params(experiment_of, tiny, options, changes, name, value):
    """A value is read back from vLLM's SamplingParams, and is not what stands there without it."""
    from vllm import SamplingParams

    asked = experiment_of(options, **changes)
    made = SamplingParams(**sampling_arguments(asked.options, asked.sampling, 8, index=5))
    without = SamplingParams(**sampling_arguments(VllmOptions(), asked.sampling, 8, index=5))
    assert plain(getattr(made, name)) == value
    assert getattr(without, name) != getattr(made, name)
    assert VllmBackend(asked.options).check(asked, tiny()) == []


@pytest.mark.process
def test_further_sampling_parameters_have_vllms_types():
    """Objects and token ids as a file can write them; a value of another kind is refused by name, all at once."""
    from vllm.sampling_params import RepetitionDetectionParams, RequestOutputKind

    from llem_vllm.sampling import SamplingCache

    def made(**extra):
        cache = SamplingCache(VllmOptions(extra_sampling=extra), RequestOutputKind.FINAL_ONLY)
        return cache.get(Request(0, (5, 6), 8), Sampling())

    pattern = {"max_pattern_size": 3, "min_count": 2}
    assert made(logit_bias={"3": 1.0}).logit_bias == {3: 1.0}
    assert made(repetition_detection=pattern).repetition_detection == RepetitionDetectionParams(**pattern)
    with pytest.raises(ConfigError) as caught:
        made(bad_words=7, allowed_token_ids=[1, "x"])
    first, second = sorted(one.path for one in caught.value.problems)
    assert (first, second) == ("vllm.extra_sampling.allowed_token_ids.1", "vllm.extra_sampling.bad_words")


@pytest.mark.process
def test_sampling_section_is_in_sampling_params():
    """Every field of `sampling` arrives; what is left out is off."""
    from vllm import SamplingParams

    asked = Sampling(temperature=0.5, top_k=3, top_p=0.9, min_p=0.1, repetition_penalty=1.2, ignore_eos=False)
    made = SamplingParams(**sampling_arguments(VllmOptions(), asked, 8))
    for name in ("temperature", "top_k", "top_p", "min_p", "repetition_penalty", "ignore_eos"):
        assert getattr(made, name) == getattr(asked, name)
    assert (made.max_tokens, made.seed) == (8, None)
    off = SamplingParams(**sampling_arguments(VllmOptions(), Sampling(), 8))
    assert (off.temperature, off.top_k, off.top_p, off.min_p, off.repetition_penalty) == (0.0, 0, 1.0, 0.0, 1.0)


@pytest.mark.process
def test_seed_and_dtype_are_in_the_configuration(engine_args):
    """The experiment's own settings arrive too."""
    told = resolved(engine_args({}, dtype="bfloat16", **WARM))
    assert (told["dtype"], told["model_config"]["seed"]) == ("bfloat16", 3)


@pytest.mark.parametrize(("options", "changes", "parameter"), REFUSED)
def test_contradiction_is_refused(experiment_of, tiny, options, changes, parameter):
    """The check names the parameter, with the code backend_check."""
    asked = experiment_of(options, **changes)
    found = VllmBackend(asked.options).check(asked, tiny())
    assert {one.code for one in found} == {"backend_check"}
    assert parameter in {one.evidence["parameter"] for one in found}


def test_tables_cover_every_option():
    """No field of VllmOptions is missing from the tables above."""
    seen = {name for options, *_ in (*CONFIGURED, *ENGINE_ARGS, *SAMPLED) for name in options}
    assert {field.name for field in attrs.fields(VllmOptions)} == seen | ELSEWHERE


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("max_num_seq", "did you mean 'max_num_seqs'"),
        ("max_num_seqs", "set `vllm.max_num_seqs`"),
        ("dtype", "set `dtype`"),
        ("hf_token", "set the environment variable HF_TOKEN"),
    ],
)
def test_refusal_of_a_name_says_what_to_use(experiment_of, tiny, name, hint):
    """A name that is unknown, typed or llem's own is refused with what to write instead."""
    asked = experiment_of({"extra": {name: 1}})
    (found,) = VllmBackend(asked.options).check(asked, tiny())
    assert hint in found.message


@pytest.mark.process
def test_inventory_is_the_installed_engines():
    """The bundled names, and those read off the source, are those of the imported classes."""
    import msgspec
    from vllm import SamplingParams
    from vllm.config import CompilationConfig, SpeculativeConfig
    from vllm.engine.arg_utils import EngineArgs

    true = {
        cls.__name__: {one.name for one in dataclasses.fields(cls) if one.init}
        for cls in (EngineArgs, CompilationConfig, SpeculativeConfig)
    }
    true["SamplingParams"] = {one.name for one in msgspec.structs.fields(SamplingParams)}
    found = installed()
    assert set(found.fields) == set(CLASSES)
    for name, fields in found.fields.items():
        assert set(fields) == {one for one in true[name] if not one.startswith("_")}
    assert bundled() == found, "python -m llem_vllm.inventory writes it anew"


def test_option_unknown_to_the_installed_version(experiment_of, tiny, monkeypatch):
    """A typed option that the installed vLLM lacks is refused by its name and vLLM's version."""
    whole = bundled()
    fields = {**whole.fields, "EngineArgs": tuple(name for name in whole.fields["EngineArgs"] if name != "enable_dbo")}
    monkeypatch.setattr("llem_vllm.checks.known", lambda: attrs.evolve(whole, version="0.20.0", fields=fields))
    asked = experiment_of({"enable_dbo": True}, device="cuda")
    (found,) = VllmBackend(asked.options).check(asked, tiny())
    assert found.message.startswith("vllm.enable_dbo: vLLM 0.20.0 has no such parameter")


@pytest.mark.process
def test_check_imports_no_engine(tmp_path):
    """Names are checked against the installed vLLM without importing it."""
    code = (
        "import sys\n"
        "from llem.config.models import Experiment\n"
        "from llem.models.spec import ModelSpec\n"
        "from llem_vllm.backend import VllmBackend\n"
        "from llem_vllm.config import VllmOptions\n"
        "options = VllmOptions(extra={'max_num_seq': 1})\n"
        "asked = Experiment(backend='vllm', options=options)\n"
        "found = VllmBackend(options).check(asked, ModelSpec('x', 'hub', 'real', 'x'))\n"
        "assert len(found) == 1, found\n"
        "assert not {'vllm', 'torch', 'transformers'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)


def test_every_option_is_documented():
    """Each field has help; what is not None by default is no engine parameter or says that it is off here."""
    others = {field.name for field in attrs.fields(VllmOptions) if field.default is not None}
    assert others == {"detokenize", "extra", "extra_sampling"}
    assert all(field.metadata["help"] for field in attrs.fields(VllmOptions))


def test_section_is_read_from_plain_values():
    """Sequences and mappings of the section come from YAML as they are."""
    raw = {"cudagraph_capture_sizes": [1, 2], "stop": ["x"], "extra": {"hf_overrides": {"a": [1]}}}
    options = structure(VllmOptions, raw)
    assert options.cudagraph_capture_sizes == (1, 2)
    assert options.extra == {"hf_overrides": {"a": [1]}}


def test_loads_that_share_an_engine(experiment_of):
    """Every load with clients or arrivals is served by one engine; batches have another."""
    loads = (ClosedLoad(concurrency=4), OpenLoad(request_rate=2.0), ReplayLoad(), OfflineLoad(batch_size=2))
    keys = [VllmBackend().engine_key(experiment_of(load=load)) for load in loads]
    assert keys[0] == keys[1] == keys[2] != keys[3]
    assert keys[3] == VllmBackend().engine_key(experiment_of(load=OfflineLoad(batch_size=8)))
    one, other = (experiment_of({"max_num_seqs": seqs}, load=loads[0]) for seqs in (2, 4))
    assert VllmBackend(one.options).engine_key(one) != VllmBackend(other.options).engine_key(other)


def test_metrics_are_kept_where_they_are_needed(experiment_of):
    """With serving loads and token times, or when asked for."""
    asked = [
        experiment_of(),
        experiment_of(**SERVING),
        experiment_of(token_times=True),
        experiment_of({"request_metrics": True}),
    ]
    assert [keeps_metrics(one, one.options) for one in asked] == [False, True, True, True]


def test_defaults_pass_the_check(experiment_of, tiny):
    """The default configuration has no findings, on any device and with any load."""
    for changes in ({"device": "auto"}, {"device": "cpu"}, GPU, SERVING):
        asked = experiment_of(**changes)
        assert VllmBackend().check(asked, tiny()) == []


def test_heads_that_the_cpu_build_lacks(experiment_of, tiny):
    """A head size without a kernel is refused with those there are, before the engine would die of it."""
    asked = experiment_of()
    (found,) = VllmBackend().check(asked, tiny(head_dim=16))
    assert "heads of 16" in found.message
    assert "32, 64" in found.message
    assert VllmBackend().check(attrs.evolve(asked, device="cuda"), tiny(head_dim=16)) == []


@pytest.mark.process
def test_wrong_build_is_a_machine_error(experiment_of, tiny):
    """The CPU build on a GPU placement says which build to install."""
    from llem.backends.base import Placement

    with pytest.raises(MachineError, match="runs on cpu"):
        VllmBackend().load(experiment_of(device="auto"), tiny(), Placement("cuda", ("GPU-1",)))


def test_refusals_at_load(opened):
    """What the check refuses is refused at load as well, all at once."""
    with pytest.raises(ConfigError, match=r"extra\.nothing") as caught, opened({"extra": {"nothing": 1, "seed": 2}}):
        pass
    assert len(caught.value.problems) == 2


@pytest.mark.process
def test_overruled_option_is_refused(engine_args):
    """What vLLM changes in silence is refused: its CPU build compiles in a mode of its own."""
    options = {"compilation_mode": 3, "compilation_backend": "eager"}
    told = resolved(engine_args(options))
    with pytest.raises(ConfigError) as caught:
        refuse_overruled(VllmOptions(**options), told)
    assert {problem.path for problem in caught.value.problems} == {f"vllm.{name}" for name in options}


@pytest.mark.process
@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ({"elastic_ep_max_dp_size": 7}, "asked for 7, vLLM runs 1"),
        pytest.param(
            {"mamba_ssm_cache_dtype": "float16"},
            "asked for float16, vLLM runs float32",
            marks=pytest.mark.skipif(
                not BFLOAT16, reason="vLLM overrules it only where the processor has AVX-512 BF16"
            ),
        ),
        ({"mm_processor_cache_gb": 1.5}, "reads text alone"),
        ({"limit_mm_per_prompt": {"image": 1}}, "reads text alone"),
    ],
)
def test_further_argument_that_vllm_takes_no_notice_of(engine_args, extra, said):
    """What `extra` asks for and vLLM, or this model, does without is refused like an option, and nothing beside it."""
    told = resolved(engine_args({"extra": {**extra, "use_fp64_gumbel": True}}))
    with pytest.raises(ConfigError) as caught:
        refuse_overruled(VllmOptions(extra={**extra, "use_fp64_gumbel": True}), told)
    [problem] = caught.value.problems
    assert problem.path == f"vllm.extra.{next(iter(extra))}"
    assert said in problem.message


def test_fields_of_a_section_are_compared_one_by_one():
    """A section of `extra` is compared by the fields that it sets; lists are left alone, as vLLM may reorder them."""
    told = {"model_config": {"multimodal_config": {}}, "a_config": {"x": 1, "y": [2, 3]}}
    refuse_overruled(VllmOptions(extra={"a_config": {"x": 1, "y": [3], "z": 4}}), told)
    with pytest.raises(ConfigError, match="a_config"):
        refuse_overruled(VllmOptions(extra={"a_config": {"x": 2}}), told)


@pytest.mark.process
def test_configuration_has_no_secret_and_no_folder_of_its_own(engine_args, experiment_of, tiny):
    """The whole configuration is told twice alike, without the token of a hub and what is made anew each time."""
    first, second = (resolved(engine_args({})) for _ in range(2))
    assert first == second
    assert {"hf_token", "hf_config", "model_weights"}.isdisjoint(first["model_config"])
    assert "instance_id" not in first


@pytest.mark.process
def test_paths_of_overruled_options_exist(engine_args):
    """Each option is looked for where this version of vLLM keeps it, so that an overruled one is seen."""
    options = {**LORA, **NGRAM, "prompt_lookup_max": 6}
    told = resolved(engine_args(options))
    assert set(PATHS) <= {field.name for field in attrs.fields(VllmOptions)}
    for path in PATHS.values():
        at(told, path)


@pytest.mark.parametrize(
    ("options", "capability", "why"),
    [
        ({"logprobs": 1, "logprobs_mode": "processed_logits"}, "loglikelihood", "logprobs_mode"),
        ({"extra": {"max_logprobs": 0}}, "loglikelihood", "max_logprobs"),
        ({"extra": {"kv_sharing_fast_prefill": True}}, "loglikelihood", "kv_sharing_fast_prefill"),
        ({"beam_width": 2}, "stop", "beam_width"),
        ({"beam_width": 2, "logprobs_mode": "raw_logprobs", "logprobs": 1}, "loglikelihood", None),
        ({"enable_prefix_caching": True, "enable_chunked_prefill": True}, "loglikelihood", None),
        ({}, "stop", None),
    ],
)
def test_what_settings_exclude(experiment_of, options, capability, why):
    """Before anything is loaded: settings that hide or change log probabilities, and beams that no text ends."""
    asked = experiment_of(options)
    found = VllmBackend(asked.options).lacks(asked, capability)
    assert found is None if why is None else why in found
