"""Every option is seen in what the library receives, or refused with its name."""

from __future__ import annotations

import json

import attrs
import pytest

from llem.backends.base import Placement
from llem.backends.check import check_placed
from llem.config.converter import structure
from llem.config.models import OfflineLoad, Sampling
from llem.errors import ConfigError, MachineError
from llem.models.spec import ModelSpec
from llem.workloads.synthetic import SyntheticOptions
from llem_tensorrt import sections
from llem_tensorrt.backend import TensorRTBackend
from llem_tensorrt.config import SAMPLING, TensorRTOptions

WARM = {"sampling": Sampling(temperature=0.8, top_p=0.9)}
TRTLLM = {"sampler_type": "TRTLLMSampler"}
BEAMS = {"use_beam_search": True, "max_beam_width": 3}
TWO = {"tensor_parallel_size": 2}
GPUS = {"gpus": (0, 1)}

#: Field to (options beside it, its value, what arrives, changes of the experiment); value and arrival may be the same.
CASES = {
    "max_batch_size": ({}, 64, 64, {}),
    "max_num_tokens": ({}, 4096, 4096, {}),
    "max_seq_len": ({}, 512, 512, {}),
    "max_input_len": ({}, 300, 300, {}),
    "max_beam_width": ({"use_beam_search": True}, 3, 3, {}),
    "tensor_parallel_size": ({}, 2, 2, GPUS),
    "pipeline_parallel_size": ({}, 2, 2, GPUS),
    "context_parallel_size": ({}, 2, 2, GPUS),
    "moe_tensor_parallel_size": (TWO, 2, 2, GPUS),
    "moe_expert_parallel_size": (TWO, 2, 2, GPUS),
    "moe_cluster_parallel_size": (TWO, 2, 2, GPUS),
    "enable_attention_dp": (TWO, True, True, GPUS),
    "attention_dp_config": (
        {**TWO, "enable_attention_dp": True},
        {"enable_balance": True, "timeout_iters": 9, "batching_wait_iters": 3},
        None,
        GPUS,
    ),
    "enable_lm_head_tp_in_adp": ({**TWO, "enable_attention_dp": True}, True, True, GPUS),
    "allreduce_strategy": (TWO, "NCCL", "NCCL", GPUS),
    "enable_chunked_prefill": ({}, True, True, {}),
    "scheduler_config": (
        {"enable_chunked_prefill": True},
        {
            "capacity_scheduler_policy": "MAX_UTILIZATION",
            "context_chunking_policy": "EQUAL_PROGRESS",
            "dynamic_batch_config": {
                "enable_batch_size_tuning": True,
                "enable_max_num_tokens_tuning": True,
                "dynamic_batch_moving_average_window": 128,
            },
        },
        None,
        {},
    ),
    "batching_type": ({}, "STATIC", "STATIC", {}),
    "batch_wait_timeout_ms": ({}, 5.0, 5.0, {}),
    "batch_wait_timeout_iters": ({}, 7, 7, {}),
    "batch_wait_max_tokens_ratio": ({}, 0.5, 0.5, {}),
    "disable_overlap_scheduler": ({}, True, True, {}),
    "stream_interval": ({}, 4, 4, {}),
    "num_postprocess_workers": ({}, 2, 2, {}),
    "garbage_collection_gen0_threshold": ({}, 500, 500, {}),
    "kv_cache_config": (
        {},
        {
            "enable_block_reuse": False,
            "free_gpu_memory_fraction": 0.5,
            "max_tokens": 9000,
            "max_gpu_total_bytes": 10**9,
            "host_cache_size": 2**30,
            "onboard_blocks": False,
            "secondary_offload_min_priority": 30,
            "use_uvm": True,
            "tokens_per_block": 64,
            "max_attention_window": [128, 256],
            "sink_token_length": 4,
            "dtype": "fp8",
            "mamba_ssm_cache_dtype": "bfloat16",
            "enable_partial_reuse": False,
            "copy_on_partial_reuse": False,
        },
        None,
        {},
    ),
    "attn_backend": ({}, "VANILLA", "VANILLA", {}),
    "sparse_attention_config": ({}, {"algorithm": "rocket", "settings": {"topk": 64}}, {"topk": 64}, {}),
    "cuda_graph_config": ({}, {"max_batch_size": 256, "enable_padding": True}, None, {}),
    "torch_compile_config": (
        {},
        {
            "enable_fullgraph": False,
            "enable_inductor": True,
            "enable_piecewise_cuda_graph": True,
            "capture_num_tokens": [64, 128],
            "enable_userbuffers": False,
            "max_num_streams": 2,
        },
        None,
        {},
    ),
    "enable_autotuner": ({}, False, False, {}),
    "enable_min_latency": ({}, True, True, {}),
    "moe_config": (
        {},
        {
            "backend": "TRITON",
            "max_num_tokens": 99,
            "load_balancer": {"num_slots": 8},
            "disable_finalize_fusion": True,
            "use_low_precision_moe_combine": True,
        },
        None,
        {},
    ),
    "force_dynamic_quantization": ({"quant_algo": "FP8"}, True, True, {}),
    "speculative_config": (
        {},
        {
            "kind": "ngram",
            "max_draft_len": 4,
            "max_matching_ngram_size": 3,
            "max_concurrency": 8,
            "settings": {"is_public_pool": False},
        },
        {"max_draft_len": 4, "max_matching_ngram_size": 3, "max_concurrency": 8, "is_public_pool": False},
        {},
    ),
    "sampler_type": ({}, "TRTLLMSampler", "TRTLLMSampler", {}),
    "enable_trtllm_sampler": ({}, True, True, {}),
    "enable_mixed_sampler": ({}, True, True, {}),
    "gather_generation_logits": ({}, True, True, {}),
    "return_perf_metrics": ({}, True, True, {}),
    "enable_iter_perf_stats": ({}, True, True, {}),
    # of SamplingParams
    "use_beam_search": ({"max_beam_width": 3}, True, True, {}),
    "beam_search_diversity_rate": (BEAMS, 0.5, 0.5, {}),
    "length_penalty": (BEAMS, 0.5, 0.5, {}),
    "early_stopping": (BEAMS, 0, 0, {}),
    "presence_penalty": (TRTLLM, 0.5, 0.5, {}),
    "frequency_penalty": (TRTLLM, 0.5, 0.5, {}),
    "no_repeat_ngram_size": (TRTLLM, 3, 3, {}),
    "top_p_decay": ({}, 0.9, 0.9, WARM),
    "top_p_min": ({"top_p_decay": 0.9}, 0.2, 0.2, WARM),
    "top_p_reset_ids": ({"top_p_decay": 0.9}, 5, 5, WARM),
    "min_tokens": ({}, 3, 3, {"sampling": Sampling(ignore_eos=False)}),
    "logprobs": ({}, 2, 2, {}),
    "detokenize": ({}, False, False, {}),
}
#: Seen in tests of their own, below, in test_tensorrt_loading and in test_tensorrt_objects.
ELSEWHERE = {"extra", "extra_sampling", "guided_decoding", "lora_config", "peft_cache_config", "quant_algo"}

