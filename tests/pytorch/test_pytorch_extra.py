"""Further parameters: what is accepted reaches transformers, and what would have no effect is refused."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from types import MappingProxyType, SimpleNamespace
from typing import Any

import attrs
import pytest
import torch

from llem.config.models import Sampling
from llem.errors import ConfigError, LlemError
from llem.models.spec import ModelSpec
from llem.workloads.synthetic import SyntheticOptions
from llem_pytorch.backend import PyTorchBackend
from llem_pytorch.config import PyTorchOptions
from llem_pytorch.coverage import parameters
from llem_pytorch.inventory import bundled, installed
from llem_pytorch.names import NOT_FREE, TYPED

BITSANDBYTES = importlib.util.find_spec("bitsandbytes") is not None
GREEDY, FREE, WARM = Sampling(), Sampling(ignore_eos=False), Sampling(temperature=1.0)
PROMPT = (12, 10)


def extra(owner: str) -> list[str]:
    return [one.name for one in parameters().parameters if (one.owner, one.reach) == (owner, "extra")]


@attrs.frozen
class Given:
    """A value, under which sampling, beside which options, for prompts of which size; whether it changes the tokens.

    A setting that changes none (of greedy decoding) is only read back.
    """

    value: object
    sampling: Sampling = GREEDY
    beside: Mapping[str, Any] = MappingProxyType({})
    options: Mapping[str, Any] = MappingProxyType({})
    prompt: tuple[int, int] = PROMPT
    changes: bool = True


#: The first greedy token after PROMPT is put in the place of this text.
FIRST = "first greedy token"
DICT = {"return_dict_in_generate": True}
EAGER = {"attn_implementation": "eager"}
GENERATION = {
    "min_length": Given(20, FREE),
    "top_h": Given(0.3, WARM),
    "typical_p": Given(0.1, WARM),
    "epsilon_cutoff": Given(0.004, WARM),
    "eta_cutoff": Given(0.9, WARM),
    "encoder_repetition_penalty": Given(5.0),
    "bad_words_ids": Given([[FIRST]]),
    "renormalize_logits": Given(True, changes=False),
    "forced_bos_token_id": Given(9, prompt=(1, 5)),
    "forced_eos_token_id": Given(7),
    "remove_invalid_values": Given(True, changes=False),
    "exponential_decay_length_penalty": Given([2, 1.5], FREE),
    "suppress_tokens": Given([FIRST]),
    "begin_suppress_tokens": Given([FIRST]),
    "sequence_bias": Given([[[33], 100.0]]),
    "watermarking_config": Given({"bias": 50.0, "seeding_scheme": "lefthash"}),
    "output_attentions": Given(True, beside=DICT, options=EAGER, changes=False),
    "output_hidden_states": Given(True, beside=DICT, changes=False),
    "output_scores": Given(True, beside=DICT, changes=False),
    "output_logits": Given(True, beside=DICT, changes=False),
    "return_dict_in_generate": Given(True, changes=False),
    "encoder_no_repeat_ngram_size": Given(1, changes=False),
    "assistant_ensemble_weight": Given(0.1, WARM, options={"assistant_model": "shape:tiny"}, prompt=(12, 99)),
}
#: Tests of their own, since they need files.
GENERATION_ELSEWHERE = {"stop_strings", "speculation_type", "assistant_lookbehind", "target_lookbehind"}
MODEL_ELSEWHERE = {
    "cache_dir": "test_download_arguments_arrive",
    "force_download": "test_download_arguments_arrive",
    "local_files_only": "test_download_arguments_arrive",
    "code_revision": "test_download_arguments_arrive",
    "weights_only": "test_file_arguments_arrive",
    "disable_mmap": "test_file_arguments_arrive",
    "ignore_mismatched_sizes": "test_mismatched_sizes",
    "use_safetensors": "test_use_safetensors",
    "subfolder": "test_subfolder_and_variant",
    "variant": "test_subfolder_and_variant",
    "gguf_file": "test_gguf_file",
    "key_mapping": "test_key_mapping",
    "fusion_config": "test_fusion_config",
    "quantization_config": "test_quantization_config",
    "kernel_config": "test_kernels_are_needed",
    "allow_all_kernels": "test_kernels_are_needed",
}


def test_every_further_parameter_has_a_test():
    """What is accepted in the two sections is what the tables above name."""
    assert set(extra("GenerationConfig")) == set(GENERATION) | GENERATION_ELSEWHERE
    assert set(extra("from_pretrained")) == set(MODEL_ELSEWHERE)


@pytest.mark.parametrize("name", GENERATION)
def test_generation_field_arrives(load, tiny, requests_of, name):
    """The field is read back from transformers' own object, the engine generates, and the tokens are others."""
    given, batch = GENERATION[name], requests_of(GENERATION[name].prompt)
    greedy = load().generate(batch, GREEDY)[0].token_ids
    spec = tiny(eos_token_id=[greedy[4]] if name == "min_length" else [3])
    value = replaced(given.value, greedy[0])
    workload = {"input_tokens": 1} if given.prompt[0] == 1 else {}
    shared = {"spec": spec, "sampling": given.sampling}
    if workload:
        shared["workload"] = SyntheticOptions(**workload)
    engine = load({**given.options, "extra_generation": {name: value, **given.beside}}, **shared)
    found = engine.effective_config()["extra_generation"]
    assert found[name] == value if name != "watermarking_config" else found[name].items() >= value.items()
    plain = load(given.options, **shared)
    tokens = [one.generate(batch, given.sampling)[0].token_ids for one in (plain, engine)]
    assert (tokens[0] != tokens[1]) is given.changes


