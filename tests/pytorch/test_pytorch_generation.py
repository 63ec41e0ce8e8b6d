"""What comes out of the engine: counts, determinism, padding, ends, times."""

from __future__ import annotations

import logging
import time

import attrs
import pytest
import torch

from llem.config.models import Sampling
from llem.errors import ConfigError, ExperimentFailed
from llem_pytorch.backend import PyTorchBackend
from llem_pytorch.failures import memory_failures

GREEDY = Sampling()
MIXED = ((3, 5), (11, 1), (7, 9), (1, 4))


def tokens(completions):
    return [completion.token_ids for completion in completions]


def test_weights_follow_the_seed(load, tiny):
    """The same seed gives the same weights, another seed gives others, and the caller's generator is untouched."""
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, same, other = load(spec=tiny(seed=1)), load(spec=tiny(seed=1)), load(spec=tiny(seed=2))
    assert torch.equal(torch.get_rng_state(), before)
    weight = "model.layers.0.self_attn.q_proj.weight"
    assert torch.equal(one.model.get_parameter(weight), same.model.get_parameter(weight))
    assert not torch.equal(one.model.get_parameter(weight), other.model.get_parameter(weight))


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_weights_are_made_in_the_dtype(load, requests_of, dtype):
    """Every dtype runs on the CPU, and no parameter is held in another one."""
    engine = load(dtype=dtype)
    assert engine.effective_config()["parameter_dtypes"].keys() == {dtype}
    assert len(engine.generate(requests_of((4, 3)), GREEDY)[0].token_ids) == 3


def test_auto_dtype_of_a_shape(load, tiny):
    """For a shape, auto is what its configuration names, else bfloat16."""
    assert load(dtype="auto").effective_config()["dtype"] == "bfloat16"
    assert load(dtype="auto", spec=tiny(dtype="float16")).effective_config()["dtype"] == "float16"


def test_exact_counts_with_mixed_lengths(load, requests_of):
    """Each request gets its own number of tokens, in order, whatever its neighbours ask for."""
    done = load().generate(requests_of(*MIXED), GREEDY)
    assert [completion.index for completion in done] == [0, 1, 2, 3]
    assert [len(completion.token_ids) for completion in done] == [5, 1, 9, 4]
    assert {completion.finish_reason for completion in done} == {"length"}


def test_left_padding_changes_nothing(load, requests_of):
    """Greedy tokens of a padded batch are those of each request alone (float32)."""
    engine, batch = load(), requests_of(*MIXED)
    alone = [engine.generate([request], GREEDY)[0].token_ids for request in batch]
    assert tokens(engine.generate(batch, GREEDY)) == alone


def test_same_tokens_as_plain_transformers(load, requests_of):
    """The engine gives what model.generate gives to someone who writes the loop by hand."""
    engine, (request,) = load(), requests_of((6, 8))
    ids = torch.tensor([request.token_ids])
    plain = engine.model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, do_sample=False)
    assert tokens(engine.generate([request], GREEDY)) == [tuple(plain[0, 6:].tolist())]


def test_end_of_sequence(load, tiny, requests_of):
    """Without ignore_eos a row is cut after its first end, the others go on; with it there is no end."""
    batch = requests_of((4, 12), (9, 12))
    free = tokens(load().generate(batch, GREEDY))
    end = next(token for token in free[0][2:] if token not in free[1])
    place = free[0].index(end)
    engine = load(spec=tiny(eos_token_id=[end]))
    stopped = engine.generate(batch, Sampling(ignore_eos=False), token_times=True)
    assert tokens(stopped) == [free[0][: place + 1], free[1]]
    assert [completion.finish_reason for completion in stopped] == ["stop", "length"]
    assert len(stopped[0].token_times_ns) == place + 1
    assert tokens(engine.generate(batch, GREEDY)) == free


def test_padding_id_is_always_in_the_vocabulary(load, tiny, requests_of):
    """A padding or end id beyond the vocabulary is not used, so padding never indexes outside the embedding."""
    engine = load(spec=tiny(pad_token_id=None, eos_token_id=100_000, bos_token_id=None))
    generation = engine.effective_config()["generation"]
    assert generation["pad_token_id"] == 0
    assert generation["eos_token_id"] is None
    assert [len(row) for row in tokens(engine.generate(requests_of(*MIXED), Sampling(ignore_eos=False)))] == [
        5,
        1,
        9,
        4,
    ]


def test_sampling_is_seeded_per_batch(load, requests_of):
    """Sampled tokens depend on the seed and the batch, not on what ran before."""
    engine, batch = load(), requests_of((5, 12), (5, 12))
    warm = Sampling(temperature=1.0, seed=3)
    first = tokens(engine.generate(batch, warm))
    engine.generate(requests_of((2, 2)), warm)
    assert tokens(engine.generate(batch, warm)) == first
    assert tokens(engine.generate(batch, Sampling(temperature=1.0, seed=4))) != first


