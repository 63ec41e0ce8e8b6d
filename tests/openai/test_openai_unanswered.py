"""Addresses at which something listens that is no server which is ready: what is said, and how a wait for it ends."""

from __future__ import annotations

import http.server
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from llem.errors import ExperimentFailed, MachineError
from llem_openai import facts as facts_module
from llem_openai import server as server_module
from llem_openai.facts import server_facts
from llem_openai.process import Started, until_ready
from llem_openai.server import Site

#: With what JSON escapes.
KEY = 'se"cr/et\\1'
SILENT = [sys.executable, "-c", "import time; time.sleep(60)"]


@contextmanager
def listening(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """A port on which each connection is handed to `serve`."""
    with socket.create_server(("127.0.0.1", 0)) as made, ExitStack() as held:

        def accept() -> None:
            while True:
                try:
                    connection, _ = made.accept()
                except OSError:  # closed
                    return
                held.enter_context(connection)
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield made.getsockname()[1]
        made.shutdown(socket.SHUT_RDWR)
        thread.join()


def say(text: bytes) -> Callable[[socket.socket], None]:
    """Read what comes, answer with this and close."""

    def serve(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(text)
        connection.close()

    return serve


@contextmanager
def self_signed(folder: Path) -> Iterator[int]:
    """A port that speaks TLS with a certificate that nobody trusts."""
    key, cert = folder / "key.pem", folder / "cert.pem"
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
    try:
        subprocess.run([*made, "-keyout", key, "-out", cert], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("there is no openssl to make a certificate with")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)

    def serve(connection: socket.socket) -> None:
        try:
            with context.wrap_socket(connection, server_side=True) as safe:
                safe.recv(4096)
        except OSError:  # the other side does not trust it, or speaks no TLS
            pass

    with listening(serve) as port:
        yield port


def said(scheme: str, port: int) -> MachineError:
    """The error of a site that must be ready."""
    base = f"{scheme}://127.0.0.1:{port}/v1"
    with pytest.raises(MachineError) as failed:
        Site(base.removesuffix("/v1"), base, None).require()
    assert "nothing listens" not in failed.value.message
    assert "start the server" not in failed.value.hint
    return failed.value


def test_what_speaks_no_http_is_told() -> None:
    """An SSH server, by its own words."""
    with listening(say(b"SSH-2.0-OpenSSH_9.2\r\n")) as port:
        assert "speaks no HTTP: SSH-2.0-OpenSSH_9.2" in said("http", port).message


def test_a_connection_that_is_closed_is_told() -> None:
    """Without a word."""
    with listening(say(b"")) as port:
        assert "closed the connection before its answer was complete" in said("http", port).message


def test_silence_is_told_with_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A port that takes connections and does not answer."""
    monkeypatch.setattr(server_module.Site._ask, "__defaults__", (0.3,))
    with listening(lambda _: time.sleep(5)) as port:
        assert "did not answer within 0.3 s" in said("http", port).message


def test_https_to_plain_http_is_told() -> None:
    """With what to write instead."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as plain:
        threading.Thread(target=plain.serve_forever, daemon=True).start()
        try:
            error = said("https", plain.server_address[1])
        finally:
            plain.shutdown()
    assert "no secure connection to the server" in error.message
    assert "write http://" in error.hint


@pytest.mark.process
def test_a_certificate_that_nobody_trusts_is_told(tmp_path: Path) -> None:
    """As what it is; plain HTTP to such a port is told too."""
    with self_signed(tmp_path) as port:
        error = said("https", port)
        assert "no secure connection to the server" in error.message
        assert "certificate must be one that this machine trusts" in error.hint
        assert "https://" in said("http", port).hint


@pytest.mark.process
def test_a_stop_ends_the_wait_for_a_server_that_takes_connections_and_is_silent() -> None:
    """At once, though a page of it is being waited for."""

    def stopped(seconds: float, why: str) -> None:
        time.sleep(seconds)
        raise ExperimentFailed("stopped by the user", code="interrupted")

    with listening(lambda _: time.sleep(5)) as port, ExitStack() as held:
        base = f"http://127.0.0.1:{port}/v1"
        started = Started(SILENT)
        held.callback(started.close)
        began = time.monotonic()
        with pytest.raises(ExperimentFailed, match="stopped by the user"):
            until_ready(started, Site(base.removesuffix("/v1"), base, None), 60.0, stopped)
        assert time.monotonic() - began < 2


@pytest.mark.process
def test_what_is_waited_for_is_said() -> None:
    """The last reason, each time."""
    told: list[str] = []

    def wait(seconds: float, why: str) -> None:
        time.sleep(seconds)
        told.append(why)
        if len(told) > 3:
            raise ExperimentFailed("stopped by the user", code="interrupted")

    with listening(say(b"HTTP/1.0 500 Internal Server Error\r\n\r\n")) as port, ExitStack() as held:
        base = f"http://127.0.0.1:{port}/v1"
        started = Started(SILENT)
        held.callback(started.close)
        with pytest.raises(ExperimentFailed, match="stopped by the user"):
            until_ready(started, Site(base.removesuffix("/v1"), base, None), 60.0, wait)
    assert told[-1] == f"the server is not ready yet: {base.removesuffix('/v1')}/health answers 500"


def drip(head: bytes) -> Callable[[socket.socket], None]:
    """Read what comes, answer with this at once, and with a byte each 50 ms from then on."""

    def serve(connection: socket.socket) -> None:
        connection.recv(4096)
        try:
            connection.sendall(head)
            while True:
                connection.sendall(b"x")
                time.sleep(0.05)
        except OSError:  # the other side has had enough
            pass

    return serve


@pytest.mark.parametrize(
    "head",
    [b"", b"HTTP/1.1 200 OK\r\nx-odd: ", b"HTTP/1.1 100 X\r\n\r\nHTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\n\r\n"],
    ids=["status", "header", "interim", "body"],
)
def test_a_page_that_drips_has_one_deadline(head):
    """Whatever part of it drips: each byte comes in time, and the whole does not."""
    with listening(drip(head)) as port:
        base = f"http://127.0.0.1:{port}/v1"
        began = time.monotonic()
        assert Site(base.removesuffix("/v1"), base, None).get(f"{base}/models", 0.5) is None
        assert 0.4 < time.monotonic() - began < 5


def test_pages_that_hang_have_one_deadline_together(monkeypatch):
    """A server may have five that hang."""
    monkeypatch.setattr(facts_module, "PAGES_S", 0.5)
    with listening(drip(b"")) as port:
        base = f"http://127.0.0.1:{port}/v1"
        began = time.monotonic()
        assert server_facts(Site(base.removesuffix("/v1"), base, None)) == {}
        assert 0.4 < time.monotonic() - began < 5


def test_a_key_that_a_page_escapes_is_hidden():
    """JSON spells one character in several ways."""
    spelled = "".join(f"\\u{ord(one):04x}" for one in KEY).encode()
    body = b'{"data": [{"id": "' + spelled + b'", "' + spelled + b'": 1, "more": ["' + spelled + b'"]}]}'
    page = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body
    with listening(say(page)) as port:
        base = f"http://127.0.0.1:{port}/v1"
        site = Site(base.removesuffix("/v1"), base, KEY)
        assert site.model(None) == {"id": "***", "***": 1, "more": ["***"]}


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("location", ["http://[", "//", "\x00", "file:///etc/passwd", "x" * 1000, ""])
def test_where_a_redirect_leads_is_not_looked_at(status, location):
    """It may be no address at all: the answer is the status, and nobody is asked."""
    page = f"HTTP/1.1 {status} X\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n".encode()
    with listening(say(page)) as port:
        base = f"http://127.0.0.1:{port}/v1"
        answer = Site(base.removesuffix("/v1"), base, KEY).get(f"{base}/models")
        assert answer is not None
        assert answer.status == status


def test_halves_of_characters_in_a_page_can_be_stored():
    """JSON can escape them, and no file can hold them: they become question marks, in names too."""
    body = b'{"data": [{"id": "m", "root": "a\\ud800", "\\udfff": ["\\ud800b"]}]}'
    page = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body
    with listening(say(page)) as port:
        base = f"http://127.0.0.1:{port}/v1"
        assert Site(base.removesuffix("/v1"), base, None).model(None) == {"id": "m", "root": "a?", "?": ["?b"]}
