"""Options by which a configuration is chosen, for the commands that choose one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

__all__ = ["decision_options"]

F = TypeVar("F", bound=Callable[..., Any])

#: In the order in which a command's help lists them.
_OPTIONS = (
    click.option(
        "--minimise",
        "--minimize",
        metavar="METRIC",
        help="Take the least of this metric: energy, energy_per_request, cost, carbon, latency, or any metric's name."
        "  [default: energy]",
    ),
    click.option(
        "--maximise",
        "--maximize",
        metavar="METRIC",
        help="Take the most of this metric: speed, or its name.  [default: minimise energy]",
    ),
    click.option(
        "--slo",
        "slos",
        multiple=True,
        metavar="LIMITS",
        help="Limits to keep, such as 'ttft:p99<500ms;tpot:p99<50ms'; may be repeated.",
    ),
    click.option(
        "--quality",
        "qualities",
        multiple=True,
        metavar="LIMITS",
        help="Scores to keep: 'gsm8k>=0.7', or against the reference 'gsm8k>=-0.01'; may be repeated.",
    ),
    click.option("--memory", metavar="SIZE", help="The most peak memory, such as 80GiB.  [default: no limit]"),
    click.option("--power", metavar="WATTS", help="The most power, such as 600W.  [default: no limit]"),
    click.option(
        "--reference", metavar="ID", help="The experiment that changes of scores are against.  [default: the study's]"
    ),
)


def decision_options(command: F) -> F:
    """The metric that decides, the limits to keep, and the reference of changes, as `Results.recommend` takes them.

    The command gets them as the arguments `minimise`, `maximise`, `slos`, `qualities`, `memory`, `power`, `reference`.
    """
    for option in reversed(_OPTIONS):
        command = option(command)
    return command
