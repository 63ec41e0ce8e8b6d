"""Which backend is measured where nobody names one and several are installed: one choice for a whole study, told."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import attrs

from llem.backends.start import start_of
from llem.config.layers import Layer, overlay, plain
from llem.config.load import CHOSEN, COMMAND, ECHO
from llem.config.models import Experiment
from llem.config.study.axes import Point
from llem.config.study.file import StudyFile
from llem.config.user import UserConfig, named_user_config
from llem.errors import ConfigError, MachineError, Problem, UnknownPlugin
from llem.plugins.registry import Registry

__all__ = ["backend_layer", "choose", "chosen_note", "gpu_here", "in_order", "obstacles"]

#: Backends in the order in which they are taken; others follow by name. So a further plugin changes no choice.
FIRST = ("pytorch", "vllm", "tensorrt")


def gpu_here() -> bool:
    """Whether an experiment with `device: auto` runs on a GPU here."""
    from llem.experiment.placement import place  # a plan that names its backends looks at no device

    try:
        return place(Experiment(backend=ECHO)).device == "cuda"
    except MachineError:  # a GPU that cannot be used: the run itself says what is wrong with it
        return False


def in_order(names: Iterable[str]) -> list[str]:
    """Backends that run a model, in the order in which they are taken."""
    real = [name for name in names if name not in (ECHO, COMMAND)]
    return sorted(real, key=lambda name: (FIRST.index(name) if name in FIRST else len(FIRST), name))


def obstacles(registry: Registry, gpu: bool) -> dict[str, str | None]:
    """By backend that runs a model, in order: why it cannot run here by itself; None where it can."""
    names = in_order(registry.names("backend"))
    return {name: start_of(registry.reference("backend", name), gpu).obstacle for name in names}


def backend_layer(
    file: StudyFile,
    points: Callable[[], Sequence[Point]],
    overrides: Sequence[Layer],
    user: UserConfig,
    registry: Registry,
    gpu: Callable[[], bool] = gpu_here,
) -> Layer | None:
    """A layer under all others that says the backend. None where nothing is to be chosen: each point names one, or at
    most one is installed.

    Raises:
        UnknownPlugin: the user configuration names a backend that is not installed.
        ConfigError: several are installed, and none can run here by itself.
    """
    shared = [layer.values for layer in (*file.base, *overrides)]
    if any(values.get("backend") is not None for values in shared):
        return None
    own = [] if file.single else [point.settings for point in points()]
    if own and all(values.get("backend") is not None for values in own):
        return None
    if user.backend is not None:
        return Layer("user config", {"backend": _known(user.backend, registry)})
    if len(in_order(registry.names("backend"))) < 2:
        return None
    return Layer(CHOSEN, {"backend": choose([*shared, *own], registry, gpu)})


def _known(name: str, registry: Registry) -> str:
    try:
        registry.reference("backend", name)
    except UnknownPlugin as error:
        message = f"{error.message}, which {named_user_config()} names"
        raise attrs.evolve(error, message=message) from None
    return name


def choose(settings: Sequence[Mapping[str, Any]], registry: Registry, gpu: Callable[[], bool] = gpu_here) -> str:
    """The backend whose section alone is given; else the first that can run here, and streams if a load asks for it.

    Args:
        settings: of all layers and points of a study. The whole study gets one backend.

    Raises ConfigError: none can run here by itself.
    """
    trees = [_sections(values) for values in settings]
    names = in_order(registry.names("backend"))
    meant = [name for name in names if any(name in tree for tree in trees)]
    if len(meant) == 1:
        return meant[0]
    found = obstacles(registry, gpu())
    able = [name for name, obstacle in found.items() if obstacle is None]
    if not able:
        raise ConfigError(
            "several backends are installed, and none can run here by itself",
            "name one with `backend`, in a command with `-b NAME`",
            problems=tuple(Problem(name, obstacle or "") for name, obstacle in found.items()),
        )
    serving = any(_serves(tree.get("load")) for tree in trees)
    stream = [n for n in able if registry.reference("backend", n).capabilities.get("stream") == "supported"]
    return (stream or able)[0] if serving else able[0]


def _sections(values: Mapping[str, Any]) -> dict[Any, Any]:
    tree: dict[Any, Any] = {}
    overlay(tree, Layer("", values))
    found: dict[Any, Any] = plain(tree)
    return found


def _serves(load: Any) -> bool:
    return isinstance(load, Mapping) and load.get("kind", "offline") != "offline"


def chosen_note(backend: str, registry: Registry) -> str:
    """One sentence: what was chosen, of what, and how to make a choice that stays."""
    others = [name for name in in_order(registry.names("backend")) if name != backend]
    keep = f"`llem config set backend {backend}` makes it the default"
    return f"no backend is named, so llem takes {backend} (also installed: {', '.join(others)}); {keep}"
