"""`llem config`: check configuration files, print the schema, and show what a configuration becomes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from llem.cli.root import Whole
from llem.cli.terminal import echo

if TYPE_CHECKING:
    from llem.config.layers import Layer
    from llem.study.plan.study import Study

__all__ = ["config"]


@click.group(cls=Whole, epilog="Example: llem config check study.yaml")
def config() -> None:
    """Check and show configurations, and set defaults of this machine. Nothing runs."""


@config.command(epilog="Example: llem config check study.yaml")
@click.argument("files", nargs=-1, required=True, type=click.Path(), metavar="FILE…")
@click.pass_context
def check(ctx: click.Context, files: tuple[str, ...]) -> None:
    """Check each FILE and report everything that is wrong in it. A file holds one experiment or a study.

    The exit code is 0 if all files are valid, 3 if a plugin that a file needs is broken, and otherwise 2.
    """
    from llem.errors import LlemError

    worst = 0
    for file in files:
        try:
            study = _load(file, [])
        except LlemError as error:
            worst = max(worst, error.exit_code)
            said = str(error)
            echo(said if said.startswith(file) else f"{file}: {said}", err=True)
        else:
            echo(f"{file}: valid ({_summary(study)})")
    if worst:
        ctx.exit(worst)


@config.command(epilog="Example: llem config schema --study > study.schema.json")
@click.option("--study", is_flag=True, help="Print the schema of a study file instead.")
def schema(study: bool) -> None:
    """Print the JSON Schema of an experiment, with the sections of all installed plugins."""
    import json

    from llem.config.schema import json_schema
    from llem.config.study.schema import study_schema
    from llem.plugins.registry import registry

    make = study_schema if study else json_schema
    result = make(registry(), lambda message: echo(f"left out: {message}", err=True))
    echo(json.dumps(result, indent=2))


@config.command(epilog="Example: llem config show one.yaml --set load.batch_size=8")
@click.argument("file", required=False, type=click.Path())
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="KEY=VALUE",
    help="A setting, such as load.batch_size=8; may be repeated.",
)
def show(file: str | None, assignments: tuple[str, ...]) -> None:
    """Print every value of the experiment in FILE; a comment says where each value came from.

    The first line names the user configuration, which holds the settings of this machine. Without FILE, llem prints
    the defaults.
    """
    from llem.config.layers import Layer
    from llem.config.load import to_document
    from llem.config.text import parse_assignment, to_yaml
    from llem.config.user import user_config_path
    from llem.errors import ConfigError

    study = _load(file, [Layer("flag", dict([parse_assignment(text)])) for text in assignments])
    if not study.file.single:
        raise ConfigError(f"{file} is a study of {len(study.experiments)} experiments", "list them with `llem plan`")
    [one] = study.experiments
    user = user_config_path()
    echo(f"# user configuration: {user}{'' if user.exists() else ' (none there)'}")
    echo(to_yaml(to_document(one.experiment), one.sources), nl=False)


@config.command("set", epilog="Example: llem config set backend vllm")
@click.argument("key")
@click.argument("value")
def set_(key: str, value: str) -> None:
    """Set KEY of the user configuration to VALUE, such as `backend vllm`; `null` takes the default again.

    The user configuration holds what varies by machine. llem makes the file if there is none.
    """
    from llem.config.text import parse_assignment, read_text
    from llem.config.user import named_user_config, user_config_path, with_setting
    from llem.plugins.registry import registry
    from llem.store.files import write

    _, given = parse_assignment(f"{key}={value}")
    if key == "backend" and isinstance(given, str):
        registry().reference("backend", given)  # raises for one that is not installed
    path = user_config_path()
    text = read_text(path) if path.exists() else ""
    write(path, with_setting(text, key, given, named_user_config()).encode(), replace=True)
    echo(f"{key}: {value}  # in {path}")


def _load(file: str | None, overrides: list[Layer]) -> Study:
    """Load as `llem run` does, without the backends' checks: their classes need not be importable here."""
    from llem.plugins.registry import registry
    from llem.study.plan.expand import load

    return load(file, overrides, registry(), checked=False)


def _summary(study: Study) -> str:
    if study.file.single:
        experiment = study.experiments[0].experiment
        return f"{experiment.model} on {experiment.backend}"
    left_out = study.declared - len(study.experiments)
    more = f", {left_out} of {study.declared} points left out: see `llem plan`" if left_out else ""
    return f"{len(study.experiments)} experiments{more}"
