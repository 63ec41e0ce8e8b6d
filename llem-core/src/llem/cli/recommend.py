"""`llem recommend`: which configuration of a folder to take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from llem.cli.prices import price_options, with_inputs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llem.analysis.collection import Results
    from llem.analysis.decision import Recommendation
    from llem.analysis.prices import Prices
    from llem.analysis.ranked import Ranked
    from llem.analysis.serving import Serving
    from llem.reports.recommendation import RecommendationView

__all__ = ["metric_named", "recommend"]

#: Short words for metrics that people decide by.
WORDS = {
    "energy": "energy_per_output_token_j",
    "energy_per_request": "energy_per_request_j",
    "cost": "cost_per_million_output_tokens",
    "carbon": "gco2e_per_million_output_tokens",
    "latency": "e2el_s",
    "speed": "output_tokens_per_s",
}
#: Ends the command where no configuration keeps all limits, or a confirmation is none.
NOTHING = 1


def metric_named(text: str) -> str:
    """The metric that a short word stands for; any other name as it is."""
    return WORDS.get(text, text)


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path())
@click.option(
    "--minimise",
    "--minimize",
    metavar="METRIC",
    help="Take the least of this metric: energy, energy_per_request, cost, carbon, latency, or any metric's name."
    "  [default: energy]",
)
@click.option("--maximise", "--maximize", metavar="METRIC", help="Take the most of this metric: speed, or its name.")
@click.option(
    "--slo", "slos", multiple=True, metavar="LIMITS", help="Limits to keep, such as 'ttft:p99<500ms;tpot:p99<50ms'."
)
@click.option(
    "--quality",
    "qualities",
    multiple=True,
    metavar="LIMITS",
    help="Scores to keep: 'gsm8k>=0.7', or against the reference 'gsm8k>=-0.01'.",
)
@click.option("--memory", metavar="SIZE", help="The most memory, such as 80GiB.")
@click.option("--power", metavar="WATTS", help="The most power, such as 600W.")
@click.option(
    "--reference", metavar="ID", help="The experiment that changes of scores are against.  [default: the study's]"
)
@click.option("--load", metavar="RATE|FILE", help="Also say what serves this load: 50/s, or a CSV of rates over time.")
@click.option(
    "--top", type=click.IntRange(min=1), default=5, show_default=True, help="So many configurations in the table."
)
@click.option(
    "--emit",
    type=click.Choice(["yaml", "command"]),
    help="Print the choice alone: as a study that measures it again, or as what launches it without llem.",
)
@click.option(
    "--confirm",
    "processes",
    type=click.IntRange(min=1),
    metavar="N",
    help="Measure the choice and the runner-up again in N new engine processes each.",
)
@click.option("-o", "--out", metavar="DIR", help="With --confirm: folder for what is measured.")
@click.option("--resume", is_flag=True, help="With --confirm: continue in the folder of -o.")
@price_options
@click.option("--json", "as_json", is_flag=True, help="Print the recommendation alone, as JSON.")
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
    processes: int | None,
    out: str | None,
    resume: bool,
    prices: Prices | None,
    as_json: bool,
) -> None:
    """Say which configuration of DIR to take, how sure that is, and why the others are not taken.

    A configuration is taken if it keeps all limits and costs the least of those that do, as far as the trials tell:
    llem gives the probability of that, the configurations that are not told from it, and what would tell them apart.
    Values of limits have units. Invalid results, the fake `echo` and energies of different kinds are never ranked.
    The exit code is 1 if no configuration keeps all limits, or if what --confirm measured is not as it was stated.
    """
    from llem.analysis.collection import Results
    from llem.analysis.recommend import limits_of, objective_of, ranked_of, recommended
    from llem.store.store import Store

    _refuse_together(emit, processes, out, load, resume=resume, as_json=as_json)

    if minimise is not None and maximise is not None:
        raise click.UsageError("--minimise and --maximise are two objectives; limit one of them with --slo")
    asked: dict[str, Any] = {
        "minimise": None if minimise is None else metric_named(minimise),
        "maximise": None if maximise is None else metric_named(maximise),
        "slo": ";".join(slos),
        "quality": ";".join(qualities),
        "memory": memory,
        "power": power,
        "reference": reference,
    }
    limits = limits_of(asked["slo"], asked["quality"], memory, power)
    results = Results.open(Store.open(folder), prices)
    ranked = ranked_of(results, objective_of(asked["minimise"], asked["maximise"]), limits, reference)
    found = recommended(results, ranked)
    view = _view(results, found, top, folder)
    for warning in view.warnings:
        click.echo(f"warning: {warning}", err=True)
    if emit is not None and found.choice is not None:
        _emit(results, found.choice, emit)
        return
    serving = None if load is None else _serving(results, found, load, reference)
    _print(view, {**asked, "load": load}, serving, results, as_json=as_json)
    if found.choice is None:
        raise click.exceptions.Exit(NOTHING)
    if processes is not None:
        _confirm(results, found, ranked, processes, out, resume=resume)


def _refuse_together(
    emit: str | None, processes: int | None, out: str | None, load: str | None, *, resume: bool, as_json: bool
) -> None:
    if emit is not None and (processes is not None or as_json or load is not None):
        raise click.UsageError("--emit prints the choice alone; leave --confirm, --load and --json out")
    if processes is not None and as_json:
        raise click.UsageError("--confirm prints what it measures; its outcome as JSON is confirm.json in its folder")
    if processes is None and (out is not None or resume):
        raise click.UsageError("-o and --resume belong to --confirm N")


def _emit(results: Results, choice: str, form: str) -> None:
    """Print the choice as something to use."""
    from llem.reports.emit import command_text, deployment, study_yaml

    if form == "yaml":
        click.echo(study_yaml(results.store, [choice]), nl=False)
    else:
        click.echo(command_text(deployment(results.store, choice)), nl=False)


def _confirm(
    results: Results, found: Recommendation, ranked: Ranked, processes: int, out: str | None, *, resume: bool
) -> None:
    """State where the choice and the runner-up will be, measure both again, and judge."""
    from llem.api import prepare_confirmation
    from llem.cli.run import tell_left_behind
    from llem.errors import LlemError
    from llem.progress.display import progress
    from llem.reports.confirmation import confirmation_notes, render_confirmation, render_statement
    from llem.study.run.stopping import stop_on_interrupt

    prepared = prepare_confirmation(results.store, found, ranked.posterior, processes, out, resume=resume)
    click.echo()
    render_statement(prepared.statement)
    try:
        with stop_on_interrupt() as stop, progress(0, quiet=False, verbose=False) as emit:
            outcome = prepared.run(emit, stop)
    except LlemError as error:
        tell_left_behind(prepared.ready, error)
        if error.code == "interrupted":
            raise KeyboardInterrupt from error
        raise
    click.echo()
    render_confirmation(outcome)
    for note in confirmation_notes(outcome):
        click.echo(note)
    click.echo(f"stored in {prepared.ready.folder}", err=True)
    if outcome.confirmed is False:
        raise click.exceptions.Exit(NOTHING)


def _view(results: Results, found: Recommendation, top: int, folder: str) -> RecommendationView:
    from llem.analysis.overview import overview_of
    from llem.reports.recommendation import metrics_read, recommendation_view

    metrics = metrics_read(found)
    metric = results.metric_of(found.objective)
    return recommendation_view(
        found, lambda name: overview_of(results[name], metrics), metric=metric, top=top, folder=folder
    )


def _serving(results: Results, found: Recommendation, load: str, reference: str | None) -> Serving:
    from llem.analysis.serving import serve_load

    return serve_load(results, load, found.limits, results.prices, reference=reference)


def _print(
    view: RecommendationView,
    asked: Mapping[str, Any],
    serving: Serving | None,
    results: Results,
    *,
    as_json: bool,
) -> None:
    if as_json:
        from llem.reports.recommendation import document
        from llem.reports.serving import serving_document
        from llem.store.files import to_text

        more = {} if serving is None else {"serving": serving_document(serving)}
        click.echo(to_text(with_inputs({**document(view.found, asked, view.basis), **more}, results.prices)), nl=False)
        return
    from llem.reports.decision_tables import render_recommendation, render_serving
    from llem.reports.serving import serving_view

    render_recommendation(view)
    if serving is not None:
        click.echo()
        render_serving(serving_view(serving))
    if results.prices is not None:
        from llem.reports.notes import price_note

        ranked = {one.id for one in view.found.contenders}
        rows = results.overviews(("energy_per_output_token_j", "cost_per_million_output_tokens"))
        click.echo(price_note(results.prices, [row for row in rows if row.id in ranked]))
