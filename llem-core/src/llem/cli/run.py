"""`llem run`: measure a configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from llem.cli.root import verbose_option

if TYPE_CHECKING:
    from llem.results.models import Result

__all__ = ["run"]


@click.command()
@click.argument("study", required=False, type=click.Path())
@click.option("-m", "--model", help="Hugging Face id, folder, or shape:NAME.  [default: shape:tiny]")
@click.option("-b", "--backend", help="Inference engine.  [default: the one that is installed]")
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Set any value, e.g. load.batch_size=8.")
@click.option("--preset", type=click.Choice(["quick", "standard", "publication"]), help="How thoroughly to measure.")
@click.option("-o", "--out", metavar="DIR", help="Folder for the results; must be new.")
@click.option("--launcher", default="process", show_default=True, help="Where the worker runs.")
@click.option("--json", "as_json", is_flag=True, help="Print the Result alone, as JSON.")
@click.option("-q", "--quiet", is_flag=True, help="No progress; the result still comes.")
@verbose_option
def run(
    study: str | None,
    model: str | None,
    backend: str | None,
    assignments: tuple[str, ...],
    preset: str | None,
    out: str | None,
    launcher: str,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Measure one configuration: STUDY is a YAML file; with nothing given, a tiny model on the installed backend."""
    from llem.api import prepare
    from llem.config.load import Layer, parse_assignment
    from llem.errors import LlemError
    from llem.plugins.registry import registry
    from llem.reports.progress import progress
    from llem.study.runner import run_planned, stop_on_interrupt

    flags = {"model": model, "backend": backend, "preset": preset}
    layers = [Layer("flag", {name: value for name, value in flags.items() if value is not None})]
    layers += [Layer("flag --set", dict([parse_assignment(text)])) for text in assignments]
    ready = prepare(study, layers, out)
    made = registry().load("launcher", launcher)()
    try:
        with (
            stop_on_interrupt() as stop,
            progress(ready.planned.trials, quiet=quiet or as_json, verbose=verbose) as emit,
        ):
            result = run_planned(ready.planned, ready.folder, made, registry(), name=ready.name, emit=emit, stop=stop)
    except LlemError as error:
        if ready.folder.exists() and error.code != "store_exists":
            click.echo(f"what was measured is in {ready.folder}", err=True)
        if error.code == "interrupted":
            raise KeyboardInterrupt from error
        raise
    show_result(result, as_json)
    if not as_json:
        click.echo(f"stored in {ready.folder}", err=True)
    if not result.valid:
        raise SystemExit(1)


def show_result(result: Result, as_json: bool) -> None:
    """Print a Result on standard output."""
    from llem.reports.console import render_result
    from llem.results.serial import dump

    if as_json:
        import json

        click.echo(json.dumps(dump(result), indent=2, sort_keys=True, ensure_ascii=False))
    else:
        render_result(result)