def test_sampling_settings_act(load, requests_of):
    """top_k 1 is greedy; what is left out is off, and not transformers' top_k of 50."""
    engine, batch = load(), requests_of((5, 30))
    assert tokens(engine.generate(batch, Sampling(temperature=1.0, top_k=1))) == tokens(engine.generate(batch, GREEDY))
    shown = load(sampling=Sampling(temperature=0.7, top_p=0.9, min_p=0.1)).effective_config()["generation"]
    assert (shown["do_sample"], shown["temperature"], shown["top_k"]) == (True, 0.7, 0)
    assert (shown["top_p"], shown["min_p"], shown["repetition_penalty"]) == (0.9, 0.1, 1.0)
    # from flat random logits, 60 draws of 512 tokens stay within the 50 most likely at each step only if a top_k acts
    wide = engine.generate(requests_of(*[(5, 1)] * 60), Sampling(temperature=50.0))
    assert len(set(tokens(wide))) > 30


def test_token_times(load, requests_of):
    """Times are those of the steps a request lived through, in order, within the call."""
    engine = load()
    start = time.monotonic_ns()
    done = engine.generate(requests_of(*MIXED), GREEDY, token_times=True)
    end = time.monotonic_ns()
    for completion in done:
        times = completion.token_times_ns
        assert len(times) == len(completion.token_ids)
        assert list(times) == sorted(times)
        assert start <= times[0]
        assert times[-1] <= end
    assert done[0].token_times_ns == done[2].token_times_ns[:5]
    assert engine.generate(requests_of((3, 2)), GREEDY)[0].token_times_ns is None


def test_prompt_lookup_counts_and_times(load, requests_of):
    """Speculated tokens come several at a step: greedy tokens stay the same, each has a time."""
    (request,) = requests_of((12, 20))
    plain = load().generate([request], GREEDY)[0]
    fast = load({"prompt_lookup_num_tokens": 4}).generate([request], GREEDY, token_times=True)[0]
    assert fast.token_ids == plain.token_ids
    assert len(fast.token_times_ns) == 20


def test_too_many_tokens_for_the_model(load, requests_of):
    """More tokens than positions are refused, with both figures."""
    with pytest.raises(ConfigError, match="200 and outputs of 57 tokens exceed the model's 256 positions"):
        load().generate(requests_of((200, 57)), GREEDY)


def test_generation_is_quiet(load, requests_of, recwarn, capfd, caplog):
    """No warning, no log line, nothing printed, greedy, sampled or with beams."""
    with caplog.at_level(logging.WARNING):
        for options in ({}, {"num_beams": 2}, {"cache_implementation": "static"}):
            load(options).generate(requests_of(*MIXED), Sampling(ignore_eos=False))
        load().generate(requests_of(*MIXED), Sampling(temperature=0.5, top_p=0.9))
    assert not [str(one.message) for one in recwarn if "transformers" in str(one.filename)]
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: not enough memory: you tried to allocate"
        ),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        MemoryError(),
    ],
)
def test_out_of_memory_is_an_outcome(error):
    """Every form of it becomes ExperimentFailed with the code oom and a hint."""
    with pytest.raises(ExperimentFailed) as caught, memory_failures("generating"):
        raise error
    assert caught.value.code == "oom"
    assert "batch_size" in caught.value.hint


def test_real_allocation_failure(load, requests_of):
    """An allocation that the machine refuses comes out of generate as oom."""
    engine = load()

    def too_much(*_args: object, **_kwargs: object) -> None:
        torch.empty(2**52, dtype=torch.float32)

    engine.model.model.register_forward_pre_hook(too_much, with_kwargs=True)
    with pytest.raises(ExperimentFailed) as caught:
        engine.generate(requests_of((3, 2)), GREEDY)
    assert caught.value.code == "oom"


def test_other_runtime_errors_are_not_disguised():
    """A RuntimeError that is not about memory stays what it is."""
    with pytest.raises(RuntimeError, match="shapes"), memory_failures("generating"):
        raise RuntimeError("shapes cannot be multiplied")


def test_stop_texts_are_each_requests_own(load, requests_of):
    """A row ends with the token that completes one of its texts, padding is not counted, and other rows go on."""
    engine = load()
    batch = requests_of((4, 24), (9, 24), (5, 24))
    free = [one.token_ids for one in engine.generate(batch, GREEDY)]
    place = next(
        place for place, token in enumerate(free[0][2:], 2) if 32 < token < 127 and token not in free[0][:place]
    )
    asked = [attrs.evolve(batch[0], stop=("never said", chr(free[0][place]))), batch[1], batch[2]]
    done = engine.generate(asked, GREEDY)
    assert [one.token_ids for one in done] == [free[0][: place + 1], *free[1:]]
    assert [one.finish_reason for one in done] == ["stop", "length", "length"]
    assert [one.token_ids for one in engine.generate(batch, GREEDY)] == free


def test_beams_do_not_end_at_texts(load, requests_of):
    """They are refused where they would be found in one beam and not in another."""
    with pytest.raises(ConfigError, match="beam search"):
        load({"num_beams": 2}).generate([attrs.evolve(requests_of((4, 6))[0], stop=("a",))], GREEDY)


def test_beams_are_said_to_lack_stop_texts(experiment):
    """Before anything is loaded, so that tasks that need them fail in the plan."""
    for options, why in (({"num_beams": 2}, "num_beams"), ({}, "None")):
        asked = experiment(options)
        assert why in str(PyTorchBackend(asked.options).lacks(asked, "stop"))
        assert PyTorchBackend(asked.options).lacks(asked, "loglikelihood") is None


def test_context_is_the_models_or_a_shorter_cache(load):
    """Positions of the model; a static cache may hold fewer."""
    assert load().context_length() == 256
    assert load({"cache_implementation": "static", "max_cache_len": 64}).context_length() == 64
