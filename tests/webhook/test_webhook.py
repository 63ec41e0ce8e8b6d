"""Messages that arrive at a server and at a command, and what happens when they do not."""

from __future__ import annotations

import contextlib
import json
import socket
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from llem.errors import ConfigError
from llem.plugins.registry import discover
from llem.store.models import SCHEMA_VERSION
from llem_webhook import hooks
from llem_webhook.config import COMMAND, URL, WebhookOptions, load_options
from llem_webhook.deliver import GIVE_UP, NotDelivered, Sender, post, run, sender
from llem_webhook.messages import experiment_message, study_message

DONE = {"id": "a" * 16, "outcome": "done", "valid": True, "error": None}
FAILED = {**DONE, "outcome": "oom", "valid": False, "error": "out of memory\nsecond line"}


class Server:
    """A web server on this machine that keeps what it is sent; `status` is what it answers."""

    def __init__(self) -> None:
        self.received: list[Any] = []
        self.status = 204
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                content = self.rfile.read(int(self.headers["Content-Length"]))
                outer.received.append((self.path, self.headers["Content-Type"], json.loads(content)))
                self.send_response(outer.status)
                self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook/s3cr3t"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    """A server, stopped after the test."""
    one = Server()
    yield one
    one.close()


@pytest.fixture(autouse=True)
def fresh_sender(isolated_llem: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test has a sender of its own and no variables of the developer's."""
    monkeypatch.delenv(URL, raising=False)
    monkeypatch.delenv(COMMAND, raising=False)
    sender.cache_clear()
    yield
    sender.cache_clear()


def _closed_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
    return port


def test_the_package_registers_observers() -> None:
    """Discovery finds it by its entry point, with hooks that llem knows."""
    found = discover()

    assert "webhook" in [plugin.name for plugin in found.plugins]
    assert [failure.name for failure in found.failures if failure.name == "webhook"] == []


def test_without_a_target_nothing_happens() -> None:
    """Installing the package changes nothing."""
    hooks.llem_experiment_finished({}, FAILED, "out")
    hooks.llem_study_finished({"experiments": []}, "out")


