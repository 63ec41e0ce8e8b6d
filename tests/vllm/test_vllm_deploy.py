"""The commands that are told are vLLM's own: its parser reads the same engine out of them."""

from __future__ import annotations

import ast
import dataclasses
import functools
import shlex
from typing import Any

import attrs
import pytest
from vllm.engine.arg_utils import AsyncEngineArgs, EngineArgs
from vllm.entrypoints.launchers.cli_args import make_arg_parser
from vllm.utils.argparse_utils import FlexibleArgumentParser

from llem.config.arrival import ClosedLoad
from llem.config.models import Sampling
from llem.models.spec import ModelSpec
from llem_vllm import deploy
from llem_vllm.config import ENGINE, VllmOptions
from llem_vllm.deploy import commands

REAL = ModelSpec("org/model", "hub", "real", "f", revision="main")
#: A value of every option that becomes a field of EngineArgs, each unlike vLLM's default.
EVERY: dict[str, Any] = {
    "gpu_memory_utilization": 0.5,
    "kv_cache_memory_bytes": 123 << 20,
    "kv_cache_dtype": "fp8",
    "block_size": 64,
    "num_gpu_blocks_override": 77,
    "enable_prefix_caching": False,
    "prefix_caching_hash_algo": "sha256_cbor",
    "max_model_len": 96,
    "disable_sliding_window": True,
    "disable_hybrid_kv_cache_manager": True,
    "cpu_offload_gb": 1.5,
    "kv_offloading_size": 2.0,
    "kv_offloading_backend": "lmcache",
    "max_num_seqs": 5,
    "max_num_batched_tokens": 640,
    "enable_chunked_prefill": False,
    "long_prefill_token_threshold": 48,
    "prefill_schedule_interval": 3,
    "scheduling_policy": "priority",
    "async_scheduling": False,
    "stream_interval": 4,
    "attention_backend": "FLASH_ATTN",
    "disable_cascade_attn": True,
    "moe_backend": "triton",
    "linear_backend": "torch",
    "enable_flashinfer_autotune": False,
    "model_impl": "transformers",
    "enforce_eager": True,
    "optimization_level": 1,
    "performance_mode": "throughput",
    "cudagraph_capture_sizes": (1, 2, 4),
    "max_cudagraph_capture_size": 8,
    "quantization": "fp8",
    "load_format": "safetensors",
    "tensor_parallel_size": 2,
    "pipeline_parallel_size": 2,
    "data_parallel_size": 2,
    "prefill_context_parallel_size": 2,
    "decode_context_parallel_size": 2,
    "enable_expert_parallel": True,
    "enable_eplb": True,
    "all2all_backend": "naive",
    "enable_dbo": True,
    "distributed_executor_backend": "mp",
    "disable_custom_all_reduce": True,
    "max_loras": 3,
    "max_lora_rank": 64,
    "max_cpu_loras": 5,
    "lora_dtype": "float16",
    "fully_sharded_loras": True,
    "logprobs_mode": "processed_logprobs",
}
MORE = {
    "compilation": {"compilation_mode": 1, "compile_sizes": (4, 8), "custom_ops": ("none", "+rms_norm")},
    "speculation": {"speculative_method": "ngram", "num_speculative_tokens": 3, "prompt_lookup_max": 4},
    "adapter": {"adapter": "it's/adapter", "max_lora_rank": 64},
    "extra": {"extra": {"max_logprobs": 7, "hf_overrides": {"rope_theta": 1e6}, "watermark": 0.5, "dcp_sync": None}},
}
MORE["extra"]["extra"].pop("dcp_sync")


