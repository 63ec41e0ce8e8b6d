"""The server's process, where llem starts it, and when it is ready to serve."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from llem.errors import ConfigError, ExperimentFailed, LlemError, MachineError
from llem_openai.body import bearer
from llem_openai.failures import HIDDEN, refused, without_key
from llem_openai.guard import GRACE_S

__all__ = ["Answer", "Site", "Started", "key_of"]

POLL_S = 0.2
#: Longest time of one page, and its longest: a page that is longer tells nothing that is asked for.
GET_S = 10.0
PAGE_BYTES = 2**20
PIECE_BYTES = 2**16
TAIL_LINES = 20
#: /health of a server that has none; any other status but 200 is one that is not ready.
NO_HEALTH = (404, 405)


def key_of(variable: str | None) -> str | None:
    """The server's key, from the environment variable of `openai.api_key_env`. Raises MachineError: it is not set."""
    if variable is None:
        return None
    key = os.environ.get(variable)
    if not key:
        raise MachineError(
            f"the environment variable {variable} of openai.api_key_env is not set", "export it where llem is started"
        )
    return key


class Started:
    """A server as a child of ours, in a process group of its own; see `llem_openai.guard`.

    Its output goes to a file, whose name is told on standard error, and at the end to standard error itself: the
    worker's log. Close it in a `finally`.
    """

    def __init__(self, command: Sequence[str], key: str | None = None) -> None:
        self._key = key
        with tempfile.NamedTemporaryFile(prefix="llem-server-", suffix=".log", delete=False) as log:
            self._log = Path(log.name)
            self._guard = subprocess.Popen(
                [sys.executable, "-P", "-m", "llem_openai.guard", *command],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        print(f"the server's output: {self._log}", file=sys.stderr, flush=True)

    @property
    def pid(self) -> int:
        """Of the group's leader."""
        return self._guard.pid

    def exit_status(self) -> int | None:
        """None while it runs."""
        return self._guard.poll()

    def tail(self) -> str:
        """The end of its output."""
        return "\n".join(self._output().splitlines()[-TAIL_LINES:])

    def _output(self) -> str:
        """What it wrote, the key aside."""
        text = self._log.read_text(encoding="utf-8", errors="replace")
        return without_key(text, self._key)

    def close(self) -> None:
        """End the whole group: politely, then not. May be called twice."""
        assert self._guard.stdin is not None
        self._guard.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._guard.wait(timeout=GRACE_S + 5)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._guard.pid, signal.SIGKILL)
        self._guard.wait(timeout=GRACE_S)
        if self._log.exists():
            if not sys.stderr.isatty():  # it would bury the result of a user who looks on
                sys.stderr.write(self._output())
            self._log.unlink()


@attrs.frozen
class Answer:
    """What came back from one address, the key aside. Of a page above PAGE_BYTES the content is empty."""

    url: str
    status: int
    server: str
    content: bytes

    def json(self) -> Any:
        """Raises ValueError where it is none."""
        try:
            return json.loads(self.content)
        except RecursionError as error:
            raise ValueError("it is nested too deeply") from error


