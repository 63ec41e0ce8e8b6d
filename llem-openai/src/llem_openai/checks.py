"""Configurations that this backend refuses, before anything is started or sent.

Each rule is a small generator of messages; a message names the parameter, what is wrong and what would be right.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence

import attrs

from llem.backends.check import Refusal, refused, sampling_refusals
from llem.config.models import Experiment
from llem.findings import Finding, finding
from llem.foreign.secrets import is_secret, redacted
from llem_openai.address import Address, elsewhere
from llem_openai.config import OpenAIOptions, argv

__all__ = ["as_text", "findings", "lacking", "sends_text", "unheld"]

COUNTED = "it would change what is counted: one request is one prompt and one answer"
#: Fields of a request that are not for `extra_body`, and what to do instead.
OWNED: Mapping[str, str] = {
    "model": "set openai.served_model",
    "prompt": "prompts are the workload's",
    "messages": "prompts are the workload's",
    "max_tokens": "set the workload's output_tokens",
    "max_completion_tokens": "set the workload's output_tokens",
    "ignore_eos": "set sampling.ignore_eos",
    "min_tokens": "set sampling.ignore_eos",
    "temperature": "set sampling.temperature",
    "top_k": "set sampling.top_k",
    "top_p": "set sampling.top_p",
    "min_p": "set sampling.min_p",
    "repetition_penalty": "set sampling.repetition_penalty",
    "seed": "set sampling.seed",
    "stream": "it follows from the load",
    "stream_options": "llem asks for the usage by which it counts",
    "return_token_ids": "set openai.return_token_ids",
    "n": COUNTED,
    "best_of": COUNTED,
    "use_beam_search": COUNTED,
    "echo": COUNTED,
}


def sends_text(options: OpenAIOptions) -> bool:
    """Whether every prompt goes out as text, by the settings alone; see `llem_openai.body.goes_as_text`."""
    return options.endpoint == "chat" or options.prompt == "text"


def findings(options: OpenAIOptions, experiment: Experiment) -> Sequence[Finding]:
    """Every reason to refuse this configuration, and what is doubtful about it."""
    refusals = [
        *_address(options),
        *_server(options, experiment),
        *_not_ours(experiment),
        *_requests(options, experiment),
        *_sampling(options, experiment),
    ]
    found = refused(refusals)
    return [*found, as_text()] if sends_text(options) else found


def as_text() -> Finding:
    """That prompts go out as text."""
    message = "prompts are sent as text, so the server's prompt tokens may differ from the workload's"
    return finding("prompt_as_text", message)


def unheld(experiment: Experiment, context: int | None, *, tokenized: bool) -> Iterator[Finding]:
    """That no prompt could be held against the server's context, where the workload may have some that are too long.

    Args:
        tokenized: how many tokens the prompts have is known.
    """
    choice = getattr(experiment.workload, "too_long", None)
    if choice is None or (tokenized and context is not None):
        return
    why = (
        "the server tells no context"
        if tokenized
        else "nothing here has the tokenizer or the chat template of its model"
    )
    effect = ", so `too_long: skip` leaves none out" if choice == "skip" else ""
    yield finding("prompts_unheld", f"prompts were not held against the server's context: {why}{effect}")


def lacking(options: OpenAIOptions, capability: str) -> str | None:
    """Why these settings exclude likelihoods; None where the server may give them."""
    if capability != "loglikelihood":
        return None
    if options.endpoint == "chat":
        return "chat tells no log probabilities of a prompt; set `openai.endpoint: completions`"
    if sends_text(options):
        return "likelihoods are of token ids, and prompts are sent as text; leave `openai.prompt` out"
    return None


def _address(options: OpenAIOptions) -> Iterator[Refusal]:
    path = "openai.base_url"
    try:
        address = Address.of(options.base_url)
    except ValueError as error:
        yield path, str(error)
        return
    reason = elsewhere(address.host)
    if reason is not None:
        yield (
            path,
            f"{reason}; the energy of another machine's GPU cannot be measured from here: run llem on that machine, "
            "with a loopback address",
        )


def _server(options: OpenAIOptions, experiment: Experiment) -> Iterator[Refusal]:
    path, words = "openai.command", argv(options.command)
    if not words:
        if options.ready_timeout_s is not None:
            yield "openai.ready_timeout_s", "has no effect without command: nothing is started"
        if experiment.processes > 1:
            yield (
                "processes",
                f"is {experiment.processes}, and a server that runs already is not restarted; give command",
            )
        return
    if shutil.which(words[0]) is None:
        yield path, f"there is no program {words[0]!r}; give its full path, or activate its environment"
    if list(redacted(words)) != list(words):
        yield path, "results store the command: give the server its key by an environment variable (vLLM: VLLM_API_KEY)"


def _not_ours(experiment: Experiment) -> Iterator[Refusal]:
    """Settings of the experiment that are the server's own affair."""
    if experiment.dtype != "auto":
        yield (
            "dtype",
            f"is {experiment.dtype}, and no endpoint takes or tells a number format: set `dtype: auto` (as a flag, "
            "`--set dtype=auto`), and choose the format where the server is started",
        )
    if experiment.weights_seed != attrs.fields(Experiment).weights_seed.default:
        yield "weights_seed", "the server made or loaded its weights by itself; leave weights_seed out"


def _requests(options: OpenAIOptions, experiment: Experiment) -> Iterator[Refusal]:
    if options.endpoint == "chat" and options.prompt == "token_ids":
        yield "openai.prompt", "chat takes text only; set `prompt: text`, or `endpoint: completions`"
    if options.endpoint != "chat" and sends_text(options) and getattr(experiment.workload, "chat", False):
        yield "workload.chat", "the chat template cannot be sent as text; set `openai.endpoint: chat`, which has it"
    for name in options.extra_body:
        if is_secret(name):
            yield f"openai.extra_body.{name}", "results store it: name the variable of the server's key in api_key_env"
        elif name in OWNED:
            yield f"openai.extra_body.{name}", f"is not for extra_body; {OWNED[name]}"


def _sampling(options: OpenAIOptions, experiment: Experiment) -> Iterator[Refusal]:
    sampling, fields = experiment.sampling, options.ignore_eos_fields
    if sampling.ignore_eos and not fields:
        yield "openai.ignore_eos_fields", "is empty, so the server would not learn of `sampling.ignore_eos: true`"
    if not sampling.ignore_eos and fields != attrs.fields(OpenAIOptions).ignore_eos_fields.default:
        yield "openai.ignore_eos_fields", "has no effect with `sampling.ignore_eos: false`"
    yield from sampling_refusals(sampling)
