"""`llem plan`: what a study would run. Imports nothing that could run it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from llem.cli.root import verbose_option
from llem.cli.settings import SettingsCommand, setting_options
from llem.cli.terminal import echo

if TYPE_CHECKING:
    from llem.study.plan.memory import GpuKind

__all__ = ["plan"]


@click.command(cls=SettingsCommand, epilog="Example: llem plan study.yaml --gpu-memory 80GiB")
@click.argument("study", required=False, type=click.Path(), metavar="[STUDY | MODEL | URL]")
@click.option("-m", "--model", help="Hugging Face id, folder or shape:NAME.  [default: the study's, else shape:tiny]")
@click.option("-b", "--backend", help="Inference backend.  [default: the study's, else as for `llem run`]")
@setting_options
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="A setting of every point; may repeat.")
@click.option(
    "--preset",
    type=click.Choice(["quick", "standard", "publication"]),
    help="How long and how often to measure.  [default: the study's, else standard]",
)
@click.option(
    "--gpu-memory", metavar="SIZE", help="Memory of each GPU, such as 80GiB.  [default: that of this machine's GPU]"
)
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON.")
@verbose_option
def plan(
    study: str | None,
    model: str | None,
    backend: str | None,
    assignments: tuple[str, ...],
    preset: str | None,
    url: str | None,
    gpu_memory: str | None,
    as_json: bool,
    verbose: bool,
    **short: str | None,
) -> None:
    """Show what STUDY would run: how many declared points remain and why, the order, estimates of time and memory.
    Without STUDY, llem plans what `llem run` would measure.

    llem runs nothing and loads no engine. The engines need not be installed.
    """
    from llem.cli.settings import flag_layers, study_or_model
    from llem.plugins.registry import registry
    from llem.reports.plan import plan_document, plan_lines
    from llem.study.plan.expand import load

    study, model, url = study_or_model(study, model, url)
    layers = flag_layers(model, backend, preset, assignments, short, url)
    planned = load(study, layers, registry(), gpu=_gpu(gpu_memory))
    if as_json:
        for piece in _pieces(plan_document(planned)):
            echo(piece, nl=False)
        echo()
    else:
        echo("\n".join(plan_lines(planned)))


def _pieces(document: Mapping[str, Any]) -> Iterator[str]:
    """JSON in pieces: that of 100,000 points is never in memory as a whole."""
    import itertools
    import json

    chunks = json.JSONEncoder(indent=2, sort_keys=True).iterencode(document)
    while piece := "".join(itertools.islice(chunks, 10_000)):
        yield piece


def _gpu(memory: str | None) -> Callable[[], GpuKind | None]:
    """The GPU's memory as given; else a function that reads this machine's GPU, called if an experiment may use one."""
    from llem.study.plan.memory import GpuKind, parse_bytes, this_gpu

    if memory is None:
        return this_gpu
    try:
        kind = GpuKind(parse_bytes(memory))
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="'--gpu-memory'") from None
    return lambda: kind
