"""`llem show`: what a result folder holds."""

from __future__ import annotations

import click

__all__ = ["show"]


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path())
@click.argument("experiment", metavar="[EXPERIMENT]", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print the Result alone as JSON; a list when there are several.")
def show(folder: str, experiment: str | None, as_json: bool) -> None:
    """Print the result of an experiment, or a table of what varies when DIR holds several and none is named.

    The beginning of an id is enough for EXPERIMENT. An experiment that has not ended is computed from the trials that
    are there.
    """
    from llem.results.store import Store
    from llem.results.verify import recompute

    store = Store.open(folder)
    names = (store.find(experiment),) if experiment else store.experiment_ids()
    results = [store.read_result(name) or recompute(store, name) for name in names]
    if as_json:
        from llem.results.serial import dump, to_text

        documents = [dump(result) for result in results]
        single = experiment is not None or len(documents) == 1
        click.echo(to_text(documents[0] if single else documents), nl=False)
        return
    from llem.reports.console import render_result, render_results
    from llem.reports.study_table import render_study, varied

    if not results:
        click.echo(f"{folder} holds no experiment yet")
    elif len(results) == 1:
        render_result(results[0])
    elif varied(study := store.study(), names):
        place = {name: number for number, name in enumerate(study["experiments"])}  # the order they ran in
        render_study(sorted(results, key=lambda result: place[result.id]), study)
    else:
        render_results(results)