@pytest.fixture(autouse=True)
def ids_stay_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    """vLLM's arguments keep the name of a model: offline, they would look for its files."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)


@functools.cache
def server_parser() -> FlexibleArgumentParser:
    """The parser of `vllm serve`."""
    return make_arg_parser(FlexibleArgumentParser())


def served(text: str) -> tuple[Any, EngineArgs]:
    """What vLLM's server makes of a command: all flags, and the engine's arguments."""
    words = shlex.split(text.replace("\\\n", " "))
    words = [word for word in words if not word.startswith("CUDA_VISIBLE_DEVICES=")]
    assert words[:2] == ["vllm", "serve"]
    parsed = server_parser().parse_args(words[2:])
    parsed.model = parsed.model_tag
    return parsed, AsyncEngineArgs.from_cli_args(parsed)


def arguments_of(program: str, name: str) -> dict[str, Any]:
    """The keywords of the one call of this name."""
    calls = [one for one in ast.walk(ast.parse(program)) if isinstance(one, ast.Call)]
    [found] = [one for one in calls if isinstance(one.func, ast.Name) and one.func.id == name]
    return {str(one.arg): ast.literal_eval(one.value) for one in found.keywords}


def differing(one: EngineArgs, other: EngineArgs) -> dict[str, tuple[Any, Any]]:
    """Fields of the engine's arguments that are not the same."""
    fields = {field.name for field in dataclasses.fields(EngineArgs)}
    pairs = {name: (getattr(one, name), getattr(other, name)) for name in fields}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1] and str(pair[0]) != str(pair[1])}


def test_every_option_is_tried() -> None:
    """A new option of vLLM's EngineArgs must be added here too."""
    assert set(EVERY) == set(ENGINE)
    assert VllmOptions(**EVERY)


@pytest.mark.parametrize("name", EVERY)
def test_each_setting_is_a_flag_of_the_server(experiment_of, name: str) -> None:
    """One setting changes one field of what the server starts with, to its value."""
    plain = served(commands(experiment_of(), REAL).shell)[1]
    changed = served(commands(experiment_of({name: EVERY[name]}), REAL).shell)[1]
    value = list(EVERY[name]) if isinstance(EVERY[name], tuple) else EVERY[name]

    assert set(differing(plain, changed)) == {name}
    assert str(getattr(changed, name)) == str(value)


@pytest.mark.parametrize("options", [EVERY, *MORE.values()], ids=["every option", *MORE])
def test_server_and_program_start_the_same_engine(experiment_of, options: dict[str, Any]) -> None:
    """The server's flags and the keywords of the program give vLLM the same arguments, but for what a server adds."""
    told = commands(experiment_of(options, load=ClosedLoad(concurrency=4)), REAL)
    flags, serving = served(told.shell)
    program = AsyncEngineArgs(**arguments_of(told.python, "LLM"))
    own = differing(served("vllm serve org/model")[1], AsyncEngineArgs(model="org/model"))  # flags have other defaults

    assert set(differing(serving, program)) - set(own) - {"compilation_config"} == {
        "generation_config",
        "override_generation_config",
    }
    for name in ("mode", "compile_sizes", "custom_ops"):
        assert getattr(serving.compilation_config, name) == getattr(program.compilation_config, name)
    assert (serving.model, serving.revision, serving.dtype) == ("org/model", "main", "float32")
    if "adapter" in options:
        [module] = flags.lora_modules
        assert (module.name, module.path, serving.enable_lora) == ("adapter", options["adapter"], True)


def test_sampling_is_the_servers_default_and_the_programs(experiment_of) -> None:
    """A request that says nothing is sampled as was measured; what the server has no default for is in a note."""
    sampling = Sampling(temperature=0.7, top_p=0.9, top_k=20, repetition_penalty=1.1)
    told = commands(experiment_of({"presence_penalty": 0.5, "stop_token_ids": (7,)}, sampling=sampling), REAL)
    engine = served(told.shell)[1]
    expected = {"temperature": 0.7, "top_p": 0.9, "top_k": 20, "repetition_penalty": 1.1}

    assert engine.generation_config == "vllm"
    assert engine.override_generation_config == expected
    params = arguments_of(told.python, "SamplingParams")
    assert params == {**expected, "max_tokens": 256, "presence_penalty": 0.5, "stop_token_ids": [7]}
    assert any("presence_penalty" in note and "stop_token_ids" in note for note in told.notes)


