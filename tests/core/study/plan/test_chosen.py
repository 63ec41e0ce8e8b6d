"""The backend that is measured where nobody names one: one for a study, the same every time, and told."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

import attrs
import pytest

from llem.backends.start import Start, start_of
from llem.config.layers import Layer
from llem.config.load import CHOSEN
from llem.config.study.axes import declared_points
from llem.config.study.file import parse_study
from llem.config.user import UserConfig
from llem.errors import ConfigError, UnknownPlugin
from llem.plugins.claims import Plugin
from llem.plugins.names import KNOWN_PACKAGES
from llem.plugins.reference import Reference, hookimpl
from llem.plugins.registry import Registry, discover
from llem.study.plan.chosen import backend_layer, choose, chosen_note, obstacles

STREAMS = {"stream": "supported"}


def stuck(gpu: bool, model: str) -> Start:
    """Needs a GPU."""
    return Start(obstacle=None if gpu else "needs a GPU")


def raises(gpu: bool, model: str) -> Start:
    raise RuntimeError("no driver")


def with_backends(*references: Reference) -> Registry:
    """A registry of the core's own plugin and these backends."""
    found = discover([])
    for reference in references:
        module = types.ModuleType(reference.name)
        module.llem_backends = hookimpl(lambda given=reference: [given], specname="llem_backends")
        distribution = KNOWN_PACKAGES.get(reference.name, "others")
        found.add(Plugin(reference.name, reference.name, distribution, "1"), module)
    return Registry(found)


def backend(name: str, start: str | None = None, **more: Any) -> Reference:
    return Reference(name, "nowhere:Nothing", start=start and f"{__name__}:{start}", **more)


@pytest.fixture
def several() -> Registry:
    """As on a laptop: each of the backends of this repository, and one of somebody else."""
    return with_backends(
        backend("abc", capabilities=STREAMS),
        backend("openai", "stuck", capabilities=STREAMS),
        backend("pytorch"),
        backend("tensorrt", requires=("no_such_module",)),
        backend("vllm", "stuck", capabilities=STREAMS),
    )


@pytest.mark.parametrize("gpu", [True, False])
def test_a_further_plugin_does_not_change_the_choice(several: Registry, gpu: bool) -> None:
    """`pytorch` comes first, whatever else is installed and can run."""
    assert choose([], several, lambda: gpu) == "pytorch"


def test_obstacles_are_those_of_this_machine(several: Registry) -> None:
    """What is not installed, and what the backends say themselves."""
    missing = "needs no_such_module, which is not installed"
    bare = {"pytorch": None, "vllm": "needs a GPU", "tensorrt": missing, "abc": None, "openai": "needs a GPU"}

    assert obstacles(several, False) == bare
    assert obstacles(several, True) == {**bare, "vllm": None, "openai": None}


def test_what_cannot_run_here_is_not_taken() -> None:
    """The next in order is; if nothing can run, each reason is told."""
    known = with_backends(backend("vllm", "stuck"), backend("abc"), backend("broken", "raises"))

    assert choose([], known, lambda: True) == "vllm"
    assert choose([], known, lambda: False) == "abc"
    with pytest.raises(ConfigError) as caught:
        choose([], with_backends(backend("vllm", "stuck"), backend("broken", "raises")), lambda: False)
    assert [str(problem) for problem in caught.value.problems] == [
        "vllm: needs a GPU",
        "broken: does not say whether it can run here (RuntimeError: no driver)",
    ]


def test_the_only_section_that_is_given_names_the_backend(several: Registry) -> None:
    """Its settings say which backend is meant, also one that is not taken by itself; those of two say nothing."""
    url = {"openai.base_url": "http://127.0.0.1:1/v1"}

    assert choose([url, {"dtype": "auto"}], several, lambda: False) == "openai"
    assert choose([{"openai": {}}], several, lambda: False) == "openai"
    assert choose([url, {"vllm": {"max_num_seqs": 1}}], several, lambda: False) == "pytorch"


def test_a_load_that_is_served_takes_a_backend_that_streams(several: Registry) -> None:
    """If there is one that can run."""
    assert choose([{"load": {"kind": "closed"}}], several, lambda: True) == "vllm"
    assert choose([{"load.kind": "open"}], several, lambda: False) == "abc"
    assert choose([{"load.kind": "open"}], with_backends(backend("pytorch"), backend("x")), lambda: False) == "pytorch"


@pytest.fixture
def layer(several: Registry) -> Callable[..., Layer | None]:
    def made(document: dict[str, Any], *overrides: Layer, **user: Any) -> Layer | None:
        file = parse_study(document)
        default = UserConfig(**user)
        return backend_layer(file, lambda: declared_points(file), overrides, default, several, lambda: False)

    return made


def test_one_choice_for_all_points(layer) -> None:
    """Points with different loads are measured on one backend, or their difference would be the backends'."""
    assert layer({"axes": {"load.kind": ["offline", "closed"]}}) == Layer(CHOSEN, {"backend": "abc"})


@pytest.mark.parametrize(
    "document",
    [
        {"base": {"backend": "vllm"}},
        {"axes": {"backend": ["vllm", "pytorch"]}},
        {"experiments": [{"backend": "vllm"}, {"backend": "pytorch"}]},
    ],
)
def test_nothing_is_chosen_where_all_is_said(layer, document: dict[str, Any]) -> None:
    """No device is looked at then."""
    assert layer(document) is None
    assert layer({}, Layer("flag", {"backend": "echo"})) is None


def test_the_default_of_the_user_comes_first(layer) -> None:
    """Over llem's own choice; the source says where it is from, and a name that is not installed where it stands."""
    assert layer({}, backend="vllm") == Layer("user config", {"backend": "vllm"})
    with pytest.raises(UnknownPlugin, match="unknown backend 'vlm', which the user configuration"):
        layer({}, backend="vlm")


def test_one_backend_is_no_choice() -> None:
    """Whether it can run here, the run itself tells."""
    file = parse_study({})
    one = with_backends(backend("vllm", "stuck"))

    assert backend_layer(file, lambda: declared_points(file), (), UserConfig(), one, lambda: False) is None


def test_the_choice_is_told_with_the_command_that_keeps_it(several: Registry) -> None:
    """In one line."""
    assert chosen_note("pytorch", several) == (
        "no backend is named, so llem takes pytorch (also installed: vllm, tensorrt, abc, openai); "
        "`llem config set backend pytorch` makes it the default"
    )


def test_a_backend_that_says_nothing_has_no_obstacle() -> None:
    """But what it needs must be there."""
    assert start_of(backend("x"), False) == Start()
    assert start_of(backend("x", "stuck", requires=("no_such_module",)), True) == attrs.evolve(
        Start(), obstacle="needs no_such_module, which is not installed"
    )