def replaced(value, token):
    if isinstance(value, list):
        return [replaced(item, token) for item in value]
    return token if value == FIRST else value


def test_outputs_are_kept(load, requests_of, monkeypatch):
    """Asked for logits, transformers computes and returns them beside the tokens, and counts stay exact."""
    engine = load({"extra_generation": {**DICT, "output_logits": True}})
    returned = []
    generate = engine.model.generate
    monkeypatch.setattr(engine.model, "generate", lambda **given: returned.append(generate(**given)) or returned[-1])
    done = engine.generate(requests_of((5, 4), (3, 2)), GREEDY)
    assert len(returned[0].logits) == 4
    assert [len(one.token_ids) for one in done] == [4, 2]


#: options, sampling, path, words
WRONG = [
    ({"extra_generation": {"top_hh": 0.2}}, GREEDY, "extra_generation.top_hh", "did you mean 'top_h'?"),
    ({"extra_generation": {"frobnicate": 1}}, GREEDY, "extra_generation.frobnicate", "has no such parameter"),
    ({"extra_generation": {"num_beams": 2}}, GREEDY, "extra_generation.num_beams", "set `pytorch.num_beams`"),
    ({"extra_generation": {"top_k": 2}}, GREEDY, "extra_generation.top_k", "set `sampling.top_k`"),
    ({"extra_generation": {"max_new_tokens": 2}}, GREEDY, "extra_generation.max_new_tokens", "output_tokens"),
    ({"extra_generation": {"penalty_alpha": 0.6}}, GREEDY, "extra_generation.penalty_alpha", "on the hub"),
    ({"extra_generation": {"low_memory": True}}, GREEDY, "extra_generation.low_memory", "on the hub"),
    ({"extra_generation": {"use_mtp": True}}, GREEDY, "extra_generation.use_mtp", "within the measured window"),
    ({"extra_generation": {"max_time": 2.0}}, GREEDY, "extra_generation.max_time", "output_tokens"),
    ({"extra_generation": {"subfolder": "x"}}, GREEDY, "extra_generation.subfolder", "see `pytorch.extra_model`"),
    ({"extra_generation": {"top_h": 0.2}}, GREEDY, "extra_generation.top_h", "temperature 0"),
    ({"extra_generation": {"min_length": 9}}, GREEDY, "extra_generation.min_length", "ignore_eos: true"),
    ({"extra_generation": {"min_length": 9}, "min_new_tokens": 3}, FREE, "extra_generation.min_length", "beside"),
    ({"extra_generation": {"output_logits": True}}, GREEDY, "extra_generation.output_logits", "return_dict"),
    ({"extra_generation": {**DICT, "output_attentions": True}}, GREEDY, "extra_generation.output_attentions", "eager"),
    ({"extra_generation": {"forced_bos_token_id": 3}}, GREEDY, "extra_generation.forced_bos_token_id", "one token"),
    ({"extra_generation": {"stop_strings": ["x"]}}, FREE, "extra_generation.stop_strings", "no tokenizer"),
    ({"extra_generation": {"target_lookbehind": 3}}, GREEDY, "extra_generation.target_lookbehind", "assistant_model"),
    ({"extra_generation": {"speculation_type": "x"}}, GREEDY, "extra_generation.speculation_type", "assistant_model"),
    ({"extra_model": {"subfoldr": "x"}}, GREEDY, "extra_model.subfoldr", "did you mean 'subfolder'?"),
    ({"extra_model": {"device_map": "auto"}}, GREEDY, "extra_model.device_map", "set `pytorch.device_map`"),
    ({"extra_model": {"dtype": "float16"}}, GREEDY, "extra_model.dtype", "set `dtype`"),
    ({"extra_model": {"torch_dtype": "float16"}}, GREEDY, "extra_model.torch_dtype", "set `dtype`"),
    ({"extra_model": {"proxies": {"http": "h:1"}}}, GREEDY, "extra_model.proxies", "HTTP_PROXY"),
    ({"extra_model": {"token": "secret"}}, GREEDY, "extra_model.token", "HF_TOKEN"),
    ({"extra_model": {"low_cpu_mem_usage": True}}, GREEDY, "extra_model.low_cpu_mem_usage", "ignores it"),
    ({"extra_model": {"tp_size": 2}}, GREEDY, "extra_model.tp_size", "distributed_config"),
    ({"extra_model": {"distributed_config": {}}}, GREEDY, "extra_model.distributed_config", "one process"),
    ({"extra_model": {"variant": "fp16"}}, GREEDY, "extra_model.variant", "come from no file"),
    (
        {"extra_model": {"quantization_config": {}}, "load_in_8bit": True},
        GREEDY,
        "extra_model.quantization_config",
        "leave either out",
    ),
]


