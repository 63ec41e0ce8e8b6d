"""From layers of settings to one Experiment, with the source of every value."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import attrs

from llem.config.arrival import GREATEST, OpenLoad
from llem.config.converter import structure_all, unstructure
from llem.config.defaults import Find, backend_layers
from llem.config.guesses import in_python, meant
from llem.config.kinds import of_another_kind
from llem.config.layers import Layer, Leaf, Tree, leaves, overlay, plain
from llem.config.models import DEFAULT_METERS, DEFAULT_WORKLOAD, PRESETS, Experiment, config_class
from llem.config.text import parse_assignment, read_yaml
from llem.config.words import got, renamed
from llem.errors import ConfigError, Problem, UnknownPlugin, nearest
from llem.plugins.names import KNOWN_PACKAGES
from llem.plugins.registry import Registry

__all__ = ["Layer", "Resolved", "parse_assignment", "read_yaml", "resolve", "to_document"]

#: The backend that only plays at inference; never chosen unless named.
ECHO = "echo"
#: The backend of metered commands, which loads nothing itself; never chosen unless named.
COMMAND = "command"
#: Source of a backend that llem chose because nobody named one; see `llem.study.plan.chosen`.
CHOSEN = "first backend that can run here"
#: What a user may write at the top. Sections of plugins come beside these.
FIELDS = tuple(f.name for f in attrs.fields(Experiment) if f.name not in ("options", "meter_options"))


@attrs.frozen
class Resolved:
    """An experiment with every default filled in.

    Attributes:
        experiment: complete.
        sources: dotted path of each leaf of `to_document(experiment)` to where its value came from: the source of a
            layer, "preset NAME", "default of backend NAME", "found by backend NAME", "default", "only backend
            installed" or "derived from PATH" (another setting). A layer of llem's own choice has the source CHOSEN.
    """

    experiment: Experiment
    sources: Mapping[str, str]


def resolve(layers: Sequence[Layer], registry: Registry, find: Find | None = None) -> Resolved:
    """Lay the layers over each other, later ones above, on top of the preset that they name and of what the backend
    takes where nobody says otherwise.

    Args:
        find: asks the backend what runs already on this machine; None looks at nothing.

    Raises:
        ConfigError: with every problem found, each with its path, and its layer where there are several.
        UnknownPlugin: a backend, meter or workload that is not installed, or no backend at all.
        BrokenPlugin: a plugin's config class cannot be used.
    """
    tree, preset = _merged(layers, registry, find)
    sources = {path: leaf.source for path, leaf in leaves(tree)}
    values = plain(tree)
    if values.get("backend") is None:
        if typos := _misspelt_backend(values, registry):  # else the next line would complain about something else
            raise _error(typos, sources, layers)
        values["backend"] = _only_backend(registry)
        sources["backend"] = "only backend installed"
    experiment, problems = _build(values, registry)
    if experiment is not None and experiment.max_trials < experiment.trials:
        if sources.get("max_trials") in (None, preset):
            experiment = attrs.evolve(experiment, max_trials=experiment.trials)
            sources["max_trials"] = "derived from trials"
        else:
            about = f"is {experiment.max_trials}, below trials ({experiment.trials})"
            problems.append(Problem("max_trials", about, "raise max_trials, or lower trials"))
    if experiment is not None:
        problems += _of_another_load(experiment)
    if experiment is None or problems:
        raise _error(problems, sources, layers)
    paths = (path for path, _ in leaves(to_document(experiment)))
    return Resolved(experiment, {path: sources.get(path, "default") for path in paths})


def stored_experiment(document: Mapping[str, Any], registry: Registry) -> Experiment:
    """The experiment of a stored `experiment.json`. Raises as `resolve`."""
    return resolve([Layer("order", document["config"])], registry).experiment


def _of_another_load(experiment: Experiment) -> Iterator[Problem]:
    """Settings that would have no effect with the load that there is."""
    kind = experiment.load.kind
    if experiment.token_times and kind != "offline":
        about = f"is for offline loads; with a load of kind {kind!r} every request has its times"
        yield Problem("token_times", about, "remove it")
    if experiment.slo is not None and kind == "offline":
        about = "limits the latencies of a serving load, and this load is offline"
        yield Problem("slo", about, "remove it, or set `load.kind` to closed, open or replay")
    if isinstance(experiment.load, OpenLoad) and experiment.load.request_rate == GREATEST and experiment.slo is None:
        about = "is the greatest rate at which an SLO is kept, and no `slo` says which"
        yield Problem("load.request_rate", about, "add `slo`, such as {ttft_s: 0.5, tpot_s: 0.05, attainment: 0.99}")


def _merged(layers: Sequence[Layer], registry: Registry, find: Find | None) -> tuple[Tree, str]:
    """All layers upon the preset they name, and its source. An unknown preset sets nothing; it is reported later."""
    asked: Tree = {}
    for layer in layers:
        overlay(asked, layer)
    leaf = asked.get("preset", Leaf(attrs.fields(Experiment).preset.default, "default"))
    name = leaf.value if isinstance(leaf, Leaf) and isinstance(leaf.value, str) else ""
    preset = Layer(f"preset {name}", PRESETS.get(name, {}))
    tree: Tree = {}
    for layer in (preset, *layers, *backend_layers(layers, registry, find)):
        overlay(tree, layer)
    return tree, preset.source


def _misspelt_backend(values: Mapping[Any, Any], registry: Registry) -> list[Problem]:
    problems = _unexpected(values, None, _meter_names(values, registry), registry)
    return [problem for problem in problems if nearest(problem.path, FIELDS) == "backend"]


def _only_backend(registry: Registry) -> str:
    names = [name for name in registry.names("backend") if name not in (ECHO, COMMAND)]
    if len(names) == 1:
        return names[0]
    if not names:
        hint = (
            "pip install llem-pytorch (from a clone: pip install ./llem-pytorch), or another backend; to try commands "
            "without an engine, set `backend: echo`, in a command `-b echo`"
        )
        raise UnknownPlugin("no inference backend is installed", hint)
    raise ConfigError(
        "several backends are installed, and none is chosen",
        f"set `backend` to one of: {', '.join(names)}; `llem config set backend NAME` makes one the default",
        problems=(Problem("backend", "is missing"),),
    )


def _build(values: dict[Any, Any], registry: Registry) -> tuple[Experiment | None, list[Problem]]:
    """The experiment, or None, and every problem."""
    problems: list[Problem] = []
    backend = values["backend"] if isinstance(values["backend"], str) else None
    meters = _meter_names(values, registry)
    options = _section("backend", backend, values.get(backend), registry, problems) if backend else None
    found = {name: _section("meter", name, values.get(name), registry, problems) for name in meters or ()}
    workload = _workload(values.get("workload"), registry, problems)
    quality = _quality(values.get("quality"), registry, problems)
    problems += _unexpected(values, backend, meters, registry)
    own = {key: value for key, value in values.items() if key in FIELDS and key not in ("workload", "quality")}
    experiment, more = structure_all(Experiment, own)
    problems += more
    if meters is not None and len(set(meters)) < len(meters):
        problems.append(Problem("meters", "names a meter twice"))
    if experiment is None:
        return None, problems
    meter_options = {name: section for name, section in found.items() if section is not None}
    sections = {"workload": workload, "quality": quality, "options": options, "meter_options": meter_options}
    return attrs.evolve(experiment, **sections), problems


def _meter_names(values: Mapping[Any, Any], registry: Registry) -> list[str] | None:
    """The meters that may have a section; None where `meters` is malformed, which is reported with the other fields."""
    asked = values.get("meters")
    if asked is None:
        return [name for name in DEFAULT_METERS if name in registry.names("meter")]
    wellformed = isinstance(asked, (list, tuple)) and all(isinstance(name, str) for name in asked)
    return list(asked) if wellformed else None


def _section(kind: Any, name: str, raw: Any, registry: Registry, problems: list[Problem]) -> Any:
    """A plugin's section as its config class; all defaults where it is not there."""
    cls = config_class(registry, kind, name)
    if cls is None:
        if raw:
            problems.append(Problem(name, f"{kind} {name!r} has no settings", "remove this section"))
        return None
    section, more = structure_all(cls, {} if raw is None else raw, name)
    problems += more
    return section


