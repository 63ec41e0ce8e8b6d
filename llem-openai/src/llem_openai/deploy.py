"""How to use a measured server without llem: its command, if llem started it, and requests. Keys are never told."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator

from llem.backends.base import Request
from llem.backends.deployment import Deployment
from llem.config.models import Experiment
from llem.foreign.secrets import is_secret, redacted
from llem.models.spec import ModelSpec
from llem_openai.body import request_body
from llem_openai.config import OpenAIOptions, argv

__all__ = ["commands"]

HIDDEN = "YOUR_KEY"


def commands(experiment: Experiment, model: ModelSpec) -> Deployment:
    """The server is the user's own: its command where llem started it, and a request as llem sent it."""
    options: OpenAIOptions = experiment.options
    name = options.served_model or "MODEL"
    body = _body(experiment, options, name)
    return Deployment(
        shell="\n\n".join([*_server(options), _curl(options, body)]),
        python=_program(options, body),
        notes=tuple(_notes(experiment, options)),
    )


def _body(experiment: Experiment, options: OpenAIOptions, name: str) -> dict[str, object]:
    """As llem sends it, without the fields that keep an answer from ending."""
    asked = getattr(experiment.workload, "output_tokens", None)
    request = Request(0, (0,), asked if isinstance(asked, int) else 256)
    body = request_body(options, experiment.sampling, request, model=name, text="Hello")
    left_out = ("seed", *(options.ignore_eos_fields if experiment.sampling.ignore_eos else ()))
    return {key: _public(key, value) for key, value in body.items() if key not in left_out}


def _public(name: str, value: object) -> object:
    return HIDDEN if isinstance(value, str) and is_secret(name) else value


def _server(options: OpenAIOptions) -> list[str]:
    return [f"# the server\n{shlex.join(redacted(argv(options.command), HIDDEN))}"] if options.command else []


def _curl(options: OpenAIOptions, body: dict[str, object]) -> str:
    path = "chat/completions" if options.endpoint == "chat" else "completions"
    lines = [f"curl {options.base_url.rstrip('/')}/{path}", "-H 'Content-Type: application/json'"]
    if options.api_key_env is not None:
        lines.append(f'-H "Authorization: Bearer ${options.api_key_env}"')
    lines.append(f"-d {shlex.quote(json.dumps(body))}")
    return "# a request\n" + " \\\n  ".join(lines)


def _program(options: OpenAIOptions, body: dict[str, object]) -> str:
    known = ("model", "prompt", "messages", "max_tokens", "temperature", "top_p", "stop")
    own = {name: value for name, value in body.items() if name in known}
    more = {name: value for name, value in body.items() if name not in known}
    key = '"none"' if options.api_key_env is None else f"os.environ[{json.dumps(options.api_key_env)}]"
    call = "client.chat.completions.create" if options.endpoint == "chat" else "client.completions.create"
    words = [f"{name}={value!r}" for name, value in own.items()] + ([f"extra_body={more!r}"] if more else [])
    lines = ["import os", ""] if options.api_key_env is not None else []
    return "\n".join(
        [
            *lines,
            "from openai import OpenAI",
            "",
            f"client = OpenAI(base_url={json.dumps(options.base_url)}, api_key={key})",
            f"answer = {call}(",
            *(f"    {word}," for word in words),
            ")",
        ]
    )


def _notes(experiment: Experiment, options: OpenAIOptions) -> Iterator[str]:
    if options.command is None:
        yield "the server is your own: llem found it running and knows nothing of how it was started"
    else:
        yield "openai.command: started from the folder in which `llem run` was called; keys in it are left out"
    if options.served_model is None:
        yield "openai.served_model: llem took the only model that the server lists; put its name in place of MODEL"
    if experiment.sampling.ignore_eos:
        fields = ", ".join(options.ignore_eos_fields)
        yield f"sampling.ignore_eos: llem made every answer its full length ({fields}); left out of the requests"
    if experiment.sampling.temperature > 0:
        yield "sampling.seed: llem seeds each request by its place; the requests here are not seeded"
    if options.prompt != "text" and options.endpoint == "completions":
        yield "openai.prompt: llem sent token ids; the requests here send text"
    if experiment.load.kind == "offline":
        yield f"load: measured in batches of {experiment.load.batch_size}, one after the other"
    yield f"openai.timeout_s: llem waited for at most {options.timeout_s:g} s of silence; set it in your client"