def test_random_weights_leave_a_place_for_a_model(experiment_of, tiny) -> None:
    """A shape cannot be served: its weights are dummies, and no model of its name exists."""
    told = commands(experiment_of({"shape_weights": "seeded", "load_format": "dummy"}, weights_seed=3), tiny())
    _, engine = served(told.shell)

    assert (engine.model, engine.load_format) == ("YOUR_MODEL", "auto")
    assert [note for note in told.notes if "shape:tiny" in note and "YOUR_MODEL" in note]
    assert {note.partition(":")[0] for note in told.notes} >= {"vllm.shape_weights", "weights_seed", "model"}


def test_named_gpus_and_whatever_needs_quotes(experiment_of) -> None:
    """GPUs are chosen as vLLM knows it, and a model's folder may have a space in its name."""
    folder = ModelSpec("./my model", "folder", "real", "f", path="./my model")
    told = commands(experiment_of(device="cuda", gpus=(1, 3)), folder)

    assert told.shell.startswith("CUDA_VISIBLE_DEVICES=1,3 vllm serve './my model'")
    assert 'os.environ["CUDA_VISIBLE_DEVICES"] = "1,3"' in told.python
    assert served(told.shell)[1].model == "./my model"


def test_every_flag_that_is_missing_is_known() -> None:
    """A field of EngineArgs without a flag is in the list, unless llem refuses it."""
    flags = {action.dest for action in AsyncEngineArgs.add_cli_args(FlexibleArgumentParser())._actions}
    fields = {field.name for field in dataclasses.fields(EngineArgs) if not field.name.startswith("_")}

    assert fields - flags == {*deploy.WITHOUT_FLAG, "model_weights"}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"beam_width": 4, "length_penalty": 0.5}, "use_beam_search"),
        ({"in_process": True}, "vllm.in_process"),
        ({"seed_per_request": True}, "vllm.seed_per_request"),
        ({"extra": {"tokens_only": True}}, "vllm.extra.tokens_only"),
        ({"extra_sampling": {"bad_words": ["no"]}}, "bad_words"),
    ],
)
def test_what_is_not_carried_over_is_said(experiment_of, options: dict[str, Any], told: str) -> None:
    """No setting is dropped in silence."""
    assert [note for note in commands(experiment_of(options), REAL).notes if told in note]


def test_every_option_reaches_a_command_or_a_note(experiment_of) -> None:
    """Each option of the section changes what is told; those that are llem's own reports apart."""
    changed = {
        **EVERY,
        "compilation_mode": 2,
        "compilation_backend": "eager",
        "cudagraph_mode": "FULL",
        "compile_sizes": (4,),
        "custom_ops": ("all",),
        "shape_weights": "seeded",
        "adapter": "org/adapter",
        "speculative_method": "ngram",
        "speculative_model": "org/draft",
        "num_speculative_tokens": 2,
        "prompt_lookup_max": 4,
        "prompt_lookup_min": 2,
        "draft_tensor_parallel_size": 2,
        "beam_width": 2,
        "presence_penalty": 0.1,
        "frequency_penalty": 0.1,
        "min_tokens": 3,
        "logprobs": 2,
        "detokenize": True,
        "stop": ("x",),
        "stop_token_ids": (7,),
        "seed_per_request": True,
        "in_process": True,
        "request_metrics": True,
        "extra": {"max_logprobs": 5},
        "extra_sampling": {"bad_words": ["no"]},
    }
    shape = ModelSpec("shape:tiny", "shape", "random", "f")
    plain = {model: commands(experiment_of(), model) for model in (shape, REAL)}
    unseen = [
        name
        for name, value in changed.items()
        if all(commands(experiment_of({name: value}), model) == told for model, told in plain.items())
    ]
    names = {field.name for field in attrs.fields(VllmOptions)} - {"length_penalty"}  # of beams, tried above

    assert set(changed) == names
    assert unseen == []
