"""The documented arguments: complete, reached in one way each, and wrong names answered with what is right."""

from __future__ import annotations

import dataclasses

import pytest

from llem.errors import ConfigError
from llem_tensorrt.config import SAMPLING, TensorRTOptions
from llem_tensorrt.inventory import documented, reach, refused_extras, typed_names, versions

#: extra of LLM or of SamplingParams, name, words of the answer
WRONG = [
    ("extra", "max_batch_sise", "did you mean 'max_batch_size'?"),
    ("extra", "frobnicate", "documents none of that name"),
    ("extra", "max_batch_size", "write `tensorrt.max_batch_size`"),
    ("extra", "dtype", "write `dtype` of the experiment"),
    ("extra", "kv_cache_dtype", "write `tensorrt.kv_cache_config.dtype`"),
    ("extra", "build_config", "write max_batch_size"),
    ("extra", "stop", "write `tensorrt.extra_sampling.stop`"),
    ("extra", "length_penalty", "write `tensorrt.length_penalty`"),
    ("extra", "temperature", "write `sampling.temperature`"),
    ("extra_sampling", "n", "one completion per request"),
    ("extra_sampling", "temperatur", "did you mean 'temperature'?"),
    ("extra_sampling", "use_beam_search", "write `tensorrt.use_beam_search`"),
    ("extra_sampling", "print_iter_log", "write `tensorrt.extra.print_iter_log`"),
    ("extra", "mpi_session", "Python object"),
]


@pytest.mark.parametrize(("place", "name", "words"), WRONG)
def test_wrong_names_in_extra(place, name, words):
    """Unknown, typed and llem's own names are refused, each with what to write instead."""
    [(path, message)] = refused_extras(TensorRTOptions(**{place: {name: 1}}))
    assert path == f"tensorrt.{place}.{name}"
    assert words in message


def test_every_argument_is_reached_in_one_way():
    """Each documented argument is typed, goes through extra, is set by llem, or is refused; the last two with a hint.

    What is refused is an object that a configuration cannot name, and modes that llem does not run.
    """
    for table in ("llm", "sampling"):
        assert typed_names(table) <= set(documented(table)), typed_names(table) - set(documented(table))
        for name, entry in documented(table).items():
            assert entry["type"]
            assert (reach(table, name) in ("ours", "refused")) == bool(entry.get("hint")), name
    refused = {name for table in ("llm", "sampling") for name in documented(table) if reach(table, name) == "refused"}
    assert len(refused) == 8
    assert versions() == ">=1.0,<1.3"


def test_inventory_is_what_the_stand_in_enforces():
    """The stand-in was written from the sources by itself; both have the same names, so neither has a misspelt one."""
    from tensorrt_llm import SamplingParams
    from tensorrt_llm.llmapi.llm_args import TorchLlmArgs

    assert set(documented("llm")) == set(TorchLlmArgs.model_fields)
    fields = {field.name for field in dataclasses.fields(SamplingParams) if not field.name.startswith("_")}
    assert set(documented("sampling")) == fields


def test_extra_arrives(load, control, requests_of):
    """What is written in extra and extra_sampling reaches the library beside what llem sets."""
    from llem.config.models import Sampling

    engine = load({"extra": {"print_iter_log": True}, "extra_sampling": {"stop_token_ids": [7], "bad_token_ids": [9]}})
    engine.generate(requests_of((3, 2)), Sampling())
    assert control.llm["print_iter_log"] is True
    params = control.generated[-1][1]["sampling_params"]
    assert (params.stop_token_ids, params.bad_token_ids) == ([7], [9])
    assert engine.effective_config()["args"]["print_iter_log"] is True


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ({"sampler_type": "TorchSampler"}, "tensorrt.sampler_type"),
        ({"extra": {"orchestrator_type": "rpc"}}, "tensorrt.orchestrator_type"),
    ],
)
def test_names_are_compared_with_the_installed_version(load, monkeypatch, options, path):
    """An argument that an older version does not have is refused by name, before anything is loaded."""
    from tensorrt_llm.llmapi import llm_args

    monkeypatch.setattr(llm_args, "TorchLlmArgs", llm_args.without("sampler_type", "orchestrator_type"))
    with pytest.raises(ConfigError) as caught:
        load(options)
    assert [problem.path for problem in caught.value.problems] == [path]
    assert "TensorRT-LLM 1.2.1" in str(caught.value)


def test_nested_names_are_compared_too(load):
    """Settings of a kind of speculation, free by their nature, are compared with its class."""
    drafts = {"kind": "ngram", "max_draft_len": 2, "settings": {"is_public_pol": True}}
    from llem.config.converter import structure
    from llem_tensorrt.sections import Speculative

    with pytest.raises(ConfigError) as caught:
        load({"speculative_config": structure(Speculative, drafts)})
    (problem,) = caught.value.problems
    assert problem.path == "tensorrt.speculative_config.is_public_pol"
    assert "is_public_pool" in problem.hint


def test_sampling_fields_are_fields():
    """The split of fields between LLM and SamplingParams names fields that there are."""
    assert set(SAMPLING) == typed_names("sampling")
