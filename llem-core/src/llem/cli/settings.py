"""Settings given on the command line, as layers over those of a file; and what people try first in their place."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from llem.cli.terminal import echo

if TYPE_CHECKING:
    from llem.config.layers import Layer
    from llem.study.plan.study import Study

__all__ = ["SettingsCommand", "flag_layers", "setting_options", "study_or_model", "tell_notes"]

F = TypeVar("F", bound=Callable[..., Any])

#: Options that are short for settings: the option, its value, the settings that it makes, and its help.
SHORT: tuple[tuple[str, str, tuple[str, ...], str], ...] = (
    ("--dtype", "NAME", ("dtype={}",), "Number format of weights and activations."),
    ("--batch-size", "N", ("load.batch_size={}",), "Requests per batch of an offline load."),
    ("--concurrency", "N", ("load.kind=closed", "load.concurrency={}"), "A closed load: N requests in flight."),
    ("--rate", "R", ("load.kind=open", "load.request_rate={}"), "An open load: R random arrivals a second."),
    ("--input-tokens", "N", ("workload.input_tokens={}",), "Tokens of each prompt."),
    ("--output-tokens", "N", ("workload.output_tokens={}",), "Tokens that each request generates."),
)
#: The address of a server; other load generators call it by the later names.
URL_OPTIONS = ("--url", "--base-url", "--target")
URL_BEGINS = ("http://", "https://")
#: An address without its beginning.
HOST_AND_PORT = re.compile(r"[\w.-]+:\d+(/|$)|\[[\da-fA-F:.]+\]")
#: What ends the name of a study file.
STUDY_ENDINGS = (".yaml", ".yml", ".json")


def _one_address(ctx: click.Context, param: click.Parameter, urls: tuple[str, ...]) -> str | None:
    """The address that the options name, however many of them there are."""
    if len(set(urls)) > 1:
        raise click.UsageError(f"there are two addresses, {urls[0]} and {urls[1]}; give one of the two", ctx)
    return urls[0] if urls else None


def setting_options(command: F) -> F:
    """The options of SHORT, for a command that gives its keyword arguments `short` to `flag_layers`."""
    command = click.option(
        *URL_OPTIONS,
        "url",
        metavar="URL",
        multiple=True,
        callback=_one_address,
        help="Measure the server at this address, such as http://127.0.0.1:8000/v1.  [default: not set]",
    )(command)
    for option, value, assignments, told in reversed(SHORT):
        same = " ".join(f"--set {text.format(value)}" for text in assignments)
        command = click.option(option, metavar=value, help=f"{told} Short for {same}.  [default: not set]")(command)
    return command


class SettingsCommand(click.Command):
    """A command whose unknown options are often settings: its error names the setting."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        asked = list(args)
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            _point(error, ctx, asked)


def _point(error: click.NoSuchOption, ctx: click.Context, args: list[str]) -> NoReturn:
    """Raise the error that names a setting, if the option is called as one; else click's own."""
    from llem.config.guesses import meant
    from llem.errors import nearest
    from llem.plugins.registry import registry

    option = error.option_name
    name = option.lstrip("-").replace("-", "_")
    guess = meant(name, registry())
    near = nearest(name, [one.lstrip("-") for one in error.possibilities or ()])  # click's own are far from it
    if not option.startswith("--") or guess is None or (near and not guess.surely(name)):
        raise error
    message = f"no such option {option}; did you mean the setting `{guess.flags(_value_of(option, args))}`?"
    raise click.UsageError(message, ctx) from None


def _value_of(option: str, args: list[str]) -> str:
    """What was given to an option; … where nothing was."""
    for arg, after in zip(args, [*args[1:], "-"], strict=True):
        if arg == option and not after.startswith("-"):
            return after
        if arg.startswith(f"{option}="):
            return arg.partition("=")[2]
    return "…"


