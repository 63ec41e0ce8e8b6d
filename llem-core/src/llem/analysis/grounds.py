"""What a recommendation rests on, and what speaks against relying on it, in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llem.analysis.decision import Decided
from llem.analysis.difference import BOARD_BOUND
from llem.analysis.overview import basis_of
from llem.analysis.ranked import MOST_RANKED, Ranked
from llem.analysis.variance import ASSUMED_SD

if TYPE_CHECKING:
    from llem.analysis.collection import Results

__all__ = ["rests_on", "warnings_of"]

#: Loads whose requests come by themselves, and what says how many.
SENT = ("open", "replay")
ARRIVALS = ("request_rate", "capacity_share", "speed")


def rests_on(results: Results, ranked: Ranked) -> Iterator[str]:
    """How many experiments, trials, processes and places; what energies cover; the weights; what is assumed."""
    sides, metric = list(ranked.sides.values()), ranked.objective.metric
    yield f"{_counted(len(sides), 'configuration')}, {_trials([len(one.runs) for one in sides])} each, " + _processes(
        [len({run.process for run in one.runs}) for one in sides]
    )
    places = sorted({str(place) for side in sides for place in side.places})
    if len(places) == 1:
        yield f"all ran on {places[0]}"
    if basis := next((basis for row in ranked.rows if (basis := basis_of(row.metrics[metric]))), None):
        yield f"energies cover {basis}"
    weights = sorted({_weights(results, name) for name in ranked.ids})
    if weights != ["real"]:
        yield f"weights are {' and '.join(weights)}: speed and energy are of the architecture, not of its answers"
    if any(ranked.background.spread(metric, side) is None for side in sides) and len(sides) > 1:
        yield (
            f"what differs between engine processes is not measured: a standard deviation of {ASSUMED_SD:.0%} is "
            "assumed; `processes: 2` or more measures it"
        )


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


def warnings_of(results: Results, ranked: Ranked, found: Decided) -> Iterator[str]:
    """Other boards, work, arrivals or models, findings of the choice, experiments without a result."""
    sides = list(ranked.sides.values())
    places = sorted({" and ".join(sorted(map(str, side.places))) for side in sides if side.places})
    if len(places) > 1:
        yield (
            f"configurations ran in {len(places)} places ({'; '.join(places)}), which differ by themselves: "
            f"± {BOARD_BOUND:.0%} is assumed for each"
        )
    single = sum(len(side.runs) < 2 for side in sides)
    if single:
        have = "has one trial, whose" if single == 1 else "have one trial each, whose"
        yield f"{_counted(single, 'configuration')} {have} scatter is not known: P is surer than it should be"
    names = dict.fromkeys(name for side in sides for name in side.work)
    other = [name for name in names if len({repr(side.work.get(name)) for side in sides}) > 1]
    if other:
        yield f"configurations do different work ({', '.join(other)}): their tokens and requests are not the same"
    sent = [row.load.get("kind") in SENT and [row.load.get(name) for name in ARRIVALS] for row in ranked.rows]
    if any(sent) and len(set(map(str, sent))) > 1:
        yield (
            "configurations differ in how many requests came, which no deployment chooses: "
            "`--load RATE` compares engine configurations over their loads"
        )
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
