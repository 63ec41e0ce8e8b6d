"""The command that goes on with a run that ended early. It is the last line that `llem` writes."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from llem.cli.terminal import echo

if TYPE_CHECKING:
    from llem.store.models import Result

__all__ = ["ARGUMENTS", "FINAL", "counted", "has_trials", "keeping", "offer", "tell"]

#: Keys in click's shared `meta`: the arguments of the command as they were given, and the command to tell at the end.
ARGUMENTS, COMMAND = "llem.arguments", "llem.resume"

#: Codes of errors after which a folder is as it was.
UNTOUCHED = (
    "store_exists",
    "store_busy",
    "store_corrupt",
    "store_too_old",
    "store_too_new",
    "store_linked",
    "config_invalid",
)
#: Outcomes of experiments that would end in the same way again.
FINAL = ("oom", "invalid")


def resume_command(arguments: Sequence[str], folder: Path) -> str:
    """The same command for a shell, with its folder and `--resume`.

    Args:
        arguments: from the command's name on. `-o` and `--resume` in them give way.
    """
    kept: list[str] = []
    words = iter(arguments)
    for word in words:
        if word in ("-o", "--out"):
            next(words, None)
        elif not (word == "--resume" or word.startswith("--out=") or (word.startswith("-o") and word[1:2] != "-")):
            kept.append(word)
    end = kept.index("--") if "--" in kept else len(kept)  # what follows are no options
    return shlex.join(["llem", *kept[:end], "-o", str(folder), "--resume", *kept[end:]])


def offer(folder: Path) -> None:
    """Have `llem` end with the command that goes on in this folder."""
    context = click.get_current_context()
    context.meta[COMMAND] = resume_command(context.meta.get(ARGUMENTS, ()), folder)


def tell(context: click.Context) -> None:
    """Write the command that was offered, if one was. Control characters in it are escaped."""

    if (command := context.meta.get(COMMAND)) is not None:
        echo(f"go on with:\n  {command}", err=True)


@contextmanager
def keeping(folder: Path) -> Iterator[None]:
    """Whatever ends the run within: name the folder, which holds trials or the worker's log, and offer to go on."""
    try:
        yield
    except BaseException as error:  # a second Ctrl-C, a full disk and a bug leave as much behind as an error of llem
        if getattr(error, "code", "") not in UNTOUCHED and _is_store(folder):
            measured = has_trials(folder)
            told = measured or "--resume" in getattr(error, "hint", "")  # how to go on
            again = "" if told else "; nothing was measured, so another run may use this folder"
            echo(f"{'what was measured' if measured else 'the log'} is in {folder}{again}", err=True)
            stopped = isinstance(error, KeyboardInterrupt) or getattr(error, "code", "") == "interrupted"
            if stopped or (measured and getattr(error, "code", "") not in FINAL):
                offer(folder)
        raise


def has_trials(folder: Path) -> bool:
    """Whether anything was measured into a folder: without it there is nothing to go on with."""
    return any(folder.glob("experiments/*/trial-*.json"))


def _is_store(folder: Path) -> bool:
    import os

    return os.path.exists(folder / "study.json")  # of any name, also one that no folder can have


def counted(results: Sequence[Result], experiments: int) -> str:
    """`3 of 12 experiments done, 1 failed, 8 to go, of which 2 began`: what the rows of the table add up to."""
    outcomes = [one.outcome for one in results]
    done, began = outcomes.count("done"), outcomes.count("interrupted")
    failed = len(outcomes) - done - began
    parts = [f"{done} of {experiments} experiments done"]
    parts += [f"{failed} failed"] if failed else []
    parts.append(f"{experiments - done - failed} to go" + (f", of which {began} began" if began else ""))
    return ", ".join(parts)
