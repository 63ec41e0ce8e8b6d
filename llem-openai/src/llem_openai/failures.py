"""What went wrong between us and the server, in words that help. No key is ever repeated."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator
from contextlib import contextmanager

import aiohttp

from llem.errors import ConfigError, ExperimentFailed, LlemError

__all__ = ["RequestFailed", "fatal", "refused", "stream_error", "transport"]

#: A word in the server's refusal, and what to do about it; the first that is there counts.
HINTS = (
    (
        ("ignore_eos", "min_tokens"),
        "leave the field out of openai.ignore_eos_fields; a server that knows neither needs "
        "`sampling.ignore_eos: false`",
    ),
    (("return_token_ids",), "set `openai.return_token_ids: false`"),
    (("stream_options", "include_usage"), "llem counts tokens by the usage alone; use a server that tells it"),
    (
        ("api key", "api_key", "unauthorized"),
        "name the key's environment variable in openai.api_key_env",
    ),
    (("context length", "max_model_len", "maximum context"), "use shorter prompts or fewer output tokens"),
    (("prompt",), "if it takes text only, set `openai.prompt: text`"),
)
MEMORY = ("out of memory", "outofmemory")
#: Refusals that say nothing about the request: a timeout, too early, too many requests.
BUSY = (408, 425, 429)
#: What this process runs out of when very many requests are in flight: files, ports.
USED_UP = (errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL)
LONGEST = 500


class RequestFailed(Exception):
    """One request failed; others may not. A load goes on, and says afterwards how many failed."""


@contextmanager
def fatal() -> Iterator[None]:
    """Where every request counts, one that fails is the end."""
    try:
        yield
    except RequestFailed as error:
        raise ExperimentFailed(str(error), "see the server's log") from error


def refused(status: int, content: bytes, key: str | None) -> LlemError | RequestFailed:
    """The error for a status that is not 200: an LlemError where every such request would meet it."""
    said = _said(content, key)
    if any(word in said.lower() for word in MEMORY):
        return ExperimentFailed(f"the server ran out of memory: {said}", "use a smaller load or model", code="oom")
    hint = next((hint for words, hint in HINTS if any(word in said.lower() for word in words)), "")
    if 400 <= status < 500 and status not in BUSY:
        return ConfigError(f"the server refused the request ({status}): {said}", hint or "see what it says")
    return RequestFailed(f"the server failed ({status}): {said}")


def stream_error(error: object, key: str | None) -> LlemError | RequestFailed:
    """The error for an event that tells of one in the middle of an answer."""
    code = error.get("code") if isinstance(error, dict) else None
    status = code if isinstance(code, int) else 500
    return refused(status, json.dumps({"error": error}).encode(), key)


def _said(content: bytes, key: str | None) -> str:
    """The message in an error's body: of the shapes that servers use, else the body as it is."""
    text = content.decode("utf-8", errors="replace")
    try:
        found = json.loads(text)
    except ValueError:
        found = text
    for name in ("error", "message", "detail"):
        if isinstance(found, dict) and found.get(name):
            found = found[name]
    said = found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)
    said = " ".join(said.split()).rstrip(".")[:LONGEST] or "no message"
    return said.replace(key, "***") if key else said


@contextmanager
def transport(base: str) -> Iterator[None]:
    """Failures of the connection.

    Raises:
        ExperimentFailed: nothing listens any more, or this process can open no further connection.
        RequestFailed: silence, or an answer that broke off.
    """
    try:
        yield
    except aiohttp.ClientConnectorError as error:
        if error.os_error.errno in USED_UP:
            what = f"no further connection to {base} can be opened: {error.os_error.strerror}"
            raise ExperimentFailed(what, "raise the limit of open files (`ulimit -n`), or lower the load") from error
        raise ExperimentFailed(f"the server at {base} is gone: {error}", "see the server's log") from error
    except TimeoutError as error:  # aiohttp's own are of this class
        raise RequestFailed(f"the server at {base} is silent ({type(error).__name__}); see openai.timeout_s") from error
    except aiohttp.ClientError as error:
        raise RequestFailed(f"the connection to {base} broke: {type(error).__name__}: {error}") from error
