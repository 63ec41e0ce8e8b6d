"""The loaded engine for offline batches. `generate` is the hot path: one call of `LLM.generate`, nothing per token."""

from __future__ import annotations

import itertools
import time
from abc import abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import attrs
from vllm import LLM, SamplingParams
from vllm.lora.request import LoRARequest
from vllm.sampling_params import RequestOutputKind

from llem.backends.base import Chunk, Completion, Engine, Likelihood, MemoryReading, Request, Scored
from llem.backends.check import check_scored
from llem.config.models import Experiment, Sampling
from llem.errors import ConfigError, ExperimentFailed
from llem.models.spec import Architecture, ModelSpec
from llem_vllm import beams
from llem_vllm.architecture import architecture_of
from llem_vllm.arguments import sampling_arguments
from llem_vllm.config import VllmOptions
from llem_vllm.effective import configuration, effective_config
from llem_vllm.failures import run_failures
from llem_vllm.likelihood import likelihood, portions, scoring
from llem_vllm.overruled import refuse_overruled
from llem_vllm.process import EngineEnvironment
from llem_vllm.sampling import SamplingCache, completion

__all__ = ["Loaded", "OfflineEngine", "VllmEngine"]


@attrs.frozen
class Loaded:
    """What an engine is made of besides vLLM's object.

    Attributes:
        sampling: of the experiment, for `effective_config`; `generate` is given its own.
        adapter: resolved LoRA adapter, or None.
        environment: what to put back on `close`.
    """

    options: VllmOptions
    spec: ModelSpec
    sampling: Sampling
    adapter: LoRARequest | None
    environment: EngineEnvironment


