"""RequestOutput and CompletionOutput: cumulative tokens, synchronous and asynchronous waiting, abort."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from tensorrt_llm.sampling_params import SamplingParams
from tensorrt_llm.standin import control


class MetricNames(Enum):
    TTFT = "ttft"
    TPOT = "tpot"
    E2E = "e2e"
    REQUEST_QUEUE_TIME = "request_queue_time"


@dataclass(slots=True)
class CompletionOutput:
    index: int
    text: str = ""
    token_ids: list[int] | None = field(default_factory=list)
    cumulative_logprob: float | None = None
    logprobs: list[Any] | None = field(default_factory=list)
    prompt_logprobs: list[Any] | None = field(default_factory=list)
    finish_reason: str | None = None
    stop_reason: int | str | None = None
    generation_logits: Any = None
    request_perf_metrics: Any = None


def tokens_of(prompt: list[int], params: SamplingParams, vocabulary: int) -> Iterator[int]:
    """Endless tokens that follow from the prompt (and the seed, where tokens are sampled) alone."""
    seed = 0 if params._greedy_decoding else (params.seed or 0)
    state = sum((place + 1) * token for place, token in enumerate(prompt)) + 7919 * seed
    while True:
        state = (1103515245 * state + 12345) % 2**31
        yield (state >> 8) % vocabulary


class Logits:
    """The few tensor operations that likelihoods need, over lists."""

    def __init__(self, rows: list[Any]) -> None:
        self.rows = rows

    def dim(self) -> int:
        return 2 if isinstance(self.rows[0], list) else 1

    def float(self) -> Logits:
        return self

    def __getitem__(self, place: Any) -> Any:
        found = self.rows[place]
        if isinstance(place, slice):
            return Logits(found)
        return Logits(found) if isinstance(found, list) else found

    def log_softmax(self, dim: int) -> Logits:
        assert dim == -1
        sums = [math.log(sum(math.exp(value) for value in row)) for row in self.rows]
        return Logits([[value - total for value in row] for row, total in zip(self.rows, sums, strict=True)])

    def argmax(self, dim: int) -> Logits:
        assert dim == -1
        return Logits([row.index(max(row)) for row in self.rows])

    def tolist(self) -> list[Any]:
        return list(self.rows)


class RequestOutput:
    """One request. Its outputs hold all tokens so far, in one list that grows."""

    _ids = 0

    def __init__(
        self, prompt: list[int], params: SamplingParams, streaming: bool, interval: int, metrics: bool
    ) -> None:
        RequestOutput._ids += 1
        self.request_id = RequestOutput._ids
        self.prompt: str | None = None
        self.prompt_token_ids = prompt
        self.context_logits = self._logits() if params.return_context_logits else None
        self.metrics_dict: dict[Any, float] = {}
        self.cached_tokens = 0
        self._params, self._metrics, self._interval = params, metrics, interval if streaming else 10**9
        self._source = tokens_of(prompt, params, control.vocabulary)
        self._outputs = [CompletionOutput(index) for index in range(params.best_of or 1)]
        self._done = False

    @property
    def outputs(self) -> list[CompletionOutput]:
        return self._outputs[: self._params.n]

    @property
    def finished(self) -> bool:
        return self._done

    def _logits(self) -> Logits:
        """Row i prefers the token after token i, by one."""
        size = control.vocabulary
        return Logits(
            [[1.0 if token == (last + 1) % size else 0.0 for token in range(size)] for last in self.prompt_token_ids]
        )

    def _ends(self) -> set[int]:
        if self._params.ignore_eos:
            return set()
        return {self._params.end_id or -1, *(self._params.stop_token_ids or ())}

    def _step(self) -> None:
        if self._params.use_beam_search:
            self._grow_beams()
        else:
            self._extend(self._outputs[0])
        if self._done and self._metrics:
            self.metrics_dict = {
                MetricNames.TTFT: 0.5,
                MetricNames.E2E: 2.0,
                MetricNames.REQUEST_QUEUE_TIME: 0.25,
                MetricNames.TPOT: 0.1,
            }

    def _extend(self, sequence: CompletionOutput) -> None:
        tokens = sequence.token_ids
        assert tokens is not None
        for _ in range(min(self._interval, self._params.max_tokens - len(tokens))):
            tokens.append(next(self._source))
            if tokens[-1] in self._ends():
                sequence.finish_reason, self._done = "stop", True
                break
        if len(tokens) == self._params.max_tokens and not self._done:
            sequence.finish_reason, self._done = "length", True
        if self._done and control.finish is not None:
            sequence.finish_reason = control.finish

    def _grow_beams(self) -> None:
        """Each beam is another stretch of the same tokens; the first is the one that greedy decoding gives."""
        self._done = True
        for sequence in self._outputs:
            sequence.token_ids = [next(self._source) for _ in range(self._params.max_tokens)]
            sequence.finish_reason = "length"

    def result(self, timeout: float | None = None) -> RequestOutput:
        while not self._done:
            self._step()
        return self

    async def aresult(self) -> RequestOutput:
        while not self._done:
            await asyncio.sleep(0)
            self._step()
        return self

    def __await__(self) -> Any:
        return self.aresult().__await__()

    def __aiter__(self) -> RequestOutput:
        return self

    async def __anext__(self) -> RequestOutput:
        if self._done:
            raise StopAsyncIteration
        await asyncio.sleep(0)
        self._step()
        return self

    def abort(self) -> None:
        control.aborted.append(self.request_id)
