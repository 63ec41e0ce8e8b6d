"""Beam search, which vLLM does beside its scheduler: one length at a time, and with a tokenizer even for token ids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vllm import LLM
from vllm.lora.request import LoRARequest
from vllm.sampling_params import BeamSearchParams

from llem.backends.base import Completion, Request
from llem.config.models import Sampling
from llem_vllm.config import VllmOptions

__all__ = ["lend_tokenizer", "length_penalty", "search"]


def search(
    llm: LLM, options: VllmOptions, requests: Sequence[Request], sampling: Sampling, adapter: LoRARequest | None
) -> list[Completion]:
    """The best sequence of each request; one length at a time, as a search has one length for all its prompts."""
    found: dict[int, Completion] = {}
    for length in sorted({request.output_tokens for request in requests}):
        group = [(place, request) for place, request in enumerate(requests) if request.output_tokens == length]
        params = BeamSearchParams(
            beam_width=options.beam_width or 1,
            max_tokens=length,
            ignore_eos=sampling.ignore_eos,
            temperature=sampling.temperature,
            length_penalty=length_penalty(options),
        )
        prompts = [{"prompt_token_ids": list(request.token_ids)} for _, request in group]
        outputs = llm.beam_search(prompts, params, lora_request=adapter)
        for (place, request), output in zip(group, outputs, strict=True):
            tokens = tuple(output.sequences[0].tokens[len(request.token_ids) :])
            reason = "length" if len(tokens) == length else "stop"
            found[place] = Completion(request.index, tokens, reason)
    return [found[place] for place in range(len(requests))]


def length_penalty(options: VllmOptions) -> float:
    """Its exponent; 1 where nothing is set."""
    return 1.0 if options.length_penalty is None else options.length_penalty


class _NoText:
    """Stands for a tokenizer where there is none: vLLM's beam search asks it for an id and for text nobody reads."""

    def __init__(self, eos_token_id: int | None) -> None:
        self.eos_token_id = eos_token_id

    def decode(self, *_: Any, **__: Any) -> str:
        return ""


def lend_tokenizer(llm: LLM) -> None:
    """Let beam search run on a model without a tokenizer: `get_tokenizer` answers, the renderer's own stays None."""
    eos = getattr(llm.model_config.hf_text_config, "eos_token_id", None)
    stand_in = _NoText(eos[0] if isinstance(eos, list) else eos)
    llm.renderer.get_tokenizer = lambda: stand_in
