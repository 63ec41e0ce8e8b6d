"""What is sent for one request. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from llem.backends.base import Request
from llem.backends.wire import Asked
from llem.config.models import Sampling
from llem.errors import ConfigError
from llem_openai.checks import sends_text
from llem_openai.config import OpenAIOptions

__all__ = [
    "CONTINUOUS",
    "FINAL",
    "asked_of",
    "bearer",
    "goes_as_text",
    "http_head",
    "http_message",
    "prompt_text",
    "request_body",
]

#: Stream options: usage with every event (vLLM, SGLang), or at the end only.
CONTINUOUS = {"include_usage": True, "continuous_usage_stats": True}
FINAL = {"include_usage": True}


def request_body(
    options: OpenAIOptions,
    sampling: Sampling,
    request: Request,
    *,
    model: str,
    text: str | None = None,
    stream_options: Mapping[str, bool] | None = None,
) -> dict[str, Any]:
    """The JSON body.

    Only what is set is sent, so that a server that knows the plain interface is not bothered with what it does not. A
    request draws its own random numbers: the seed is derived from the experiment's and the request's index.

    Args:
        model: its name at the server.
        text: the prompt where it is sent as text.
        stream_options: None asks for the whole answer at once.
    """
    body: dict[str, Any] = dict(options.extra_body)
    body["model"] = model
    if options.endpoint == "chat":
        body["messages"] = _messages(request, text)
    else:
        body["prompt"] = list(request.token_ids) if text is None else text
    body["max_tokens"] = request.output_tokens
    body["temperature"] = sampling.temperature
    if sampling.temperature > 0:
        body["seed"] = sampling.request_seed(request.index)
    for name in ("top_k", "top_p", "min_p", "repetition_penalty"):
        value = getattr(sampling, name)
        if value is not None:
            body[name] = value
    if sampling.ignore_eos:
        length = {"ignore_eos": True, "min_tokens": request.output_tokens}
        body |= {name: length[name] for name in options.ignore_eos_fields}
    if request.stop:
        own = body.get("stop") or []
        body["stop"] = [*([own] if isinstance(own, str) else own), *request.stop]
    if options.return_token_ids:
        body["return_token_ids"] = True
    if stream_options is not None:
        body |= {"stream": True, "stream_options": dict(stream_options)}
    return body


def prompt_text(options: OpenAIOptions, request: Request, decode: Callable[[Sequence[int]], str] | None) -> str | None:
    """The prompt as text, where it goes out as text: as its source has it, else made of its token ids. Where nothing
    here makes token ids of a text, and nobody asked for them, the text goes out too.

    None where it goes out as token ids, and for a conversation, which is sent as it is.

    Args:
        decode: token ids to text; None where no tokenizer is known.

    Raises ConfigError for a prompt that cannot be sent in the way that is asked for.
    """
    if options.endpoint == "chat" and request.messages is not None:
        return None
    if request.messages is not None and (sends_text(options) or not request.token_ids):
        raise _unsendable(request, "is a conversation, which is no text", "set `openai.endpoint: chat`")
    if not sends_text(options):
        if not request.token_ids and options.prompt is None and request.text is not None:
            return request.text
        if not request.token_ids:
            raise _unsendable(request, "has no token ids", "set `openai.prompt: text`, or `endpoint: chat`")
        return None
    if request.text is not None:
        return request.text
    if decode is None:
        raise _unsendable(request, "is token ids alone", "set `model` to a folder or id that has the tokenizer")
    return decode(request.token_ids)


def goes_as_text(options: OpenAIOptions, request: Request, decode: Callable[[Sequence[int]], str] | None) -> bool:
    """Whether the server gets this request's prompt as text, in a message or by itself; see `prompt_text`."""
    return options.endpoint == "chat" or prompt_text(options, request, decode) is not None


def asked_of(request: Request) -> Asked:
    """What reading the answer needs to know."""
    return Asked(request.index, len(request.token_ids) or None, request.output_tokens)


def _unsendable(request: Request, what: str, hint: str) -> ConfigError:
    return ConfigError(f"the prompt of request {request.index} cannot be sent: it {what}", hint)


def _messages(request: Request, text: str | None) -> list[Mapping[str, Any]]:
    """A conversation as its source has it; a prompt is what the user says."""
    if request.messages is not None:
        return [dict(message) for message in request.messages]
    return [{"role": "user", "content": text}]


def bearer(key: str | None) -> dict[str, str]:
    """The header with the key."""
    return {} if key is None else {"authorization": f"Bearer {key}"}


def http_head(url: str, key: str | None) -> bytes:
    """All of a request's head that is the same for each; the length and the body follow."""
    parts = urlsplit(url)
    headers = {
        "host": parts.netloc,
        "accept": "text/event-stream, application/json",
        "accept-encoding": "identity",
        "content-type": "application/json",
        "user-agent": "llem",
        **bearer(key),
    }
    lines = [f"POST {parts.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "content-length: "]).encode()


def http_message(head: bytes, body: Mapping[str, Any]) -> bytes:
    """All that is written for one request."""
    content = json.dumps(body, separators=(",", ":")).encode()
    return b"%s%d\r\n\r\n%s" % (head, len(content), content)