def _workload(raw: Any, registry: Registry, problems: list[Problem]) -> Any:
    raw = {} if raw is None else raw
    name = _named(raw, "workload", "kind", "{kind: synthetic}", problems, DEFAULT_WORKLOAD)
    if name is None:
        return None
    section, more = structure_all(config_class(registry, "workload", name), {"kind": name, **raw}, "workload")
    problems += [one if "kind" in raw else of_another_kind(one, name, registry) for one in more]
    return section


def _quality(raw: Any, registry: Registry, problems: list[Problem]) -> Any:
    if raw is None:
        return None
    known = ", ".join(registry.names("evaluator"))
    name = _named(raw, "quality", "evaluator", "{evaluator: NAME, tasks: [TASK]}", problems, known=known)
    if name is None:
        return None
    section, more = structure_all(config_class(registry, "evaluator", name), raw, "quality")
    problems += more
    return section


def _named(
    raw: Any, section: str, key: str, example: str, problems: list[Problem], default: str | None = None, known: str = ""
) -> str | None:
    """The plugin that a section names by one of its keys; None where that is reported."""
    if not isinstance(raw, Mapping):
        problems.append(Problem(section, f"must be a section, got {got(raw)}", f"such as {example}"))
        return None
    name = raw.get(key, default)
    if name is None:
        problems.append(Problem(f"{section}.{key}", "is missing", f"installed: {known or 'none'}"))
    elif not isinstance(name, str):
        problems.append(Problem(f"{section}.{key}", f"must be text, got {got(name)}"))
    else:
        return name
    return None


