"""`llem config`: check configuration files, print the schema, and show what a configuration becomes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from llem.config.load import Layer, Resolved

__all__ = ["config"]


@click.group()
def config() -> None:
    """Check and show configurations; nothing is run."""


@config.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(), metavar="FILE…")
@click.pass_context
def check(ctx: click.Context, files: tuple[str, ...]) -> None:
    """Check FILEs and report everything that is wrong with each.

    Ends with 0 when all are valid, else with 2, or with 3 when a plugin they need is broken.
    """
    from llem.errors import LlemError

    worst = 0
    for file in files:
        try:
            experiment = _resolve([_file_layer(file)]).experiment
        except LlemError as error:
            worst = max(worst, error.exit_code)
            click.echo(f"{file}: {error}", err=True)
        else:
            click.echo(f"{file}: valid ({experiment.model} on {experiment.backend})")
    if worst:
        ctx.exit(worst)


@config.command()
def schema() -> None:
    """Print the JSON Schema of an experiment, with the sections of all installed plugins."""
    import json

    from llem.config.schema import json_schema
    from llem.plugins.registry import registry

    result = json_schema(registry(), lambda message: click.echo(f"left out: {message}", err=True))
    click.echo(json.dumps(result, indent=2, ensure_ascii=False))


@config.command()
@click.argument("file", required=False, type=click.Path())
@click.option(
    "--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Set a value, such as load.batch_size=8."
)
def show(file: str | None, assignments: tuple[str, ...]) -> None:
    """Print what FILE becomes: every value, with where it came from as a comment."""
    from llem.config.document import to_document
    from llem.config.layers import Layer
    from llem.config.text import parse_assignment, to_yaml

    layers = [_file_layer(file)] if file else []
    layers += [Layer("flag", dict([parse_assignment(text)])) for text in assignments]
    resolved = _resolve(layers)
    click.echo(to_yaml(to_document(resolved.experiment), resolved.sources), nl=False)


def _file_layer(file: str) -> Layer:
    from llem.config.document import experiment_values
    from llem.config.layers import Layer
    from llem.config.text import read_yaml

    return Layer(f"file {file}", experiment_values(read_yaml(file), file))


def _resolve(layers: list[Layer]) -> Resolved:
    """As `llem run` would: on top of the user's own configuration."""
    from llem.config.layers import Layer
    from llem.config.load import resolve
    from llem.config.user import load_user_config
    from llem.plugins.registry import registry

    gpus = load_user_config().gpus
    below = [Layer("user config", {"gpus": gpus})] if gpus is not None else []
    return resolve([*below, *layers], registry())
