"""The root group: one place turns errors into messages and exit codes."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from llem import __version__
from llem.cli import cli
from llem.cli.root import Root, verbose_option
from llem.errors import ConfigError, ExperimentFailed, MachineError, Problem


def _failing(error: BaseException) -> click.Group:
    """A root group with one command, which raises."""

    @click.group(cls=Root)
    @verbose_option
    def root(verbose: bool) -> None:
        pass

    @root.command()
    @verbose_option
    def fail(verbose: bool) -> None:
        raise error

    return root


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (ExperimentFailed("out of memory", "use a smaller batch"), 1, "error: out of memory\n  use a smaller batch\n"),
        (
            ConfigError("study.yaml is invalid", problems=(Problem("load.batch_size", "must be at least 1, got 0"),)),
            2,
            "error: study.yaml is invalid\n  load.batch_size: must be at least 1, got 0\n",
        ),
        (MachineError("no GPU", "see `llem doctor`"), 3, "error: no GPU\n  see `llem doctor`\n"),
        (KeyboardInterrupt(), 130, "error: interrupted\n"),
        (
            OSError(errno.ENOSPC, "No space left on device", "out/trial-0.json"),
            3,
            "error: no space left on device: out/trial-0.json\n  free some space, or choose another folder with `-o`\n",
        ),
        (
            OSError(errno.EMFILE, "Too many open files"),
            3,
            "error: too many open files\n  raise the limit of open files (`ulimit -n`)\n",
        ),
        (MemoryError(), 3, "error: out of memory\n  end other programs, or use a machine with more memory\n"),
    ],
)
def test_errors_become_one_message_and_an_exit_code(error, code, message):
    """Each kind of error gives its exit code and its message on stderr, without a traceback."""
    done = CliRunner().invoke(_failing(error), ["fail"])

    assert (done.exit_code, done.stderr, done.stdout) == (code, message, "")


@pytest.mark.parametrize("arguments", [["-v", "fail"], ["fail", "-v"]])
def test_verbose_shows_the_traceback(arguments):
    """`-v` shows the traceback above the message, before or after the command's name."""
    done = CliRunner().invoke(_failing(MachineError("no GPU")), arguments)

    assert done.exit_code == 3
    assert "Traceback" in done.stderr
    assert done.stderr.endswith("error: no GPU\n")


def test_unexpected_error_is_a_bug():
    """An error that llem did not foresee shows its traceback and ends with 70, which no documented outcome has."""
    done = CliRunner().invoke(_failing(TypeError("oops")), ["fail"])

    assert done.exit_code == 70
    assert "TypeError: oops" in done.stderr
    assert "` met a bug in llem or in one of its plugins" in done.stderr


def test_version():
    """`llem --version` names the version."""
    assert CliRunner().invoke(cli, ["--version"]).stdout == f"llem, version {__version__}\n"


def test_misspelt_command_names_the_nearest():
    """A command that is not there ends with 2 and the nearest that is."""
    done = CliRunner().invoke(cli, ["pluginss"])

    assert done.exit_code == 2
    assert "plugins" in done.stderr


def test_unknown_command_lists_those_for_people():
    """A command that nothing is near to lists the commands, without those that only launchers call."""
    done = CliRunner().invoke(cli, ["zzz"])

    assert done.exit_code == 2
    assert "commands: bundle, compare, completion, config" in done.stderr
    assert "worker" not in done.stderr


def test_every_command_has_help():
    """Each command that is listed has a summary and answers `--help`."""
    for name in cli.commands:
        done = CliRunner().invoke(cli, [name, "--help"])
        assert done.exit_code == 0, name
        assert cli.commands[name].get_short_help_str(), name


def _parameters(group: click.Group, path: str = "llem") -> Iterator[tuple[str, click.Command]]:
    """Every command that is shown, and those of its groups."""
    for name, command in group.commands.items():
        if not command.hidden:
            yield f"{path} {name}", command
            if isinstance(command, click.Group):
                yield from _parameters(command, f"{path} {name}")


COMMANDS = dict(_parameters(cli))


@pytest.mark.parametrize("path", COMMANDS)
def test_every_option_has_a_help_text_with_its_default(path):
    """An option that takes a value says what holds without it; one that may be repeated says so."""
    command = COMMANDS[path]
    context = click.Context(command, info_name=path)
    for option in (one for one in command.params if isinstance(one, click.Option)):
        shown = option.get_help_record(context)
        assert shown is not None, option.opts
        assert option.help, option.opts
        takes_value = not (option.is_flag or option.count or option.multiple)
        assert not takes_value or "[default: " in shown[1], f"{option.opts}: what is it by default?"


@pytest.mark.parametrize("path", COMMANDS)
def test_every_command_ends_with_an_example(path, monkeypatch):
    """Of that command, on one line of 80 columns; nothing of the page is cut off."""
    monkeypatch.setenv("COLUMNS", "80")
    done = CliRunner().invoke(cli, [*path.split()[1:], "--help"], prog_name="llem")
    lines = done.stdout.rstrip().splitlines()

    assert lines[-1].startswith("  Example: ")
    assert path in lines[-1] or isinstance(COMMANDS[path], click.Group)
    assert "..." not in done.stdout.replace("[ARGS]...", "").replace("COMMAND...", "")
    assert max(map(len, lines)) <= 80


def test_commands_are_listed_by_what_they_are_for():
    """In the order in which people need them, each with its whole first sentence; a plugin's own come last."""

    @click.group(cls=Root)
    def root() -> None:
        pass

    for name in ("verify", "run", "doctor", "show", "recommend", "other"):
        root.add_command(click.Command(name, help=f"Do {'much ' * 30}with {name}. Then more."))
    found = CliRunner().invoke(root, ["--help"]).stdout
    titles = [line for line in found.splitlines() if line.endswith(":") and not line.startswith(" ")]

    assert titles == ["Options:", "Measure:", "Read:", "Decide:", "Share:", "Set up:", "Of plugins:"]
    assert " ".join(found.split()).count(f"{'much ' * 30}with other.") == 1
    assert "Then more" not in found


@pytest.mark.process
def test_reader_that_goes_away_leaves_no_noise():
    """Output that nobody reads any more ends with 141 and says nothing on stderr."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as closed:
        done = subprocess.run(
            [sys.executable, "-m", "llem", "plugins", "--json"],
            stdout=closed,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )

    assert (done.returncode, done.stderr) == (141, "")
