"""The root group: commands that plugins add, and the one place where an error becomes a message and an exit code."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Mapping
from typing import Any, NoReturn

import click

from llem.foreign.shown import visible

# llem.errors and the plugins are imported where they are used: `llem --help` need not wait for attrs.

__all__ = ["BUG", "EXIT_CODES", "INTERRUPTED", "OUTPUT_CLOSED", "SECTIONS", "Root", "Whole", "verbose_option"]

BUG = 70
INTERRUPTED = 130
OUTPUT_CLOSED = 141

#: What `llem` ends with. The reference page is made from this.
EXIT_CODES = {
    0: "Done.",
    1: "Some experiments failed, their results are invalid, quality that was asked for could not be evaluated, no "
    "configuration keeps the limits that were given, or `llem verify` found a difference. A bug of a plugin that ends "
    "an experiment is that experiment's failure: its outcome is `crash`, and its error names the plugin.",
    2: "Your mistake: usage, configuration, a plugin that is not installed, or a folder that is not a result folder.",
    3: "The machine lacks something: a GPU, a permission, disk space, or a plugin that works.",
    BUG: "A bug in llem or in a plugin that ended the command; llem shows the traceback, and names the command and the "
    "plugin.",
    INTERRUPTED: "Interrupted by Ctrl-C or SIGTERM.",
    OUTPUT_CLOSED: "The program that read standard output ended before llem had written everything. The measurement is "
    "complete and stored.",
}

#: Commands as `llem --help` lists them, in the order in which people need them. What plugins add comes last.
SECTIONS: Mapping[str, tuple[str, ...]] = {
    "Measure": ("run", "plan", "meter"),
    "Read": ("show", "compare"),
    "Decide": ("recommend", "pareto"),
    "Share": ("report", "export", "bundle", "verify"),
    "Set up": ("init", "doctor", "config", "plugins", "completion"),
}

#: Key in click's shared `meta`, so that `llem -v run` and `llem run -v` mean the same.
VERBOSE = "llem.verbose"

#: Errors of the operating system that are the machine's fault, and what to do about each.
MACHINE_ERRNOS = {
    errno.ENOSPC: "free some space, or choose another folder with `-o`",
    errno.EDQUOT: "free some of your quota, or choose another folder with `-o`",
    errno.EROFS: "choose a folder that can be written with `-o`",
    errno.EACCES: "choose a folder that you may write, or ask for the permission",
    errno.EMFILE: "raise the limit of open files (`ulimit -n`)",
    errno.ENFILE: "end other programs, or raise the system's limit of open files",
    errno.EAGAIN: "end other programs, or raise the limit of processes (`ulimit -u`)",
    errno.ENOMEM: "end other programs, or use a machine with more memory",
    errno.EIO: "see what the operating system reports of the disk",
    errno.EPERM: "choose a folder that you may write, or ask for the permission",
}
#: What to do about a name that no file can have.
SHORTER = "give a name of at most 255 bytes"


def _remember_verbose(ctx: click.Context, _: click.Parameter, value: bool) -> bool:
    if value:
        ctx.meta[VERBOSE] = True
    return bool(ctx.meta.get(VERBOSE))


#: `-v`: more detail, and the traceback below an error. The command gets it as the argument `verbose`.
verbose_option = click.option(
    "-v", "--verbose", is_flag=True, callback=_remember_verbose, help="Show more detail, and tracebacks of errors."
)


class Whole(click.Group):
    """A group whose commands are listed with the whole first sentence of their help; click itself cuts it off."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        known = {name: self.get_command(ctx, name) for name in self.list_commands(ctx)}
        rows = [(name, _first_sentence(one)) for name, one in known.items() if one is not None and not one.hidden]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


