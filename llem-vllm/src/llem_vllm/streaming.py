"""The loaded engine for serving loads: vLLM's AsyncLLM, as its server uses it, without the server."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from typing import Any, TypeVar

from vllm import SamplingParams
from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine.async_llm import AsyncLLM

from llem.backends.base import Chunk, Completion, Likelihood, Request, Scored
from llem.config.models import Sampling
from llem.errors import LlemError
from llem_vllm.engine import Loaded, VllmEngine
from llem_vllm.failures import run_failures
from llem_vllm.likelihood import likelihood, portions
from llem_vllm.sampling import SamplingCache, completion, request_metrics

__all__ = ["ServingEngine"]

T = TypeVar("T")


class ServingEngine(VllmEngine):
    """vLLM's AsyncLLM. The engine is in a process of its own; this process sends requests and receives tokens.

    AsyncLLM serves one event loop at a time. `stream` is called from the load generator's; the other methods run on
    that one while it rests, or on a loop of their own.
    """

    def __init__(self, llm: AsyncLLM, loaded: Loaded) -> None:
        self.llm = llm
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ids = itertools.count()
        super().__init__(loaded, llm.vllm_config)
        self._final = SamplingCache(self._options, RequestOutputKind.FINAL_ONLY)
        self._delta = SamplingCache(self._options, RequestOutputKind.DELTA)

    async def stream(self, request: Request, sampling: Sampling) -> AsyncIterator[Chunk]:  # type: ignore[override]
        """Run one request among others and yield its tokens as they arrive; closing it aborts the request."""
        self._check_stop([request])
        self._serve(asyncio.get_running_loop())
        outputs = self._request(request.token_ids, self._delta.get(request, sampling))
        try:
            with run_failures(f"streaming request {request.index}"):
                async for output in outputs:
                    now = time.monotonic_ns()
                    made = output.outputs[0]
                    metrics = request_metrics(output) if output.finished else None
                    yield Chunk(len(made.token_ids), now, tuple(made.token_ids), made.finish_reason, metrics)
        finally:
            await outputs.aclose()  # aborts in the engine what has not ended

    def generate(
        self, requests: Sequence[Request], sampling: Sampling, *, token_times: bool = False
    ) -> Sequence[Completion]:
        """Send a batch at once and wait for all of it; see `llem.backends.base.Engine.generate`."""
        self._check_stop(requests)
        with run_failures(f"generating for {len(requests)} requests"):
            return self._run(self._gather([self._complete(one, sampling, token_times) for one in requests]))

    async def _complete(self, request: Request, sampling: Sampling, token_times: bool) -> Completion:
        cache = self._delta if token_times else self._final
        ids: list[int] = []
        times: list[int] = []
        async for output in self._request(request.token_ids, cache.get(request, sampling)):
            ids.extend(output.outputs[0].token_ids)
            times.extend([time.monotonic_ns()] * len(output.outputs[0].token_ids))
        last = completion(request, output, times if token_times else None)
        return Completion(last.index, tuple(ids), last.finish_reason, last.token_times_ns, last.engine_metrics)

    def loglikelihood(self, requests: Sequence[Scored]) -> Sequence[Likelihood]:
        """Likelihoods in the order of the requests; see `OfflineEngine.loglikelihood`."""
        params, found = self._scoring(requests), []
        for portion in portions(requests):
            with run_failures(f"scoring {len(portion)} texts"):
                found += self._run(self._gather([self._score(one, params) for one in portion]))
        return found

    async def _score(self, scored: Scored, params: SamplingParams) -> Likelihood:
        async for output in self._request((*scored.context, *scored.continuation), params):
            last = output
        return likelihood(scored, last)

    def _request(self, token_ids: Sequence[int], params: SamplingParams) -> Any:
        """vLLM's stream of outputs of one request."""
        prompt = {"prompt_token_ids": list(token_ids)}
        name = f"llem-{next(self._ids)}"
        return self.llm.generate(prompt, params, name, lora_request=self._loaded.adapter)

    @staticmethod
    async def _gather(coroutines: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
        return list(await asyncio.gather(*coroutines))

    def _call(self, method: str) -> list[Any]:
        return self._run(self.llm.collective_rpc(method))

    def _forget_prompts(self) -> bool:
        return self._run(self.llm.reset_prefix_cache())

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run to the end on the load generator's loop while that rests, else on a loop of this call's own."""
        if self._loop is not None and not self._loop.is_closed():
            return self._loop.run_until_complete(coroutine)
        with (
            asyncio.Runner() as runner
        ):  # its end ends AsyncLLM's tasks, so that none waits for the next loop's messages
            self._serve(runner.get_loop())
            return runner.run(coroutine)

    def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let AsyncLLM work on this loop.

        Its tasks and queue belong to the loop that made them. Those of a closed loop have ended; they are dropped and
        it makes new ones. Its sockets follow by themselves.
        """
        if loop is self._loop:
            return
        before, self._loop = self._loop, loop
        if before is None:
            return
        if not before.is_closed():
            hint = "one event loop streams at a time; close the first before another one begins"
            raise LlemError("this engine is streaming on another event loop", hint, code="bug")
        self.llm.output_handler = None
        self.llm.engine_core.resources.output_queue_task = None
        self.llm.engine_core.outputs_queue = asyncio.Queue()

    @property
    def _process(self) -> str:
        return "own"

    def _shutdown(self) -> None:
        self.__dict__.pop("llm").shutdown()
