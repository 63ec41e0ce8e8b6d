"""Log likelihoods from vLLM's prompt log probabilities."""

from __future__ import annotations

from typing import Any

from vllm import RequestOutput, SamplingParams
from vllm.sampling_params import RequestOutputKind

from llem.backends.base import Likelihood, Scored
from llem.errors import ConfigError

__all__ = ["likelihood", "scoring"]


def scoring(logprobs_mode: str) -> SamplingParams:
    """Parameters that score a prompt; vLLM makes one token beside, which is not looked at.

    Raises ConfigError where the engine was told to report something else than raw log probabilities.
    """
    if logprobs_mode != "raw_logprobs":
        raise ConfigError(
            f"likelihoods need raw log probabilities, the engine reports {logprobs_mode}", "leave logprobs_mode out"
        )
    return SamplingParams(
        max_tokens=1, temperature=0.0, prompt_logprobs=1, detokenize=False, output_kind=RequestOutputKind.FINAL_ONLY
    )


def likelihood(scored: Scored, output: RequestOutput) -> Likelihood:
    """Sum over the continuation's tokens; greedy when each of them ranks first."""
    per_token: Any = output.prompt_logprobs
    places = range(len(scored.context), len(scored.context) + len(scored.continuation))
    found = [per_token[place][token] for place, token in zip(places, scored.continuation, strict=True)]
    return Likelihood(sum(one.logprob for one in found), all(one.rank == 1 for one in found))