FOLDER = ModelSpec("./m", "folder", "real", "m", path="/nonexistent/m", config={"model_type": "llama"})
NGRAM = {"kind": "ngram", "max_draft_len": 2}
LONG = {"workload": SyntheticOptions(input_tokens=9000, output_tokens=10)}

#: options, changes of the experiment, parameter named in the refusal
REFUSED = [
    ({}, {"device": "cpu"}, "device"),
    ({}, {"weights_seed": 3}, "weights_seed"),
    (TWO, {}, "tensorrt.tensor_parallel_size"),
    ({}, GPUS, "tensorrt.tensor_parallel_size"),
    ({"tensor_parallel_size": 2, "pipeline_parallel_size": 2}, GPUS, "tensorrt.tensor_parallel_size"),
    ({**TWO, "moe_expert_parallel_size": 3}, GPUS, "tensorrt.moe_expert_parallel_size"),
    (
        {**TWO, "moe_tensor_parallel_size": 1, "moe_expert_parallel_size": 1, "moe_cluster_parallel_size": 1},
        GPUS,
        "tensorrt.moe_tensor_parallel_size",
    ),
    ({"attention_dp_config": {}}, {}, "tensorrt.attention_dp_config"),
    ({"enable_lm_head_tp_in_adp": True}, {}, "tensorrt.enable_lm_head_tp_in_adp"),
    ({"enable_attention_dp": True}, {}, "tensorrt.enable_attention_dp"),
    ({"allreduce_strategy": "NCCL"}, {}, "tensorrt.allreduce_strategy"),
    ({"max_seq_len": 9005, "enable_chunked_prefill": True}, LONG, "tensorrt.max_seq_len"),
    ({"max_input_len": 100, "enable_chunked_prefill": True}, LONG, "tensorrt.max_input_len"),
    ({}, LONG, "tensorrt.max_num_tokens"),
    ({"max_batch_size": 64, "max_num_tokens": 32}, {}, "tensorrt.max_num_tokens"),
    (
        {"scheduler_config": {"context_chunking_policy": "EQUAL_PROGRESS"}},
        {},
        "tensorrt.scheduler_config.context_chunking_policy",
    ),
    (
        {"kv_cache_config": {"enable_block_reuse": False, "enable_partial_reuse": True}},
        {},
        "tensorrt.kv_cache_config.enable_partial_reuse",
    ),
    ({}, {"phases": "differential"}, "tensorrt.kv_cache_config.enable_block_reuse"),
    ({"kv_cache_config": {"onboard_blocks": False}}, {}, "tensorrt.kv_cache_config.onboard_blocks"),
    ({"kv_cache_config": {"max_attention_window": []}}, {}, "tensorrt.kv_cache_config.max_attention_window"),
    (
        {"cuda_graph_config": {"enabled": False, "enable_padding": True}},
        {},
        "tensorrt.cuda_graph_config.enable_padding",
    ),
    ({"cuda_graph_config": {"batch_sizes": [0]}}, {}, "tensorrt.cuda_graph_config.batch_sizes"),
    (
        {"cuda_graph_config": {"batch_sizes": [1, 2], "max_batch_size": 2}},
        {},
        "tensorrt.cuda_graph_config.max_batch_size",
    ),
    (
        {"torch_compile_config": {"capture_num_tokens": [8]}},
        {},
        "tensorrt.torch_compile_config.capture_num_tokens",
    ),
    ({"quant_algo": "FP8"}, {"model": FOLDER}, "tensorrt.quant_algo"),
    ({"force_dynamic_quantization": True}, {}, "tensorrt.force_dynamic_quantization"),
    (
        {"speculative_config": {**NGRAM, "num_nextn_predict_layers": 1}},
        {},
        "tensorrt.speculative_config.num_nextn_predict_layers",
    ),
    (
        {"speculative_config": {"kind": "eagle3", "max_draft_len": 2}},
        {},
        "tensorrt.speculative_config.speculative_model_dir",
    ),
    ({"speculative_config": {"kind": "ngram"}}, {}, "tensorrt.speculative_config.max_draft_len"),
    ({"speculative_config": {"kind": "mtp", "max_draft_len": 2}}, {}, "tensorrt.speculative_config.max_draft_len"),
    (
        {"speculative_config": {**NGRAM, "settings": {"max_concurrency": 1}}},
        {},
        "tensorrt.speculative_config.settings.max_concurrency",
    ),
    ({"speculative_config": NGRAM, **TRTLLM}, {}, "tensorrt.speculative_config"),
    ({"peft_cache_config": {"max_adapter_size": 8}}, {}, "tensorrt.peft_cache_config"),
    ({"lora_config": {"lora_dir": "./nowhere"}}, {}, "tensorrt.lora_config.lora_dir"),
    ({}, {"sampling": Sampling(top_p=0.9)}, "sampling.top_p"),
    ({}, {"sampling": Sampling(temperature=1.0, top_p=0.0)}, "sampling.top_p"),
    (TRTLLM, {"sampling": Sampling(repetition_penalty=0.0)}, "sampling.repetition_penalty"),
    ({}, {"sampling": Sampling(repetition_penalty=1.1)}, "sampling.repetition_penalty"),
    ({}, {"sampling": Sampling(temperature=1.0, min_p=0.1)}, "sampling.min_p"),
    ({"presence_penalty": 0.5}, {}, "tensorrt.presence_penalty"),
    ({"top_p_decay": 0.9}, {}, "tensorrt.top_p_decay"),
    ({"top_p_min": 0.9}, WARM, "tensorrt.top_p_min"),
    ({"min_tokens": 3}, {}, "tensorrt.min_tokens"),
    ({"length_penalty": 0.5}, {}, "tensorrt.length_penalty"),
    ({"max_beam_width": 2}, {}, "tensorrt.max_beam_width"),
    ({"use_beam_search": True}, {}, "tensorrt.max_beam_width"),
    (BEAMS, WARM, "tensorrt.use_beam_search"),
    (BEAMS, {"token_times": True}, "token_times"),
    ({**BEAMS, "speculative_config": NGRAM}, {}, "tensorrt.use_beam_search"),
    ({"detokenize": True}, {}, "tensorrt.detokenize"),
    ({"extra_sampling": {"stop": "x"}}, {}, "tensorrt.extra_sampling.stop"),
    ({"extra": {"max_batch_sice": 3}}, {}, "tensorrt.extra.max_batch_sice"),
    ({"guided_decoding": {"regex": "a*"}}, {"model": FOLDER}, "tensorrt.guided_decoding"),
    (
        {"guided_decoding": {"regex": "a*"}, "extra": {"guided_decoding_backend": "xgrammar"}},
        {},
        "tensorrt.guided_decoding",
    ),
    (
        {"guided_decoding": {"regex": "a*", "json_object": True}, "extra": {"guided_decoding_backend": "xgrammar"}},
        {"model": FOLDER},
        "tensorrt.guided_decoding",
    ),
    ({"extra": {"batched_logits_processor": "a:b"}}, {}, "tensorrt.extra.batched_logits_processor"),
    (
        {"extra_sampling": {"apply_batched_logits_processor": True}},
        {},
        "tensorrt.extra_sampling.apply_batched_logits_processor",
    ),
]


