"""What a backend takes where nobody says otherwise, and what it finds on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from llem.config.defaults import Finder
from llem.config.layers import Layer
from llem.config.load import resolve
from llem.errors import BrokenPlugin, MachineError
from llem.plugins.reference import Reference, hookimpl
from llem.plugins.registry import Plugin, PluginSet, Registry

ASKED: list[Mapping[str, Any]] = []


def own_defaults(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """A closed load, in a number format that follows from the settings."""
    return {"dtype": "float16" if settings.get("trials") == 3 else "auto", "load": {"kind": "closed", "concurrency": 4}}


def own_found(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """A model; nothing answers where the settings say so."""
    ASKED.append(settings)
    if settings.get("revision") == "gone":
        raise MachineError("nothing answers")
    return {"model": "org/found", "dtype": "float32"}


def no_defaults(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a careless plugin may do."""
    raise RuntimeError("oops")


@pytest.fixture
def backends(registry: Registry) -> Registry:
    """Backends `served`, which tells and finds, and `careless`; workloads of the built-in kind."""

    class Hooks:
        @hookimpl
        def llem_backends(self) -> list[Reference]:
            here = f"{__name__}:"
            return [
                Reference("served", "nowhere:X", defaults=f"{here}own_defaults", found=f"{here}own_found"),
                Reference("careless", "nowhere:X", defaults=f"{here}no_defaults"),
            ]

        @hookimpl
        def llem_workloads(self) -> list[Reference]:
            return [registry.reference("workload", "synthetic")]

    found = PluginSet()
    found.add(Plugin("fake", "fake", "llem-fake", "1"), Hooks())
    ASKED.clear()
    return Registry(found)


def of(backends: Registry, find: Any = None, **settings: Any) -> Any:
    return resolve([Layer("flag", {"backend": "served", **settings})], backends, find)


def test_what_nobody_says_is_the_backends_own(backends):
    """Above the preset, under everything that is said; each value has its source."""
    resolved = of(backends, trials=3)
    assert resolved.experiment.dtype == "float16"
    assert resolved.experiment.load.concurrency == 4
    assert resolved.sources["load.concurrency"] == "default of backend served"
    assert resolved.sources["trials"] == "flag"
    assert of(backends, dtype="bfloat16").experiment.dtype == "bfloat16"


def test_a_section_of_which_anything_is_said_is_the_users(backends):
    """A batch size is of an offline load, whatever the backend's own load is."""
    load = of(backends, **{"load.batch_size": 3}).experiment.load
    assert (load.kind, load.batch_size) == ("offline", 3)


def test_what_is_found_lies_over_defaults_and_under_what_is_said(backends):
    """It is asked for once for all points that ask for the same."""
    find = Finder(backends, lenient=False)
    resolved = of(backends, find)
    assert (resolved.experiment.model, resolved.experiment.dtype) == ("org/found", "float32")
    assert resolved.sources["model"] == "found by backend served"
    of(backends, find, trials=7)
    assert len(ASKED) == 1
    assert of(backends, find, model="org/mine").experiment.model == "org/mine"


def test_nothing_is_looked_at_without_being_asked_to(backends):
    """A stored experiment, a check of a file."""
    assert of(backends).experiment.model == "shape:tiny"
    assert ASKED == []


def test_a_plan_goes_on_where_nothing_answers(backends):
    """A run does not."""
    with pytest.raises(MachineError, match="nothing answers"):
        of(backends, Finder(backends, lenient=False), revision="gone")
    assert of(backends, Finder(backends, lenient=True), revision="gone").experiment.dtype == "auto"


def test_a_careless_plugin_is_named(backends):
    """Its error is no traceback."""
    with pytest.raises(BrokenPlugin, match=r"'careless' does not say its defaults \(RuntimeError: oops\)"):
        resolve([Layer("flag", {"backend": "careless"})], backends)
