"""What went wrong between us and the server, in words that help. No key is ever repeated."""

from __future__ import annotations

import errno
import json
import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from llem.errors import ConfigError, ExperimentFailed, LlemError
from llem.foreign.secrets import without_key, without_key_in
from llem.foreign.shown import one_line
from llem.foreign.values import from_json

__all__ = [
    "RequestFailed",
    "broken",
    "fatal",
    "hopeless",
    "in_band",
    "refused",
    "unreached",
]

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
#: What a code within an answer may mean.
STATUSES = range(400, 600)
#: Characters of what a server says, and those of it that are looked at.
LONGEST, MOST = 500, 65536

GONE = "the server is gone: "
NO_MORE = "no further connection can be opened: "
UNTRUSTED = "no secure connection to the server: "


class RequestFailed(Exception):
    """One request failed; others may not. A load goes on, and says afterwards how many failed."""

    def __init__(self, message: str, hint: str = "", code: str = "crash") -> None:
        super().__init__(message)
        self.message, self.hint, self.code = message, hint, code


@contextmanager
def fatal() -> Iterator[None]:
    """Where every request counts, one that fails is the end."""
    try:
        yield
    except RequestFailed as error:
        raise ExperimentFailed(error.message, error.hint or "see the server's log", error.code) from error


# what the server says


def refused(status: int, content: bytes, key: str | None) -> LlemError | RequestFailed:
    """The error for a status that is not 200: an LlemError where every such request would meet it.

    A redirect is a refusal too: the request and its key go to no other address.
    """
    return _refusal(status, _said(content, key))


def _refusal(status: int, said: str) -> LlemError | RequestFailed:
    if any(word in said.lower() for word in MEMORY):
        return ExperimentFailed(f"the server ran out of memory: {said}", "use a smaller load or model", code="oom")
    if 300 <= status < 400:
        hint = "llem follows no redirect, so that the key goes nowhere else: set openai.base_url to where it leads"
        return ConfigError(f"the server refused the request ({status}): {said}", hint)
    hint = next((hint for words, hint in HINTS if any(word in said.lower() for word in words)), "")
    if 400 <= status < 500 and status not in BUSY:
        return ConfigError(f"the server refused the request ({status}): {said}", hint or "see what it says")
    return RequestFailed(f"the server failed ({status}): {said}")


def in_band(error: object, key: str | None, *, begun: bool) -> LlemError | RequestFailed:
    """The error for an event that tells of one within an answer.

    Args:
        error: what the event holds.
        begun: tokens came before it: the server has not refused the request.
    """
    code = error.get("code") if isinstance(error, dict) else None
    status = code if type(code) is int and code in STATUSES and not begun else 500
    return _refusal(status, _worded({"error": error}, key))


def _said(content: bytes, key: str | None) -> str:
    """The message in an error's body: of the shapes that servers use, else the body as it is."""
    # the key goes before anything is cut, which would leave a part of it
    text = without_key(content.decode("utf-8", errors="replace"), key)[:MOST]
    try:
        found: Any = from_json(text, endless=True)
    except ValueError:
        found = text
    return _worded(found, key)


def _worded(found: Any, key: str | None) -> str:
    """The message in what an error holds, on one line."""
    for name in ("error", "message", "detail"):
        if isinstance(found, dict) and found.get(name):
            found = found[name]
    try:
        found = without_key_in(found, key)  # before it is written as JSON, which may escape the key
        said = found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)
    except RecursionError:
        said = "an error that nests too deeply"
    return one_line(said, LONGEST).rstrip(".") or "no message"


# what the connection says, as `Exchange.error` keeps it


def unreached(base: str, error: OSError) -> str:
    """In words: no connection was opened."""
    if error.errno in USED_UP:
        return f"{NO_MORE}{os.strerror(error.errno)}"
    if isinstance(error, TimeoutError):
        return f"{base} takes no connection"
    if isinstance(error, ssl.SSLError):
        return f"{UNTRUSTED}{one_line(str(error), LONGEST)}"
    if isinstance(error, ConnectionResetError):
        return broken(base, error)
    return f"{GONE}{one_line(str(error), LONGEST)}"


def broken(base: str, error: Exception | None) -> str:
    """In words: a connection ended before its answer."""
    why = "it was closed before the answer was complete" if error is None else one_line(str(error), LONGEST)
    return f"the connection to {base} broke: {why}"


def hopeless(error: str) -> ExperimentFailed | None:
    """The error for what every further request would meet; None where others may do better."""
    if error.startswith(NO_MORE):
        return ExperimentFailed(error, "raise the limit of open files (`ulimit -n`), or lower the load")
    if error.startswith(GONE):
        return ExperimentFailed(error, "see the server's log")
    if error.startswith(UNTRUSTED):
        return ExperimentFailed(error, "its certificate must be one that this machine trusts", "invalid")
    return None