def options_of(raw):
    """Options as a user writes them, through the strict converter."""
    return attrs.asdict(structure(TensorRTOptions, raw), recurse=False)


def received(control, name):
    if name not in SAMPLING:
        return control.llm[name]
    return getattr(control.generated[-1][1]["sampling_params"], name)


@pytest.mark.parametrize(
    "field", [field.name for field in attrs.fields(TensorRTOptions) if field.name not in ELSEWHERE]
)
def test_option_arrives(load, control, requests_of, field):
    """A value that is not the default reaches the library, is of a type it accepts, and is read back from it."""
    beside, value, expected, changes = CASES[field]
    engine = load(options_of({**beside, field: value}), **changes)
    engine.generate(requests_of((4, 5)), changes.get("sampling", Sampling()))
    arrived = received(control, field)
    effective = engine.effective_config()
    told = effective["sampling_params" if field in SAMPLING else "args"][field]
    if isinstance(value, dict):
        wanted = value if expected is None else expected
        shown = json.loads(json.dumps(told))
        for name, part in wanted.items():
            assert getattr(arrived, name) == part or type(getattr(arrived, name)).__module__.startswith("tensorrt_llm")
            assert shown[name] == part
    else:
        assert arrived == expected
        assert told == expected
    json.dumps(effective, allow_nan=False)


