"""`llem compare`: two experiments of a folder against each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from llem.store.store import Store

__all__ = ["compare"]


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path())
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@click.option("--json", "as_json", is_flag=True, help="Print the comparisons alone as JSON.")
def compare(folder: str, a: str, b: str, as_json: bool) -> None:
    """Say how experiment B differs from A, metric by metric, and how probable it is that B is better.

    The beginning of an id is enough; `llem show DIR` lists them. Trials that took turns are compared pair by pair,
    others as independent samples; p-values are corrected for the number of metrics (Holm).
    """
    from llem.analysis.compare import compare as compared
    from llem.store.store import Store

    store = Store.open(folder)
    names = store.find(a), store.find(b)
    if names[0] == names[1]:
        raise click.UsageError(f"A and B are the same experiment, {names[0]}; `llem show {folder}` lists all")
    for letter, name in zip("AB", names, strict=True):
        _warn_of_errors(store, letter, name)
    found = compared(store.trials(names[0]), store.trials(names[1]))
    if as_json:
        import attrs

        from llem.store.serial import to_text

        click.echo(to_text([attrs.asdict(one) for one in found]), nl=False)
        return
    from llem.reports.comparison import render_comparison

    render_comparison(names, found)


def _warn_of_errors(store: Store, letter: str, name: str) -> None:
    """Tell what stands against a result; whoever compares it all the same should know."""
    result = store.read_result(name)
    if result is None or result.valid:
        return
    codes = dict.fromkeys(found.code for found in result.findings if found.severity == "error")
    reasons = ", ".join(codes) or result.outcome
    click.echo(f"warning: {letter} is not valid: {reasons}; `llem show` says why", err=True)
