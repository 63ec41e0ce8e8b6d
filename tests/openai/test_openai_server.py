"""The server's process: started, waited for, found, and ended whatever happens."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from llem.errors import ConfigError, ExperimentFailed, MachineError
from llem_openai.address import Address, elsewhere
from llem_openai.facts import scalars
from llem_openai.locality import family, listeners, misplaced


def gone(pids, within=30.0):
    """Whether all of these processes end in time."""
    end = time.monotonic() + within
    while time.monotonic() < end:
        left = [pid for pid in pids if psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE]
        if not left:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.process
def test_a_slow_server_is_waited_for(load, start_command, requests_of):
    """It lists its models while it loads; only its /health says that it is ready."""
    url, words = start_command
    began = time.monotonic()
    engine = load({"base_url": url, "command": [*words, "--loading", "1.5"]})
    assert time.monotonic() - began >= 1.5
    assert engine.effective_config()["served_model"] == "tiny"


@pytest.mark.process
def test_a_server_that_dies_says_why(load, start_command):
    """Its exit status and the end of its output are in the error, and its log file is removed."""
    url, words = start_command
    with pytest.raises(ExperimentFailed, match="ended with exit status 1") as failed:
        load({"base_url": url, "command": [*words, "--die", "no room for the model"]})
    assert "no room for the model" in failed.value.message
    assert not [path for path in Path(os.environ.get("TMPDIR", "/tmp")).glob("llem-server-*.log") if _owned(path)]


def _owned(path):
    return "no room for the model" in path.read_text(errors="replace")


@pytest.mark.process
def test_the_output_of_the_server_is_in_the_log(load, start_command, capfd):
    """What it wrote comes on standard error when it has ended, as far as no key is in it."""
    url, words = start_command
    load({"base_url": url, "command": words}).close()
    told = capfd.readouterr().err
    assert "the server's output: " in told
    assert f"starting on {url.split(':')[2].removesuffix('/v1')}" in told


@pytest.mark.process
@pytest.mark.parametrize("child", [[], ["--child"]], ids=["obedient", "child that ignores SIGTERM"])
def test_close_ends_the_whole_group(load, start_command, child, monkeypatch):
    """Children too, those included that do not want to."""
    url, words = start_command
    engine = load({"base_url": url, "command": [*words, *child]})
    pids = list(engine.pids())
    assert len(pids) == (3 if child else 2)
    engine.close()
    assert gone(pids, within=1.0)


@pytest.mark.process
def test_a_server_that_runs_already_is_left_running(load, running):
    """It is not ours to end."""
    server = running()
    load({"base_url": server.url}).close()
    assert server.process.poll() is None
    assert server.log()["received"]


@pytest.mark.process
def test_a_failed_load_ends_the_server(load, start_command):
    """A server that started and does not suit is ended as well."""
    url, words = start_command
    with pytest.raises(ConfigError, match="lists 2 models"):
        load({"base_url": url, "command": [*words, "--models", "a,b"]})
    port = int(words[-1])
    assert not [one for one in psutil.net_connections("tcp") if one.status == "LISTEN" and one.laddr.port == port]


@pytest.mark.process
def test_the_server_ends_when_its_worker_is_killed(start_command, tmp_path):
    """Nothing can be done by a process that is killed: the guard sees the pipe end."""
    _, words = start_command
    code = textwrap.dedent(
        f"""
        import time
        from llem_openai.locality import family
        from llem_openai.process import Started
        started = Started({words!r})
        while len(family([started.pid])) < 2:
            time.sleep(0.05)
        print(*family([started.pid]), flush=True)
        time.sleep(600)
        """
    )
    worker = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},  # the log is what a killed process leaves behind
    )
    assert worker.stdout is not None
    pids = [int(word) for word in worker.stdout.readline().split()]
    assert len(pids) == 2
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    worker.stdout.close()
    assert gone(pids)


@pytest.mark.process
def test_a_port_that_is_taken_is_an_error(load, running):
    """The command's server would not be the one that answers."""
    server = running()
    with pytest.raises(MachineError, match=r"something listens at .* already"):
        load({"base_url": server.url, "command": [sys.executable, "-c", "import time; time.sleep(60)"]})


def test_nothing_that_listens_is_an_error(load, start_command):
    """It says how to have a server."""
    with pytest.raises(MachineError, match="nothing listens") as failed:
        load({"base_url": start_command[0]})
    assert "openai.command" in failed.value.hint


@pytest.mark.process
def test_a_running_server_that_loads_is_an_error(load, running):
    """A measurement waits for nothing that it did not start."""
    with pytest.raises(MachineError, match=r"not ready.*503"):
        load({"base_url": running("--loading", "60").url})


@pytest.mark.process
@pytest.mark.parametrize(
    ("models", "wanted", "message"),
    [("a,b", None, "lists 2 models"), ("a,b", "c", "has no model 'c'")],
)
def test_a_model_that_is_not_clear_is_an_error(load, running, models, wanted, message):
    """All names are listed."""
    with pytest.raises(ConfigError, match=message) as failed:
        load({"base_url": running("--models", models).url, "served_model": wanted})
    assert "it serves: a, b" in failed.value.hint


