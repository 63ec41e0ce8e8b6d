"""LLM: explicit arguments, then keywords that its arguments' class knows; prompts as token ids."""

from __future__ import annotations

from typing import Any

from tensorrt_llm.executor.request import LoRARequest
from tensorrt_llm.executor.result import RequestOutput
from tensorrt_llm.llmapi import llm_args
from tensorrt_llm.sampling_params import SamplingParams
from tensorrt_llm.standin import control


class LLM:
    def __init__(
        self,
        model: Any,
        tokenizer: Any = None,
        tokenizer_mode: str = "auto",
        skip_tokenizer_init: bool = False,
        trust_remote_code: bool = False,
        tensor_parallel_size: int = 1,
        dtype: str = "auto",
        revision: str | None = None,
        tokenizer_revision: str | None = None,
        **kwargs: Any,
    ) -> None:
        control.llm = {"model": model, "dtype": dtype, "skip_tokenizer_init": skip_tokenizer_init, **kwargs}
        control.llm |= {"trust_remote_code": trust_remote_code, "revision": revision}
        control.llm |= {"tensor_parallel_size": tensor_parallel_size}
        self.args = llm_args.TorchLlmArgs(
            model=model,
            tokenizer=tokenizer,
            tokenizer_mode=tokenizer_mode,
            skip_tokenizer_init=skip_tokenizer_init,
            trust_remote_code=trust_remote_code,
            tensor_parallel_size=tensor_parallel_size,
            dtype=dtype,
            revision=revision,
            tokenizer_revision=tokenizer_revision,
            **kwargs,
        )
        self._open = True
        self._fail("load")

    def _fail(self, place: str) -> None:
        if control.fail_at == place:
            raise control.failure

    def generate(
        self,
        inputs: list[list[int]],
        sampling_params: SamplingParams | list[SamplingParams] | None = None,
        use_tqdm: bool = True,
        lora_request: LoRARequest | list[LoRARequest] | None = None,
        prompt_adapter_request: Any = None,
        kv_cache_retention_config: Any = None,
        disaggregated_params: Any = None,
        scheduling_params: Any = None,
        cache_salt: Any = None,
    ) -> list[RequestOutput]:
        assert isinstance(inputs, list), "this stand-in takes batches only"
        params = sampling_params if isinstance(sampling_params, list) else [sampling_params] * len(inputs)
        if len(params) != len(inputs):
            raise IndexError("as many sampling_params as inputs are needed")
        assert not use_tqdm, "a progress bar would write over llem's own"
        outputs = [
            self.generate_async(prompt, one, lora_request=lora_request)
            for prompt, one in zip(inputs, params, strict=True)
        ]
        return [output.result() for output in outputs]

    def generate_async(
        self,
        inputs: list[int],
        sampling_params: SamplingParams | None = None,
        lora_request: LoRARequest | None = None,
        prompt_adapter_request: Any = None,
        streaming: bool = False,
        kv_cache_retention_config: Any = None,
        disaggregated_params: Any = None,
        scheduling_params: Any = None,
        cache_salt: Any = None,
    ) -> RequestOutput:
        if not self._open:
            raise RuntimeError("LLM is shutting down")
        if not (isinstance(inputs, list) and inputs and all(type(token) is int for token in inputs)):
            raise TypeError(f"The inputs must be type str or list of int, but got {type(inputs)}")
        if not isinstance(sampling_params, SamplingParams):
            raise TypeError(f"The sampling_params must be type SamplingParams or None, but got {type(sampling_params)}")
        if sampling_params.end_id is None:
            if self.args.skip_tokenizer_init:
                raise ValueError("tokenizer is required to reset end_id if it is None")
            sampling_params.end_id = 2
        if len(inputs) > self.args.max_num_tokens and not self.args.enable_chunked_prefill:
            raise ValueError(f"The sum of prompt length ({len(inputs)}) should not exceed max_num_tokens")
        if sampling_params.use_beam_search and sampling_params.best_of != self.args.max_beam_width:
            raise ValueError("best_of must equal max_beam_width")
        control.generated.append((inputs, {"sampling_params": sampling_params, "lora_request": lora_request}))
        self._fail("generate")
        metrics = bool(getattr(self.args, "return_perf_metrics", False))
        return RequestOutput(inputs, sampling_params, streaming, self.args.stream_interval, metrics)

    def get_stats(self, timeout: float | None = 2) -> list[dict[str, Any]]:
        return []

    def shutdown(self) -> None:
        self._open = False
        control.shutdowns += 1
