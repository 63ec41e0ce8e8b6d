"""`llem recommend`: which configuration of a folder to take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from llem.cli.deciding import decision_options
from llem.cli.prices import price_options, with_inputs
from llem.cli.root import verbose_option
from llem.cli.terminal import echo

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from llem.analysis.collection import Results
    from llem.analysis.confirm import Confirmation
    from llem.analysis.decision import Recommendation
    from llem.analysis.overview import Overview
    from llem.analysis.prices import Prices
    from llem.analysis.ranked import Ranked
    from llem.analysis.serving import Serving
    from llem.api import PreparedConfirmation
    from llem.reports.recommendation import RecommendationView

__all__ = ["recommend"]

#: Ends the command where no configuration keeps all limits, or the choice is not confirmed.
NOTHING = 1


@click.command(epilog="Example: llem recommend out/ --slo 'ttft:p99<500ms' --memory 80GiB")
@click.argument("folder", metavar="DIR", type=click.Path())
@decision_options
@click.option(
    "--load",
    metavar="RATE|FILE",
    help="Also say what serves this load: 50/s, or a CSV of rates over time.  [default: no load]",
)
@price_options
@click.option(
    "--top", type=click.IntRange(min=1), default=5, show_default=True, help="So many configurations in the table."
)
@click.option(
    "--emit",
    type=click.Choice(["yaml", "command"]),
    help="Print the choice alone: as a study that measures it again, or as commands that launch it without llem.  "
    "[default: the whole verdict]",
)
@click.option(
    "--confirm",
    type=click.IntRange(min=1),
    metavar="N",
    help="Measure the choice and the runner-up again, in N new engine processes of each, and say whether they lie "
    "where it was stated before.  [default: measure nothing]",
)
@click.option("-o", "--out", metavar="PATH", help="File of --emit; folder of --confirm.  [default: DIR-confirm-1, …]")
@click.option("--launcher", help="How workers of --confirm run.  [default: process]")
@click.option("--resume", is_flag=True, help="Go on with the --confirm in the folder.")
@click.option("--json", "as_json", is_flag=True, help="Print the recommendation alone, as JSON.")
@click.option("-q", "--quiet", is_flag=True, help="Show no progress of --confirm.")
@verbose_option
def recommend(
    folder: str,
    minimise: str | None,
    maximise: str | None,
    slos: tuple[str, ...],
    qualities: tuple[str, ...],
    memory: str | None,
    power: str | None,
    reference: str | None,
    load: str | None,
    top: int,
    emit: str | None,
    confirm: int | None,
    out: str | None,
    launcher: str | None,
    resume: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
    prices: Prices | None,
) -> None:
    """Say which configuration of DIR to take, how sure that is, and why the others are not taken.

    A configuration is taken if it keeps all limits and costs the least of those that do, as far as the trials tell:
    llem gives the probability of that, the configurations that are not told from it, and what would tell them apart.
    Values of limits have units. Invalid results, the fake `echo` and energies of different kinds are never ranked.
    The exit code is 1 if no configuration keeps all limits, or if --confirm does not confirm the choice.
    """
    from llem.analysis.collection import Results
    from llem.analysis.recommend import metric_named
    from llem.analysis.serving import serve_load
    from llem.cli.terminal import tell_damaged
    from llem.metrics.catalogue import PRICED
    from llem.store.store import Store

    alone = {"--json": as_json, "--load": load, "--confirm": confirm}
    _refuse(emit, confirm, out, alone=alone, belongs={"--launcher": launcher, "--resume": resume})
    if minimise is not None and maximise is not None:
        raise click.UsageError("--minimise and --maximise are two objectives; limit one of them with --slo")
    asked = {
        "minimise": None if minimise is None else metric_named(minimise),
        "maximise": None if maximise is None else metric_named(maximise),
        "slo": ";".join(slos),
        "quality": ";".join(qualities),
        "memory": memory,
        "power": power,
        "reference": reference,
    }
    named = f"{asked['minimise']} {asked['slo']}".lower()
    if prices is not None and load is None and not any(name in named for name in PRICED):
        raise click.UsageError("prices decide nothing here; minimise or limit cost or carbon, or give a --load")
    results = Results.open(Store.open(folder), prices)
    ranked, found = _decided(results, asked)
    view = _view(results, found, top, folder)
    serving = None if load is None else serve_load(results, load, found.limits, prices, reference)
    tell_damaged(results)
    if emit is not None:
        _emit(results, view, emit, out)
    elif not as_json:
        _print(view, serving, results)
    confirmation = None
    if confirm is not None and found.choice is not None:
        ready = _prepare(results, ranked, found, confirm, out, launcher or "process", resume=resume)
        confirmation = _confirmed(ready, as_json=as_json, quiet=quiet or as_json, verbose=verbose)
    if as_json:
        echo(_json(view, {**asked, "load": load}, serving, confirmation, prices), nl=False)
    if found.choice is None or (confirmation is not None and confirmation.confirmed is not True):
        raise click.exceptions.Exit(NOTHING)


def _decided(results: Results, asked: Mapping[str, str | None]) -> tuple[Ranked, Recommendation]:
    """The decision, with what it rests on; its warnings are told."""
    from llem.analysis.recommend import limits_of, objective_of, ranked_of, recommended

    limits = limits_of(asked["slo"] or "", asked["quality"] or "", asked["memory"], asked["power"])
    ranked = ranked_of(results, objective_of(asked["minimise"], asked["maximise"]), limits, asked["reference"])
    found = recommended(results, ranked)
    for warning in found.warnings:
        echo(f"warning: {warning}", err=True)
    return ranked, found


def _view(results: Results, found: Recommendation, top: int, folder: str) -> RecommendationView:
    from llem.reports.recommendation import metrics_read, recommendation_view

    metrics = metrics_read(found)

    def read(name: str) -> Overview:
        return next(iter(_only(results, [name]).overviews(metrics)))

    metric = results.metric_of(found.objective)
    return recommendation_view(found, read, metric=metric, top=top, folder=folder)


def _only(results: Results, ids: Sequence[str]) -> Results:
    """Some of the results, with the same prices."""
    return type(results)(results.store, ids, prices=results.prices)


def _refuse(
    emit: str | None, confirm: int | None, out: str | None, alone: Mapping[str, Any], belongs: Mapping[str, Any]
) -> None:
    """Raise UsageError for options that do not go together."""
    if emit is not None and (given := [name for name, value in alone.items() if value]):
        raise click.UsageError(f"--emit prints the choice alone; leave {given[0]} out")
    if out is not None and emit is None and confirm is None:
        raise click.UsageError("-o belongs to --emit and --confirm")
    if confirm is None and (given := [name for name, value in belongs.items() if value]):
        raise click.UsageError(f"{given[0]} belongs to --confirm")


def _emit(results: Results, view: RecommendationView, kind: str, out: str | None) -> None:
    """Print or write the choice. Standard output is for that alone: if there is none, the verdict goes to the other."""
    from llem.reports.emit import command_text, deployment, study_yaml
    from llem.reports.export import write_out

    choice = view.found.choice
    if choice is None:
        echo("\n".join(view.verdict), err=True)
        return
    if kind == "yaml":
        text = study_yaml(results.store, [choice])
    else:
        text = command_text(deployment(results.store, choice), f"experiment {choice}")
    if out is None:
        echo(text, nl=False)
    else:
        write_out(out, text.encode())


def _prepare(
    results: Results,
    ranked: Ranked,
    found: Recommendation,
    processes: int,
    out: str | None,
    launcher: str,
    *,
    resume: bool,
) -> PreparedConfirmation:
    from llem.api import prepare_confirmation

    return prepare_confirmation(
        results.store, found, ranked.posterior, processes, out, launcher=launcher, resume=resume, prices=results.prices
    )


def _confirmed(prepared: PreparedConfirmation, *, as_json: bool, quiet: bool, verbose: bool) -> Confirmation:
    """Say where the choice and the runner-up will be, measure them again, and say whether they are there."""
    from llem.cli.resume import keeping
    from llem.errors import LlemError
    from llem.progress.display import progress
    from llem.reports.confirmation import render_confirmation, render_statement
    from llem.study.run.stopping import stop_on_interrupt

    if not as_json:
        echo()
        render_statement(prepared.statement)
    shown = progress(0, quiet=quiet, verbose=verbose, folder=(folder := prepared.ready.folder))
    try:
        with keeping(folder), stop_on_interrupt() as stop, shown as emit:
            confirmation = prepared.run(emit, stop)
    except LlemError as error:
        if error.code == "interrupted":
            raise KeyboardInterrupt from error
        raise
    if not as_json:
        echo()
        render_confirmation(confirmation)
    echo(f"stored in {folder}", err=True)
    return confirmation


def _print(view: RecommendationView, serving: Serving | None, results: Results) -> None:
    from llem.metrics.catalogue import PRICED
    from llem.reports.decision_tables import render_recommendation, render_serving
    from llem.reports.notes import price_note
    from llem.reports.serving import serving_view

    render_recommendation(view)
    amounts = [name for name in (view.found.objective, *(one.metric for one in view.found.limits)) if name in PRICED]
    if results.prices is not None and amounts:
        shown = _only(results, [one.id for one in view.rows])
        echo(price_note(results.prices, shown.overviews(amounts)))
    if serving is not None:
        echo()
        render_serving(serving_view(serving))
        if results.prices is not None:
            echo(f"prices: {results.prices}; idle time is counted")


def _json(
    view: RecommendationView,
    asked: Mapping[str, Any],
    serving: Serving | None,
    confirmation: Confirmation | None,
    prices: Prices | None,
) -> str:
    import attrs

    from llem.reports.recommendation import document
    from llem.store.files import to_text

    more = {"serving": serving, "confirmation": confirmation}
    told = {name: attrs.asdict(one) for name, one in more.items() if one is not None}
    return to_text(with_inputs({**document(view.found, asked, view.basis), **told}, prices))