def _unexpected(
    values: Mapping[Any, Any], backend: str | None, meters: Iterable[str] | None, registry: Registry
) -> list[Problem]:
    """Top-level names that are no field, and sections of plugins that this experiment does not use."""
    backends, known_meters = registry.names("backend"), registry.names("meter")
    problems = []
    for key in values:
        if key in FIELDS or key == backend or (meters is not None and key in meters):
            continue
        if key in backends:
            message = f"is the section of backend {key!r}, but the backend is {backend!r}"
            problems.append(Problem(key, message, f"remove it, or set `backend: {key}`"))
        elif key in known_meters:
            if meters is not None:
                message = f"is the section of meter {key!r}, which is not in `meters`"
                problems.append(Problem(key, message, f"remove it, or set `meters: [{', '.join((*meters, key))}]`"))
        else:
            known = ", ".join((*FIELDS, *backends, *known_meters))
            problems.append(unknown_name(str(key), "field", (backend,) if backend else (), registry, f"known: {known}"))
    return problems


def unknown_name(name: str, what: str, backends: Iterable[str], registry: Registry, otherwise: str) -> Problem:
    """What to tell of a name at the top that is neither a setting nor the section of an installed plugin.

    Args:
        what: "field" or "setting".
        backends: those among whose settings it may be meant.
        otherwise: the hint where no known name is near.
    """
    if name in KNOWN_PACKAGES:
        hint = f"remove it, or pip install {KNOWN_PACKAGES[name]}"
        return Problem(name, "is the section of a plugin that is not installed", hint)
    backends = tuple(backends)
    known = (*FIELDS, *registry.names("backend"), *registry.names("meter"))
    guess = meant(name, registry, backends)
    near = nearest(name, known)
    if guess is not None and (near is None or guess.surely(name)):
        near = guess.path
    advice = renamed(name, known) or (f"did you mean {near!r}?" if near else otherwise)
    return Problem(name, f"unknown {what}", advice)


def _error(problems: Sequence[Problem], sources: Mapping[str, str], layers: Sequence[Layer]) -> ConfigError:
    placed = (attrs.evolve(problem, source=_origin(problem.path, sources) or "") for problem in problems)
    found = tuple(attrs.evolve(one, hint=in_python(one.hint)) if one.source == "python" else one for one in placed)
    named = list(dict.fromkeys(problem.source for problem in found if problem.source))
    places = named or [layer.source for layer in layers]
    message = "invalid configuration" + (f" from {', '.join(places)}" if places else "")
    return ConfigError(message, problems=found)


def _origin(path: str, sources: Mapping[str, str]) -> str | None:
    """The layer that set what stands at a path: the value itself, else something in it, else what it stands in."""
    path = path.partition("[")[0]
    while path:
        if path in sources:
            return sources[path]
        inside = next((source for leaf, source in sources.items() if leaf.startswith(f"{path}.")), None)
        if inside:
            return inside
        path = path.rpartition(".")[0]
    return None


def to_document(experiment: Experiment) -> dict[str, Any]:
    """JSON values that `llem.config.load.resolve` turns into the same experiment again.

    Sections of the backend and of meters stand under their names, as a user writes them. Every field is there,
    defaults included.
    """
    document: dict[str, Any] = unstructure(experiment)
    options, meter_options = document.pop("options"), document.pop("meter_options")
    if options is not None:
        document[experiment.backend] = options
    return {**document, **meter_options}
