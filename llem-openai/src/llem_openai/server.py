"""What the server tells at its fixed addresses: whether it is ready to serve, and which models it has."""

from __future__ import annotations

import http.client
import os
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

import attrs

from llem.errors import ConfigError, LlemError, MachineError
from llem.foreign.secrets import HIDDEN, in_each_text, without_key
from llem.foreign.shown import one_line
from llem.foreign.values import from_json
from llem_openai.body import bearer
from llem_openai.failures import UNTRUSTED, refused
from llem_openai.timely import opener

__all__ = ["Answer", "Site", "key_of"]

#: Longest time of one page, and its longest: a page that is longer tells nothing that is asked for.
GET_S = 10.0
PAGE_BYTES = 2**20
PIECE_BYTES = 2**16
#: /health of a server that has none; any other status but 200 is one that is not ready.
NO_HEALTH = (404, 405)
#: The code of the error that nobody listens at an address.
NOBODY = "nothing_listens"
TLS_HINT = "check the port in openai.base_url, and write https:// there if the server wants TLS"
START = "start the server, or let llem start it with openai.command"
LONGEST = 200


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


@attrs.frozen
class Answer:
    """What came back from one address. Of a page above PAGE_BYTES the content is empty.

    Attributes:
        key: of the server, which none of the others holds, however a page spells it.
    """

    url: str
    status: int
    server: str
    content: bytes
    key: str | None = attrs.field(default=None, repr=False)

    def json(self) -> Any:
        """In characters that can be stored: no halves of them. Raises ValueError where it is none."""
        try:
            return in_each_text(from_json(self.content, endless=True), self._fit)
        except RecursionError as error:
            raise ValueError("it nests too deeply") from error

    def _fit(self, text: str) -> str:
        return without_key(text.encode(errors="replace").decode(), self.key)


class Site:
    """What the server tells of itself at its fixed addresses.

    Args:
        root: without `/v1`; health and version are there.
        base: with it; models are there.
    """

    def __init__(self, root: str, base: str, key: str | None) -> None:
        self.root, self.base, self._key = root, base, key
        self._opener = opener()

    def get(self, url: str, seconds: float = GET_S) -> Answer | None:
        """The answer, whatever its status; None where none comes, or not whole in this time."""
        try:
            return self._ask(url, seconds)
        except MachineError:
            return None

    def _ask(self, url: str, seconds: float = GET_S) -> Answer:
        """The answer, whatever its status. Raises MachineError, which says why none comes."""
        request = urllib.request.Request(url, headers=bearer(self._key))
        try:
            try:
                with self._opener.open(request, timeout=seconds) as found:
                    return self._read(url, found.status, found)
            except urllib.error.HTTPError as error:
                with error:
                    return self._read(url, error.code, error)
        except (OSError, http.client.HTTPException) as error:
            cause = error.reason if isinstance(error, urllib.error.URLError) else error
            raise _unanswered(self.base, cause, seconds) from error

    def _read(self, url: str, status: int, found: Any) -> Answer:
        content = b""
        while piece := found.read1(PIECE_BYTES):
            content += piece
            if len(content) > PAGE_BYTES:
                content = b""
                break
        if self._key:
            content = content.replace(self._key.encode(), HIDDEN.encode())
        server = one_line(without_key(found.headers.get("server", ""), self._key), LONGEST)
        return Answer(url, status, server, content, self._key)

    def listens(self) -> bool:
        """Whether anything is there, ready or not."""
        try:
            self._ask(f"{self.base}/models")
        except MachineError as error:
            return error.code != NOBODY
        return True

    def require(self) -> None:
        """Raises MachineError: no answer comes, or not that of a server that is ready."""
        self._ask(f"{self.base}/models")
        if (reason := self.not_ready()) is not None:
            hint = "wait until it has loaded its model, and check openai.base_url, which mostly ends in /v1"
            raise MachineError(f"the server is not ready: {reason}", hint)

    def not_ready(self) -> str | None:
        """Why it cannot serve yet, or None once it can.

        Both are asked: some servers list models while they load them, others have no /health.
        """
        for url, fine in ((f"{self.root}/health", NO_HEALTH), (f"{self.base}/models", ())):
            try:
                response = self._ask(url)
            except MachineError as error:
                return error.message
            if response.status in (401, 403):  # waiting longer will not help
                raise _refusal(response, self._key)
            if response.status != 200 and response.status not in fine:
                return f"{url} answers {response.status}"
        return None

    def model(self, wanted: str | None) -> Mapping[str, Any]:
        """The entry of the model that is asked for, or of the only one there is. Raises ConfigError naming them all."""
        response = self._ask(f"{self.base}/models")
        if response.status != 200:
            raise _refusal(response, self._key)
        models = _entries(response)
        names = [str(one["id"]) for one in models]
        if not names:
            what = "the server lists no model that has a name of printable characters"
            raise ConfigError(what, "load one into the server; see its own manual")
        listed = f"it serves: {', '.join(names)}"
        if wanted is None:
            if len(models) != 1:
                raise ConfigError(f"the server lists {len(models)} models", f"{listed}; set openai.served_model")
            return models[0]
        for one in models:
            if one["id"] == wanted:
                return one
        raise ConfigError(f"the server has no model {wanted!r}", f"{listed}; openai.served_model must be one of them")


def _unanswered(base: str, cause: object, seconds: float) -> MachineError:
    """The error that says why no answer came from an address."""
    said = one_line(str(cause), LONGEST)
    if isinstance(cause, ConnectionRefusedError):
        return MachineError(f"nothing listens at {base}", START, NOBODY)
    if isinstance(cause, TimeoutError):
        return MachineError(f"{base} takes connections and did not answer within {seconds:g} s", "see the server's log")
    if isinstance(cause, ssl.SSLCertVerificationError):
        return MachineError(f"{UNTRUSTED}{said}", "its certificate must be one that this machine trusts")
    if isinstance(cause, ssl.SSLError):
        hint = "check the port in openai.base_url, and write http:// there if the server speaks plain HTTP"
        return MachineError(f"{UNTRUSTED}{said}", hint)
    if isinstance(cause, (ConnectionError, http.client.IncompleteRead)):
        return MachineError(f"{base} closed the connection before its answer was complete", TLS_HINT)
    if isinstance(cause, http.client.HTTPException):
        return MachineError(f"what answers at {base} speaks no HTTP: {said or 'an empty line'}", TLS_HINT)
    return MachineError(f"{base} cannot be asked: {said}", START)


def _refusal(response: Answer, key: str | None) -> Exception:
    """The error of a page that is refused, an LlemError whatever the status."""
    error = refused(response.status, response.content, key)
    return error if isinstance(error, LlemError) else MachineError(str(error), "see the server's log")


def _entries(response: Answer) -> list[Mapping[str, Any]]:
    """Models with a name that can be stored and shown as it is."""
    try:
        found = response.json()["data"]
        return [one for one in found if isinstance(one["id"], str) and one["id"] and one["id"].isprintable()]
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{response.url} is no list of models", "openai.base_url should end where `/models` begins, mostly in /v1"
        ) from error
