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
from llem_openai.failures import refused
from llem_openai.guard import GRACE_S

__all__ = ["Answer", "Site", "Started"]

POLL_S = 0.2
GET_S = 10.0
TAIL_LINES = 20
#: /health of a server that has none; any other status but 200 is one that is not ready.
NO_HEALTH = (404, 405)


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
        return text.replace(self._key, "***") if self._key else text

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
    """What came back from one address."""

    url: str
    status: int
    server: str
    content: bytes

    def json(self) -> Any:
        """Raises ValueError where it is none."""
        return json.loads(self.content)


class Site:
    """What the server tells of itself at its fixed addresses.

    Args:
        root: without `/v1`; health and version are there.
        base: with it; models are there.
    """

    def __init__(self, root: str, base: str, key: str | None) -> None:
        self.root, self.base, self._key = root, base, key
        # no proxy: it would stand between us and this machine
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def get(self, url: str) -> Answer | None:
        """The answer, whatever its status; None where nothing answers."""
        request = urllib.request.Request(url, headers=bearer(self._key))
        try:
            with self._opener.open(request, timeout=GET_S) as found:
                return Answer(url, found.status, found.headers.get("server", ""), found.read())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(url, error.code, error.headers.get("server", ""), error.read())
        except (OSError, http.client.HTTPException):
            return None

    def answers(self) -> bool:
        """Whether anything is there, ready or not."""
        return self.get(f"{self.base}/models") is not None

    def not_ready(self) -> str | None:
        """Why it cannot serve yet, or None once it can.

        Both are asked: some servers list models while they load them, others have no /health.
        """
        for url, fine in ((f"{self.root}/health", NO_HEALTH), (f"{self.base}/models", ())):
            response = self.get(url)
            if response is None:
                return f"nothing answers at {self.base}"
            if response.status in (401, 403):  # waiting longer will not help
                raise refused(response.status, response.content, self._key)
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
            raise refused(response.status, response.content, self._key)
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


def _entries(response: Answer) -> list[Mapping[str, Any]]:
    try:
        found = response.json()["data"]
        return [one for one in found if "id" in one]
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{response.url} is no list of models", "openai.base_url should end where `/models` begins, mostly in /v1"
        ) from error


def _failed(message: str, started: Started, code: str = "crash") -> LlemError:
    tail = started.tail()
    hint = "mend openai.command; it must serve at openai.base_url, and within openai.ready_timeout_s"
    return ExperimentFailed(f"{message}\n{tail}" if tail else message, hint, code)
