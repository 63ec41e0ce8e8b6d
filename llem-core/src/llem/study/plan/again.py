"""Stored experiments as a study that measures them again: what was asked for, and what is not the default."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs

from llem.config.converter import unstructure
from llem.config.identity import file_settings
from llem.config.layers import Layer
from llem.config.load import CHOSEN, resolve, stored_experiment, to_document
from llem.config.models import Experiment
from llem.config.study.order import Limits, Order
from llem.errors import ConfigError, StoreError
from llem.plugins.registry import Registry
from llem.store.store import Store
from llem.study.plan.reference import REFERENCE

__all__ = ["Again", "measured_again"]

#: Steps of the path of a setting: ("load", "batch_size").
Steps = tuple[str, ...]
#: Sources of values that nobody asked for; see `llem.config.load.Resolved`.
NOT_ASKED = ("default", "only backend installed", CHOSEN, "derived from trials")
#: What a reader looks for first, whether or not anybody asked for it.
ALWAYS = (("model",), ("backend",))
#: Fields of an experiment that may name files.
WITH_FILES = ("workload", "options", "quality")


@attrs.frozen
class Again:
    """A study file as a mapping, and what its reader should know.

    Attributes:
        document: one experiment's settings; with several experiments, or an order of its own, a study.
        notes: sentences, such as on files that are not there.
    """

    document: Mapping[str, Any]
    notes: tuple[str, ...] = ()


def measured_again(
    store: Store,
    ids: Sequence[str],
    registry: Registry,
    *,
    processes: int | None = None,
    quality: bool = True,
    name: str | None = None,
) -> Again:
    """A study of stored experiments, with the settings that somebody set or that differ from the defaults.

    Names of files that are found from the current folder become absolute, so that the study is the same from any other.

    Args:
        ids: whole ids, each once.
        processes: engine processes of each; every one of them makes as many trials as one made. None: as they were.
        quality: whether tasks are evaluated again.
        name: of the study. None: the stored one's, for several experiments.

    Raises:
        StoreError: no such experiment, or none at all.
        LlemError: a plugin of an experiment is not installed, or refuses the stored settings.
    """
    if not ids or len(set(ids)) < len(ids):
        raise StoreError("each experiment must be named once, and one at least", "`llem show` lists ids", "id_unknown")
    study = store.study()
    reference = study.get("reference") if processes is None and len(ids) > 1 else None
    found: dict[str, dict[Steps, Any]] = {}
    whole: dict[str, dict[Steps, Any]] = {}
    notes: list[str] = []
    for one in ids:
        document = store.read_experiment(one)
        named = _with_absolute_files(document, registry, notes)
        if processes is not None:
            named |= _repeated(store, one, named, processes)
        if not quality:
            named = {steps: value for steps, value in named.items() if steps[0] != "quality"}
        spread = one == reference and document.get("sources", {}).get("processes") == REFERENCE
        if spread:
            named.pop(("processes",))
        found[one], whole[one] = _asked(document.get("sources") or {}, named, registry), named
    around = _around(study)
    if len(ids) == 1 and not around and name is None:
        return Again(_nested(found[ids[0]]), tuple(dict.fromkeys(notes)))
    base, points = _parted(found, whole)
    parts: dict[str, Any] = {"name": name or study.get("name") or "llem", "base": _nested(base)}
    if len(ids) > 1:
        parts["experiments"] = [_point(points[one]) for one in ids]
    if reference in ids:
        count = store.read_experiment(str(reference))["config"].get("processes")
        parts["reference"] = {**_point(points[str(reference)]), "processes": count}
    return Again({**parts, **around}, tuple(dict.fromkeys(notes)))


def _with_absolute_files(document: Mapping[str, Any], registry: Registry, notes: list[str]) -> dict[Steps, Any]:
    """The settings of an experiment in the order of its fields, with files named from the root; of those that are not
    found here, a note."""
    config = document["config"]
    experiment = stored_experiment(document, registry)
    order = {steps: place for place, (steps, _) in enumerate(_leaves(to_document(experiment)))}
    flat = dict(sorted(_leaves(config), key=lambda leaf: order.get(leaf[0], len(order))))
    named = dict(file_settings(experiment, os.path.exists, WITH_FILES))
    if document["model"].get("source") == "folder":
        named["model"] = experiment.model
    for path, written in named.items():
        steps = _steps(path, experiment)
        if os.path.isabs(os.path.expanduser(written)):
            continue
        if os.path.exists(written):
            flat[steps] = _replaced(flat[steps], written, os.path.abspath(written))
        else:
            notes.append(f"{'.'.join(steps)} names {written}, which is not there from {os.getcwd()}")
    return flat


def _steps(path: str, experiment: Experiment) -> Steps:
    """Of a setting as `file_settings` names it; an entry of a list is in the list's setting."""
    first, *rest = path.partition("[")[0].split(".")
    return (experiment.backend if first == "options" else first, *rest)