@pytest.mark.parametrize("field", CASES)
def test_value_in_the_table_is_not_the_default(load, field):
    """The test above would fail for an option that is ignored."""
    _, value, expected, _ = CASES[field]
    effective = load().effective_config()
    told = effective["sampling_params" if field in SAMPLING else "args"][field]
    wanted = value if expected is None else expected
    if not isinstance(wanted, dict):
        assert told != wanted
    elif told is not None:
        assert all(told[name] != part for name, part in wanted.items())


def test_sections_are_covered_whole():
    """Every setting of the nested sections has a value in the table, or a test of its own."""
    covered = {
        "KvCache": CASES["kv_cache_config"][1],
        "Scheduler": CASES["scheduler_config"][1],
        "CudaGraph": {**CASES["cuda_graph_config"][1], "enabled": False, "batch_sizes": [1]},
        "TorchCompile": CASES["torch_compile_config"][1],
        "Moe": CASES["moe_config"][1],
        "AttentionDp": CASES["attention_dp_config"][1],
        "SparseAttention": CASES["sparse_attention_config"][1],
    }
    for name, values in covered.items():
        assert {field.name for field in attrs.fields(getattr(sections, name))} == set(values), name
    assert set(sections.__all__) - set(covered) == {"GuidedDecoding", "Lora", "PeftCache", "Speculative"}


@pytest.mark.parametrize(("options", "changes", "parameter"), REFUSED)
def test_contradiction_is_refused(experiment, tiny, options, changes, parameter):
    """The check names the parameter, with the code backend_check; where the device is settled it refuses the same."""
    changes = dict(changes)
    spec = changes.pop("model", tiny)
    asked = experiment(options_of(options), **changes)
    found = TensorRTBackend(asked.options).check(asked, spec)
    assert {one.code for one in found} == {"backend_check"}
    assert parameter in {one.evidence["parameter"] for one in found}
    if asked.device == "cuda":
        with pytest.raises(ConfigError, match="backend tensorrt cannot run this on cuda"):
            check_placed(TensorRTBackend(asked.options), asked, spec, Placement("cuda"))


def test_defaults_pass_the_check(experiment, tiny):
    """The default configuration has no findings, with the device given or not."""
    for device in ("auto", "cuda"):
        asked = experiment(device=device)
        assert TensorRTBackend().check(asked, tiny) == []
        assert TensorRTBackend().check(asked, FOLDER) == []


def test_beams_belong_to_offline_loads(experiment, tiny):
    """Another kind of load streams, which beams cannot."""

    @attrs.frozen
    class Online:
        kind: str = "closed"

    asked = experiment(BEAMS, load=Online())
    assert "offline" in TensorRTBackend(asked.options).check(asked, tiny)[0].message
    assert TensorRTBackend(asked.options).check(experiment(BEAMS, load=OfflineLoad()), tiny) == []


def test_every_option_is_documented():
    """Each field has help; None is its default, but for what a section cannot do without."""
    for cls in (TensorRTOptions, *(getattr(sections, name) for name in sections.__all__)):
        for field in attrs.fields(cls):
            assert field.metadata["help"]
            assert field.default is None or field.name in ("kind", "algorithm", "lora_dir")


def test_no_gpu_is_said(experiment, tiny):
    """Where `device: auto` found no GPU, loading says so instead of starting the library."""
    with pytest.raises(MachineError, match="NVIDIA GPUs only"):
        TensorRTBackend().load(experiment(device="auto"), tiny, Placement("cpu"))