def test_a_failed_experiment_is_posted(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """As JSON, with the first line of its error and the folder's name alone."""
    monkeypatch.setenv(URL, server.url)
    hooks.llem_experiment_finished({"config": {"model": "secret-model"}}, FAILED, "/somewhere/private/out")

    [(path, kind, message)] = server.received
    assert (path, kind) == ("/hook/s3cr3t", "application/json")
    assert message == {
        "event": "experiment_failed",
        "text": f"llem: experiment {'a' * 16}: oom: out of memory",
        "id": "a" * 16,
        "outcome": "oom",
        "valid": False,
        "error": "out of memory",
        "store": "out",
    }


def test_an_experiment_that_is_done_is_posted_when_asked_for(server: Server) -> None:
    """`experiment` asks for every one, failed ones included; by default only failures are told."""
    quiet, chatty = (
        Sender(WebhookOptions(url=server.url)),
        Sender(WebhookOptions(url=server.url, events=("experiment",))),
    )
    for one in (quiet, chatty):
        one.send("experiment", experiment_message(DONE, "out"))
        one.send("failure", experiment_message(FAILED, "out"))

    assert [message["event"] for _, _, message in server.received] == [
        "experiment_failed",
        "experiment_finished",
        "experiment_failed",
    ]


def test_a_study_counts_its_outcomes(server: Server, tmp_path: Path) -> None:
    """From the results of the store; what has none was not run."""
    for name, outcome in (("a", "done"), ("b", "done"), ("c", "oom")):
        folder = tmp_path / "out" / "experiments" / name
        folder.mkdir(parents=True)
        document = {
            "schema_version": SCHEMA_VERSION, "id": name, "outcome": outcome, "error": None, "trials": 1, "valid": True,
            "publishable": False, "config": {}, "findings": [], "metrics": {},
        }  # fmt: skip
        (folder / "result.json").write_text(json.dumps(document))
    message = study_message({"name": "s", "experiments": ["a", "b", "c", "d"]}, str(tmp_path / "out"))

    assert message["text"] == "llem: s: 2 of 4 experiments done, 1 oom, 1 not run"
    assert message["outcomes"] == {"done": 2, "oom": 1}
    assert message["store"] == "out"


def test_what_looks_like_a_secret_is_taken_out() -> None:
    """Of the error, which may quote an address or a header; its first line is told, not too long."""
    result = {"id": "a", "outcome": "crash", "valid": False, "error": "401 for https://me:s3cr3t@host/x\nmore"}
    assert experiment_message(result, "out")["error"] == "401 for https://***@host/x"

    long = experiment_message({**result, "error": "x" * 10_000}, "out")["error"]
    assert long == "x" * 300


def test_an_answer_that_is_no_success_is_told_without_the_url(server: Server) -> None:
    """The status, and not the URL, which is a secret with most services."""
    server.status = 404
    with pytest.raises(NotDelivered) as caught:
        post(server.url, b"{}", 2)

    assert str(caught.value) == "the webhook answered 404"


def test_nobody_there_is_told_without_the_url() -> None:
    """A refused connection."""
    with pytest.raises(NotDelivered, match="cannot be reached") as caught:
        post(f"http://127.0.0.1:{_closed_port()}/s3cr3t", b"{}", 2)

    assert "s3cr3t" not in str(caught.value)


def test_a_server_that_does_not_answer_is_given_up() -> None:
    """Within the timeout."""
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(NotDelivered, match=r"within 0\.2 s"):
        post(f"http://127.0.0.1:{silent.getsockname()[1]}/", b"{}", 0.2)


def test_after_three_failures_only_the_study_is_told(server: Server) -> None:
    """A study of thousands does not wait for a dead server each time; the last error says so."""
    server.status = 500
    one = Sender(WebhookOptions(url=server.url))
    errors = []
    for _ in range(GIVE_UP + 2):
        try:
            one.send("failure", {})
        except NotDelivered as error:
            errors.append(str(error))
    server.status = 200
    one.send("study", {})

    assert errors == ["the webhook answered 500"] * (GIVE_UP - 1) + [
        "the webhook answered 500; no further experiment will be told"
    ]
    assert len(server.received) == GIVE_UP + 1


@pytest.mark.process
def test_a_command_gets_the_json(tmp_path: Path) -> None:
    """On its standard input, its arguments as they are written."""
    target = tmp_path / "got it.json"
    program = "import sys; open(sys.argv[1], 'w').write(sys.stdin.read())"
    Sender(WebhookOptions(command=(sys.executable, "-c", program, str(target)))).send("study", {"event": "é"})

    assert json.loads(target.read_text(encoding="utf-8")) == {"event": "é"}


@pytest.mark.process
@pytest.mark.parametrize(
    ("command", "message"),
    [
        ((sys.executable, "-c", "raise SystemExit(3)"), "ended with 3"),
        ((sys.executable, "-c", "import time; time.sleep(60)"), "did not end within 0.5 s"),
        (("there-is-no-such-program",), "cannot be run"),
    ],
)
def test_a_command_that_fails_raises(command: tuple[str, ...], message: str) -> None:
    """Saying how."""
    with pytest.raises(NotDelivered, match=message):
        run(command, b"{}", 0.5)


@pytest.mark.process
def test_the_command_runs_although_the_url_fails(tmp_path: Path) -> None:
    """One broken way does not close the other."""
    target = tmp_path / "told"
    program = f"open({str(target)!r}, 'w').write('x')"
    one = Sender(WebhookOptions(url=f"http://127.0.0.1:{_closed_port()}/", command=(sys.executable, "-c", program)))
    with pytest.raises(NotDelivered, match="cannot be reached"):
        one.send("study", {})

    assert target.exists()


def test_options_come_from_the_user_configuration_and_the_environment(
    isolated_llem: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Variables take the place of what the file says."""
    file = isolated_llem.folder / "user.yaml"
    file.write_text("observers: {webhook: {url: 'https://a.example/', events: [experiment], timeout_s: 2}}\n")
    monkeypatch.setenv("LLEM_CONFIG", str(file))
    monkeypatch.setenv(COMMAND, "notify-me --title 'a study'")

    found = load_options()
    assert (found.url, found.events, found.timeout_s) == ("https://a.example/", ("experiment",), 2.0)
    assert found.command == ("notify-me", "--title", "a study")
    monkeypatch.setenv(URL, "https://b.example/")
    assert load_options().url == "https://b.example/"


def test_a_url_that_is_none_is_refused_without_repeating_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be a secret all the same."""
    monkeypatch.setenv(URL, "s3cr3t.example/hook")
    with pytest.raises(ConfigError) as caught:
        load_options()

    assert "must begin with https:// or http://" in str(caught.value)
    assert "s3cr3t" not in str(caught.value)


def test_an_answer_that_comes_drop_by_drop_is_not_waited_for() -> None:
    """The time limit is of the whole delivery, not of each byte."""
    given_up = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def drip() -> None:
            connection, _ = listening.accept()
            with connection, contextlib.suppress(OSError):
                for letter in b"HTTP/1.1 204 No Content" + b" " * 80:
                    connection.send(bytes([letter]))
                    if given_up.wait(0.1):
                        return

        thread = threading.Thread(target=drip)
        thread.start()
        with pytest.raises(NotDelivered, match=r"did not answer within 0\.3 s"):
            post(f"http://127.0.0.1:{listening.getsockname()[1]}/", b"{}", 0.3)
        assert thread.is_alive(), "the server was still answering"
        given_up.set()
        thread.join()


def test_a_moved_webhook_is_told(server: Server) -> None:
    """Another place would be asked for a page, and not be told anything."""
    server.status = 301
    with pytest.raises(NotDelivered, match="answered 301"):
        post(server.url, b"{}", 5)


def test_a_mistake_in_the_settings_is_told_when_the_study_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hours before anything is to be sent."""
    hooks.llem_study_started({}, "out")
    sender.cache_clear()
    monkeypatch.setenv(URL, "ftp://example.org")
    with pytest.raises(ConfigError, match="must begin with https"):
        hooks.llem_study_started({}, "out")
