"""`llem report`: the results of a folder as one HTML file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from llem.cli.deciding import decision_options
from llem.cli.prices import price_options
from llem.cli.terminal import echo

if TYPE_CHECKING:
    from llem.analysis.prices import Prices

__all__ = ["report"]


@click.command(epilog="Example: llem report out/ --slo 'ttft:p99<500ms' -o report.html")
@click.argument("folder", metavar="DIR", type=click.Path())
@click.option(
    "-o", "--out", metavar="FILE", default="report.html", show_default=True, help="File to write; it ends with .html."
)
@decision_options
@price_options
def report(
    folder: str,
    out: str,
    minimise: str | None,
    maximise: str | None,
    slos: tuple[str, ...],
    qualities: tuple[str, ...],
    memory: str | None,
    power: str | None,
    reference: str | None,
    prices: Prices | None,
) -> None:
    """Write what DIR holds as one HTML file that opens without llem and without a network.

    It begins with the verdict of `llem recommend` with the same options, or says why there is none. Then come the
    trade-off, effects, quality, where the time went, a table of all experiments, and each experiment at length. A file
    that is there is replaced if it is a page of HTML; any other is left as it is. Experiments that failed, or whose
    files are damaged, are in the report with what went wrong, and do not change the exit code.
    """
    from llem.api import load_results
    from llem.api import report as write_report

    if minimise is not None and maximise is not None:
        raise click.UsageError("--minimise and --maximise are two objectives; limit one of them with --slo")
    written = write_report(
        load_results(folder, prices),
        out,
        minimise=minimise,
        maximise=maximise,
        slo=";".join(slos),
        quality=";".join(qualities),
        memory=memory,
        power=power,
        reference=reference,
    )
    echo("\n".join(written.head["verdict"]["sentences"]))
    echo(f"written to {out}", err=True)
