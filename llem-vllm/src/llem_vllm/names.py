"""Names a user may not give in `extra` and `extra_sampling`, each with what to use instead."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from llem.backends.check import Refusal
from llem.backends.coverage import Inventory
from llem.errors import nearest
from llem_vllm.config import COMPILATION, ENGINE, SAMPLING, SPECULATIVE, VllmOptions

__all__ = ["OWNED_ENGINE", "OWNED_SAMPLING", "OWNED_SPECULATIVE", "name_faults"]

#: EngineArgs that follow from other settings of an experiment.
OWNED_ENGINE: Mapping[str, str] = {
    "model": "set `model`",
    "model_weights": "set `model`",
    "revision": "set `revision`",
    "tokenizer": "the workload makes the token ids; they follow from `model`",
    "tokenizer_revision": "set `revision`",
    "skip_tokenizer_init": "it follows from `model` and `vllm.detokenize`",
    "dtype": "set `dtype`",
    "trust_remote_code": "set `trust_remote_code`",
    "seed": "set `sampling.seed`",
    "runner": "this backend generates text",
    "convert": "this backend generates text",
    "device_ids": "set `gpus`",
    "disable_log_stats": "set `vllm.request_metrics`",
    "enable_lora": "set `vllm.adapter`",
    "generation_config": "sampling is taken from `sampling` alone, never from the model's own file",
    "override_generation_config": "sampling is taken from `sampling` alone; set it there",
    "spec_method": "set `vllm.speculative_method`",
    "spec_model": "set `vllm.speculative_model`",
    "spec_tokens": "set `vllm.num_speculative_tokens`",
    "worker_extension_cls": "llem reads memory and the effective configuration through it",
    "hf_token": "secrets do not belong in a configuration that is stored; set the environment variable HF_TOKEN",
    "use_tqdm_on_load": "llem shows its own progress",
    "logging_config": "vLLM takes it as an object alone; set `vllm.extra.log_level`",
    "nnodes": "one machine is measured",
    "node_rank": "one machine is measured",
    "master_addr": "one machine is measured",
    "master_port": "one machine is measured",
    "data_parallel_rank": "one machine is measured",
    "data_parallel_start_rank": "one machine is measured",
    "data_parallel_size_local": "one machine is measured; set `vllm.data_parallel_size`",
    "data_parallel_address": "one machine is measured",
    "data_parallel_rpc_port": "one machine is measured",
    "data_parallel_hybrid_lb": "one machine is measured",
    "data_parallel_external_lb": "one machine is measured",
    "data_parallel_multi_port_external_lb": "one machine is measured",
}
#: SamplingParams that follow from other settings of an experiment.
OWNED_SAMPLING: Mapping[str, str] = {
    "temperature": "set `sampling.temperature`",
    "top_p": "set `sampling.top_p`",
    "top_k": "set `sampling.top_k`",
    "min_p": "set `sampling.min_p`",
    "repetition_penalty": "set `sampling.repetition_penalty`",
    "seed": "set `sampling.seed` and `vllm.seed_per_request`",
    "ignore_eos": "set `sampling.ignore_eos`",
    "max_tokens": "set `workload.output_tokens`",
    "n": "a request has one completion; repeat the prompt in the workload instead",
    "output_kind": "it follows from how the result is read",
    "prompt_logprobs": "llem asks for them itself where it scores texts",
    "prompt_logprob_start": "llem asks for them itself where it scores texts",
    "prompt_logprob_token_ids": "llem asks for them itself where it scores texts",
    "skip_clone": "it follows from how requests are made",
    "stream_interval": "set `vllm.stream_interval`",
}
#: Fields of SpeculativeConfig that vLLM fills itself.
OWNED_SPECULATIVE: Mapping[str, str] = {
    "target_model_config": "it follows from `model`",
    "target_parallel_config": "it follows from `vllm.tensor_parallel_size` and its like",
    "draft_model_config": "it follows from `vllm.speculative_model`",
    "draft_parallel_config": "it follows from `vllm.draft_tensor_parallel_size`",
}
#: Sections of EngineArgs that typed options fill in part; the rest of them may be given in `extra`.
SHARED = {"compilation_config": COMPILATION, "speculative_config": SPECULATIVE}

#: Where in the configuration, and what is wrong there.


def name_faults(options: VllmOptions, known: Inventory) -> Iterator[Refusal]:
    """What is wrong with names: unknown to vLLM, typed, llem's own, or typed here and unknown to this version."""
    yield from _unknown_options(options, known)
    engine, sampling = known.fields["EngineArgs"], known.fields["SamplingParams"]
    yield from _section("vllm.extra", options.extra, engine, set(ENGINE), OWNED_ENGINE, known)
    yield from _section("vllm.extra_sampling", options.extra_sampling, sampling, set(SAMPLING), OWNED_SAMPLING, known)
    for name, typed in SHARED.items():
        given = options.extra.get(name)
        if given is None:
            continue
        path = f"vllm.extra.{name}"
        if not isinstance(given, Mapping):
            yield path, "must be a section of settings"
            continue
        fields = known.fields["CompilationConfig" if typed is COMPILATION else "SpeculativeConfig"]
        owned = {field: f"set `vllm.{option}`" for option, field in typed.items()}
        if typed is SPECULATIVE:
            owned |= OWNED_SPECULATIVE
        if typed is COMPILATION:
            owned |= {
                field: f"set `vllm.{field}`" for field in ("cudagraph_capture_sizes", "max_cudagraph_capture_size")
            }
        yield from _section(path, given, fields, set(), owned, known)


def _section(
    path: str,
    given: Mapping[str, Any],
    fields: tuple[str, ...],
    typed: set[str],
    owned: Mapping[str, str],
    known: Inventory,
) -> Iterator[Refusal]:
    for name in given:
        if name in typed:
            yield f"{path}.{name}", f"has a setting of its own: set `vllm.{name}`"
        elif name in SHARED and path == "vllm.extra":
            continue
        elif name in owned:
            yield f"{path}.{name}", f"is not free: {owned[name]}"
        elif name not in fields:
            close = nearest(name, fields)
            hint = f"; did you mean {close!r}?" if close else ""
            yield f"{path}.{name}", f"vLLM {known.version} has no such parameter{hint}"


def _unknown_options(options: VllmOptions, known: Inventory) -> Iterator[Refusal]:
    """Typed options that are set and that the installed version does not have."""
    sections = {
        "EngineArgs": {name: name for name in ENGINE},
        "SamplingParams": {name: name for name in SAMPLING},
        "CompilationConfig": COMPILATION,
        "SpeculativeConfig": SPECULATIVE,
    }
    defaults = {field.name: field.default for field in attrs.fields(VllmOptions)}
    for owner, names in sections.items():
        for option, field in names.items():
            is_set = getattr(options, option) != defaults[option]
            if is_set and field not in known.fields[owner]:
                yield f"vllm.{option}", f"vLLM {known.version} has no such parameter; leave it out"
