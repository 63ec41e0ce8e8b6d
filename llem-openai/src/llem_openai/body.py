"""What is sent for one request. Pure."""

from __future__ import annotations

from typing import Any

from llem.backends.base import Request
from llem.config.models import Sampling
from llem_openai.config import OpenAIOptions

__all__ = ["CONTINUOUS", "FINAL", "request_body"]

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
    stream_options: dict[str, bool] | None = None,
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
        body["messages"] = [{"role": "user", "content": text}]
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
        body |= {"stream": True, "stream_options": stream_options}
    return body