def _replaced(value: Any, written: str, absolute: str) -> Any:
    if isinstance(value, (list, tuple)):
        return [absolute if one == written else one for one in value]
    return absolute


def _repeated(store: Store, one: str, config: Mapping[Steps, Any], processes: int) -> dict[Steps, Any]:
    """Another number of engine processes, each with as many trials as each of the stored ones has."""
    before = config.get(("processes",)) or 1
    trials = len(store.trial_indices(one)) or max(config.get(("trials",)) or 1, before)
    count = -(-trials // before) * processes
    return {("processes",): processes, ("trials",): count, ("max_trials",): count}


def _asked(sources: Mapping[str, str], config: Mapping[Steps, Any], registry: Registry) -> dict[Steps, Any]:
    """Settings that somebody set, and those without which the others resolve to something else."""
    asked = [steps for steps in config if steps in ALWAYS or _set_by_somebody(".".join(steps), sources)]
    kept = {steps: config[steps] for steps in asked}
    try:
        resolved = resolve([Layer("stored", _nested(kept))], registry).experiment
    except ConfigError:  # what was asked for needs what the defaults were then
        return dict(config)
    now = dict(_leaves(to_document(resolved)))
    differing = {steps for steps, value in config.items() if steps not in now or now[steps] != value}
    return {steps: value for steps, value in config.items() if steps in kept or steps in differing}


def _set_by_somebody(path: str, sources: Mapping[str, str]) -> bool:
    inside = [source for other, source in sources.items() if other == path or other.startswith(f"{path}.")]
    return any(source not in NOT_ASKED and not source.startswith("preset ") for source in inside)


def _around(study: Mapping[str, Any]) -> dict[str, Any]:
    """How the study ran, where it is not the default."""
    found: dict[str, Any] = {}
    for key, usual in (("order", unstructure(Order())), ("limits", unstructure(Limits()))):
        if own := {name: value for name, value in (study.get(key) or {}).items() if value != usual.get(name)}:
            found[key] = own
    if study.get("parallel", 1) != 1:
        found["parallel"] = study["parallel"]
    return found


def _parted(
    found: Mapping[str, Mapping[Steps, Any]], whole: Mapping[str, Mapping[Steps, Any]]
) -> tuple[dict[Steps, Any], dict[str, dict[Steps, Any]]]:
    """What all experiments have in common; and, by id, what each sets of the rest, also where that is the default."""
    first, *others = found.values()
    common = {
        steps: value for steps, value in first.items() if all(steps in one and one[steps] == value for one in others)
    }
    varying = dict.fromkeys(steps for one in found.values() for steps in one if steps not in common)
    points = {
        name: {steps: one.get(steps, whole[name].get(steps)) for steps in varying if steps in whole[name]}
        for name, one in found.items()
    }
    return common, points


def _leaves(tree: Mapping[str, Any], above: Steps = ()) -> Iterator[tuple[Steps, Any]]:
    """Steps and value of everything that is no section. A section is a value where a key in it has a dot: as a step of
    a path such a key would be read as two."""
    for key, value in tree.items():
        steps = (*above, key)
        if isinstance(value, Mapping) and value and not any("." in str(inner) for inner in value):
            yield from _leaves(value, steps)
        else:
            yield steps, value


def _nested(flat: Mapping[Steps, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for steps, value in flat.items():
        below = tree
        for step in steps[:-1]:
            below = below.setdefault(step, {})
        below[steps[-1]] = value
    return tree


def _point(flat: Mapping[Steps, Any]) -> dict[str, Any]:
    return {".".join(steps): value for steps, value in flat.items()}
