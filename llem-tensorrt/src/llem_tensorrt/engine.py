"""The loaded model. `generate` is the hot path: one call with token ids, one list of token ids back."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from llem.backends.base import Chunk, Completion, Engine, Likelihood, MemoryReading, Request, Scored
from llem.backends.check import check_scored
from llem.config.models import Sampling
from llem.errors import ConfigError
from llem.models.spec import Architecture
from llem_tensorrt.architecture import architecture_of
from llem_tensorrt.checks import lacking
from llem_tensorrt.config import TensorRTOptions
from llem_tensorrt.effective import effective_config
from llem_tensorrt.failures import memory_failures
from llem_tensorrt.installed import library
from llem_tensorrt.loading import Loaded
from llem_tensorrt.objects import sampling_objects
from llem_tensorrt.outputs import completion, engine_metrics, finish_reason, token_ids
from llem_tensorrt.sampling import EndIds, sampling_arguments

__all__ = ["TensorRTEngine"]


class TensorRTEngine(Engine):
    """A `tensorrt_llm.LLM`. Not yet run on the real library.

    Args:
        loaded: the LLM object and what belongs to it.
        options: the section `tensorrt:`.
        sampling: of the experiment, for `effective_config`; `generate` is given its own.
    """

    def __init__(self, loaded: Loaded, options: TensorRTOptions, sampling: Sampling) -> None:
        self.llm: Any = loaded.llm
        self._loaded = loaded
        self._options = options
        self._sampling = sampling
        self._vocab_size: int | None = (loaded.model.config or {}).get("vocab_size")
        self._ends = EndIds.of(loaded.model)
        self._sampling_params = library().SamplingParams
        self._with_adapter = {} if loaded.lora is None else {"lora_request": loaded.lora}
        self._greedy = functools.lru_cache(maxsize=1024)(self._params_of_length)

    def generate(
        self, requests: Sequence[Request], sampling: Sampling, *, token_times: bool = False
    ) -> Sequence[Completion]:
        """Run one batch, each request to its own length; see `llem.backends.base.Engine.generate`.

        With `token_times` the same requests are streamed together and the arrival of each chunk is noted: tokens of one
        chunk (`stream_interval` above 1, or speculation) have one time.

        Raises:
            ExperimentFailed: out of memory (`code` "oom"), or a request was cancelled.
            ConfigError: token times of a beam search.
        """
        if token_times:
            return asyncio.run(self._timed(requests, sampling))
        with memory_failures(f"generating for {len(requests)} requests"):
            outputs = self.llm.generate(
                [list(request.token_ids) for request in requests],
                sampling_params=[self._params(sampling, request) for request in requests],
                use_tqdm=False,
                **self._with_adapter,
            )
        return [completion(request, output) for request, output in zip(requests, outputs, strict=True)]

    async def _timed(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        return list(await asyncio.gather(*(self._streamed(request, sampling) for request in requests)))

    async def _streamed(self, request: Request, sampling: Sampling) -> Completion:
        tokens: list[int] = []
        times: list[int] = []
        last: Chunk | None = None
        async for last in self.stream(request, sampling):
            tokens.extend(last.token_ids or ())
            times.extend([last.time_ns] * last.tokens)
        reason = "length" if last is None or last.finish_reason is None else last.finish_reason
        metrics = None if last is None else last.engine_metrics
        return Completion(request.index, tuple(tokens), reason, tuple(times), metrics)

    async def stream(self, request: Request, sampling: Sampling) -> AsyncIterator[Chunk]:
        """Run one request and yield its tokens as they come; see `llem.backends.base.Engine.stream`.

        TensorRT-LLM hands out all tokens so far each time, in one list that it extends; the new ones are cut from it.
        """
        if self._options.use_beam_search:
            raise ConfigError(
                "beams are rewritten as they grow, so they have no times and no stream",
                "leave use_beam_search out, or token_times off with an offline load",
            )
        with memory_failures("generating for a stream of requests"):
            output = self.llm.generate_async(
                list(request.token_ids),
                sampling_params=self._params(sampling, request),
                streaming=True,
                **self._with_adapter,
            )
            ended, seen = False, 0
            try:
                async for step in output:
                    now = time.monotonic_ns()
                    sequence = step.outputs[0]
                    new, ended = token_ids(sequence, seen), bool(step.finished)
                    seen += len(new)
                    yield Chunk(
                        len(new),
                        now,
                        new,
                        finish_reason(sequence) if ended else None,
                        engine_metrics(step) if ended else None,
                    )
            finally:
                if not ended:
                    output.abort()

    def loglikelihood(self, requests: Sequence[Scored]) -> Sequence[Likelihood]:
        """Likelihoods from the logits of the prompt; see `llem.backends.base.Engine.loglikelihood`.

        Position i of `context_logits` predicts token i + 1.

        Raises:
            ConfigError: block reuse or chunked prefill is on, or a text is longer than `scored_length`.
        """
        if (why := lacking(self._options, "loglikelihood")) is not None:
            raise ConfigError("likelihoods need the logits of whole prompts", why)
        check_scored(requests, self.scored_length(), "what the engine takes as one prompt")
        ends = {**self._ends.arguments(), "max_tokens": 1, "ignore_eos": True, "return_context_logits": True}
        with memory_failures(f"scoring {len(requests)} continuations"):
            outputs = self.llm.generate(
                [[*scored.context, *scored.continuation] for scored in requests],
                sampling_params=[self._sampling_params(**ends) for _ in requests],
                use_tqdm=False,
                **self._with_adapter,
            )
        return [_likelihood(scored, output.context_logits) for scored, output in zip(requests, outputs, strict=True)]

    def _params(self, sampling: Sampling, request: Request) -> Any:
        """SamplingParams of a request; greedy ones depend on its length and stop texts alone and are made once.

        Raises ConfigError for stop texts of a shape, whose tokens are no text.
        """
        if request.stop and self._loaded.folder is not None:
            raise ConfigError("stop texts need a tokenizer, and a shape has none", "use a real model")
        if sampling.temperature == 0:
            return self._greedy(sampling, request.output_tokens, request.stop)
        return self._made(sampling, request)

    def _params_of_length(self, sampling: Sampling, output_tokens: int, stop: tuple[str, ...]) -> Any:
        return self._made(sampling, Request(0, (), output_tokens, stop))

    def _made(self, sampling: Sampling, request: Request) -> Any:
        arguments = sampling_arguments(self._options, sampling, request, self._ends)
        return self._sampling_params(**sampling_objects(arguments, self._vocab_size))

    def effective_config(self) -> Mapping[str, Any]:
        """The arguments that the LLM object keeps, defaults and derived values included, and a request's sampling."""
        return effective_config(self._loaded, self._params(self._sampling, Request(0, (), 1)))

    def architecture(self) -> Architecture | None:
        """Sizes of an unquantised shape; None for everything that would be a guess (see `architecture_of`)."""
        return architecture_of(self._loaded.model, self._options, getattr(self.llm.args, "dtype", None))

    def keeps_prompts(self) -> bool:
        """Whether blocks of the key-value cache are used again for a later prompt."""
        return self._options.reuses_blocks

    def context_length(self) -> int | None:
        """The limit that the engine was given, else the model's positions."""
        told = getattr(self.llm.args, "max_seq_len", None) or (self._loaded.model.config or {}).get(
            "max_position_embeddings"
        )
        return None if told is None else int(told)

    def scored_length(self) -> int | None:
        """The longest prompt: one less than `context_length`, as a token is made after it, and no more than a step."""
        positions = self.context_length()
        told = [getattr(self.llm.args, name, None) for name in ("max_input_len", "max_num_tokens")]
        return min([int(one) for one in (*told, positions and positions - 1) if one], default=None)

    def memory(self) -> MemoryReading:
        """Not known: the engine computes in worker processes, and its cache takes a fixed share of what is free."""
        return MemoryReading(
            None,
            "nothing: TensorRT-LLM computes in processes of its own and reserves its cache in advance",
            reason="not_supported",
        )

    def close(self) -> None:
        """Shut the engine and its workers down, and remove the files of a shape."""
        self._greedy.cache_clear()
        llm, self.llm = self.llm, None
        if llm is not None:
            llm.shutdown()
        if self._loaded.folder is not None:
            self._loaded.folder.cleanup()


def _likelihood(scored: Scored, logits: Any) -> Likelihood:
    """The sum of the continuation's log-probabilities, from logits of shape (prompt, vocabulary) or (1, …, …)."""
    logits = logits.squeeze(0) if logits.dim() == 3 else logits
    first = len(scored.context) - 1
    rows = logits[first : first + len(scored.continuation)].float().log_softmax(-1)
    best = rows.argmax(-1).tolist()
    total = sum(float(rows[place][token]) for place, token in enumerate(scored.continuation))
    return Likelihood(total, greedy=best == list(scored.continuation))
