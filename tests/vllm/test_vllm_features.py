"""Features that show at run time alone, each with an engine of its own."""

from __future__ import annotations

import attrs
import pytest
import torch

from llem.backends.base import Request
from llem.config.models import Sampling
from llem.errors import ConfigError, ExperimentFailed
from llem.models.resolve import resolve_model

pytestmark = pytest.mark.process

GREEDY = Sampling()


def greedy(model, prompt, count):
    """Tokens that transformers makes."""
    with torch.inference_mode():
        made = model.generate(
            torch.tensor([prompt]), max_new_tokens=count, do_sample=False, eos_token_id=None, pad_token_id=0
        )
    return tuple(made[0, len(prompt) :].tolist())


@pytest.fixture(scope="module")
def adapter(reference, tmp_path_factory):
    """A LoRA adapter large enough to change tokens, and the model with it merged in."""
    peft = pytest.importorskip("peft")
    import copy

    config = peft.LoraConfig(r=8, lora_alpha=64, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    torch.manual_seed(1)
    model = peft.get_peft_model(copy.deepcopy(reference), config)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    folder = tmp_path_factory.mktemp("adapter")
    model.save_pretrained(str(folder))
    return str(folder), model.merge_and_unload().eval()


def test_lora_adapter_is_applied(opened, adapter, reference, requests_of):
    """Tokens are those of the model with the adapter merged in, not the bare model's; `effective` names it."""
    folder, merged = adapter
    (request,) = requests_of((6, 12))
    with opened({"adapter": folder, "max_lora_rank": 8, "max_loras": 1}) as engine:
        (done,) = engine.generate([request], GREEDY)
        effective = engine.effective_config()
    assert effective["adapter"]["name"] == folder
    assert effective["lora_config"]["max_lora_rank"] == 8
    assert done.token_ids[:4] == greedy(merged, request.token_ids, 4)
    assert done.token_ids != greedy(reference, request.token_ids, 12)


def test_folder_that_is_no_adapter(opened, tmp_path):
    """A folder without an adapter is refused before anything is loaded."""
    with pytest.raises(ConfigError, match=r"adapter_config\.json"), opened({"adapter": str(tmp_path)}):
        pass


@pytest.mark.parametrize("enabled", [True, False])
def test_prefix_cache_reuses_prompts(opened, enabled):
    """A prompt that came before is read from the cache when that is on, and computed anew when it is off."""
    request = Request(0, tuple(range(5, 205)), 2)
    with opened({"enable_prefix_caching": enabled, "block_size": 32, "request_metrics": True}) as engine:
        first, second = (engine.generate([request], GREEDY)[0] for _ in range(2))
    assert first.engine_metrics["cached_tokens"] == 0
    assert (second.engine_metrics["cached_tokens"] > 100) is enabled
    assert first.token_ids == second.token_ids


def test_beam_search(opened, reference, requests_of):
    """Beams find a likelier text than greedy decoding, in exact number for each request, without a tokenizer."""
    batch = requests_of((4, 6), (2, 3), (7, 6))
    with opened({"beam_width": 4, "length_penalty": 1.0}) as engine:
        found = engine.generate(batch, GREEDY)
        effective = engine.effective_config()
        with pytest.raises(ConfigError, match="beam search"):
            engine.generate(batch, GREEDY, token_times=True)
    assert [len(done.token_ids) for done in found] == [6, 3, 6]
    assert [done.index for done in found] == [request.index for request in batch]
    assert (effective["sampling"]["beam_width"], effective["sampling"]["length_penalty"]) == (4, 1.0)
    for request, done in zip(batch, found, strict=True):
        straight = greedy(reference, request.token_ids, request.output_tokens)
        assert logprob(reference, request.token_ids, done.token_ids) >= logprob(reference, request.token_ids, straight)


def logprob(model, prompt, tokens):
    """Log probability of tokens after a prompt."""
    with torch.inference_mode():
        logprobs = model(torch.tensor([[*prompt, *tokens]])).logits.log_softmax(-1)[0]
    return sum(float(logprobs[len(prompt) - 1 + i, token]) for i, token in enumerate(tokens)) + 1e-4


def test_seed_per_request(opened, requests_of):
    """Seeded by itself, a request draws the same tokens alone and in company, and another index draws others."""
    warm = Sampling(temperature=1.5, seed=4)
    batch = requests_of((6, 16), (6, 16))
    twin = attrs.evolve(batch[0], index=9)
    with opened({"seed_per_request": True}, sampling=warm) as engine:
        together = engine.generate(batch, warm)
        alone = engine.generate(batch[:1], warm)
        other = engine.generate([twin], warm)
    assert alone[0].token_ids == together[0].token_ids
    assert other[0].token_ids != alone[0].token_ids


def test_stop_token_ends_a_completion(opened, reference, requests_of):
    """A stop token ends a completion where end-of-sequence ids are heeded."""
    (request,) = requests_of((3, 9))
    ids = greedy(reference, request.token_ids, 9)
    place = next(i for i in range(2, 9) if ids[i] not in ids[:i])
    asked = Sampling(ignore_eos=False)
    with opened({"stop_token_ids": (ids[place],)}, sampling=asked) as engine:
        (done,) = engine.generate([request], asked)
    assert (done.token_ids, done.finish_reason) == (ids[: place + 1], "stop")


def test_dummy_weights_need_no_files(opened, requests_of, tiny):
    """A shape is loaded from its configuration alone; `effective` says that its weights are vLLM's dummy ones."""
    with opened({"shape_weights": None}) as engine:
        assert engine.generate(requests_of((3, 4)), GREEDY)[0].tokens == 4
        effective = engine.effective_config()
    assert (effective["weights"], effective["load_config"]["load_format"]) == ("dummy", "dummy")
    assert effective["model_config"]["model"] == "shape:tiny"


def test_weights_seed(opened, requests_of, tiny):
    """Another seed makes other weights."""
    (request,) = requests_of((5, 12))
    found = []
    for seed in (0, 1):
        with opened(spec=tiny(seed=seed), weights_seed=seed) as engine:
            found.append(engine.generate([request], GREEDY)[0].token_ids)
    assert found[0] != found[1]


def test_folder_model(opened, reference, requests_of, tmp_path):
    """A folder with weights and without a tokenizer runs, and gives what it holds."""
    reference.save_pretrained(tmp_path)
    (request,) = requests_of((5, 8))
    with opened(spec=resolve_model(str(tmp_path)), model=str(tmp_path)) as engine:
        assert engine.generate([request], GREEDY)[0].token_ids == greedy(reference, request.token_ids, 8)
        assert engine.effective_config()["weights"] == "real"
    with opened({"load_format": "safetensors"}, spec=resolve_model(str(tmp_path)), model=str(tmp_path)) as engine:
        assert engine.effective_config()["load_config"]["load_format"] == "safetensors"
        assert engine.generate([request], GREEDY)[0].token_ids == greedy(reference, request.token_ids, 8)


def test_further_sampling_parameters_arrive_as_vllms_types(opened, requests_of):
    """Token ids that a file holds as text are ids: the token that is favoured is every token."""
    requests = requests_of((5, 4), (7, 6))
    with opened({"extra_sampling": {"logit_bias": {"9": 100.0}}}) as engine:
        assert [one.token_ids for one in engine.generate(requests, GREEDY)] == [(9,) * 4, (9,) * 6]


@pytest.fixture(scope="module")
def worded(reference, tmp_path_factory):
    """A folder with weights and a tokenizer of single bytes, and the id of "a" in it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    names = ["<unk>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    vocabulary = {name: place for place, name in enumerate(names)}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>"))
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    folder = tmp_path_factory.mktemp("worded")
    reference.save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>").save_pretrained(folder)
    return str(folder), vocabulary["a"]


def test_bad_words_are_kept_out(opened, requests_of, worded):
    """The tokenizer that they need is loaded, though completions are token ids and go on to their full length."""
    folder, token = worded
    favoured = {"logit_bias": {str(token): 100.0}}
    (request,) = requests_of((5, 6))
    found = []
    for sampling in (favoured, {**favoured, "bad_words": ["a"]}):
        with opened({"extra_sampling": sampling}, spec=resolve_model(folder), model=folder) as engine:
            found.append(engine.generate([request], GREEDY)[0].token_ids)
    assert found[0] == (token,) * 6
    assert token not in found[1]


def test_bad_words_need_a_tokenizer(opened):
    """Without one vLLM would take no notice of them."""
    with (
        pytest.raises(ConfigError, match=r"no tokenizer, which vllm\.extra_sampling\.bad_words needs"),
        opened({"extra_sampling": {"bad_words": ["a"]}}),
    ):
        pass


def test_cache_that_is_too_small_is_out_of_memory(opened):
    """Too little cache for one sequence ends with the code oom and what to change, and the next engine loads."""
    with pytest.raises(ExperimentFailed, match="KV cache") as caught, opened({"kv_cache_memory_bytes": 70_000}):
        pass
    assert caught.value.code == "oom"
    assert "max_model_len" in caught.value.hint


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"quantization": "nonsense"}, "nonsense"),
        ({"attention_backend": "NONSENSE"}, "NONSENSE"),
        ({"max_model_len": 100_000}, "100000"),
        ({"extra": {"compilation_config": {"pass_config": {"nothing": 1}}}}, "nothing"),
    ],
)
def test_value_that_vllm_refuses(opened, options, said):
    """A value that only vLLM can judge is a ConfigError with vLLM's words and no traceback's worth of them."""
    with pytest.raises(ConfigError) as caught, opened({"enforce_eager": None, **options}):
        pass
    assert said in caught.value.message
    assert "\n" not in caught.value.message


def test_model_that_vllm_does_not_know(opened, tiny):
    """An architecture without an implementation is the user's mistake."""
    with (
        pytest.raises(ConfigError, match="cannot load"),
        opened({"shape_weights": None}, spec=tiny(model_type="no-such-type", architectures=["NoSuch"])),
    ):
        pass


def test_stop_texts_of_a_request(opened, requests_of, worded):
    """A request ends with the token that completes one of its texts, and others of the batch go on."""
    folder, token = worded
    favoured = {"extra_sampling": {"logit_bias": {str(token): 100.0}}}
    free = Sampling(ignore_eos=False)
    first, second = requests_of((5, 6), (4, 6))
    with opened(favoured, spec=resolve_model(folder), model=folder, sampling=free) as engine:
        done = engine.generate([attrs.evolve(first, stop=("never said", "aaa")), second], free)
    assert [one.token_ids for one in done] == [(token,) * 3, (token,) * 6]
    assert [one.finish_reason for one in done] == ["stop", "length"]


def test_stop_texts_need_a_tokenizer(opened, requests_of):
    """vLLM would take no notice of them without one, so they are refused."""
    with opened() as engine, pytest.raises(ConfigError, match="need the model's tokenizer"):
        engine.generate([attrs.evolve(requests_of((4, 6))[0], stop=("a",))], Sampling())


def test_context_is_vllms_limit(opened):
    """As it was set."""
    with opened({"max_model_len": 96}) as engine:
        assert engine.context_length() == 96
