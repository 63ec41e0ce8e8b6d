"""`llem plan`: what a study would run. Imports nothing that could run it."""

from __future__ import annotations

import click

from llem.cli.root import verbose_option

__all__ = ["plan"]


@click.command()
@click.argument("study", type=click.Path())
@click.option("-m", "--model", help="As of `llem run`.")
@click.option("-b", "--backend", help="As of `llem run`.")
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="As of `llem run`.")
@click.option("--preset", type=click.Choice(["quick", "standard", "publication"]), help="As of `llem run`.")
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON.")
@verbose_option
def plan(
    study: str,
    model: str | None,
    backend: str | None,
    assignments: tuple[str, ...],
    preset: str | None,
    as_json: bool,
    verbose: bool,
) -> None:
    """Show what STUDY would run: how many points are left of those declared and why, the order, and the time.

    Nothing is run, no engine is loaded, and none need be installed.
    """
    from llem.cli.settings import flag_layers
    from llem.plugins.registry import registry
    from llem.reports.plan import plan_document, plan_lines
    from llem.study.load import load

    planned = load(study, flag_layers(model, backend, preset, assignments), registry())
    if as_json:
        import json

        click.echo(json.dumps(plan_document(planned), indent=2, sort_keys=True, ensure_ascii=False))
    else:
        click.echo("\n".join(plan_lines(planned)))
