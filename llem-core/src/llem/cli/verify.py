"""`llem verify`: whether a folder holds what llem wrote, and every number is what the raw rows give."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from llem.cli.terminal import echo
from llem.errors import StoreError

if TYPE_CHECKING:
    from llem.store.manifest import Altered
    from llem.store.store import Store

__all__ = ["verify"]


@click.command(epilog="Example: llem verify out/")
@click.argument("folder", metavar="DIR", type=click.Path())
@click.pass_context
def verify(ctx: click.Context, folder: str) -> None:
    """Say whether DIR holds what llem wrote: compare every file, and recompute every number.

    DIR may also be a file of `llem bundle`. llem compares

    \b
    - every file with the journals, in which each process says what it writes;
      of logs, all lines of runs that ended
    - every file with SHA256SUMS, if DIR has that, as bundles do
    - every document with its digest, its place and the logs: an id with its
      folder, a number with its name
    - energies, counts, scores and results with what the raw rows give

    llem does not compare logs of engines and orders to workers. None of this is a signature: whoever changes a file can
    change what says so. The exit code is 1 if anything differs or cannot be read, and 2 if DIR holds no results.
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
    store = _store(folder)
    unlike = _unlike_journals(folder)
    return not (altered + unlike + _differences(store))


def _store(folder: Path) -> Store:
    """The store; also one whose study.json cannot be read, which is told with all else.

    Raises StoreError: there is none, or another version of llem wrote it.
    """
    from llem.store.store import Store

    try:
        return Store.open(folder)
    except StoreError as error:
        if error.code != "store_corrupt":
            raise
        return Store(folder)


def _counted(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def _altered(folder: Path, *, bundled: bool) -> int:
    """How many files are not what the manifest says."""
    from llem.store.manifest import MANIFEST, altered

    try:
        found = altered(folder)
    except StoreError as error:  # of the manifest: all else is compared without it
        echo(error.message)
        return 1
    if found is None:
        if bundled:
            echo(f"the bundle has no {MANIFEST}: nothing says whether its files are those that were bundled")
        return 0
    return _tell(*found, "checksum", "compared")


def _unlike_journals(folder: Path) -> int:
    """How many files are not what the processes that wrote them say."""
    from llem.store.journal import compared
    from llem.store.manifest import JOURNAL, Altered

    found = compared(folder)
    if found is None and _journaled(folder):
        return _tell([Altered(JOURNAL, "missing", "study.json")], 0, "file", "compared with the journals")
    if found is None:
        echo("no journal: an older llem wrote this, and only places, logs and numbers can be compared")
        return 0
    for name in found.open_logs:
        echo(f"{name}: its last lines are not compared, because the run was killed or goes on")
    return _tell(found.altered, found.files, "file", "compared with the journals")


def _journaled(folder: Path) -> bool:
    """Whether study.json says that there are journals; that it cannot be read is told with all else."""
    from llem.store.journal import is_journaled

    try:
        return is_journaled(folder)
    except StoreError:
        return False


def _tell(altered: Sequence[Altered], named: int, word: str, how: str) -> int:
    """Print which files differ, and how many were compared; how many differ."""
    for one in altered:
        echo(str(one))
    told = f"{_counted(len(altered), 'file')} differ{'s' if len(altered) == 1 else ''}" if altered else "identical"
    echo(f"{_counted(named, word)} {how}, {told}")
    return len(altered)


def _differences(store: Store) -> int:
    """How many stored numbers are not the recomputed ones, and files not in their place."""
    from llem.metrics.verify import older_documents
    from llem.metrics.verify import verify as find_differences

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
    trials = sum(len(store.trial_indices(name)) for name in names)
    counted = f"{_counted(len(names), 'experiment')}, {_counted(trials, 'trial')} recomputed"
    if differences:
        echo(f"{counted}, {_counted(len(differences), 'difference')}")
    else:
        echo(f"{counted}, identical{' in what is compared' if older else ''}")
    return len(differences)