@pytest.mark.parametrize(("options", "sampling", "path", "words"), WRONG)
def test_wrong_names_and_idle_values(experiment, tiny, options, sampling, path, words):
    """Unknown, typed, other settings', gone and idle parameters are refused, each with what to do."""
    asked = experiment(options, sampling=sampling)
    found = {one.evidence["parameter"]: one.message for one in PyTorchBackend(asked.options).check(asked, tiny())}
    assert words in found[f"pytorch.{path}"]


def test_typed_setting_that_the_installed_version_lacks(experiment, tiny, monkeypatch):
    """A setting of a newer transformers is refused by name, never handed to a version that would ignore it."""
    older = attrs.evolve(bundled(), version="5.0.0", fields={**bundled().fields, "GenerationConfig": ("num_beams",)})
    monkeypatch.setattr("llem_pytorch.names.known", lambda: older)
    asked = experiment({"cache_implementation": "static", "max_cache_len": 9})
    found = [one.message for one in PyTorchBackend(asked.options).check(asked, tiny())]
    assert "pytorch.max_cache_len: transformers 5.0.0 has no such parameter; leave it out" in found


def test_values_that_transformers_refuses(load, requests_of):
    """A value out of range is the user's mistake, in transformers' own words: at load, else at the first batch."""
    with pytest.raises(ConfigError, match="suppress_tokens"):
        load({"extra_generation": {"forced_eos_token_id": 7, "suppress_tokens": [7]}})
    engine = load({"extra_generation": {"epsilon_cutoff": 0.5, "top_h": 3.0}}, sampling=WARM)
    with pytest.raises(ConfigError, match="top_h"):
        engine.generate(requests_of((3, 2)), WARM)


def test_inventory_is_the_installed_one():
    """The names that the package carries are those of the transformers it is tested with; regenerate where not."""
    if installed().version == bundled().version:
        assert installed() == bundled()
    else:  # an older one of the supported range: what is typed or named here is known to at least the newer
        assert set(installed().fields) == set(bundled().fields)


def test_inventory_is_what_transformers_has():
    """Read off the source, the fields are those that its objects have."""
    import inspect

    from transformers import BitsAndBytesConfig, CompileConfig, GenerationConfig

    fields = installed().fields
    assert set(fields["GenerationConfig"]) == {name for name in vars(GenerationConfig()) if not name.startswith("_")}
    assert set(fields["CompileConfig"]) == {one for one in vars(CompileConfig()) if not one.startswith("_")}
    assert set(fields["BitsAndBytesConfig"]) == {*inspect.signature(BitsAndBytesConfig).parameters} - {"kwargs"}


