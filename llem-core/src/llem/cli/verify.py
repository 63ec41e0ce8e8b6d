"""`llem verify`: compute every stored number again from the raw rows."""

from __future__ import annotations

from pathlib import Path

import click

from llem.cli.terminal import echo

__all__ = ["verify"]


@click.command(epilog="Example: llem verify out/")
@click.argument("folder", metavar="DIR", type=click.Path())
@click.pass_context
def verify(ctx: click.Context, folder: str) -> None:
    """Recompute all energies, counts and results in DIR from the raw rows, and compare them with the stored ones.

    DIR may also be a file of `llem bundle`. If DIR holds checksums (SHA256SUMS), llem compares them first, and names
    every file that was changed, removed or added.

    The exit code is 1 if a stored number differs from the recomputed one, or a file from its checksum.
    """
    from llem.store.bundle import is_bundle
    from llem.store.unbundle import unpacked

    path = Path(folder)
    if not is_bundle(path):
        same = _same(path)
    else:
        with unpacked(path) as inside:
            same = _same(inside, bundled=True)
    if not same:
        ctx.exit(1)


def _same(folder: Path, *, bundled: bool = False) -> bool:
    """Print what differs, and what was compared; whether nothing differs."""
    altered = _altered(folder, bundled=bundled)
    differences = _differences(folder)
    return not (altered or differences)


def _counted(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def _altered(folder: Path, *, bundled: bool) -> int:
    """How many files are not what the manifest says."""
    from llem.store.manifest import MANIFEST, altered

    found = altered(folder)
    if found is None:
        if bundled:
            echo(f"the bundle has no {MANIFEST}: nothing says whether its files are those that were bundled")
        return 0
    others, named = found
    for one in others:
        echo(str(one))
    told = f"{_counted(len(others), 'file')} differ{'s' if len(others) == 1 else ''}" if others else "identical"
    echo(f"{_counted(named, 'checksum')} compared, {told}")
    return len(others)


def _differences(folder: Path) -> int:
    """How many stored numbers are not the recomputed ones."""
    from llem.metrics.verify import older_documents
    from llem.metrics.verify import verify as find_differences
    from llem.store.store import Store

    store = Store.open(folder)
    differences = find_differences(store)
    older = older_documents(store)
    for version, count in older.items():
        documents = "1 document was" if count == 1 else f"{count} documents were"
        echo(
            f"{documents} written by an older llem (schema version {version}). Of results, facts and values whose rule "
            "is still the same are compared, and not intervals and findings, which follow the present rules in "
            "`llem show`; of trials and baselines, all but the error budgets."
        )
    for difference in differences:
        echo(str(difference))
    names = store.experiment_ids()
    trials = sum(len(store.trials(name)) for name in names)
    counted = f"{_counted(len(names), 'experiment')}, {_counted(trials, 'trial')} recomputed"
    if differences:
        echo(f"{counted}, {_counted(len(differences), 'difference')}")
    else:
        echo(f"{counted}, identical{' in what is compared' if older else ''}")
    return len(differences)
