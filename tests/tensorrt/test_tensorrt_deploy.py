"""The program that is told gives the library what llem gave it, and the server's file says the same."""

from __future__ import annotations

import shlex
from typing import Any

import pytest

from llem.backends.base import Placement
from llem.config.converter import structure
from llem.config.models import Experiment, Sampling
from llem.config.text import parse_yaml
from llem.models.spec import ModelSpec
from llem_tensorrt.backend import TensorRTBackend
from llem_tensorrt.config import TensorRTOptions
from llem_tensorrt.deploy import commands

REAL = ModelSpec("org/model", "hub", "real", "f", revision="main")
CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "numbers": {"max_batch_size": 64, "max_num_tokens": 4096, "enable_chunked_prefill": True},
    "cache": {"kv_cache_config": {"enable_block_reuse": False, "free_gpu_memory_fraction": 0.5, "dtype": "fp8"}},
    "graphs": {"cuda_graph_config": {"batch_sizes": [1, 8], "enable_padding": True}},
    "no graphs": {"cuda_graph_config": {"enabled": False}},
    "drafts": {"speculative_config": {"kind": "ngram", "max_draft_len": 4, "max_matching_ngram_size": 2}},
    "compiled": {"torch_compile_config": {"enable_fullgraph": True, "capture_num_tokens": [64, 128]}},
    "experts": {"moe_config": {"backend": "TRITON"}},
    "extra": {"extra": {"print_iter_log": True}},
}


def experiment_of(given: dict[str, Any], **changes: Any) -> Experiment:
    return Experiment(backend="tensorrt", options=structure(TensorRTOptions, given), device="cuda", **changes)


def document_of(shell: str) -> dict[str, Any]:
    """The YAML file that the shell writes."""
    text = shell.partition("<<'END'\n")[2].partition("END\n")[0]
    return dict(parse_yaml(text))


@pytest.mark.parametrize("given", CASES.values(), ids=CASES)
def test_the_program_loads_what_was_measured(control, given: dict[str, Any]) -> None:
    """LLM receives the same keyword arguments, objects included."""
    asked = experiment_of(given)
    engine = TensorRTBackend(asked.options).load(asked, REAL, Placement("cuda"))
    measured = dict(control.llm)
    engine.close()
    program = commands(asked, REAL).python.replace('["Hello"]', "[[5, 6]]")  # the stand-in has no tokenizer
    exec(compile(program, "program", "exec"), {"__name__": "__main__"})

    assert control.llm == measured


@pytest.mark.parametrize("given", CASES.values(), ids=CASES)
def test_the_servers_file_holds_every_argument(given: dict[str, Any]) -> None:
    """Names and values are those of the section; a kind of speculation is named as the library names it."""
    document = document_of(commands(experiment_of(given), REAL).shell)
    expected: dict[str, Any] = {"dtype": "bfloat16", **given, **given.get("extra", {})}
    expected.pop("extra", None)
    if "speculative_config" in expected:
        drafts = {name: value for name, value in expected["speculative_config"].items() if name != "kind"}
        expected["speculative_config"] = {"decoding_type": "NGram", **drafts}
    if given.get("cuda_graph_config") == {"enabled": False}:
        expected["cuda_graph_config"] = None

    assert document == expected


def test_names_of_drafts_are_the_librarys() -> None:
    """The file names a kind of speculation by `decoding_type`, which the classes have."""
    from tensorrt_llm.llmapi import llm_args as library

    from llem_tensorrt.deploy import DECODING
    from llem_tensorrt.loading import DRAFTS

    assert {kind: getattr(library, name).decoding_type for kind, name in DRAFTS.items()} == DECODING


def test_what_has_no_flag_is_said() -> None:
    """Sampling, objects of Python and a revision are no arguments of the server."""
    given = {"frequency_penalty": 0.5, "extra": {"checkpoint_loader": "mine:Loader"}}
    told = commands(experiment_of(given, sampling=Sampling(temperature=0.7), gpus=(0, 1)), REAL)
    command = told.shell.partition("END\n")[2].replace("\\\n", " ")

    assert shlex.split(command)[:3] == ["CUDA_VISIBLE_DEVICES=0,1", "trtllm-serve", "org/model"]
    assert "checkpoint_loader" not in document_of(told.shell)
    notes = "\n".join(told.notes)
    for word in ("is an object of Python (mine:Loader)", '"frequency_penalty": 0.5', '"temperature": 0.7', "revision:"):
        assert word in notes


def test_random_weights_leave_a_place_for_a_model(tiny: ModelSpec) -> None:
    """A shape's quantisation comes with a checkpoint."""
    told = commands(experiment_of({"quant_algo": "FP8"}), tiny)

    assert "trtllm-serve YOUR_MODEL" in told.shell
    assert {note.partition(":")[0] for note in told.notes} >= {"model", "tensorrt.quant_algo"}
