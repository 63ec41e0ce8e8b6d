"""What comes out of the engine: counts, ends, sampling, streams, metrics, likelihoods, closing."""

from __future__ import annotations

import asyncio
import math

import pytest

from llem.backends.base import Request, Scored
from llem.config.models import Experiment, Sampling
from llem.errors import ConfigError, ExperimentFailed
from llem.models.spec import ModelSpec
from llem_tensorrt.backend import TensorRTBackend
from llem_tensorrt.config import TensorRTOptions
from llem_tensorrt.sampling import EndIds, sampling_arguments
from llem_tensorrt.sections import KvCache, Speculative

GREEDY = Sampling()
MIXED = ((3, 5), (11, 1), (7, 9), (1, 4))


def tokens(completions):
    return [completion.token_ids for completion in completions]


async def collect(engine, request, sampling=GREEDY):
    return [chunk async for chunk in engine.stream(request, sampling)]


def test_greedy_asks_for_no_sampling(load, control, requests_of):
    """Greedy is no temperature, top_k and top_p; the end of sequence is ignored."""
    load().generate(requests_of((4, 6)), GREEDY)
    prompt, given = control.generated[-1]
    params = given["sampling_params"]
    assert prompt == list(requests_of((4, 6))[0].token_ids)
    assert (params.temperature, params.top_k, params.top_p, params.seed) == (None, None, None, None)
    assert (params.max_tokens, params.ignore_eos, params.n, params.best_of) == (6, True, 1, 1)
    assert params._greedy_decoding


def test_sampling_arrives(load, control, requests_of):
    """Settings of `sampling` reach the library; top_p is always given, since without it the library is greedy."""
    warm = Sampling(temperature=0.7, top_k=5, min_p=0.1, repetition_penalty=1.2, seed=3)
    load({"sampler_type": "TRTLLMSampler"}).generate(requests_of((4, 2), (4, 2)), warm)
    first, second = (given["sampling_params"] for _, given in control.generated)
    assert (first.temperature, first.top_k, first.top_p, first.min_p) == (0.7, 5, 1.0, 0.1)
    assert first.repetition_penalty == 1.2
    assert not first._greedy_decoding
    assert first.seed != second.seed


def test_sampling_is_seeded_per_request(load, requests_of):
    """Sampled tokens depend on the seed and the request, not on what ran before."""
    engine, batch = load(), requests_of((5, 12), (5, 12))
    warm = Sampling(temperature=1.0, seed=3)
    first = tokens(engine.generate(batch, warm))
    engine.generate(requests_of((2, 2)), warm)
    assert tokens(engine.generate(batch, warm)) == first
    assert tokens(engine.generate(batch, Sampling(temperature=1.0, seed=4))) != first


def test_end_of_sequence_of_a_shape(load, control, requests_of):
    """A shape has no tokenizer: its end ids are told to the library, the first as the end, others as stop tokens."""
    free = tokens(load().generate(requests_of((4, 12)), GREEDY))[0]
    config = {"model_type": "llama", "vocab_size": 512, "eos_token_id": [511, free[5]]}
    engine = load(spec=ModelSpec("shape:x", "shape", "random", "x", config=config))
    (stopped,) = engine.generate(requests_of((4, 12)), Sampling(ignore_eos=False))
    assert (stopped.token_ids, stopped.finish_reason) == (free[:6], "stop")
    params = control.generated[-1][1]["sampling_params"]
    assert (params.end_id, params.stop_token_ids, params.include_stop_str_in_output) == (511, [free[5]], True)


def test_end_of_sequence_of_a_checkpoint(load, control, requests_of, tmp_path):
    """With a tokenizer the library looks its end up itself."""
    engine = load(spec=ModelSpec("m", "folder", "real", "m", path=str(tmp_path), config={"model_type": "llama"}))
    engine.generate(requests_of((4, 3)), Sampling(ignore_eos=False))
    assert control.llm["skip_tokenizer_init"] is False
    assert control.generated[-1][1]["sampling_params"].end_id == 2


def test_beams_return_the_best(load, control, requests_of):
    """Beam search has max_beam_width beams, and one of them is the completion."""
    engine = load({"use_beam_search": True, "max_beam_width": 3})
    done = engine.generate(requests_of((4, 6), (2, 3)), GREEDY)
    assert [len(one.token_ids) for one in done] == [6, 3]
    params = control.generated[-1][1]["sampling_params"]
    assert (params.n, params.best_of) == (1, 3)
    with pytest.raises(ConfigError, match="beams are rewritten"):
        engine.generate(requests_of((4, 6)), GREEDY, token_times=True)