def test_tables_name_what_there_is():
    """No table names a parameter that transformers does not have, none names one twice, each option is a setting."""
    for owner, names in bundled().fields.items():
        tables = [TYPED[owner], *(table.get(owner, {}) for table in NOT_FREE.values())]
        named = [name for table in tables for name in table]
        assert len(named) == len(set(named))
        assert set(named) <= set(names)
        assert {attrs.fields_dict(PyTorchOptions)[option].name for option in TYPED[owner].values()}


# arguments of from_pretrained


@pytest.fixture
def folder(load, tmp_path):
    """A saved tiny model."""
    load().model.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def spec_of(path) -> ModelSpec:
    return ModelSpec(str(path), "folder", "real", "folder", path=str(path))


def test_subfolder_and_variant(load, folder, requests_of):
    """Weights of a variant in a subfolder are found by these arguments alone."""
    inner = folder / "inner"
    inner.mkdir()
    (folder / "model.safetensors").rename(inner / "model.fp9.safetensors")
    (folder / "config.json").rename(inner / "config.json")
    batch, given = requests_of((4, 5)), {"subfolder": "inner", "variant": "fp9"}
    engine = load({"extra_model": given}, spec_of(folder))
    assert engine.generate(batch, GREEDY) == load().generate(batch, GREEDY)
    assert engine.effective_config()["extra_model"] == given
    for name in given:
        with pytest.raises(ConfigError):
            load({"extra_model": {name: given[name]}}, spec_of(folder))


def test_use_safetensors(load, folder):
    """Told not to, transformers does not load the only weights there are."""
    with pytest.raises(ConfigError, match="cannot load model"):
        load({"extra_model": {"use_safetensors": False}}, spec_of(folder))


def test_mismatched_sizes(load, folder):
    """A smaller model loads from the larger one's files only where that is said to be all right."""
    text = (folder / "config.json").read_text()
    (folder / "config.json").write_text(text.replace('"intermediate_size": 128', '"intermediate_size": 96'))
    with pytest.raises(LlemError):
        load(spec=spec_of(folder))
    assert (
        load({"extra_model": {"ignore_mismatched_sizes": True}}, spec_of(folder)).model.config.intermediate_size == 96
    )


def test_key_mapping(load, folder):
    """Weights under other names are found by the mapping."""
    from safetensors.torch import load_file, save_file

    path = folder / "model.safetensors"
    weights = load_file(path)
    save_file({name.replace("self_attn", "attn"): one for name, one in weights.items()}, path, {"format": "pt"})
    name = "model.layers.0.self_attn.q_proj.weight"
    engine = load({"extra_model": {"key_mapping": {r"\.attn\.": ".self_attn."}}}, spec_of(folder))
    assert torch.equal(engine.model.get_parameter(name), weights[name])
    assert not torch.equal(load(spec=spec_of(folder)).model.get_parameter(name), weights[name])


def test_gguf_file(load, folder):
    """A file that is not there is asked for by its name."""
    with pytest.raises(LlemError, match=r"gguf|GGUF"):
        load({"extra_model": {"gguf_file": "model.gguf"}}, spec_of(folder))


def test_download_arguments_arrive(load, monkeypatch):
    """What concerns a download reaches transformers' own loading."""
    from transformers.models.auto import auto_factory

    seen = {}

    def stop(name, **given):
        seen.update(given)
        raise OSError("seen")

    # versions differ in what they ask for first
    monkeypatch.setattr(auto_factory, "cached_file", lambda *_args, **_given: None, raising=False)
    monkeypatch.setattr(auto_factory, "resolve_revision", lambda name, revision=None, **_: revision, raising=False)
    monkeypatch.setattr(auto_factory, "find_adapter_config_file", lambda *_args, **_given: None)
    monkeypatch.setattr(auto_factory.AutoConfig, "from_pretrained", stop)
    given = {"cache_dir": "there", "force_download": True, "local_files_only": True}
    with pytest.raises(LlemError, match="seen"):
        load({"extra_model": {**given, "code_revision": "v1"}}, ModelSpec("a/b", "hub", "real", "x"))
    assert seen.items() >= {**given, "code_revision": "v1"}.items()


def test_file_arguments_arrive(load, folder, monkeypatch):
    """How files are read reaches the place in transformers that reads them."""
    from transformers import modeling_utils

    seen = []
    real = modeling_utils.LoadStateDictConfig
    monkeypatch.setattr(
        modeling_utils, "LoadStateDictConfig", lambda **given: seen.append(SimpleNamespace(**given)) or real(**given)
    )
    load({"extra_model": {"disable_mmap": True, "weights_only": False}}, spec_of(folder))
    assert (seen[0].disable_mmap, seen[0].weights_only) == (True, False)


