"""The root group: one place turns errors into messages and exit codes."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

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
    assert "this is a bug" in done.stderr


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
    assert "commands: compare, config" in done.stderr
    assert "worker" not in done.stderr


def test_every_command_has_help():
    """Each command that is listed has a summary and answers `--help`."""
    for name in cli.commands:
        done = CliRunner().invoke(cli, [name, "--help"])
        assert done.exit_code == 0, name
        assert cli.commands[name].get_short_help_str(), name


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