@pytest.mark.parametrize("interval", [1, 4])
def test_stream_gives_each_token_once(load, requests_of, interval):
    """The library repeats all tokens so far; chunks hold the new ones, in order, and the last says why it ended."""
    engine, (request,) = load({"stream_interval": interval}), requests_of((4, 9))
    chunks = asyncio.run(collect(engine, request))
    assert [chunk.tokens for chunk in chunks] == ([1] * 9 if interval == 1 else [4, 4, 1])
    assert [len(chunk.token_ids) for chunk in chunks] == [chunk.tokens for chunk in chunks]
    joined = tuple(token for chunk in chunks for token in chunk.token_ids)
    assert joined == engine.generate([request], GREEDY)[0].token_ids
    assert [chunk.finish_reason for chunk in chunks] == [None] * (len(chunks) - 1) + ["length"]
    times = [chunk.time_ns for chunk in chunks]
    assert times == sorted(times)


def test_streams_run_together(load, requests_of):
    """Many streams in one loop interleave and keep their own tokens."""
    engine, batch = load(), requests_of(*MIXED)

    async def together():
        return await asyncio.gather(*(collect(engine, request) for request in batch))

    found = asyncio.run(together())
    streamed = [tuple(token for chunk in chunks for token in chunk.token_ids) for chunks in found]
    assert streamed == tokens(engine.generate(batch, GREEDY))
    first_end, others_start = found[2][-1].time_ns, found[0][0].time_ns
    assert others_start < first_end


def test_closing_a_stream_aborts(load, control, requests_of):
    """A generator that is closed early aborts its request; one that ended does not."""
    engine, (request,) = load(), requests_of((4, 9))

    async def early():
        stream = engine.stream(request, GREEDY)
        await anext(stream)
        await stream.aclose()

    asyncio.run(early())
    assert len(control.aborted) == 1
    asyncio.run(collect(engine, request))
    assert len(control.aborted) == 1


def test_token_times_come_from_streams(load, requests_of):
    """Tokens are those of an untimed batch, with one time each; a chunk's tokens share theirs."""
    engine, batch = load({"stream_interval": 4}), requests_of(*MIXED)
    timed = engine.generate(batch, GREEDY, token_times=True)
    assert tokens(timed) == tokens(engine.generate(batch, GREEDY))
    assert [len(one.token_times_ns) for one in timed] == [5, 1, 9, 4]
    assert len(set(timed[2].token_times_ns)) == 3


def test_engine_metrics(load, requests_of):
    """Where the library times requests, its figures are kept, in seconds; else there are none."""
    (request,) = requests_of((4, 3))
    assert load().generate([request], GREEDY)[0].engine_metrics is None
    engine = load({"return_perf_metrics": True})
    told = {"queued_s": 0.25, "prefill_s": 0.25, "decode_s": 1.5, "cached_tokens": 0.0}
    assert engine.generate([request], GREEDY)[0].engine_metrics == told
    assert asyncio.run(collect(engine, request))[-1].engine_metrics == told


@pytest.mark.parametrize("reason", ["cancelled", "timeout"])
def test_requests_that_were_cut_are_failures(load, control, requests_of, reason):
    """Tokens of a request that the library gave up are not counted as its output."""
    control.finish = reason
    with pytest.raises(ExperimentFailed, match=reason):
        load().generate(requests_of((4, 3)), GREEDY)


def test_blocks_are_kept_unless_switched_off(load):
    """A prompt that came before costs next to nothing, which `phases` has to know."""
    assert load().keeps_prompts() is True
    assert load({"kv_cache_config": KvCache(enable_block_reuse=False)}).keeps_prompts() is False


def test_likelihood(load):
    """The likelihood is that of the continuation under the logits of the tokens before it."""
    engine = load({"kv_cache_config": KvCache(enable_block_reuse=False)})
    greedy, other = engine.loglikelihood([Scored((5, 9), (10, 11)), Scored((5, 9), (10, 3))])
    whole = math.log(math.e + 511)
    assert greedy.logprob == pytest.approx(2 * (1 - whole))
    assert other.logprob == pytest.approx(1 - whole - whole)
    assert (greedy.greedy, other.greedy) == (True, False)


@pytest.mark.parametrize(
    "options", [{}, {"kv_cache_config": KvCache(enable_block_reuse=False), "enable_chunked_prefill": True}]
)
def test_likelihood_needs_whole_prompts(load, options):
    """With reuse or chunks the library returns part of the logits: refused rather than wrong, and said in advance."""
    made = TensorRTOptions(**options)
    why = TensorRTBackend(made).lacks(Experiment(model="shape:tiny", backend="tensorrt", options=made), "loglikelihood")
    assert ("enable_chunked_prefill" if options else "enable_block_reuse: false") in why
    with pytest.raises(ConfigError, match="whole prompts"):
        load(options).loglikelihood([Scored((5,), (6,))])


