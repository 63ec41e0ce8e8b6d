"""`llem bundle`: a result folder as one file, with checksums."""

from __future__ import annotations

import click

from llem.cli.terminal import echo

__all__ = ["bundle"]

#: Files that are left out and named one by one; of more, their number is told.
NAMED = 5


@click.command(epilog="Example: llem bundle out/ -o results.tar.gz")
@click.argument("folder", metavar="DIR", type=click.Path())
@click.option(
    "-o", "--out", type=click.Path(), metavar="FILE", help="File to write, .tar.gz or .zip.  [default: DIR.tar.gz]"
)
def bundle(folder: str, out: str | None) -> None:
    """Write the results of DIR into one file that others can check.

    The file holds what llem stored, raw rows included, and the checksum of each file (SHA256SUMS). `llem verify FILE`
    compares the checksums and computes all numbers again. The same results give the same bytes. Logs of workers, locks
    and files that llem did not write are left out. llem prints the SHA-256 of the file: publish it beside the file.
    """
    from llem.store.bundle import bundle as write_bundle

    made = write_bundle(folder, out)
    others = [name for name in made.left_out if not name.startswith("workers/")]
    if others:
        named = (
            ", ".join(others) if len(others) <= NAMED else f"{', '.join(others[:NAMED])} and {len(others) - NAMED} more"
        )
        echo(f"note: llem did not write these files of {folder}, and leaves them out: {named}", err=True)
    echo(f"{made.path}: {made.files} files")
    echo(f"SHA-256 {made.sha256}")
