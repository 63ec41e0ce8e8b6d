"""Quality of the configurations of a study against a reference, task by task, from the items that are stored."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Iterator, Mapping, MutableMapping, Sequence
from typing import Any

import attrs

from llem.analysis.compare import LEVEL
from llem.analysis.contrast import contrast
from llem.analysis.quality_difference import QualityDifference
from llem.analysis.sides import is_fake
from llem.analysis.stored import DAMAGED
from llem.errors import StoreError, nearest
from llem.evaluators.base import Score
from llem.metrics.quality import SCORE, score_names, score_quantity, wanted
from llem.metrics.statistics import holm
from llem.store.evaluations import Evaluation, evaluations, has_evaluations, read_items
from llem.store.store import Store

__all__ = ["against_reference", "quality_differences", "unscored"]


@attrs.frozen
class _Evaluated:
    """An evaluation, without its items, and the experiments that it is of."""

    evaluation: Evaluation
    experiments: tuple[str, ...]
    fake: bool


def quality_differences(
    store: Store,
    ids: Sequence[str],
    reference: str | None = None,
    tasks: Collection[str] | None = None,
    *,
    together: bool = False,
    damaged: MutableMapping[str, StoreError] | None = None,
) -> list[QualityDifference]:
    """By metric, each configuration that has the score, in the order of the study's file.

    Args:
        ids: experiments.
        reference: the experiment to compare with. Default: the study's `reference` where it has the score, else the
            first of the file that has it.
        tasks: names of tasks, or of further scores (`arc_easy.acc_norm`). None takes the score that stands for each.
        together: correct the p-values of all scores as one family; else those of each score.
        damaged: gets, by id, why experiments are left out; None raises it.

    Raises StoreError: a named task that nobody has a score of, or a damaged file.
    """
    study = store.study()
    numbers = {name: point["number"] for name, point in study.get("points", {}).items()}
    ordered = sorted(ids, key=lambda name: numbers.get(name, len(numbers)))
    found = list(_evaluated(store, ordered, damaged))
    named = study.get("reference")
    families: list[list[QualityDifference]] = []
    for metric in _metrics(found, tasks):
        have = [one for one in found if metric in score_names(one.evaluation)]
        candidates = [reference] if reference is not None else [named, *(one.experiments[0] for one in have)]
        pairs = ((name, one) for name in candidates for one in have if name in one.experiments)
        name, base = next(pairs, (None, None))
        scores = _Scores(store, metric, damaged)
        families.append(list(_rows(scores, have, base, name)))
    fakes = {name for one in found if one.fake for name in one.experiments}
    if together:
        families = [[row for rows in families for row in rows]]
    return [row for rows in families for row in _adjusted(rows, fakes)]


def against_reference(
    store: Store,
    ids: Sequence[str],
    reference: str | None = None,
    tasks: Collection[str] | None = None,
    damaged: MutableMapping[str, StoreError] | None = None,
) -> list[QualityDifference]:
    """The same for a user who asks, and must hear why there is nothing.

    Args:
        reference: the beginning of its id is enough.
        damaged: as of `quality_differences`.

    Raises StoreError: no such id, no experiment has such a score (metric_unknown), or nobody has a score or the
    reference none (nothing_to_compare).
    """
    named = None if reference is None else store.find(reference)
    found = quality_differences(store, ids, named, tasks, damaged=damaged)
    if not found and has_evaluations(store):
        what = f"no experiment in {store.path} that has ended has a score in the terms that it asks for"
        raise StoreError(what, "go on with the study: `llem run STUDY.yaml -o DIR --resume`", "nothing_to_compare")
    if not found:
        hint = "give the study a section `quality`, such as `quality: {evaluator: NAME, tasks: [TASK]}`"
        raise StoreError(f"no experiment in {store.path} has a score", hint, "nothing_to_compare")
    if all(row.reason == "no_reference" for row in found):
        have = ", ".join(dict.fromkeys(row.experiments[0] for row in found))
        what = f"the reference {named} has none of these scores"
        raise StoreError(what, f"name one of {have}", "nothing_to_compare")
    return found


# what is stored


@contextlib.contextmanager
def _told(names: Iterable[str], damaged: MutableMapping[str, StoreError] | None) -> Iterator[None]:
    """What is damaged of these experiments is told there, and ends nothing; None raises it."""
    try:
        yield
    except StoreError as error:
        if damaged is None or error.code not in DAMAGED:
            raise
        damaged.update(dict.fromkeys(names, error))


def _evaluated(
    store: Store, ids: Iterable[str], damaged: MutableMapping[str, StoreError] | None
) -> Iterator[_Evaluated]:
    """Evaluations in the terms that experiments ask for now; copies of one evaluation are one."""
    groups: dict[Any, tuple[Evaluation, list[str], bool]] = {}
    for name in ids:
        config, asked = {}, []
        with _told([name], damaged):
            config = store.read_experiment(name)["config"]
            asked = list(wanted(config, evaluations(store, name)))
        for one in asked:
            first = groups.setdefault(_identity(one, name), (one, [], is_fake(config.get("backend"))))
            first[1].append(name)
    for evaluation, names, fake in groups.values():
        yield _Evaluated(evaluation, tuple(names), fake)


def _identity(one: Evaluation, name: str) -> Any:
    """Equal for copies of one evaluation: no two last equally long, to the nanosecond. One of no length is its own."""
    return (one.key, one.process, one.duration_s, repr(one.scores), repr(one.energies)) if one.duration_s else name


def _metrics(found: Iterable[_Evaluated], tasks: Collection[str] | None) -> list[str]:
    """Names of the scores to look at, each once. Raises StoreError (metric_unknown) for one that nobody has."""
    known: dict[str, bool] = {}
    for one in found:
        for metric, place in score_names(one.evaluation).items():
            known[metric] = known.get(metric, False) or place == 0
    if tasks is None:
        return [metric for metric, first in known.items() if first]
    asked = [SCORE + task.removeprefix(SCORE) for task in tasks]
    for metric in asked:
        if metric not in known:
            near = nearest(metric, tuple(known))
            there = f"scores in this folder: {', '.join(sorted(known))}" if known else "no experiment here has any"
            hint = f"did you mean {near.removeprefix(SCORE)!r}? {there}" if near else there
            raise StoreError(f"no experiment has the score {metric.removeprefix(SCORE)!r}", hint, "metric_unknown")
    return list(dict.fromkeys(asked))


# against the reference


def _rows(
    scores: _Scores, have: Sequence[_Evaluated], base: _Evaluated | None, name: str | None
) -> Iterator[QualityDifference]:
    against = None if base is None else scores.of(base)
    for one in have:
        if (score := scores.of(one)) is None:
            continue
        row = _plain(one, score, scores.metric, name)
        if base is None or against is None:
            yield attrs.evolve(row, reason="no_reference", why="the reference has no such score")
        elif one is base:
            yield attrs.evolve(row, reason="is_reference")
        else:
            reason, why = _unlike(base.evaluation, one.evaluation)
            if not reason and row.higher_is_better != against.higher_is_better:
                reason, why = "other_direction", "of one a higher score is better, of the other a lower one"
            found = None if reason else contrast(against, score)
            why = why or _in_effect(base.evaluation, one.evaluation)
            yield attrs.evolve(row, difference=found, reason=reason, why=why)


@attrs.frozen
class _Scores:
    """The scores of one metric with their items, which are read when they are asked for and not kept."""

    store: Store
    metric: str
    damaged: MutableMapping[str, StoreError] | None

    def of(self, one: _Evaluated) -> Score | None:
        """None where it is damaged, which is told."""
        place = score_names(one.evaluation)[self.metric]
        with _told(one.experiments, self.damaged):
            return read_items(self.store, one.experiments[0], one.evaluation).scores[place]
        return None


def _plain(one: _Evaluated, score: Score, metric: str, name: str | None) -> QualityDifference:
    own = score_quantity(score)
    return QualityDifference(
        metric=metric,
        task=score.task,
        score=score.metric,
        experiments=one.experiments,
        reference=name,
        value=score.value,
        low=own.low,
        high=own.high,
        n=score.n,
        higher_is_better=score.higher_is_better,
    )


def _unlike(first: Evaluation, second: Evaluation) -> tuple[str, str]:
    """Why two evaluations of a task are not of one thing, as a code and in words; empty where they are."""
    if first.evaluator != second.evaluator:
        return "other_evaluator", f"the evaluator is {second.evaluator}, of the reference {first.evaluator}"
    if other := _differing(first.terms, second.terms):
        return "other_terms", f"not in the same terms: {other}"
    if other := _differing(_versions(first.about), _versions(second.about)):
        return "other_version", f"not of the same version: {other}"
    return "", ""


def _in_effect(first: Evaluation, second: Evaluation) -> str:
    """Which terms the evaluators state otherwise, such as the shorter context of one engine."""
    told = [{name: one.about[name] for name in one.terms if name in one.about} for one in (first, second)]
    other = _differing(*told)
    return f"as the engines allowed: {other}" if other else ""


def _differing(first: Mapping[str, Any], second: Mapping[str, Any]) -> str:
    names = [name for name in dict.fromkeys((*first, *second)) if first.get(name) != second.get(name)]
    return ", ".join(f"{name} {second.get(name)}, of the reference {first.get(name)}" for name in names)


def unscored(store: Store, damaged: MutableMapping[str, StoreError] | None = None) -> dict[str, list[str]]:
    """By metric, experiments that ask for a task and have no score of it in these terms.

    Args:
        damaged: as of `quality_differences`.
    """
    found: dict[str, list[str]] = {}
    for name in store.experiment_ids():
        config, scored = {}, set[str]()
        with _told([name], damaged):
            config = store.read_experiment(name)["config"]
            scored = {one.task for one in wanted(config, evaluations(store, name))}
        for task in (config.get("quality") or {}).get("tasks", ()):
            if task not in scored:
                found.setdefault(f"{SCORE}{task}", []).append(name)
    return found


def _versions(about: Any, path: str = "", *, under: bool = False) -> dict[str, Any]:
    """What an evaluator states of versions: every value at or under a name with "version" in it, by its path."""
    if not isinstance(about, Mapping):
        return {path: about} if under else {}
    found: dict[str, Any] = {}
    for name, value in about.items():
        inner = f"{path}.{name}" if path else str(name)
        found |= _versions(value, inner, under=under or "version" in str(name).lower())
    return found


def _adjusted(rows: Sequence[QualityDifference], fakes: Collection[str]) -> Iterator[QualityDifference]:
    """With p-values corrected as one family (Holm), and verdicts."""
    tested = [row.difference.p_value for row in rows if row.difference and row.difference.p_value is not None]
    corrected = iter(holm(tested))
    for row in rows:
        if row.difference is None or row.difference.p_value is None:
            yield row
            continue
        p, fake = next(corrected), row.reference in fakes or row.experiments[0] in fakes
        better = (row.difference.value > 0) == row.higher_is_better
        none = fake or p > LEVEL or row.difference.value == 0 or row.is_rounding
        verdict = "" if none else "better" if better else "worse"
        yield attrs.evolve(row, p_adjusted=p, verdict=verdict)