class Root(click.Group):
    """A group whose own commands are known at once and whose plugins are asked for the rest."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *self._plugin_commands()})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        # Our own first: a plugin cannot replace a command, and `llem run` need not look for plugins to be found.
        return super().get_command(ctx, cmd_name) or self._plugin_commands().get(cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        from llem.cli.resume import ARGUMENTS
        from llem.errors import nearest
        from llem.plugins.registry import registry

        ctx.meta[ARGUMENTS] = list(args)
        name = click.utils.make_str(args[0])
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            registry().refuse_broken("command", name)
            near = nearest(name, self._shown(ctx))
            hint = f"did you mean {near!r}?" if near else f"commands: {', '.join(self._shown(ctx))}"
            raise click.UsageError(f"no such command {name!r}; {hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The commands by what they are for, each with the whole first sentence of its help."""
        left = {name: command for name in self._shown(ctx) if (command := self.get_command(ctx, name)) is not None}
        width = max(map(len, left), default=0)
        for title, names in (*SECTIONS.items(), ("Of plugins", tuple(left))):
            rows = [(name.ljust(width), _first_sentence(left.pop(name))) for name in names if name in left]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)

    def _shown(self, ctx: click.Context) -> list[str]:
        known = {name: self.get_command(ctx, name) for name in self.list_commands(ctx)}
        return [name for name, command in known.items() if command is not None and not command.hidden]

    def _plugin_commands(self) -> dict[str, click.Command]:
        from llem.plugins.registry import registry

        return registry().commands()

    def invoke(self, ctx: click.Context) -> Any:
        from llem.cli.resume import tell
        from llem.cli.terminal import fit_output

        fit_output()
        try:
            return self._invoke(ctx)
        finally:
            tell(ctx)  # last, below the error

    def _invoke(self, ctx: click.Context) -> Any:
        try:
            result = super().invoke(ctx)
            if sys.stdout is not None:  # None: it was closed before llem began
                sys.stdout.flush()  # here, where a closed pipe is still handled, and not at the interpreter's exit
            return result
        except click.exceptions.Exit:
            raise
        except click.ClickException as error:  # click prints it, with the words that were typed
            error.message = visible(error.message)  # type: ignore[misc]  # final for whoever derives from it
            raise
        except (KeyboardInterrupt, click.Abort) as error:
            _fail(ctx, error, INTERRUPTED, "interrupted")
        except BrokenPipeError:
            # the reader of standard output is gone; the interpreter's own flush at exit must not fail as well
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise click.exceptions.Exit(OUTPUT_CLOSED) from None
        except Exception as error:
            _explain(ctx, error)


def _first_sentence(command: click.Command) -> str:
    text = " ".join((command.short_help or command.help or "").split("\n\n")[0].split())
    sentence, stop, _ = text.partition(". ")
    return sentence + stop.strip()


def _explain(ctx: click.Context, error: Exception) -> NoReturn:
    from llem.errors import LlemError

    if isinstance(error, LlemError):
        _fail(ctx, error, error.exit_code, str(error))
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
        _fail(ctx, error, 2, f"{_os_message(error)}\n  {SHORTER}")
    if isinstance(error, MemoryError):
        _fail(ctx, error, 3, f"out of memory\n  {MACHINE_ERRNOS[errno.ENOMEM]}")
    if isinstance(error, OSError) and error.errno in MACHINE_ERRNOS:
        _fail(ctx, error, 3, f"{_os_message(error)}\n  {MACHINE_ERRNOS[error.errno]}")
    _bug(ctx, error)


def _os_message(error: OSError) -> str:
    from llem.plugins.culprit import culprit
    from llem.plugins.registry import registry

    reason = (error.strerror or str(error)).lower()
    told = f"{reason}: {error.filename}" if error.filename else reason
    where = culprit(error, registry())
    return f"{told}, in {where}" if where else told


def _fail(ctx: click.Context, error: BaseException, code: int, message: str) -> NoReturn:
    if ctx.meta.get(VERBOSE):
        traceback.print_exception(error)
    _say(message)
    raise click.exceptions.Exit(code) from None


def _bug(ctx: click.Context, error: Exception) -> NoReturn:
    from llem.plugins.culprit import culprit
    from llem.plugins.registry import registry

    traceback.print_exception(error)
    words = " ".join(["llem", *filter(None, [ctx.invoked_subcommand])])
    _say(
        f"`{words}` met a bug in {culprit(error, registry()) or 'llem or in one of its plugins'}\n"
        "  please report it with the traceback above and the output of `llem doctor --json`"
    )
    raise click.exceptions.Exit(BUG) from None


def _say(message: str) -> None:
    from llem.cli.terminal import echo

    echo(f" {message}", lead="error:", style={"fg": "red", "bold": True}, err=True)
