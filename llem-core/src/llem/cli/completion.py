"""`llem completion`: what a shell offers after TAB. Every list is made when it is asked for, and imports no engine."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from llem.cli.terminal import echo

if TYPE_CHECKING:
    from pathlib import Path

    from click.shell_completion import CompletionItem

__all__ = ["COMPLETE", "completion", "prepare"]

#: The variable by which a shell's script asks; click reads it too.
COMPLETE = "_LLEM_COMPLETE"

#: bash splits words at = and :, so the script hands the line over, and takes from each answer what is there already.
_BASH = """\
_llem_completion() {
    local IFS=$'\\n' line="${COMP_LINE:0:COMP_POINT}" word breaks before="" completion value
    word="${line##*[[:space:]]}"
    breaks="${COMP_WORDBREAKS//[^=:]/}"
    [[ -n $breaks && $word == *[$breaks]* ]] && before="${word%"${word##*[$breaks]}"}"
    COMPREPLY=()
    for completion in $(env COMP_WORDS="$line" _LLEM_COMPLETE=bash_complete "$1"); do
        value="${completion#*,}"
        case "${completion%%,*}" in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            plain) COMPREPLY+=("${value#"$before"}") ;;
        esac
    done
    [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *[=.] ]] && compopt -o nospace
    return 0
}
complete -o nosort -F _llem_completion llem
"""


@click.command(epilog='Example: eval "$(llem completion bash)"')
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print a script by which SHELL completes commands, options, settings and ids.

    \b
    bash  add to ~/.bashrc:                eval "$(llem completion bash)"
    zsh   add to ~/.zshrc, after compinit: eval "$(llem completion zsh)"
    fish  llem completion fish > ~/.config/fish/completions/llem.fish
    """
    from click.shell_completion import get_completion_class

    from llem.cli import cli

    prepare(cli)
    found = get_completion_class(shell)
    assert found is not None
    echo(found(cli, {}, "llem", COMPLETE).source(), nl=False)


def prepare(root: click.Group) -> None:
    """Let click complete the parameters of all commands by `COMPLETERS`, and answer our script for bash and zsh."""
    from click.shell_completion import BashComplete, ZshComplete, add_completion_class, split_arg_string

    class Bash(BashComplete):
        def source(self) -> str:
            return _BASH

        def get_completion_args(self) -> tuple[list[str], str]:
            import os

            line = os.environ["COMP_WORDS"]
            words = split_arg_string(line)
            return (words[1:], "") if line[-1:].isspace() else (words[1:-1], words[-1])

    class Zsh(ZshComplete):
        # what ends with = or . goes on: no blank after it
        source_template = ZshComplete.source_template.replace(
            "        compadd -U -V unsorted -a completions",
            "        compadd -U -V unsorted -a -- completions",
        ).replace(
            '                completions+=("$key")',
            '                if [[ "$key" == *[=.] ]]; then compadd -U -S "" -- "$key"; else completions+=("$key"); fi',
        )

    add_completion_class(Bash)
    add_completion_class(Zsh)
    for command in _commands(root):
        for parameter in command.params:
            if parameter.name in COMPLETERS:
                setattr(parameter, "shell_complete", _completing(COMPLETERS[parameter.name]))  # noqa: B010


def _commands(group: click.Group) -> Iterator[click.Command]:
    for command in group.commands.values():
        yield command
        if isinstance(command, click.Group):
            yield from _commands(command)


#: Gives what may stand there, from what stands there already.
Completer = Callable[[click.Context, str], Iterable["CompletionItem[Any] | str"]]


def _completing(made: Completer) -> Callable[[click.Context, str], list[CompletionItem[Any]]]:
    def complete(ctx: click.Context, incomplete: str) -> list[CompletionItem[Any]]:
        from click.shell_completion import CompletionItem

        from llem.errors import LlemError
        from llem.foreign.files import Unread

        nothing = (LlemError, Unread, OSError, ValueError, KeyError, TypeError, AttributeError)
        with contextlib.suppress(*nothing):  # a damaged folder offers nothing
            items = [one if isinstance(one, CompletionItem) else CompletionItem(one) for one in made(ctx, incomplete)]
            return [one for one in items if one.type != "plain" or str(one.value).startswith(incomplete)]
        return []

    return complete


# what plugins and the core know by name


def _backends(_: click.Context, __: str) -> Iterable[str]:
    from llem.plugins.registry import registry

    return registry().names("backend")


def _launchers(_: click.Context, __: str) -> Iterable[str]:
    from llem.plugins.registry import registry

    return registry().names("launcher")