class VllmEngine(Engine):
    """What both kinds of engine share: reports of the workers, and closing."""

    def __init__(self, loaded: Loaded, vllm_config: Any) -> None:
        self._loaded = loaded
        self._options = loaded.options
        self._config = vllm_config
        self._closed = False
        refuse_overruled(self._options, configuration(vllm_config))
        self._workers: list[dict[str, Any]] = self._call("llem_facts")

    @abstractmethod
    def _call(self, method: str) -> list[Any]:
        """Call a method of `llem_vllm.probe.WorkerProbe` in every worker."""

    @abstractmethod
    def _shutdown(self) -> None:
        """End the engine and its processes."""

    @abstractmethod
    def _forget_prompts(self) -> bool:
        """Empty the prefix cache; whether that was possible."""

    def turn_to(self, experiment: Experiment) -> None:
        """Prompts of other experiments are forgotten: the same ones would be found in the prefix cache."""
        if not self._forget_prompts():
            raise ExperimentFailed(
                "vLLM keeps its prefix cache: blocks of it are still in use", "report it with the worker's log"
            )

    @property
    @abstractmethod
    def _process(self) -> str:
        """Where the engine runs: "own" (a process of its own) or "worker"."""

    def effective_config(self) -> Mapping[str, Any]:
        """What is loaded and set, read back from vLLM's configuration and its workers."""
        adapter = self._loaded.adapter
        told = effective_config(
            self._config,
            self._sampling_in_effect(),
            self._workers,
            engine_process=self._process,
            engine_class=type(self).__name__,
            weights=self._weights(),
            adapter=None if adapter is None else {"name": self._options.adapter, "path": adapter.lora_path},
        )
        if self._loaded.spec.source == "shape":  # a temporary folder, another one each time
            told["model_config"] |= {"model": self._loaded.spec.name, "tokenizer": None}
            if "served_model_name" not in self._options.extra:
                told["model_config"]["served_model_name"] = self._loaded.spec.name
        return told

    def _check_stop(self, requests: Sequence[Request]) -> None:
        """Raises ConfigError for stop texts where nothing makes text of tokens: vLLM would take no notice of them."""
        if any(request.stop for request in requests) and self._config.model_config.skip_tokenizer_init:
            hint = "a shape has none; for a real model it is loaded with `quality` or `sampling.ignore_eos: false`"
            raise ConfigError("stop texts need the model's tokenizer, which vLLM was loaded without", hint)

    def keeps_prompts(self) -> bool:
        """Whether vLLM's prefix cache is on."""
        return bool(self._config.cache_config.enable_prefix_caching)

    def context_length(self) -> int | None:
        """vLLM's own limit."""
        return int(self._config.model_config.max_model_len)

    def scored_length(self) -> int:
        """One token less than `context_length`: vLLM makes a token after every prompt."""
        return int(self._config.model_config.max_model_len) - 1

    def _scoring(self, requests: Sequence[Scored]) -> SamplingParams:
        check_scored(requests, self.scored_length(), "`max_model_len` less the token that vLLM makes after a prompt")
        return scoring(self._config.model_config.logprobs_mode)

    def _weights(self) -> str:
        if self._loaded.spec.source != "shape":
            return "real" if self._config.load_config.load_format != "dummy" else "dummy"
        return "seeded" if self._options.shape_weights == "seeded" else "dummy"

    def _sampling_in_effect(self) -> dict[str, Any]:
        arguments = sampling_arguments(self._options, self._loaded.sampling, 1)
        del arguments["max_tokens"]  # each request's own
        if (self._options.beam_width or 1) > 1:
            arguments |= {"beam_width": self._options.beam_width, "length_penalty": beams.length_penalty(self._options)}
        return {
            **arguments,
            "seed": self._loaded.sampling.seed,
            "seed_per_request": bool(self._options.seed_per_request),
        }

    def architecture(self) -> Architecture | None:
        """Sizes of the loaded model; None for kinds it would have to guess at (see `architecture_of`)."""
        return architecture_of(self._config, self._workers, (self._options.beam_width or 1) > 1)

    def reset_memory(self) -> None:
        """Start the peak anew in every worker."""
        self._call("llem_reset_memory")

    def memory(self) -> MemoryReading:
        """Peak memory of the workers, the key-value cache that vLLM sets aside beforehand included."""
        peaks = self._call("llem_memory")
        cache = sum(worker["kv_cache_bytes"] for worker in self._workers)
        reserved = f"of it {cache} bytes of key-value cache, set aside when loading whatever the load needs"
        if self._workers[0]["device"].startswith("cuda"):
            covers = f"tensors of PyTorch's allocator in vLLM's {len(peaks)} worker(s), {reserved}; not CUDA graphs"
        else:
            covers = (
                f"resident memory of the process of vLLM's {len(peaks)} worker(s), {reserved} and resident once used"
            )
        if any(peak is None for peak in peaks):
            return MemoryReading(None, covers, reason="not_supported")
        return MemoryReading(sum(peaks), covers)

    def close(self) -> None:
        """End the engine, its processes, and give its memory back."""
        if self._closed:
            return
        self._closed = True
        try:
            self._shutdown()
        finally:
            self._loaded.environment.restore()


