"""`llem verify`: compute every stored number again from the raw rows."""

from __future__ import annotations

import click

__all__ = ["verify"]


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path())
@click.pass_context
def verify(ctx: click.Context, folder: str) -> None:
    """Recompute all energies, counts and results in DIR from the raw rows, and compare them with the stored ones.

    The exit code is 1 if a stored number differs from the recomputed one.
    """
    from llem.metrics.verify import older_results
    from llem.metrics.verify import verify as find_differences
    from llem.store.store import Store

    store = Store.open(folder)
    differences = find_differences(store)
    for version, count in older_results(store).items():
        results = "1 result was" if count == 1 else f"{count} results were"
        click.echo(
            f"{results} computed by an older llem (schema version {version}). Compared are their facts and the values "
            "whose rule is still the same; intervals and findings follow the present rules, as `llem show` has them."
        )
    for difference in differences:
        click.echo(str(difference))
    names = store.experiment_ids()
    trials = sum(len(store.trials(name)) for name in names)
    experiments_word = "experiment" if len(names) == 1 else "experiments"
    trials_word = "trial" if trials == 1 else "trials"
    counted = f"{len(names)} {experiments_word}, {trials} {trials_word} recomputed"
    if differences:
        word = "difference" if len(differences) == 1 else "differences"
        click.echo(f"{counted}, {len(differences)} {word}")
        ctx.exit(1)
    click.echo(f"{counted}, identical")
