"""HTTP for a server's pages: one deadline for all of an answer, its head included, no proxy and no redirect."""

from __future__ import annotations

import http.client
import io
import time
import urllib.request
from typing import Any

__all__ = ["opener"]


class _Until(io.RawIOBase):
    """A socket's bytes until the socket's timeout has passed once, however few come at a time."""

    def __init__(self, sock: Any) -> None:
        self._sock, self._raw = sock, sock.makefile("rb", buffering=0)
        self._end = time.monotonic() + sock.gettimeout()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        self._sock.settimeout(left)
        found: int | None = self._raw.readinto(buffer)
        return found

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    def __init__(self, sock: Any, *args: Any, **more: Any) -> None:
        super().__init__(sock, *args, **more)
        self.fp.close()
        self.fp = io.BufferedReader(_Until(sock))


class _Plain(http.client.HTTPConnection):
    response_class = _Response


class _Secure(http.client.HTTPSConnection):
    response_class = _Response


class _PlainHandler(urllib.request.HTTPHandler):
    def http_open(self, req: urllib.request.Request) -> Any:
        return self.do_open(_Plain, req)


class _SecureHandler(urllib.request.HTTPSHandler):
    def https_open(self, req: urllib.request.Request) -> Any:
        return self.do_open(_Secure, req)


class _Stay(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: another host shall not get the key, and is not the server that is measured.

    Where it leads is not looked at, for it may be no address at all.
    """

    def http_error_302(self, *_: Any, **__: Any) -> None:  # type: ignore[override]  # whoever asks has the status
        return None

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302  # type: ignore[assignment]


def opener() -> urllib.request.OpenerDirector:
    """Opens addresses with a timeout. No proxy: it would stand between us and this machine."""
    own = (urllib.request.ProxyHandler({}), _Stay(), _PlainHandler(), _SecureHandler())
    return urllib.request.build_opener(*own)
