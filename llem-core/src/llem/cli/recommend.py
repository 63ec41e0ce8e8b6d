"""`llem recommend`: which configuration of a folder to take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llem.analysis.collection import Results
    from llem.analysis.decision import Recommendation
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
#: Ends the command where no configuration keeps all limits.
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
    as_json: bool,
) -> None:
    """Say which configuration of DIR to take, how sure that is, and why the others are not taken.

    A configuration is taken if it keeps all limits and costs the least of those that do, as far as the trials tell:
    llem gives the probability of that, the configurations that are not told from it, and what would tell them apart.
    Values of limits have units. Invalid results, the fake `echo` and energies of different kinds are never ranked.
    The exit code is 1 if no configuration keeps all limits.
    """
    from llem.analysis.collection import Results
    from llem.store.store import Store

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
    results = Results.open(Store.open(folder))
    found = results.recommend(**asked)
    view = _view(results, found, top, folder)
    for warning in view.warnings:
        click.echo(f"warning: {warning}", err=True)
    serving = None if load is None else _serving(results, found, load, reference)
    _print(view, {**asked, "load": load}, serving, as_json=as_json)
    if found.choice is None:
        raise click.exceptions.Exit(NOTHING)


def _view(results: Results, found: Recommendation, top: int, folder: str) -> RecommendationView:
    from llem.analysis.overview import overview_of
    from llem.reports.recommendation import metrics_read, recommendation_view

    metrics = metrics_read(found)
    return recommendation_view(found, lambda name: overview_of(results[name], metrics), top=top, folder=folder)


def _serving(results: Results, found: Recommendation, load: str, reference: str | None) -> Serving:
    from llem.analysis.serving import serve_load

    return serve_load(results, load, found.limits, reference=reference)


def _print(view: RecommendationView, asked: Mapping[str, Any], serving: Serving | None, *, as_json: bool) -> None:
    if as_json:
        from llem.reports.recommendation import document
        from llem.reports.serving import serving_document
        from llem.store.files import to_text

        more = {} if serving is None else {"serving": serving_document(serving)}
        click.echo(to_text({**document(view.found, asked, view.basis), **more}), nl=False)
        return
    from llem.reports.decision_tables import render_recommendation, render_serving
    from llem.reports.serving import serving_view

    render_recommendation(view)
    if serving is not None:
        click.echo()
        render_serving(serving_view(serving))