@pytest.mark.process
@pytest.mark.parametrize("wanted", [None, "x"])
def test_a_server_without_a_model_is_told_as_such(load, running, wanted):
    """No name would help."""
    with pytest.raises(ConfigError, match="the server lists no model") as failed:
        load({"base_url": running("--models", "").url, "served_model": wanted})
    assert "served_model" not in failed.value.hint


@pytest.mark.process
def test_a_wrong_path_is_an_error(load, running):
    """Elsewhere than at /v1 there are no models; without any path, /v1 is meant."""
    server = running()
    with pytest.raises(MachineError, match=r"/models answers 404"):
        load({"base_url": f"{server.url.removesuffix('/v1')}/v2"})
    assert load({"base_url": server.url.removesuffix("/v1")}).effective_config()["served_model"] == "tiny"


@pytest.mark.process
def test_the_listener_of_a_port_is_found_with_its_children(running):
    """By the port alone."""
    server = running("--child")
    assert listeners(server.port) == {server.process.pid}
    assert len(family(listeners(server.port))) == 2


def test_a_listener_that_cannot_be_seen_is_an_error():
    """Nobody's port stands for one of another user: no process is told for either."""
    with pytest.raises(MachineError, match="cannot be seen") as failed:
        listeners(1)
    assert "openai.command" in failed.value.hint


@pytest.mark.process
def test_a_tunnel_is_no_server(tmp_path):
    """Whoever forwards a port to another machine is refused by its name."""
    link = tmp_path / "ssh"
    link.symlink_to(os.path.realpath(sys.executable))
    code = "import socket, time; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True)"
    code += "; time.sleep(99)"
    with subprocess.Popen([str(link), "-S", "-c", code], stdout=subprocess.PIPE, text=True) as tunnel:
        try:
            assert tunnel.stdout is not None
            with pytest.raises(MachineError, match=r"ssh listens on port .* another machine"):
                listeners(int(tunnel.stdout.readline()))
        finally:
            tunnel.kill()


@pytest.mark.parametrize(
    ("before", "after", "server", "measured", "message"),
    [
        ({}, {}, {1}, [], None),
        ({"A": {7}}, {"A": {7}}, {7, 8}, ["A"], None),
        ({"A": {7}, "B": ()}, {"A": {7}, "B": ()}, {7}, ["B"], "does not compute on B"),
        ({"A": (), "B": ()}, {"A": {7}, "B": {7}}, {7}, ["A"], "computes on B"),
        ({"A": {7}}, {"A": {7}}, {7}, [], "computes on A"),
        ({"A": {5}}, {"A": {5, 900}}, {7}, ["A"], None),
        ({"A": (), "B": ()}, {"A": {900}, "B": {900}}, {7}, ["A"], "computes on B"),
        ({"A": {5}, "B": ()}, {"A": {5}, "B": {6}}, {7}, ["A"], "does not compute on A"),
        ({"A": (), "B": ()}, {"A": {900}, "B": {33}}, {7}, ["A"], None),
    ],
)
def test_where_the_server_computes(before, after, server, measured, message):
    """Just on the measured GPUs; by its process ids, or by what came while it started, as in a container."""
    found = misplaced(before, after, server, measured)
    assert (found is None) if message is None else (found is not None and message in found)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.8.8.8"])
def test_this_machine(host):
    """Loopback, by number and by name."""
    assert elsewhere(host) is None


def test_this_machines_own_addresses_are_this_machine():
    """Every address of its interfaces."""
    entries = [entry for entries in psutil.net_if_addrs().values() for entry in entries]
    own = [entry.address for entry in entries if entry.family == socket.AF_INET]
    assert own
    assert [elsewhere(address) for address in own] == [None] * len(own)


@pytest.mark.parametrize("host", ["192.0.2.1", "0.0.0.0", "2001:db8::1"])
def test_other_machines(host):
    """Addresses for documentation belong to nobody; that of all interfaces is none."""
    assert host in str(elsewhere(host))


@pytest.mark.parametrize(
    ("url", "base", "root", "port"),
    [
        ("http://127.0.0.1:8000/v1/", "http://127.0.0.1:8000/v1", "http://127.0.0.1:8000", 8000),
        ("http://[::1]:8000/api/v1", "http://[::1]:8000/api/v1", "http://[::1]:8000/api", 8000),
        ("https://localhost/openai", "https://localhost/openai", "https://localhost/openai", 443),
    ],
)
def test_addresses(url, base, root, port):
    """The parts of a base URL."""
    address = Address.of(url)
    assert (address.base, address.root, address.port) == (base, root, port)


def test_what_a_server_tells_is_cut_to_what_can_be_stored():
    """No secrets, structures, essays, or numbers that are none."""
    told = {"api_key": "x", "a": 1, "b": [1], "c": "y" * 999, "d": float("nan"), "max_total_tokens": 5, "e": None}
    assert scalars(told) == {"a": 1, "max_total_tokens": 5, "e": None}


def test_what_a_server_tells_is_bounded():
    """vLLM and SGLang tell about 100 figures; a name is no essay either."""
    assert scalars({"x" * 301: 1, "x" * 300: 1}) == {"x" * 300: 1}
    assert list(scalars({f"n{place}": place for place in range(20_000)})) == [f"n{place}" for place in range(500)]
