"""What a recommendation rests on, and what speaks against relying on it, in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llem.analysis.decision import Decided
from llem.analysis.difference import BOARD_BOUND
from llem.analysis.overview import Overview, basis_of
from llem.analysis.ranked import MOST_RANKED, Ranked
from llem.analysis.sides import Side
from llem.analysis.variance import ASSUMED_SD
from llem.metrics.catalogue import metric_of

if TYPE_CHECKING:
    from llem.analysis.collection import Results

__all__ = ["rests_on", "warnings_of"]


def rests_on(results: Results, ranked: Ranked) -> Iterator[str]:
    """How many experiments, trials, processes and places; what energies cover; the weights; what is assumed."""
    sides, metric = list(ranked.sides.values()), ranked.objective.metric
    yield f"{_counted(len(sides), 'configuration')}, {_trials([len(one.runs) for one in sides])} each, " + _processes(
        [len({run.process for run in one.runs}) for one in sides]
    )
    single = sum(len(side.runs) < 2 for side in sides)
    if single:
        have = "has one trial, whose" if single == 1 else "have one trial each, whose"
        yield f"{_counted(single, 'configuration')} {have} scatter is not known: P is surer than it should be"
    places = sorted({str(place) for side in sides for place in side.places})
    if len(places) == 1:
        yield f"all ran on {places[0]}"
    if basis := next((basis for row in ranked.rows if (basis := basis_of(row.metrics[metric]))), None):
        yield f"energies cover {basis}"
    weights = sorted({_weights(results, name) for name in ranked.ids})
    if weights != ["real"]:
        yield f"weights are {' and '.join(weights)}: speed and energy are of the architecture, not of its answers"
    unknown = any(ranked.background.spread(metric, side) is None for side in sides) and len(sides) > 1
    if unknown and not _is_exact(ranked):
        yield (
            f"what differs between engine processes is not measured: a standard deviation of {ASSUMED_SD:.0%} is "
            "assumed; `processes: 2` or more measures it"
        )


def _is_exact(ranked: Ranked) -> bool:
    metric = ranked.objective.metric
    return bool(ranked.posterior.having(metric)) and ranked.posterior.evidence(metric).is_exact


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _trials(counts: Sequence[int]) -> str:
    least, most = min(counts), max(counts)
    return _counted(least, "trial") if least == most else f"{least} to {most} trials"


def _processes(counts: Sequence[int]) -> str:
    least, most = min(counts), max(counts)
    if least == most:
        return "in one engine process" if least == 1 else f"over {least} engine processes"
    return f"over {least} to {most} engine processes"


def _weights(results: Results, name: str) -> str:
    model: Mapping[str, Any] = results.store.read_experiment(name).get("model", {})
    return str(model.get("weights", "unknown"))


#: What of a load is not the engine's to choose: how requests come.
COME = ("kind", "request_rate", "capacity_share", "speed", "burstiness", "trace")


def _other_loads(rows: Sequence[Overview]) -> Iterator[str]:
    """Requests that come in other ways, or more often: what an engine makes of fewer of them is no merit of its own."""
    loads = {repr([row.load.get(name) for name in COME]) for row in rows}
    if len(loads) > 1:
        kinds = sorted({str(row.load.get("kind")) for row in rows})
        names = [name for name in COME[1:] if len({repr(row.load.get(name)) for row in rows}) > 1]
        what = " and ".join(kinds) if len(kinds) > 1 else f"{kinds[0]}: {', '.join(names)}"
        yield f"configurations get different loads ({what}), which no engine chooses: `--load` compares them at one"


def _other_energies(ranked: Ranked) -> Iterator[str]:
    """Limits on energies and powers that do not cover the same; of an objective that is refused."""
    for limit in ranked.limits:
        found = {str(basis_of(row.metrics[limit.metric])) for row in ranked.rows if row.value(limit.metric) is not None}
        if metric_of(limit.metric).scoped and len(found) > 1:
            yield f"what {limit.text} bounds covers different things ({'; '.join(sorted(found))}): it is not one limit"


def _other_counts(sides: Sequence[Side]) -> Iterator[str]:
    counts = sorted({len(place.gpus) for side in sides for place in side.places})
    if len(counts) > 1:
        each = f"{', '.join(map(str, counts[:-1]))} and {counts[-1]}"
        yield f"configurations run on {each} GPUs: speed, power and energy are of all that each has"


def warnings_of(results: Results, ranked: Ranked, found: Decided) -> Iterator[str]:
    """Other boards, work, arrivals or models, findings of the choice, experiments without a result."""
    sides = list(ranked.sides.values())
    places = sorted({" and ".join(sorted(map(str, side.places))) for side in sides if side.places})
    if len(places) > 1:
        yield (
            f"configurations ran in {len(places)} places ({'; '.join(places)}), which differ by themselves: "
            f"± {BOARD_BOUND:.0%} is assumed for each"
        )
    yield from _other_counts(sides)
    names = dict.fromkeys(name for side in sides for name in side.work)
    other = [name for name in names if len({repr(side.work.get(name)) for side in sides}) > 1]
    if other:
        yield f"configurations do different work ({', '.join(other)}): their tokens and requests are not the same"
    yield from _other_loads(ranked.rows)
    yield from _other_energies(ranked)
    models = {str(row.model) for row in ranked.rows}
    if len(models) > 1:
        yield f"configurations are of {len(models)} models ({', '.join(sorted(models))}), whose answers differ"
    if found.choice is not None:
        chosen = ranked.rows[found.choice]
        if not chosen.publishable:
            codes = ", ".join(chosen.codes) or "few trials, or the preset `quick`"
            yield f"the choice is not publishable: {codes}"
    named = results.study.get("experiments", ())
    without = sum(name not in results for name in named)
    if without:
        yield f"{_counted(without, 'experiment')} of the study {'has' if without == 1 else 'have'} no result yet"
    if len(ranked.behind) and len(ranked.rows) >= MOST_RANKED:
        yield (
            f"trials of {MOST_RANKED} experiments were read, those whose own intervals come nearest; "
            f"{_counted(len(ranked.behind), 'other')} were left behind by theirs"
        )
