"""Sends a message within a time limit. If sending fails, llem reports the error as `plugin_observer_failed`."""

from __future__ import annotations

import functools
import json
import queue
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from http.client import HTTPException
from typing import Any

from llem_webhook.config import WebhookOptions, load_options

__all__ = ["GIVE_UP", "NotDelivered", "Sender", "post", "run", "sender"]

#: After so many failures in a row, experiments are no longer told: a study of thousands must not wait for each.
GIVE_UP = 3


class NotDelivered(Exception):
    """Says what happened without the URL, which is a secret with most services."""


class Sender:
    """Sends the messages that the settings ask for, to the URL and the command that they name."""

    def __init__(self, options: WebhookOptions) -> None:
        self._options, self._failures = options, 0

    def wants(self, kind: str) -> bool:
        """Whether the settings ask for this kind of event. Asking for `experiment` includes `failure`."""
        asked = self._options.events
        told = kind in asked or (kind == "failure" and "experiment" in asked)
        return told and (self._options.url is not None or self._options.command is not None)

    def send(self, kind: str, message: Mapping[str, Any]) -> None:
        """Raises NotDelivered; the command is run although the URL failed."""
        if not self.wants(kind) or (kind != "study" and self._failures >= GIVE_UP):
            return
        options, failed = self._options, []
        content = json.dumps(message, ensure_ascii=False).encode()
        ways: list[Callable[[], None]] = []
        if options.url is not None:
            ways.append(functools.partial(post, options.url, content, options.timeout_s))
        if options.command is not None:
            ways.append(functools.partial(run, options.command, content, options.timeout_s))
        for deliver in ways:
            try:
                deliver()
            except NotDelivered as error:
                failed.append(str(error))
        self._failures = self._failures + 1 if failed else 0
        if failed:
            last = "; no further experiment will be told" if self._failures == GIVE_UP else ""
            raise NotDelivered("; ".join(failed) + last)


def post(url: str, content: bytes, timeout_s: float) -> None:
    """POST JSON. Raises NotDelivered for any answer but 2xx, and for none in time.

    In a thread that is left to itself then: looking up a name, and an answer that comes drop by drop, know no limit.
    """
    found: queue.SimpleQueue[NotDelivered | None] = queue.SimpleQueue()

    def send() -> None:
        try:
            _post(url, content, timeout_s)
        except NotDelivered as error:
            found.put(error)
        else:
            found.put(None)

    threading.Thread(target=send, name="webhook", daemon=True).start()
    try:
        failed = found.get(timeout=timeout_s)
    except queue.Empty:
        failed = NotDelivered(f"the webhook did not answer within {timeout_s:g} s")
    if failed is not None:
        raise failed from None


class _Here(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: urllib would send a GET to the new address, without the message."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _post(url: str, content: bytes, timeout_s: float) -> None:
    request = urllib.request.Request(url, content, {"Content-Type": "application/json", "User-Agent": "llem"})
    try:
        urllib.request.build_opener(_Here).open(request, timeout=timeout_s).close()
    except urllib.error.HTTPError as error:
        error.close()
        raise NotDelivered(f"the webhook answered {error.code}") from None
    except TimeoutError:
        raise NotDelivered(f"the webhook did not answer within {timeout_s:g} s") from None
    except urllib.error.URLError as error:
        raise NotDelivered(f"the webhook cannot be reached: {error.reason}") from None
    except (OSError, HTTPException, ValueError) as error:  # a broken answer, or a URL that is none
        raise NotDelivered(f"the webhook failed: {type(error).__name__}") from None


def run(command: Sequence[str], content: bytes, timeout_s: float) -> None:
    """Run a command with JSON on its standard input. Raises NotDelivered where it fails or takes too long."""
    quiet = subprocess.DEVNULL
    try:
        done = subprocess.run(command, input=content, timeout=timeout_s, stdout=quiet, stderr=quiet, check=False)
    except subprocess.TimeoutExpired:
        raise NotDelivered(f"the command {command[0]} did not end within {timeout_s:g} s") from None
    except (OSError, IndexError) as error:
        raise NotDelivered(f"the command cannot be run: {error}") from None
    if done.returncode != 0:
        raise NotDelivered(f"the command {command[0]} ended with {done.returncode}")


@functools.cache
def sender() -> Sender:
    """The sender of this process; it is made once, and remembers what failed."""
    return Sender(load_options())