def test_fusion_config(load):
    """An argument that also concerns shapes reaches the model of a shape."""
    with pytest.raises(ConfigError, match="no-such-fusion"):
        load({"extra_model": {"fusion_config": {"no-such-fusion": True}}})


@pytest.mark.skipif(not BITSANDBYTES, reason="bitsandbytes is not installed")
def test_quantization_config(load):
    """Another way of quantising is given as transformers takes it, for a shape too."""
    given = {"quant_method": "bitsandbytes", "load_in_8bit": True, "llm_int8_threshold": 2.5}
    engine = load({"extra_model": {"quantization_config": given}})
    assert engine.effective_config()["quantization"]["llm_int8_threshold"] == 2.5


def test_quantization_that_there_is_not(load):
    """An unknown or uninstalled method is refused with transformers' own words."""
    with pytest.raises(LlemError, match="no-such-method"):
        load({"extra_model": {"quantization_config": {"quant_method": "no-such-method"}}})


@pytest.mark.skipif(importlib.util.find_spec("kernels") is not None, reason="kernels is installed")
@pytest.mark.parametrize(
    "given", [{"kernel_config": {"kernel_mapping": {"RMSNorm": "a/b:C"}}}, {"allow_all_kernels": True}]
)
def test_kernels_are_needed(experiment, tiny, given):
    """Kernels of the hub are refused where the package that brings them is not installed."""
    asked = experiment({"extra_model": given})
    [found] = PyTorchBackend(asked.options).check(asked, tiny())
    assert "pip install kernels" in found.message


# what needs tokenizers


def with_tokenizer(path, words, **special):
    """Put a tokenizer of whole words beside a model."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(WordLevel({word: place for place, word in enumerate(words)}, unk_token="w0"))
    tokenizer.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="w0", **special).save_pretrained(path)


def test_stop_strings(load, tiny, folder, requests_of):
    """A text ends its row after its token, padding is not counted, and other rows go on."""
    load(spec=tiny(eos_token_id=None)).model.save_pretrained(folder)
    # transformers tries a tokenizer out on one word of its own
    with_tokenizer(folder, ["w0", "abcdef", *(f"w{place}" for place in range(2, 512))])
    batch = requests_of((4, 12), (9, 12))
    free = [one.token_ids for one in load(spec=spec_of(folder)).generate(batch, GREEDY)]
    end = next(token for token in free[0][2:] if token not in free[1] and token > 99)
    options = {"extra_generation": {"stop_strings": [f"w{end}"]}}
    engine = load(options, spec_of(folder), sampling=FREE)
    for _ in range(2):  # nothing is left of the first batch in the second
        done = engine.generate(batch, FREE)
        assert [one.token_ids for one in done] == [free[0][: free[0].index(end) + 1], free[1]]
        assert [one.finish_reason for one in done] == ["stop", "length"]
    assert engine.effective_config()["extra_generation"] == {"stop_strings": [f"w{end}"]}


def test_draft_of_another_vocabulary(load, tiny, folder, tmp_path, requests_of):
    """Tokenizers translate between the vocabularies; the tokens are those without a draft, lookbehinds arrive."""
    load(spec=tiny(vocab_size=600, seed=3)).model.save_pretrained(tmp_path / "draft")
    with_tokenizer(folder, [f"w{place}" for place in range(512)])
    with_tokenizer(tmp_path / "draft", [f"w{place}" for place in range(600)])
    lookbehind = {"assistant_lookbehind": 4, "target_lookbehind": 5}
    options = {"assistant_model": str(tmp_path / "draft"), "extra_generation": lookbehind}
    engine, batch = load(options, spec_of(folder)), requests_of((9, 12))
    assert engine.generate(batch, GREEDY) == load(spec=spec_of(folder)).generate(batch, GREEDY)
    assert engine.effective_config()["speculation"].items() >= lookbehind.items()
    with pytest.raises(ConfigError, match="same vocabulary"):
        load({**options, "assistant_model": str(folder)}, spec_of(folder))


def test_drafts_of_a_special_kind(load):
    """A kind of draft that needs a model of its own is refused for other models."""
    options = {"assistant_model": "shape:tiny", "extra_generation": {"speculation_type": "dflash"}}
    with pytest.raises(ConfigError, match="no DFlash draft"):
        load(options)
