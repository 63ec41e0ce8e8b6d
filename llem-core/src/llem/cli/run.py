"""`llem run`: measure a configuration, or all of a study."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from llem.cli.root import verbose_option
from llem.cli.settings import SettingsCommand, setting_options
from llem.cli.terminal import echo

if TYPE_CHECKING:
    from llem.api import Ready
    from llem.devices.load import HostWatch
    from llem.store.models import Result
    from llem.study.plan.study import Study

__all__ = ["run"]


@click.command(cls=SettingsCommand, epilog="Example: llem run -m shape:qwen2.5-0.5b --batch-size 8 -o out/")
@click.argument("study", required=False, type=click.Path(), metavar="[STUDY | MODEL | URL]")
@click.option("-m", "--model", help="Hugging Face id, folder or shape:NAME.  [default: shape:tiny]")
@click.option("-b", "--backend", help="Inference backend.  [default: the configured one, else one that runs here]")
@setting_options
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="KEY=VALUE",
    help="A setting, such as load.batch_size=8; may be repeated.",
)
@click.option(
    "--preset",
    type=click.Choice(["quick", "standard", "publication"]),
    help="How long and how often to measure: what is not set takes its values.  [default: standard]",
)
@click.option(
    "-o",
    "--out",
    metavar="DIR",
    help="Folder for the results; without --resume it must hold no trials.  "
    "[default: llem-results/…, named by the time]",
)
@click.option("--launcher", default="process", show_default=True, help="How workers run; `llem plugins` lists names.")
@click.option("--resume", is_flag=True, help="Continue in the folder: measure missing and failed trials.")
@click.option("--json", "as_json", is_flag=True, help="Print only the Result, as JSON; for a study, a list.")
@click.option("-q", "--quiet", is_flag=True, help="Show no progress; the result is printed.")
@verbose_option
def run(
    study: str | None,
    model: str | None,
    backend: str | None,
    assignments: tuple[str, ...],
    preset: str | None,
    url: str | None,
    out: str | None,
    launcher: str,
    resume: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
    **short: str | None,
) -> None:
    """Measure STUDY, a YAML file with one experiment or many, or one MODEL, or the server at a URL. Without any of
    them, llem measures a tiny model.

    All results go into one folder. Experiments that can share an engine take turns. If an experiment fails, the
    others still run. The exit code is 1 if an experiment failed, its result is invalid, or its quality could not be
    evaluated.
    """
    from llem.api import prepare
    from llem.cli.settings import flag_layers, study_or_model

    host = _watch_host()
    study, model, url = study_or_model(study, model, url)
    layers = flag_layers(model, backend, preset, assignments, short, url)
    ready = prepare(study, layers, out, launcher=launcher, resume=resume)
    quiet = quiet or as_json
    if not quiet and ready.make_launcher().same_machine and (note := host_note(host)):
        echo(note, err=True)
    if ready.study.file.single:
        run_one(ready, as_json, quiet, verbose)
    else:
        run_many(ready, as_json, quiet, verbose)


def _watch_host() -> HostWatch:
    """Begin to watch what others do on this machine: llem has to read the study meanwhile anyway."""
    from llem.devices.load import HostWatch

    watch = HostWatch()
    watch.look()
    watch.begin()
    return watch


def host_note(watch: HostWatch) -> str | None:
    """One line if the host was busy with other work meanwhile. llem measures all the same."""
    from llem.devices.load import busy

    watch.end()
    found = busy(watch.load())
    return None if found is None else f"note: {found}, so figures may scatter; `llem doctor` looks again"


def run_one(ready: Ready, as_json: bool, quiet: bool, verbose: bool) -> None:
    """Measure one configuration and print its Result."""
    from llem.cli.resume import keeping, offer
    from llem.cli.settings import tell_notes
    from llem.errors import LlemError
    from llem.progress.display import progress
    from llem.study.run.ran import unscored
    from llem.study.run.stopping import stop_on_interrupt

    if not quiet:
        tell_notes(ready.study)
    [planned] = ready.study.experiments
    shown = progress(planned.experiment.trials, quiet=quiet, verbose=verbose, folder=ready.folder)
    try:
        with keeping(ready.folder), stop_on_interrupt() as stop, shown as emit:
            result = ready.run(emit, stop).only()
    except LlemError as error:
        if error.code == "interrupted":
            raise KeyboardInterrupt from error
        raise
    show_result(result, as_json)
    if not as_json:
        echo(f"stored in {ready.folder}", err=True)
    if unscored(result):
        offer(ready.folder)
    if not result.valid or unscored(result):
        raise SystemExit(1)


def run_many(ready: Ready, as_json: bool, quiet: bool, verbose: bool) -> None:
    """Measure all experiments of a study and print them as a table, or as a list of Results."""
    from llem.analysis.overview import overview_of
    from llem.cli.resume import FINAL, counted, has_trials, keeping, offer
    from llem.progress.display import progress
    from llem.reports.notes import study_notes
    from llem.reports.tables import render_study
    from llem.reports.views import study_view
    from llem.store.convert import dump
    from llem.store.store import Store
    from llem.study.plan.study import study_document
    from llem.study.run.ran import unscored
    from llem.study.run.stopping import stop_on_interrupt

    if not quiet:
        _tell_left_out(ready.study)
    shown = progress(0, quiet=quiet, verbose=verbose, folder=ready.folder)
    with keeping(ready.folder), stop_on_interrupt() as stop, shown as emit:
        ran = ready.run(emit, stop)
    if as_json:
        echo(json_text([dump(result) for result in ran.results]))
    else:
        notes = study_notes(Store.open(ready.folder))
        render_study(study_view(map(overview_of, ran.results), study_document(ready.study), notes))
        echo(f"stored in {ready.folder}", err=True)
    failed = any(result.outcome != "done" or unscored(result) for result in ran.results)
    if ran.stopped is not None or failed:
        echo(counted(ran.results, len(ready.study.experiments)), err=True)
    left = any(one.outcome not in ("done", *FINAL) or unscored(one) for one in ran.results)
    if ran.interrupted is not None or (has_trials(ready.folder) and (ran.stopped is not None or left)):
        offer(ready.folder)
    if ran.interrupted is not None:
        raise KeyboardInterrupt from ran.interrupted
    if ran.stopped is not None:
        raise ran.stopped
    if ran.damaged:
        raise next(iter(ran.damaged.values()))
    if failed or any(not result.valid for result in ran.results):
        raise SystemExit(1)


def _tell_left_out(study: Study) -> None:
    """Say in one line how many points of the study will not run; `llem plan` gives the reasons."""
    from llem.cli.settings import tell_notes

    counts = {word: len(getattr(study, word)) for word in ("excluded", "invalid", "merged")}
    left_out = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
    about = f" ({study.declared} declared, {left_out}; `llem plan` lists them)" if left_out else ""
    echo(f"{study.name}: {len(study.experiments)} experiments{about}", err=True)
    tell_notes(study)


def show_result(result: Result, as_json: bool) -> None:
    """Print a Result on standard output."""
    from llem.reports.console import render_result
    from llem.store.convert import dump

    if as_json:
        echo(json_text(dump(result)))
    else:
        render_result(result)


def json_text(document: Any) -> str:
    """JSON as this command prints it: in ASCII, which is right on every terminal."""
    import json

    return json.dumps(document, indent=2, sort_keys=True)
