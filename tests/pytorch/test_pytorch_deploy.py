"""The program that is told runs, with the settings and the tokens of what was measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from llem.backends.base import Request
from llem.config.arrival import OfflineLoad
from llem.config.models import Sampling
from llem.models.spec import ModelSpec
from llem.workloads.synthetic import SyntheticOptions
from llem_pytorch.config import PyTorchOptions, QuantizedCache
from llem_pytorch.deploy import DRAFTING, GENERATION, LOADING, LOOKBEHIND, commands
from llem_pytorch.generation import SpecialIds, generation_config
from llem_pytorch.names import TYPED
from llem_pytorch.speculation import DRAFTING as ENGINES_DRAFTING
from llem_pytorch.speculation import LOOKBEHIND as ENGINES_LOOKBEHIND

REAL = ModelSpec("org/model", "hub", "real", "f", revision="main")
#: A tokenizer of words; `Hello` is token 5.
WORDS = {"[UNK]": 0, "[PAD]": 1, "Hello": 5}
FREE = Sampling(ignore_eos=False)
#: What the measured engine sets as well, where nothing is asked for.
PLAIN = {"num_beams": 1, "use_cache": True, "repetition_penalty": 1.0, "no_repeat_ngram_size": 0}
STATIC = {"cache_implementation": "static", "torch_compile": True, "torch_compile_backend": "eager"}
CASES: dict[str, tuple[dict[str, Any], Sampling]] = {
    "plain": ({}, FREE),
    "beams": ({"num_beams": 3, "length_penalty": 0.5, "early_stopping": True}, FREE),
    "static cache": ({"cache_implementation": "static", "max_cache_len": 64, "torch_compile": False}, FREE),
    "compiled decode": (STATIC, FREE),
    "sampled": ({"no_repeat_ngram_size": 2}, Sampling(temperature=0.7, top_p=0.9, repetition_penalty=1.2, seed=5)),
    "lookup": ({"prompt_lookup_num_tokens": 3, "max_matching_ngram_size": 2}, FREE),
    "early exit": ({"assistant_early_exit": 1, "num_assistant_tokens": 4}, FREE),
    "extra": ({"extra_generation": {"renormalize_logits": True}, "attn_implementation": "eager"}, FREE),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model and its tokenizer, as files."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    where = tmp_path_factory.mktemp("model")
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = AutoConfig.for_model("llama", **sizes, num_key_value_heads=2, vocab_size=512, max_position_embeddings=256)
    AutoModelForCausalLM.from_config(config).save_pretrained(where)
    words = Tokenizer(WordLevel(WORDS, unk_token="[UNK]"))
    words.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(where)
    return where


def run(program: str) -> dict[str, Any]:
    """What the program has made when it has ended."""
    made: dict[str, Any] = {}
    exec(compile(program, "program", "exec"), made)
    return made


@pytest.mark.parametrize(("options", "sampling"), CASES.values(), ids=CASES)
def test_the_program_generates_as_the_engine_does(
    load, experiment, folder: Path, options: dict[str, Any], sampling: Sampling
) -> None:
    """Its tokens, and every field of its generation settings, are those of the engine that was measured."""
    spec = ModelSpec(str(folder), "folder", "real", "f", path=str(folder))
    workload = SyntheticOptions(output_tokens=6)
    asked = experiment(options, sampling=sampling, workload=workload)
    made = run(commands(asked, spec).python)
    mine = made["generation"].to_dict()
    ids = SpecialIds.of(made["model"])
    measured = {**generation_config(asked.options, sampling, ids, 6).to_dict()}
    apart = {name for name in {*mine, *measured} if mine.get(name) != measured.get(name)}

    assert {name: measured[name] for name in apart if name in PLAIN} == {name: PLAIN[name] for name in apart & {*PLAIN}}
    assert apart - {*PLAIN, "eos_token_id", "pad_token_id", "compile_config", "length_penalty", "early_stopping"} <= {
        "top_k",
        "top_p",
    }
    compiled = [one.compile_config for one in (made["generation"], generation_config(asked.options, sampling, ids, 6))]
    assert compiled[0] == compiled[1]
    if sampling.temperature == 0:
        engine = load(options, spec, sampling=sampling)
        [done] = engine.generate([Request(0, (5,), 6)], sampling)
        row = made["output"][0, 1:].tolist()
        assert tuple(row[: len(done.token_ids)]) == done.token_ids
        assert getattr(made["model"].config, "_attn_implementation", None) == engine.model.config._attn_implementation


def test_it_knows_the_options_that_the_engine_has() -> None:
    """An option of generation or of loading that is added later must be told as well."""
    typed = {*TYPED["GenerationConfig"], *TYPED["from_pretrained"]}
    apart = {"cache_config", "length_penalty", "early_stopping", "max_memory"}

    assert {*GENERATION, *LOADING, *DRAFTING, *apart} == typed
    assert (DRAFTING, LOOKBEHIND) == (ENGINES_DRAFTING, ENGINES_LOOKBEHIND)


def test_every_option_reaches_the_program_or_a_note(experiment) -> None:
    """None is dropped in silence."""
    values: dict[str, Any] = {
        "attn_implementation": "eager",
        "experts_implementation": "eager",
        "use_kernels": True,
        "float32_matmul_precision": "high",
        "num_threads": 3,
        "torch_compile": True,
        "load_in_4bit": True,
        "load_in_8bit": True,
        "cache_implementation": "static",
        "cache_config": QuantizedCache(nbits=2),
        "max_cache_len": 64,
        "use_cache": False,
        "prefill_chunk_size": 8,
        "num_beams": 2,
        "no_repeat_ngram_size": 2,
        "min_new_tokens": 2,
        "guidance_scale": 1.5,
        "prompt_lookup_num_tokens": 2,
        "max_matching_ngram_size": 2,
        "assistant_model": "org/draft",
        "assistant_early_exit": 1,
        "num_assistant_tokens": 3,
        "num_assistant_tokens_schedule": "constant",
        "assistant_confidence_threshold": 0.2,
        "device_map": "auto",
        "max_memory": {"0": "20GiB", "cpu": "60GiB"},
        "offload_folder": "off",
        "offload_buffers": True,
        "adapter": "org/adapter",
        "extra_generation": {"stop_strings": ["x"]},
        "extra_model": {"use_safetensors": True},
    }
    within = {
        "torch_compile": {
            "mode": "max-autotune", "backend": "eager", "fullgraph": True,
            "dynamic": True, "options": {"a": 1},
        },
        "load_in_4bit": {name: "x" for name in TYPED["BitsAndBytesConfig"] if name.startswith("bnb_")},
        "load_in_8bit": {name: 1 for name in TYPED["BitsAndBytesConfig"] if name.startswith("llm_")},
        "adapter": {"adapter_revision": "main", "merge_adapter": True},
        "num_beams": {"length_penalty": 0.5, "early_stopping": True},
    }  # fmt: skip
    sub = {"torch_compile": "torch_compile_"}
    plain = commands(experiment(), REAL)
    unseen = [name for name, value in values.items() if commands(experiment({name: value}), REAL) == plain]
    for above, inner in within.items():
        alone = commands(experiment({above: values[above]}), REAL)
        for name, value in inner.items():
            option = f"{sub.get(above, '')}{name}"
            values[option] = value
            if commands(experiment({above: values[above], option: value}), REAL) == alone:
                unseen.append(option)

    assert set(values) == {field.name for field in attrs.fields(PyTorchOptions)}
    assert unseen == []


def test_what_is_loaded_is_told(experiment) -> None:
    """Number format, quantisation, adapter and revision stand in the program."""
    options = {"load_in_4bit": True, "adapter": "org/adapter", "merge_adapter": True, "max_memory": {"0": "20GiB"}}
    told = commands(experiment(options, dtype="bfloat16", device="cuda", gpus=(2,)), REAL)

    assert told.shell is None
    assert "dtype=torch.bfloat16" in told.python
    assert "BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_compute_dtype='bfloat16')" in told.python
    assert 'os.environ["CUDA_VISIBLE_DEVICES"] = "2"' in told.python
    assert 'max_memory={0: "20GiB"}' in told.python
    assert "merge_and_unload()" in told.python
    assert 'revision="main"' in told.python
    compile(told.python, "program", "exec")


def test_random_weights_leave_a_place_for_a_model(experiment, tiny) -> None:
    """A shape has no files, and a batch is told in words."""
    told = commands(
        experiment({"assistant_model": "shape:tiny"}, load=OfflineLoad(batch_size=8), weights_seed=2), tiny()
    )

    assert told.python.count("YOUR_MODEL") == 3
    assert {note.partition(":")[0] for note in told.notes} >= {
        "model",
        "load.batch_size",
        "weights_seed",
        "pytorch.assistant_model",
    }
