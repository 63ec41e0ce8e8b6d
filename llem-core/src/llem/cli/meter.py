"""`llem meter`: the energy of any command."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from llem.cli.root import verbose_option
from llem.cli.terminal import echo

if TYPE_CHECKING:
    from llem.protocol.events import Event
    from llem.store.models import Result

__all__ = ["meter"]


@click.command(
    context_settings={"allow_interspersed_args": False},
    epilog="Example: llem meter --meters codecarbon -o out/ -- python work.py",
)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option(
    "-o",
    "--out",
    metavar="DIR",
    help="Store: a new folder, or one that holds metered commands.  [default: llem-results/…, named by the time]",
)
@click.option("--name", help="Name of the experiment.  [default: the beginning of the command]")
@click.option("--trials", default=1, show_default=True, type=click.IntRange(1), help="Runs of the command.")
@click.option("--meters", metavar="NAMES", help="Meters, with commas.  [default: nvml,rapl as far as they work]")
@click.option(
    "--requests",
    metavar="FILE",
    help="Requests that the command writes: vLLM bench, AIPerf or GuideLLM.  [default: none]",
)
@click.option(
    "--baseline", "baseline_s", default=10.0, show_default=True, type=click.FloatRange(0, 86_400),
    help="Seconds of idle measurement before; half of it after. 0 for none.",
)  # fmt: skip
@click.option("--server-pid", "server_pids", multiple=True, type=int, help="A running process that is measured too.")
@click.option("-m", "--model", help="Name of the model that the command uses, for tables.  [default: none]")
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="A setting, such as gpus=[0].")
@click.option("--json", "as_json", is_flag=True, help="Print the Result as JSON; the command then prints to stderr.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
@verbose_option
def meter(
    command: tuple[str, ...],
    out: str | None,
    name: str | None,
    trials: int,
    meters: str | None,
    requests: str | None,
    baseline_s: float,
    server_pids: tuple[int, ...],
    model: str | None,
    assignments: tuple[str, ...],
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Measure the energy of COMMAND on this machine: `llem meter -- COMMAND ARGUMENTS…`.

    The window is the command's whole run, from its start to its exit. With --requests, llem adds energy per token and
    per request; the window is then from the first request to the last token, where the meters allow it.

    The command keeps the terminal, its environment and its output. llem writes its own messages and the result to
    standard error, and ends with the command's exit code if the command fails.
    """
    from llem.cli.settings import flag_layers
    from llem.config.layers import Layer
    from llem.plugins.registry import registry
    from llem.study.run.metered import prepare_metered
    from llem.study.run.stopping import stop_on_interrupt

    named = [Layer("flag --meters", {"meters": _names(meters)})] if meters is not None else []
    prepared = prepare_metered(
        command, registry(), out=out, name=name, trials=trials, requests=requests, baseline_s=baseline_s,
        server_pids=server_pids, overrides=[*flag_layers(model, None, None, assignments), *named],
        output=2 if as_json else None,
    )  # fmt: skip
    with stop_on_interrupt("with the command") as stop:
        ran = prepared.run(_ignore if quiet or as_json else _tell, stop)
    result = next(iter(ran.results), None)
    if result is not None:
        _show(result, as_json, quiet)
        if not quiet and not as_json:
            echo(f"stored in {prepared.folder}", err=True)
    if ran.interrupted is not None:
        raise KeyboardInterrupt from ran.interrupted
    if prepared.exit_code:
        raise SystemExit(prepared.exit_code)
    ran.only()
    if result is not None and not result.valid:
        raise SystemExit(1)


def _names(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _ignore(event: Event) -> None:
    return None


def _tell(event: Event) -> None:
    """A line for each phase that takes time; a display that moves would fight with the command for the terminal."""
    from llem.protocol.events import Phase

    if not isinstance(event, Phase):
        return
    if event.phase.startswith("baseline"):
        echo(f"llem: {event.phase.replace('baseline', 'idle baseline')}, {event.seconds:g} s", err=True)
    elif event.phase == "warm-up":
        echo("llem: running the command without measuring", err=True)
    elif event.phase == "trial":
        echo("llem: running the command", err=True)


def _show(result: Result, as_json: bool, quiet: bool) -> None:
    import json

    from llem.reports.console import render_result
    from llem.reports.figures import screen
    from llem.store.convert import dump

    if as_json:
        document: Any = dump(result)
        echo(json.dumps(document, indent=2, sort_keys=True))
    elif not quiet:
        render_result(result, screen(stderr=True))