class _Stay(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: another host shall not get the key, and is not the server that is measured."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


class Site:
    """What the server tells of itself at its fixed addresses.

    Args:
        root: without `/v1`; health and version are there.
        base: with it; models are there.
    """

    def __init__(self, root: str, base: str, key: str | None) -> None:
        self.root, self.base, self._key = root, base, key
        # no proxy: it would stand between us and this machine
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _Stay())

    def get(self, url: str, seconds: float = GET_S) -> Answer | None:
        """The answer, whatever its status; None where nothing answers, or not whole in this time."""
        request = urllib.request.Request(url, headers=bearer(self._key))
        end = time.monotonic() + seconds
        try:
            with self._opener.open(request, timeout=seconds) as found:
                return self._read(url, found.status, found, end)
        except urllib.error.HTTPError as error:
            with error:
                try:
                    return self._read(url, error.code, error, end)
                except (OSError, http.client.HTTPException):
                    return None
        except (OSError, http.client.HTTPException):
            return None

    def _read(self, url: str, status: int, found: Any, end: float) -> Answer | None:
        content = b""
        while piece := found.read1(PIECE_BYTES):
            content += piece
            if len(content) > PAGE_BYTES:
                content = b""
                break
            if time.monotonic() > end:
                return None
        if self._key:
            content = content.replace(self._key.encode(), HIDDEN.encode())
        return Answer(url, status, without_key(found.headers.get("server", ""), self._key), content)

    def answers(self) -> bool:
        """Whether anything is there, ready or not."""
        return self.get(f"{self.base}/models") is not None

    def require(self) -> None:
        """Raises MachineError: nothing answers, or not as a server that is ready."""
        if not self.answers():
            raise MachineError(
                f"nothing answers at {self.base}", "start the server, or let llem start it with openai.command"
            )
        if (reason := self.not_ready()) is not None:
            hint = "wait until it has loaded its model, and check openai.base_url, which mostly ends in /v1"
            raise MachineError(f"the server is not ready: {reason}", hint)

    def not_ready(self) -> str | None:
        """Why it cannot serve yet, or None once it can.

        Both are asked: some servers list models while they load them, others have no /health.
        """
        for url, fine in ((f"{self.root}/health", NO_HEALTH), (f"{self.base}/models", ())):
            response = self.get(url)
            if response is None:
                return f"nothing answers at {self.base}"
            if response.status in (401, 403):  # waiting longer will not help
                raise _refusal(response, self._key)
            if response.status != 200 and response.status not in fine:
                return f"{url} answers {response.status}"
        return None

    def wait(self, started: Started, timeout_s: float) -> None:
        """Return when the started server is ready.

        Raises:
            ExperimentFailed: it ended, or took too long; with the end of its output.
            ConfigError: it wants another key.
        """
        end = time.monotonic() + timeout_s
        while True:
            status = started.exit_status()
            if status is not None:
                raise _failed(f"the server ended with exit status {status} before it was ready", started)
            reason = self.not_ready()
            if reason is None:
                return
            if time.monotonic() > end:
                code = "timeout"
                raise _failed(f"the server was not ready after {timeout_s:g} s: {reason}", started, code)
            time.sleep(POLL_S)

    def model(self, wanted: str | None) -> Mapping[str, Any]:
        """The entry of the model that is asked for, or of the only one there is. Raises ConfigError naming them all."""
        response = self.get(f"{self.base}/models")
        if response is None:
            raise MachineError(f"nothing answers at {self.base}", "see the server's log")
        if response.status != 200:
            raise _refusal(response, self._key)
        models = _entries(response)
        names = [str(one["id"]) for one in models]
        listed = f"it serves: {', '.join(names) or 'none'}"
        if wanted is None:
            if len(models) != 1:
                raise ConfigError(f"the server lists {len(models)} models", f"{listed}; set openai.served_model")
            return models[0]
        for one in models:
            if one["id"] == wanted:
                return one
        raise ConfigError(f"the server has no model {wanted!r}", f"{listed}; openai.served_model must be one of them")


def _refusal(response: Answer, key: str | None) -> Exception:
    """The error of a page that is refused, an LlemError whatever the status."""
    error = refused(response.status, response.content, key)
    return error if isinstance(error, LlemError) else MachineError(str(error), "see the server's log")


def _entries(response: Answer) -> list[Mapping[str, Any]]:
    try:
        found = response.json()["data"]
        return [one for one in found if isinstance(one["id"], str) and one["id"] and one["id"].isprintable()]
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{response.url} is no list of models", "openai.base_url should end where `/models` begins, mostly in /v1"
        ) from error


def _failed(message: str, started: Started, code: str = "crash") -> LlemError:
    tail = started.tail()
    hint = "mend openai.command; it must serve at openai.base_url, and within openai.ready_timeout_s"
    return ExperimentFailed(f"{message}\n{tail}" if tail else message, hint, code)
