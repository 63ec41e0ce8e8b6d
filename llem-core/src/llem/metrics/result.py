"""One Result from what is stored of one experiment. Pure and deterministic: the same input gives the same bits.

Also whether all its trials ran on the same boards. They need not: a study goes on elsewhere, a cluster has many. GPUs
are told apart by UUID. Experiments without one are told apart by the stored environment: the machine's processor,
memory and system, and the software that was measured. Two machines of one build and state look alike there.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import attrs

from llem.config.models import least_trials
from llem.findings import Finding, finding
from llem.meters.trace import TraceRow
from llem.metrics.catalogue import compute_metrics
from llem.metrics.checks.trials import check_all, merge
from llem.metrics.domains import domain_metrics
from llem.metrics.energies import Headline, headline, token_energy
from llem.metrics.idle import trusted
from llem.metrics.metric import Measured
from llem.metrics.quality import quality_findings, quality_metrics, wanted
from llem.metrics.setup import Setup, setup_of
from llem.metrics.statistics import mean
from llem.store.evaluations import Evaluation, evaluations, read_items
from llem.store.files import computed_from
from llem.store.models import BaselineReading, Quantity, RequestRow, Result, Trial
from llem.store.store import Store

__all__ = ["Place", "compute_result", "place_of", "recompute", "several_boards"]

PUBLISHABLE_TRIALS = 5


def compute_result(
    experiment: Mapping[str, Any],
    engines: Sequence[Mapping[str, Any]],
    trials: Sequence[Trial],
    baselines: Sequence[BaselineReading],
    requests: Mapping[int, Sequence[RequestRow]],
    outcomes: Sequence[Mapping[str, Any]],
    traces: Mapping[int, Sequence[TraceRow]],
    evaluations: Sequence[Evaluation] = (),
) -> Result:
    """The Result of one experiment.

    Args:
        experiment: the document experiment.json.
        engines: engine-<process>.json of every engine process that loaded, by process.
        trials: by index.
        baselines: idle measurements.
        requests, traces: rows by trial index.
        outcomes: outcome-<process>.json of every engine process that ended, by process.
        evaluations: quality-<key>.json of every task that was evaluated, with their items.
    """
    setup = setup_of(experiment, engines)
    measured = Measured(setup, trials, trusted(baselines, engines), lambda index: requests.get(index, ()))
    quality = quality_metrics(experiment["config"], evaluations)
    metrics = {**compute_metrics(measured), **quality}
    told = [_finding(raw) for document in (*engines, *outcomes) for raw in document.get("findings", ())]
    told = [one for one in told if one.code != "quality_failed" or not _mended(one, quality)]
    checked = [*check_all(measured, metrics, traces), *quality_findings(experiment, quality)]
    findings = merge(trials, [*told, *several_boards(engines, trials), *checked])
    outcome, error = _outcome(setup, trials, outcomes)
    severities = {found.severity for found in findings}
    valid = outcome == "done" and bool(trials) and "error" not in severities
    engine: Mapping[str, Any] = engines[0] if engines else {}
    return Result(
        id=experiment["id"],
        outcome=outcome,
        config=experiment["config"],
        sources=experiment.get("sources", {}),
        effective=engine.get("effective", {}),
        environment=engine.get("environment", ""),
        weights=experiment["model"]["weights"],
        trials=len(trials),
        metrics=metrics,
        domains=domain_metrics(trials, measured.baselines),
        findings=findings,
        valid=valid,
        publishable=valid and _publishable(setup, trials, severities),
        error=error,
    )


def _publishable(setup: Setup, trials: Sequence[Trial], severities: Collection[str]) -> bool:
    return "warning" not in severities and setup.preset != "quick" and len(trials) >= PUBLISHABLE_TRIALS


def _mended(failure: Finding, quality: Mapping[str, Quantity]) -> bool:
    """Whether the task that had failed has a score since; of a failure that names no task, whether all have."""
    task = failure.evidence.get("task")
    concerned = [name for name in quality if task is None or name == f"quality.{task}"]
    return all(quality[name].reason != "not_evaluated" for name in concerned)


def _finding(raw: Mapping[str, Any]) -> Finding:
    return Finding(raw["code"], raw["severity"], raw["message"], raw.get("evidence", {}))


def _outcome(setup: Setup, trials: Sequence[Trial], outcomes: Sequence[Mapping[str, Any]]) -> tuple[str, str | None]:
    """`done` with as many trials and engine processes as were asked for at least, unless the last one failed."""
    if not outcomes:
        return "interrupted", f"no engine process ended; trials that are stored: {len(trials)}"
    if outcomes[-1]["outcome"] != "done":
        return outcomes[-1]["outcome"], outcomes[-1].get("error")
    wanted = least_trials(setup.trials, setup.processes)
    if len(trials) < wanted:
        return "interrupted", f"{len(trials)} of {wanted} trials are stored"
    processes = len({trial.process for trial in trials})
    if processes < setup.processes:
        return "interrupted", f"{processes} of {setup.processes} engine processes have trials"
    return "done", None


def recompute(
    store: Store,
    experiment_id: str,
    with_items: Callable[[Store, str, Evaluation], Evaluation] = read_items,
) -> Result:
    """The Result from what is stored of one experiment; also before it has ended.

    Args:
        with_items: reads the items of an evaluation that the Result needs.

    Raises:
        StoreError: a file is damaged, or holds what nothing can be computed from.
    """
    with computed_from(store.folder(experiment_id)):
        return _recompute(store, experiment_id, with_items)


def _recompute(store: Store, experiment_id: str, with_items: Callable[[Store, str, Evaluation], Evaluation]) -> Result:
    trials = store.trials(experiment_id)
    experiment = store.read_experiment(experiment_id)
    asked = wanted(experiment["config"], evaluations(store, experiment_id))
    return compute_result(
        experiment,
        store.engines(experiment_id),
        trials,
        store.baselines(experiment_id),
        {trial.index: store.requests(experiment_id, trial.index) for trial in trials},
        store.outcomes(experiment_id),
        {trial.index: store.trace(experiment_id, trial.index) for trial in trials},
        [with_items(store, experiment_id, one) for one in asked],
    )


#: `GPU-1234abcd`: enough of a UUID to tell boards apart on a screen.
SHOWN = 12


@attrs.frozen
class Place:
    """Where an engine process ran: on these GPUs, or without any in this environment (a stored one's hash)."""

    gpus: tuple[str, ...]
    names: tuple[str, ...]
    environment: str

    def __str__(self) -> str:
        if not self.gpus:
            return self.environment
        kinds = ", ".join(dict.fromkeys(name for name in self.names if name))
        uuids = " + ".join(uuid[:SHOWN] for uuid in self.gpus)
        return f"{uuids} ({kinds})" if kinds else uuids


def place_of(engine: Mapping[str, Any]) -> Place:
    """From engine-<process>.json. Places are equal where the boards are."""
    device = engine.get("device", {})
    boards = sorted(zip(device.get("gpus", ()), device.get("names", ()), strict=True))
    gpus, names = tuple(uuid for uuid, _ in boards), tuple(name or "" for _, name in boards)
    return Place(gpus, names, "" if gpus else str(engine.get("environment", "")))


def several_boards(engines: Sequence[Mapping[str, Any]], trials: Sequence[Trial]) -> Iterable[Finding]:
    """`several_boards` when trials ran at more than one place, with the mean energy per output token at each."""
    places = {engine["process"]: place_of(engine) for engine in engines}
    found: dict[Place, list[Trial]] = {}
    for trial in trials:
        if trial.process in places:
            found.setdefault(places[trial.process], []).append(trial)
    if len(found) < 2:
        return
    what = "sets of GPUs" if any(place.gpus for place in found) else "environments"
    counted = "; ".join(f"{len(there)} on {place}" for place, there in found.items())
    message = f"trials ran on {len(found)} {what}: {counted}"
    chosen = headline(trials)
    energies = [_mean_token_energy(there, chosen) for there in found.values()]
    evidence: dict[str, Any] = {
        "boards": [
            {
                **({"gpus": list(place.gpus), "names": list(place.names)} if place.gpus else {}),
                **({} if place.gpus else {"environment": place.environment}),
                "trials": [trial.index for trial in there],
                "energy_per_output_token_j": energy,
            }
            for (place, there), energy in zip(found.items(), energies, strict=True)
        ]
    }
    known = [energy for energy in energies if energy is not None]
    if len(known) == len(energies) and min(known) > 0:
        spread = max(known) / min(known) - 1
        evidence["difference"] = spread
        message += f"; their mean energy per output token differs by {spread:.1%}"
    yield finding("several_boards", message, **evidence)


def _mean_token_energy(there: Sequence[Trial], chosen: Headline | None) -> float | None:
    """Mean headline joules per output token of the trials at one place; None where one has none."""
    found = [token_energy(trial, chosen) if chosen else None for trial in there]
    known = [energy for energy in found if energy is not None]
    return mean(known) if len(known) == len(found) else None