class OfflineEngine(VllmEngine):
    """vLLM's `LLM`: batches, the engine in this process or in one of its own.

    Args:
        llm: loaded.
        in_process: whether the engine is in this process.
    """

    def __init__(self, llm: LLM, loaded: Loaded, *, in_process: bool) -> None:
        self.llm = llm
        self._in_process = in_process
        super().__init__(loaded, llm.llm_engine.vllm_config)
        self._final = SamplingCache(self._options, RequestOutputKind.FINAL_ONLY)
        self._delta = SamplingCache(self._options, RequestOutputKind.DELTA)
        self._ids = itertools.count()
        if (self._options.beam_width or 1) > 1 and llm.renderer.tokenizer is None:
            beams.lend_tokenizer(llm)

    def generate(
        self, requests: Sequence[Request], sampling: Sampling, *, token_times: bool = False
    ) -> Sequence[Completion]:
        """Run one batch; see `llem.backends.base.Engine.generate`.

        Raises:
            ExperimentFailed: out of memory (`code` "oom"), or the engine's process died.
            ConfigError: a prompt that does not fit, stop texts without a tokenizer, or token times or stop texts of a
                beam search.
        """
        self._check_stop(requests)
        with run_failures(f"generating for {len(requests)} requests"):
            if (self._options.beam_width or 1) > 1:
                if token_times:
                    raise ConfigError("beam search has no time per token", "leave token_times off or beam_width at 1")
                if any(request.stop for request in requests):
                    raise ConfigError("beam search does not end at texts", "leave beam_width at 1")
                return beams.search(self.llm, self._options, requests, sampling, self._loaded.adapter)
            if token_times:
                return self._timed(requests, sampling)
            outputs = self.llm.generate(
                [{"prompt_token_ids": list(request.token_ids)} for request in requests],
                [self._final.get(request, sampling) for request in requests],
                use_tqdm=False,
                lora_request=self._loaded.adapter,
            )
            return [completion(request, output) for request, output in zip(requests, outputs, strict=True)]

    def _timed(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        """As `generate`, but step by step: a token's time is when its step's output has reached this process."""
        engine = self.llm.llm_engine
        run = next(self._ids)
        prompts = [{"prompt_token_ids": list(request.token_ids)} for request in requests]
        for place, (request, prompt) in enumerate(zip(requests, self.llm._preprocess_cmpl(prompts), strict=True)):
            params = self._delta.get(request, sampling)
            engine.add_request(f"{run}-{place}", prompt, params, lora_request=self._loaded.adapter)
        ids: list[list[int]] = [[] for _ in requests]
        times: list[list[int]] = [[] for _ in requests]
        done: list[Completion | None] = [None] * len(requests)
        while engine.has_unfinished_requests():
            outputs = engine.step()
            now = time.monotonic_ns()
            for output in outputs:
                place = int(output.request_id.split("-")[1])
                fresh = output.outputs[0].token_ids
                ids[place].extend(fresh)
                times[place].extend([now] * len(fresh))
                if output.finished:
                    last = completion(requests[place], output, times[place])
                    done[place] = attrs.evolve(last, token_ids=tuple(ids[place]))
        return [one for one in done if one is not None]

    async def stream(self, request: Request, sampling: Sampling) -> AsyncIterator[Chunk]:  # type: ignore[override]
        """Refused: vLLM streams from another class, which is loaded for serving loads."""
        raise ConfigError("an engine loaded for an offline load does not stream", "choose another `load.kind`")
        yield  # makes this the generator that the caller expects

    def loglikelihood(self, requests: Sequence[Scored]) -> Sequence[Likelihood]:
        """Likelihoods in the order of the requests; see `llem.backends.base.Engine.loglikelihood`.

        Raises ConfigError for a text that is longer than `scored_length`.
        """
        params, found = self._scoring(requests), []
        for portion in portions(requests):
            prompts = [{"prompt_token_ids": [*one.context, *one.continuation]} for one in portion]
            with run_failures(f"scoring {len(portion)} texts"):
                outputs = self.llm.generate(prompts, params, use_tqdm=False, lora_request=self._loaded.adapter)
            found += [likelihood(one, output) for one, output in zip(portion, outputs, strict=True)]
        return found

    def _call(self, method: str) -> list[Any]:
        return self.llm.collective_rpc(method)

    def _forget_prompts(self) -> bool:
        return self.llm.reset_prefix_cache()

    @property
    def _process(self) -> str:
        return "worker" if self._in_process else "own"

    def _shutdown(self) -> None:
        from vllm.distributed.parallel_state import cleanup_dist_env_and_memory

        self.__dict__.pop("llm").llm_engine.engine_core.shutdown()
        config = self.__dict__.pop("_config")
        if self._in_process:
            config.compilation_config.static_forward_context.clear()  # its layers hold the cache
            cleanup_dist_env_and_memory()
