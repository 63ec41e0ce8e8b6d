"""`llem verify`: compute every stored number again from the raw rows."""

from __future__ import annotations

import click

__all__ = ["verify"]


@click.command(epilog="Example: llem verify out/")
@click.argument("folder", metavar="DIR", type=click.Path())
@click.pass_context
def verify(ctx: click.Context, folder: str) -> None:
    """Recompute all energies, counts and results in DIR from the raw rows, and compare them with the stored ones.

    The exit code is 1 if a stored number differs from the recomputed one.
    """
    from llem.metrics.verify import older_documents
    from llem.metrics.verify import verify as find_differences
    from llem.reports.figures import visible
    from llem.store.store import Store

    store = Store.open(folder)
    differences = find_differences(store)
    older = older_documents(store)
    for version, count in older.items():
        documents = "1 document was" if count == 1 else f"{count} documents were"
        click.echo(
            f"{documents} written by an older llem (schema version {version}). Of results, facts and values whose rule "
            "is still the same are compared, and not intervals and findings, which follow the present rules in "
            "`llem show`; of trials and baselines, all but the error budgets."
        )
    for difference in differences:
        click.echo(visible(str(difference)))
    names = store.experiment_ids()
    trials = sum(len(store.trials(name)) for name in names)
    experiments_word = "experiment" if len(names) == 1 else "experiments"
    trials_word = "trial" if trials == 1 else "trials"
    counted = f"{len(names)} {experiments_word}, {trials} {trials_word} recomputed"
    if differences:
        word = "difference" if len(differences) == 1 else "differences"
        click.echo(f"{counted}, {len(differences)} {word}")
        ctx.exit(1)
    click.echo(f"{counted}, identical{' in what is compared' if older else ''}")
