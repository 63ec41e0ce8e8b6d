"""From layers of settings to one Experiment, with the source of every value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs

from llem.config.arrival import GREATEST, OpenLoad
from llem.config.build import FIELDS, Builder, meter_names, unexpected
from llem.config.converter import unstructure
from llem.config.defaults import Find, backend_layers
from llem.config.guesses import in_python
from llem.config.layers import Layer, Leaf
from llem.config.models import PRESETS, Experiment
from llem.config.said import Remembered, Said, merged, said, sources_of
from llem.config.text import parse_assignment, read_yaml
from llem.errors import ConfigError, Problem, UnknownPlugin, nearest
from llem.plugins.registry import Registry

__all__ = ["FIELDS", "Layer", "Resolved", "Resolver", "parse_assignment", "read_yaml", "resolve", "to_document"]

#: The backend that only plays at inference; never chosen unless named.
ECHO = "echo"
#: The backend of metered commands, which loads nothing itself; never chosen unless named.
COMMAND = "command"
#: Source of a backend that llem chose because nobody named one; see `llem.study.plan.chosen`.
CHOSEN = "first backend that can run here"


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
    return Resolver(registry, find)(merged(layers), [layer.source for layer in layers])


class Resolver:
    """As `resolve`, for many configurations: what several of them say alike is read once; see `llem.config.said`."""

    def __init__(self, registry: Registry, find: Find | None = None) -> None:
        self._registry, self._find = registry, find
        self._build = Builder(registry)
        self._presets: dict[str, Mapping[Any, Said]] = {}
        self._over = Remembered(lambda name, below, above: said(name, (*below.parts, *above.parts)))

    def __call__(self, asked: Mapping[Any, Said], places: Sequence[str]) -> Resolved:
        """The experiment that all layers together describe.

        Args:
            places: sources of all layers, for a message about nothing that one of them says.
        """
        preset = _preset(asked)
        found = merged(backend_layers(asked, self._registry, self._find), self._upon_preset(preset, asked))
        if "backend" not in found or found["backend"].values is None:
            if typos := _misspelt_backend(found, self._registry):  # else the next line would complain about others
                raise _error(typos, found, places)
            found["backend"] = said("backend", [("only backend installed", _only_backend(self._registry))])
        built = self._build(found)
        experiment, problems = built.value, list(built.problems)
        if experiment is not None and experiment.max_trials < experiment.trials:
            if "max_trials" not in found or found["max_trials"].parts[-1][0] == _source(preset):
                found["max_trials"] = said("max_trials", [("derived from trials", experiment.trials)])
                built = self._build(found)
                experiment = built.value
            else:
                about = f"is {experiment.max_trials}, below trials ({experiment.trials})"
                problems.append(Problem("max_trials", about, "raise max_trials, or lower trials"))
        if experiment is not None:
            problems += _of_another_load(experiment)
        if experiment is None or problems:
            raise _error(problems, found, places)
        return Resolved(experiment, built.sources)

    def _upon_preset(self, name: str, asked: Mapping[Any, Said]) -> dict[Any, Said]:
        """What is asked for, upon the preset that it names. An unknown preset sets nothing; it is reported later."""
        if name not in self._presets:
            self._presets[name] = merged([Layer(_source(name), PRESETS.get(name, {}))])
        below = self._presets[name]
        return {**below, **asked, **{key: self._over(key, below[key], asked[key]) for key in below if key in asked}}


def _preset(asked: Mapping[Any, Said]) -> str:
    leaf = asked["preset"].tree if "preset" in asked else Leaf(attrs.fields(Experiment).preset.default, "default")
    return leaf.value if isinstance(leaf, Leaf) and isinstance(leaf.value, str) else ""


def _source(preset: str) -> str:
    return f"preset {preset}"


def stored_experiment(document: Mapping[str, Any], registry: Registry) -> Experiment:
    """The experiment of a stored `experiment.json`. Raises as `resolve`."""
    return resolve([Layer("order", document["config"])], registry).experiment


def _of_another_load(experiment: Experiment) -> Iterator[Problem]:
    """Settings that would have no effect, or no meaning, with the load and the sampling that there are."""
    kind = experiment.load.kind
    if experiment.token_times and kind != "offline":
        about = f"is for offline loads; with a load of kind {kind!r} every request has its times"
        yield Problem("token_times", about, "remove it")
    if experiment.phases != "none" and kind != "offline":
        about = f"is for offline loads; with a load of kind {kind!r} prefill and decode run side by side"
        yield Problem("phases", about, "remove it")
    if experiment.phases != "none" and not experiment.sampling.ignore_eos:
        about = "compares windows of the same work, and answers that may end early are not"
        yield Problem("phases", about, "remove it, or set `sampling.ignore_eos: true`")
    if experiment.slo is not None and kind == "offline":
        about = "limits the latencies of a serving load, and this load is offline"
        yield Problem("slo", about, "remove it, or set `load.kind` to closed, open or replay")
    if isinstance(experiment.load, OpenLoad) and experiment.load.request_rate == GREATEST and experiment.slo is None:
        about = "is the greatest rate at which an SLO is kept, and no `slo` says which"
        yield Problem("load.request_rate", about, "add `slo`, such as {ttft_s: 0.5, tpot_s: 0.05, attainment: 0.99}")


def _misspelt_backend(found: Mapping[Any, Said], registry: Registry) -> list[Problem]:
    meters = meter_names(found["meters"].values if "meters" in found else None, registry)
    problems = unexpected(found, None, meters, registry)
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


def _error(problems: Sequence[Problem], asked: Mapping[Any, Said], layers: Sequence[str]) -> ConfigError:
    sources = sources_of(asked)
    placed = (attrs.evolve(problem, source=_origin(problem.path, sources) or "") for problem in problems)
    found = tuple(attrs.evolve(one, hint=in_python(one.hint)) if one.source == "python" else one for one in placed)
    named = list(dict.fromkeys(problem.source for problem in found if problem.source))
    places = named or layers
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
