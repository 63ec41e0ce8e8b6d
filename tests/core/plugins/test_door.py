"""The door holds: whatever a stranger's distribution does, only its own names stop working."""

from __future__ import annotations

import json
from importlib.util import find_spec

import pytest

pytestmark = pytest.mark.process

GOOD = """
from llem.plugins import Reference, hookimpl

@hookimpl
def llem_backends():
    return [Reference("good", "good_backend:Good", requires=("no_such_engine",), install="pip install no-such-engine",
                      summary="A good one.", capabilities={"stream": "unsupported"}, status="never run")]
"""

BROKEN = {
    "import": ("raise ImportError('libcudart.so.12: cannot open shared object file')", "import", "libcudart.so.12"),
    "exit": ("import sys; sys.exit('no licence')", "import", "SystemExit: no licence"),
    "unknown": (
        "from llem.plugins import hookimpl\n@hookimpl\ndef llem_backend():\n    return []",
        "hooks",
        "unknown hook llem_backend",
    ),
    "raises": (
        "from llem.plugins import hookimpl\n@hookimpl\ndef llem_backends():\n    raise RuntimeError('boom')",
        "call",
        "RuntimeError: boom",
    ),
    "wrong-list": (
        "from llem.plugins import hookimpl\n@hookimpl\ndef llem_backends():\n    return ['bad']",
        "call",
        "must return a list of llem.plugins.Reference, got 'bad'",
    ),
    "no-list": (
        "from llem.plugins import hookimpl\n@hookimpl\ndef llem_backends():\n    return 7",
        "call",
        "must return a list of llem.plugins.Reference, got 7",
    ),
    "argument": (
        "from llem.plugins import hookimpl\n@hookimpl\ndef llem_backends(nonsense):\n    return []",
        "register",
        "nonsense",
    ),
    "command": (
        "from llem.plugins import hookimpl\n@hookimpl\ndef llem_commands():\n    raise OSError('no terminal')",
        "call",
        "no terminal",
    ),
    "no-command": (
        "from llem.plugins import hookimpl\n@hookimpl\ndef llem_commands():\n    return {'bad': 'text'}",
        "call",
        "llem_commands must return a mapping of names to click commands, got 'text'",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_plugin_is_listed_and_breaks_nothing_else(case, install, llem):
    """A broken plugin is listed with stage and cause; help, and a good plugin beside it, still work."""
    source, stage, cause = BROKEN[case]
    install("llem-bad", source, entry="bad")
    install("llem-good", GOOD, entry="good")

    report = json.loads(llem("plugins", "--json").stdout)
    helped = llem("--help")

    broken = [(row["name"], row["distribution"], row["version"], row["stage"]) for row in report["broken"]]
    assert broken == [("bad", "llem-bad", "1.2", stage)]
    assert cause in report["broken"][0]["error"]
    assert [row["name"] for row in report["plugins"] if row["distribution"] == "llem-good"] == ["good"]
    assert helped.returncode == 0
    assert "plugins" in helped.stdout
    assert "Traceback" not in helped.stderr


def test_plugins_prints_cause_and_with_v_the_traceback(install, llem):
    """`llem plugins` shows the cause, `-v` the traceback below it; both end with 0."""
    install("llem-bad", "def f():\n    raise ImportError('no library')\nf()", entry="bad")

    short, long = llem("plugins"), llem("plugins", "-v")

    assert (short.returncode, long.returncode) == (0, 0)
    assert "bad  llem-bad 1.2  failed at import: ImportError: no library" in short.stdout
    assert "Traceback" not in short.stdout
    assert "Traceback" in long.stdout
    assert "in f" in long.stdout


def test_plugins_tells_what_is_missing_and_how_to_get_it(install, llem):
    """A reference whose requirement is missing is listed with its fix, status and capabilities."""
    install("llem-good", GOOD, entry="good")

    lines = llem("plugins").stdout.splitlines()

    at = next(i for i, line in enumerate(lines) if line.strip().startswith("good"))
    assert lines[at].split() == ["good", "llem-good", "1.2", "A", "good", "one."]
    assert [line.strip() for line in lines[at + 1 : at + 4]] == [
        "needs no_such_engine: pip install no-such-engine",
        "status: never run",
        "unsupported: stream",
    ]


def test_second_plugin_with_a_taken_name_is_refused(install, llem):
    """A name that two distributions provide stays with the first; the second is listed as broken."""
    install("llem-good", GOOD, entry="a")
    install("llem-copy", GOOD, entry="b")

    report = json.loads(llem("plugins", "--json").stdout)

    assert [row["distribution"] for row in report["plugins"] if row["name"] == "good"] == ["llem-good"]
    assert [(row["name"], row["error"]) for row in report["broken"]] == [
        ("b", "backend 'good' is already provided by llem-good")
    ]


def test_second_entry_point_with_a_taken_name_is_refused(install, llem):
    """Two distributions with one entry-point name: the first works, the second is listed."""
    install("llem-good", GOOD, entry="same")
    install("llem-other", GOOD.replace('"good"', '"other"'), entry="same")

    report = json.loads(llem("plugins", "--json").stdout)

    worked = {row["name"] for row in report["plugins"]} & {"good", "other"}
    assert len(worked) == 1
    assert [(row["name"], row["stage"]) for row in report["broken"]] == [("same", "register")]


def test_asking_for_a_broken_backend_gives_the_recorded_cause(install, llem):
    """`llem run -b` with a broken backend ends with 3 and the cause, not with a traceback."""
    install("llem-bad", "raise ImportError('libcudart.so.12 is missing')", entry="bad")

    done = llem("run", "-b", "bad")

    assert done.returncode == 3, done.stderr
    assert "backend 'bad' comes from llem-bad 1.2, which failed at import" in done.stderr
    assert "libcudart.so.12 is missing" in done.stderr
    assert "llem plugins" in done.stderr
    assert "Traceback" not in done.stderr


def test_unknown_backend_names_the_nearest_that_is_installed(install, llem):
    """A misspelt backend ends with 2 and the nearest installed name."""
    install("llem-good", GOOD, entry="good")

    done = llem("run", "-b", "goood")

    assert done.returncode == 2, done.stderr
    assert "goood" in done.stderr
    assert "did you mean 'good'?" in done.stderr


def test_unknown_backend_says_what_to_install(llem):
    """A backend that is known and not installed ends with 2 and the command that installs it."""
    if find_spec("llem_vllm") is not None:
        pytest.skip("llem-vllm is installed")

    done = llem("run", "-b", "vlm")

    assert done.returncode == 2, done.stderr
    assert "pip install llem-vllm" in done.stderr


def test_backend_whose_requirement_is_missing_ends_with_3(install, llem):
    """A backend whose engine is not installed is the machine's fault: 3, with the command that mends it."""
    install("llem-good", GOOD, entry="good")

    done = llem("run", "-b", "good")

    assert done.returncode == 3, done.stderr
    assert "no_such_engine" in done.stderr
    assert "pip install no-such-engine" in done.stderr


def test_plugin_command_is_found_and_cannot_replace_our_own(install, llem):
    """A command of a plugin is listed and runs; one that is named like ours does not replace it."""
    source = """
import click
from llem.plugins import hookimpl

@click.command()
def hello():
    '''Greet.'''
    click.echo("hello from a plugin")

@hookimpl
def llem_commands():
    return {"hello": hello, "doctor": hello}
"""
    install("llem-hello", source, entry="hello")

    assert "Greet." in llem("--help").stdout
    assert llem("hello").stdout == "hello from a plugin\n"
    assert "hello" not in llem("doctor", "--help").stdout


def test_bug_in_a_plugin_command_is_told_as_such(install, llem):
    """An unexpected error shows its traceback, says that it is a bug, and ends with 70."""
    source = """
import click
from llem.plugins import hookimpl

@click.command()
def crash():
    raise ZeroDivisionError("oh")

@hookimpl
def llem_commands():
    return {"crash": crash}
"""
    install("llem-crash", source, entry="crash")

    done = llem("crash")

    assert done.returncode == 70
    assert "ZeroDivisionError: oh" in done.stderr
    assert "this is a bug" in done.stderr
