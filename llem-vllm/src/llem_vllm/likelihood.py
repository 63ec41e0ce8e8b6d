"""Log likelihoods from vLLM's prompt log probabilities."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from vllm import RequestOutput, SamplingParams
from vllm.sampling_params import RequestOutputKind

from llem.backends.base import Likelihood, Scored
from llem.errors import ConfigError

__all__ = ["likelihood", "portions", "scoring"]

#: Most tokens that are given to vLLM at once. Each comes back as objects of some hundred bytes.
TOKENS = 2**17


def scoring(logprobs_mode: str) -> SamplingParams:
    """Parameters that score a prompt; vLLM makes one token beside, which is not looked at.

    Beside the prompt's own token vLLM tells the likeliest one of each place, which settles ties. Such a request reads
    no prefix cache, which would hide the log probabilities of what it holds.

    Raises ConfigError where the engine was told to report something else than raw log probabilities.
    """
    if logprobs_mode != "raw_logprobs":
        raise ConfigError(
            f"likelihoods need raw log probabilities, the engine reports {logprobs_mode}", "leave logprobs_mode out"
        )
    return SamplingParams(
        max_tokens=1, temperature=0.0, prompt_logprobs=1, detokenize=False, output_kind=RequestOutputKind.FINAL_ONLY
    )


def portions(requests: Sequence[Scored]) -> Iterator[Sequence[Scored]]:
    """The requests in turn, in portions that vLLM schedules as it likes; few, so that it is seldom idle."""
    sizes = [len(one.context) + len(one.continuation) for one in requests]
    start = tokens = 0
    for place, size in enumerate(sizes):
        if tokens and tokens + size > TOKENS:
            yield requests[start:place]
            start, tokens = place, 0
        tokens += size
    if requests:
        yield requests[start:]


def likelihood(scored: Scored, output: RequestOutput) -> Likelihood:
    """Sum over the continuation's tokens; greedy when each of them is the likeliest of its place."""
    per_token: Any = output.prompt_logprobs
    places = range(len(scored.context), len(scored.context) + len(scored.continuation))
    found = [per_token[place][token] for place, token in zip(places, scored.continuation, strict=True)]
    return Likelihood(sum(one.logprob for one in found), all(one.rank == 1 for one in found))
