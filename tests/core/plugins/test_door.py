"""The door holds: whatever a stranger's distribution does, only its own names stop working."""

from __future__ import annotations

import json
from importlib.util import find_spec

import pytest

pytestmark = pytest.mark.process

GOOD = """
from llem.plugins import Reference, hookimpl

class Good:
    name = "good"

@hookimpl
def llem_backends():
    return [Reference("good", "llem_good_hooks:Good", requires=("no_such_engine",),
                      install="pip install no-such-engine", summary="A good one.",
                      capabilities={"stream": "unsupported"}, status="never run")]
"""

BROKEN = {
    "import": ("raise ImportError('libcudart.so.12: cannot open shared object file')", "import", "libcudart.so.12"),
    "exit": ("import sys; sys.exit('no licence')", "import", "SystemExit: no licence"),
    "unknown": (
        "from llem.plugins import hookimpl\n@hookimpl\ndef llem_backend():\n    return []",
        "hooks",
        "unknown hook llem_backend (did you mean llem_backends?)",
    ),
    "unmarked": (
        "def llem_backends():\n    return []",
        "hooks",
        "llem_backends has no `@hookimpl` above it",
    ),
    "class": (
        "from llem.plugins import Reference, hookimpl\nclass Bakend:\n    name = 'bad'\n"
        "@hookimpl\ndef llem_backends():\n    return [Reference('bad', 'llem_bad_hooks:Backend')]",
        "register",
        "target 'llem_bad_hooks:Backend': llem_bad_hooks has no Backend (did you mean Bakend?)",
    ),
    "colon": (
        "from llem.plugins import Reference, hookimpl\n"
        "@hookimpl\ndef llem_backends():\n    return [Reference('bad', 'llem_bad_hooks.Backend')]",
        "register",
        "target of 'bad' is 'llem_bad_hooks.Backend', and must be \"module:name\" "
        "(did you mean llem_bad_hooks:Backend?)",
    ),
    "capability": (
        "from llem.plugins import Reference, hookimpl\n"
        "@hookimpl\ndef llem_backends():\n"
        "    return [Reference('bad', 'm:B', capabilities={'streams': 'supported'})]",
        "register",
        "unknown capability 'streams' (did you mean stream?)",
    ),
    "taken-command": (
        "import click\nfrom llem.plugins import hookimpl\n"
        "@hookimpl\ndef llem_commands():\n    return {'doctor': click.Command('doctor')}",
        "register",
        "the name 'doctor' of a command belongs to llem-core (choose another one, such as 'bad-doctor')",
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


def test_a_name_that_two_distributions_give_is_an_error_for_both(install, llem):
    """Neither is used, whatever the order of names: the list, the doctor and the run name both."""
    install("llem-good", GOOD, entry="a")
    install("llem-copy", GOOD, entry="b")

    report = json.loads(llem("plugins", "--json").stdout)
    checks = json.loads(llem("doctor", "--json").stdout)["checks"]
    done = llem("run", "-b", "good")

    told = "backend 'good' is given by llem-good (entry point 'a') and llem-copy (entry point 'b'), so neither is used"
    assert [row["name"] for row in report["plugins"] if row["name"] == "good"] == []
    assert [(row["distribution"], row["error"]) for row in report["broken"]] == [
        ("llem-good", told),
        ("llem-copy", told),
    ]
    assert [check["name"] for check in checks if told in check["detail"]] == ["plugin a", "plugin b"]
    assert done.returncode == 3
    assert told in done.stderr


def test_a_stranger_cannot_take_the_name_of_our_package(install, llem):
    """However early its own name sorts: `pytorch` is llem-pytorch's, and `echo` the core's."""
    evil = """
from llem.plugins import Reference, hookimpl

class Evil:
    name = "pytorch"

@hookimpl
def llem_backends():
    return [Reference(name, "aaa_hooks:Evil", summary="Not it.") for name in ("pytorch", "echo")]
"""
    install("aaa", evil, entry="a")

    report = json.loads(llem("plugins", "--json").stdout)
    done = llem("plan", "shape:tiny", "-b", "pytorch", "--preset", "quick")

    assert {(row["name"], row["distribution"]) for row in report["plugins"] if row["name"] in ("pytorch", "echo")} <= {
        ("pytorch", "llem-pytorch"),
        ("echo", "llem-core"),
    }
    assert [row["error"] for row in report["broken"]] == [
        f"the name {name!r} of a backend belongs to {owner} (choose another one, such as 'aaa-{name}')"
        for name, owner in (("pytorch", "llem-pytorch"), ("echo", "llem-core"))
    ]
    if find_spec("llem_pytorch") is None:
        assert done.returncode == 3
        assert "pip install llem-pytorch, and remove aaa" in done.stderr


def test_names_of_entry_points_are_each_distributions_own(install, llem):
    """Two distributions with one entry-point name both work: nobody types that name."""
    install("llem-good", GOOD, entry="same")
    install("llem-other", GOOD.replace('"good"', '"other"'), entry="same")

    report = json.loads(llem("plugins", "--json").stdout)

    assert {row["name"] for row in report["plugins"]} >= {"good", "other"}
    assert report["broken"] == []


def test_a_command_that_two_plugins_give_is_told_when_it_is_called(install, llem):
    """Neither runs, and the error names both."""
    source = """
import click
from llem.plugins import hookimpl

@hookimpl
def llem_commands():
    return {"greet": click.Command("greet")}
"""
    install("llem-one", source, entry="one")
    install("llem-two", source, entry="two")

    done = llem("greet")

    assert done.returncode == 3
    assert "command 'greet' is given by llem-one (entry point 'one') and llem-two (entry point 'two')" in done.stderr
    assert "Traceback" not in done.stderr


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
    assert "`llem crash` met a bug in the plugin llem-crash 1.2" in done.stderr