def _models(_: click.Context, incomplete: str) -> Iterable[CompletionItem[Any] | str]:
    from click.shell_completion import CompletionItem

    from llem.models.shapes import SHAPES

    shapes = [f"shape:{name}" for name in SHAPES]
    return shapes if any(name.startswith(incomplete) for name in shapes) else [CompletionItem(incomplete, type="file")]


def _metrics(_: click.Context, __: str) -> Iterable[str]:
    from llem.metrics.catalogue import METRICS, PRICED

    return [*_SHORT, *METRICS, *PRICED]


#: Short words for metrics; `llem.analysis.recommend` says what they stand for, and is too heavy to import here.
_SHORT = ("energy", "energy_per_request", "cost", "carbon", "latency", "speed")


def _many_metrics(ctx: click.Context, incomplete: str) -> Iterable[str]:
    """After the last comma."""
    before, comma, _ = incomplete.rpartition(",")
    return [f"{before}{comma}{name}" for name in ("memory", "power", *_metrics(ctx, ""))]


# what a result folder holds


def _folders(_: click.Context, incomplete: str) -> Iterable[CompletionItem[Any]]:
    from click.shell_completion import CompletionItem

    return [CompletionItem(incomplete, type="dir")]


def _folder(ctx: click.Context) -> Path:
    """DIR. Before the value of an option is there, click has not told arguments apart yet."""
    from pathlib import Path

    return Path(ctx.params.get("folder") or ctx.args[0])


def _study(ctx: click.Context) -> Mapping[str, Any]:
    """study.json of DIR as it stands there."""
    from llem.foreign.files import read
    from llem.foreign.values import from_json

    found: Mapping[str, Any] = from_json(read(_folder(ctx) / "study.json"))
    return found


#: Names from a folder that a shell takes as they are.
_SAFE = re.compile(r"[\w.\-]+")


def _ids(ctx: click.Context, _: str) -> Iterable[CompletionItem[Any]]:
    """Experiments of DIR, in the study's order; what each sets is its help."""
    from click.shell_completion import CompletionItem

    there = {path.parent.name for path in _folder(ctx).glob("experiments/*/experiment.json")}
    study = _study(ctx)
    points = study.get("points", {})
    for name in [*(one for one in study.get("experiments", ()) if one in there), *sorted(there)]:
        if name in there and _SAFE.fullmatch(name):
            there.discard(name)
            sets = points.get(name, {}).get("values", {}).items()
            words = " ".join(f"{path.rpartition('.')[2]}={value}" for path, value in sets)
            yield CompletionItem(name, help=re.sub(r"[^\w.=\- ]", " ", words) or None)


def _axes(ctx: click.Context, _: str) -> Iterable[str]:
    return [axis for axis in _study(ctx).get("axes", ()) if _SAFE.fullmatch(axis)]


def _conditions(ctx: click.Context, incomplete: str) -> Iterable[str]:
    """Names before =, then the values that experiments have."""
    name, sign, _ = incomplete.partition("=")
    if not sign:
        return [f"{one}=" for one in ("state", "valid", "publishable", "finding", "backend", *_axes(ctx, ""))]
    if name in ("valid", "publishable"):
        return [f"{name}=true", f"{name}=false"]
    if name == "backend":
        return [f"{name}={one}" for one in _backends(ctx, "")]
    points = _study(ctx).get("points", {}).values()
    import json

    values = [point["values"][name] for point in points if name in point.get("values", {})]
    texts = dict.fromkeys(one if isinstance(one, str) else json.dumps(one) for one in values)
    return [f"{name}={text}" for text in texts if _SAFE.fullmatch(text)]


def _sorts(ctx: click.Context, _: str) -> Iterable[str]:
    return [*_axes(ctx, ""), *_metrics(ctx, "")]


def _settings(_: click.Context, incomplete: str) -> Iterable[str]:
    from llem.cli.setting_paths import completions

    return completions(incomplete)


#: By the name of a command's parameter.
COMPLETERS: Mapping[str, Completer] = {
    "folder": _folders,
    "backend": _backends,
    "launcher": _launchers,
    "model": _models,
    "assignments": _settings,
    "experiment": _ids,
    "a": _ids,
    "b": _ids,
    "axis": _axes,
    "metrics": _metrics,
    "x": _metrics,
    "y": _metrics,
    "minimise": _metrics,
    "maximise": _metrics,
    "columns": _many_metrics,
    "sort": _sorts,
    "wheres": _conditions,
}
