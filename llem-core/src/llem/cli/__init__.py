"""The command line. Each command lives in a module of its own and imports what it needs when it is called."""

from __future__ import annotations

import os

import click

from llem import __version__
from llem.cli.bundle import bundle as bundle_command
from llem.cli.compare import compare as compare_command
from llem.cli.completion import COMPLETE, prepare
from llem.cli.completion import completion as completion_command
from llem.cli.config import config as config_group
from llem.cli.doctor import doctor as doctor_command
from llem.cli.export import export as export_command
from llem.cli.init import init as init_command
from llem.cli.meter import meter as meter_command
from llem.cli.pareto import pareto as pareto_command
from llem.cli.plan import plan as plan_command
from llem.cli.plugins import plugins as plugins_command
from llem.cli.recommend import recommend as recommend_command
from llem.cli.report import report as report_command
from llem.cli.root import Root, verbose_option
from llem.cli.run import run as run_command
from llem.cli.show import show as show_command
from llem.cli.verify import verify as verify_command
from llem.cli.worker import worker as worker_command

__all__ = ["cli", "main"]


@click.group(
    cls=Root,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="`llem COMMAND --help` says more. Example: llem run --preset quick",
)
@click.version_option(__version__, "-V", "--version", prog_name="llem")
@verbose_option
def cli(verbose: bool) -> None:
    """Which deployment configuration? Energy, time, memory and quality of LLM inference, with confidence intervals.

    Begin with `llem run`: it measures a tiny model with random weights on the installed backend.
    """


for _command in (
    run_command,
    plan_command,
    show_command,
    recommend_command,
    compare_command,
    pareto_command,
    report_command,
    export_command,
    bundle_command,
    verify_command,
    init_command,
    meter_command,
    config_group,
    plugins_command,
    doctor_command,
    completion_command,
    worker_command,
):
    cli.add_command(_command)


def main() -> None:
    """Entry point of the `llem` script."""
    if COMPLETE in os.environ:
        prepare(cli)
    cli()