def test_scored_length(load):
    """The longest prompt leaves room for the token that is made after it; one more token is refused."""
    options = {"kv_cache_config": KvCache(enable_block_reuse=False), "max_seq_len": 32}
    engine = load(options)
    assert engine.scored_length() == 31
    assert len(engine.loglikelihood([Scored((5,) * 20, (6,) * 11)])) == 1
    with pytest.raises(ConfigError, match="32 tokens exceeds the 31"):
        engine.loglikelihood([Scored((5,) * 20, (6,) * 12)])
    assert load({**options, "max_seq_len": 64, "max_num_tokens": 16}).scored_length() == 16


def test_out_of_memory(load, control, requests_of):
    """What a worker reports as RuntimeError is told as out of memory, while generating and while streaming."""
    engine = load()
    control.fail_at = "generate"
    control.failure = RuntimeError("worker 0 failed\ntorch.OutOfMemoryError: CUDA out of memory. Tried 20 GiB\n  at x")
    for act in (
        lambda: engine.generate(requests_of((4, 3)), GREEDY),
        lambda: asyncio.run(collect(engine, requests_of((4, 3))[0])),
    ):
        with pytest.raises(ExperimentFailed, match=r"CUDA out of memory\. Tried 20 GiB") as caught:
            act()
        assert caught.value.code == "oom"


def test_other_failures_keep_their_words(load, control, requests_of):
    """A defect is not dressed up as something else."""
    engine = load()
    control.fail_at, control.failure = "generate", RuntimeError("illegal memory access")
    with pytest.raises(RuntimeError, match="illegal memory access"):
        engine.generate(requests_of((4, 3)), GREEDY)


def test_close_shuts_down_once(load, control):
    """Closing shuts the library down, removes a shape's files, and may be done twice."""
    from pathlib import Path

    engine = load()
    folder = Path(control.llm["model"])
    assert folder.is_dir()
    engine.close()
    engine.close()
    assert control.shutdowns == 1
    assert not folder.exists()


def test_sizes_of_a_shape(load):
    """Counted from the configuration; unknown once quantised or with a format of unknown width."""
    sizes = load().architecture()
    assert (sizes.layers, sizes.kv_heads, sizes.vocab_size) == (2, 1, 512)
    assert sizes.weight_bytes == 2 * sizes.parameters
    assert sizes.kv_bytes_per_token == 2 * 2 * 1 * 32 * 2
    assert sizes.read_bytes == 2 * sizes.active_parameters == 2 * (sizes.parameters - 512 * 64)
    assert (sizes.windows, sizes.unfit) == ((), None)
    half = load({"kv_cache_config": KvCache(dtype="fp8")}).architecture()
    assert half.kv_bytes_per_token == sizes.kv_bytes_per_token // 2
    assert load({"quant_algo": "FP8"}).architecture() is None


def test_passes_that_do_not_follow_from_tokens(load):
    """Drafts and beams are told with the sizes."""
    beams = load({"use_beam_search": True, "max_beam_width": 2})
    assert beams.architecture().unfit == "passes_unknown"
    drafts = load({"speculative_config": Speculative(kind="ngram", max_draft_len=2)})
    assert drafts.architecture().unfit == "speculative"


def test_memory_is_not_made_up(load):
    """The library's processes are not ours to look into: no number, and a reason."""
    reading = load().memory()
    assert (reading.peak_bytes, reading.reason) == (None, "not_supported")


def test_long_prompt_is_the_users_mistake(load):
    """A prompt that no check could know is refused in the library's own words."""
    with pytest.raises(ValueError, match="max_num_tokens"):
        load({"max_num_tokens": 16}).generate([Request(0, tuple(range(5, 40)), 2)], GREEDY)


def test_stop_texts_arrive_beside_those_of_the_settings():
    """Each request's own, whether the settings give one text, several or none."""
    request = Request(0, (3,), 8, stop=("\n",))
    for own, wanted in ((None, ["\n"]), ("a", ["a", "\n"]), (["a", "b"], ["a", "b", "\n"])):
        options = TensorRTOptions(extra_sampling=None if own is None else {"stop": own})
        assert sampling_arguments(options, GREEDY, request, EndIds())["stop"] == wanted


def test_stop_texts_of_a_shape_are_refused(load):
    """Its tokens are no text."""
    with pytest.raises(ConfigError, match="a shape has none"):
        load().generate([Request(0, (3,), 8, stop=("a",))], GREEDY)


def test_context_is_the_limit_of_the_engine(load):
    """The one it was given, else the positions of the model."""
    assert (load({"max_seq_len": 64}).context_length(), load().context_length()) == (64, 2048)