def flag_layers(
    model: str | None,
    backend: str | None,
    preset: str | None,
    assignments: tuple[str, ...],
    short: Mapping[str, str | None] | None = None,
    url: str | None = None,
) -> list[Layer]:
    """The layers of `-m`, `-b`, `--preset`, `--url`, each option of SHORT and each `--set`, later ones above.

    Raises ConfigError if a `--set` is no KEY=VALUE, or contradicts another option, or no backend takes the URL.
    """
    from llem.config.layers import Layer
    from llem.config.text import parse_assignment
    from llem.errors import ConfigError

    address: dict[str, Any] = {}
    if url is not None:
        backend, setting = _of_url(url, backend)
        address[setting] = url
    flags: dict[str, Any] = {"model": model, "backend": backend, "preset": preset}
    given = {name: value for name, value in flags.items() if value is not None}
    said = {name: (f"--{name} {value}", value) for name, value in given.items()}
    said |= {path: (f"--url {value}", value) for path, value in address.items()}
    layers = [Layer("flag", given), *(Layer("flag --url", {path: value}) for path, value in address.items())]
    for option, _, texts, _ in SHORT:
        if (value := (short or {}).get(option.lstrip("-").replace("-", "_"))) is not None:
            for path, read in [parse_assignment(text.format(value)) for text in texts]:
                told = f"{option} {value}" if str(read) == value else f"{option} {value} ({path}={read})"
                said[path] = told, read
                layers.append(Layer(f"flag {option}", {path: read}))
    for path, value in [parse_assignment(text) for text in assignments]:
        if path in said and value != said[path][1]:
            raise ConfigError(f"{said[path][0]} and --set {path}={value} disagree", "give one of the two")
        layers.append(Layer("flag --set", {path: value}))
    return layers


def _of_url(url: str, backend: str | None) -> tuple[str, str]:
    """The backend that measures what answers at an address, and its setting for the address.

    Raises ConfigError: the backend that is named takes none, or not exactly one does.
    """
    from llem.errors import ConfigError
    from llem.plugins.registry import registry

    names = registry().names("backend") if backend is None else [backend]
    able = {name: path for name in names if (path := registry().reference("backend", name).url) is not None}
    if len(able) == 1:
        return next((name, f"{name}.{path}") for name, path in able.items())
    if backend is not None:
        raise ConfigError(f"backend {backend!r} takes no URL, and {url} is one", "leave `-b` out")
    if able:
        raise ConfigError(f"several backends measure what is at a URL: {', '.join(able)}", "name one with `-b`")
    hint = "pip install llem-openai (from a clone: pip install ./llem-openai)"
    raise ConfigError(f"no installed backend measures what is at a URL such as {url}", hint)


def study_or_model(named: str | None, model: str | None, url: str | None) -> tuple[str | None, str | None, str | None]:
    """The study file, the model and the address, of an argument that may be each.

    It is an address if it begins as one. It is a model if there is no file of that name, it does not end as a study
    file does, and `-m` names no other.

    Raises ConfigError: two addresses, or a folder that is no model.
    """
    from llem.errors import ConfigError

    if named is not None and named.startswith(URL_BEGINS):
        if url not in (None, named):
            raise ConfigError(f"there are two addresses, {named} and {url}", "give one of the two")
        return None, model, named
    return *_file_or_model(named, model), url


def _file_or_model(named: str | None, model: str | None) -> tuple[str | None, str | None]:
    from llem.errors import ConfigError

    if named is None or model is not None or named.endswith(STUDY_ENDINGS) or os.path.isfile(named):
        return named, model
    if named == "-":
        hint = "save it as a YAML file and give its path: `--resume` reads it again"
        raise ConfigError("a study is not read from standard input", hint)
    if os.path.exists(named) and not os.path.isdir(named):  # a pipe or a device, which is refused as what it is
        return named, model
    if os.path.isdir(named):
        if os.path.isfile(os.path.join(named, "config.json")):
            return None, named if named.startswith((".", "/", "~")) else os.path.join(".", named)
        if os.path.isfile(os.path.join(named, "study.json")):
            hint = f"look at it with `llem show {named}`, or go on with the command that wrote it and `--resume`"
            raise ConfigError(f"{named} is a folder of results, not a study file", hint)
        raise ConfigError(f"{named} is a folder without config.json", "give a YAML file, or the folder of a model")
    if named.startswith((".", "/", "~")):
        return named, model
    if HOST_AND_PORT.match(named):
        raise ConfigError(f"{named} is no model, and looks like the address of a server", f"write http://{named}")
    echo(f"model: {named} (there is no file of this name)", err=True)
    return None, named


def tell_notes(study: Study) -> None:
    """What whoever starts a study should know, on standard error."""

    for note in study.notes:
        echo(f"note: {note}", err=True)
