"""What a backend takes where nobody says otherwise, and what it finds on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from llem.config.defaults import Finder
from llem.config.layers import Layer
from llem.config.load import resolve
from llem.errors import BrokenPlugin, ConfigError, MachineError
from llem.plugins.claims import Plugin
from llem.plugins.reference import Reference, hookimpl
from llem.plugins.registry import PluginSet, Registry

ASKED: list[Mapping[str, Any]] = []
OWN = "default of backend served"


def own_defaults(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """A closed load, in a number format that follows from the settings, and part of other sections."""
    return {
        "dtype": "float16" if settings.get("trials") == 3 else "auto",
        "load": {"kind": "closed", "concurrency": 4},
        "warmup": {"batches": 5, "seconds": 1.5},
        "workload": {"kind": "synthetic", "input_tokens": 11},
    }


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
    """Backends `served`, which tells and finds, and `careless`; workloads of built-in kinds."""

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
            return [registry.reference("workload", name) for name in ("synthetic", "file")]

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


@pytest.mark.parametrize(
    ("said", "load", "sources"),
    [
        ({"load.concurrency": 16}, ("closed", 16), (OWN, "flag")),
        ({"load.ramp_s": 0.0}, ("closed", 4), (OWN, OWN)),
        ({"load": {}}, ("closed", 4), (OWN, OWN)),
        ({"load.batch_size": 3}, ("offline", 3), ("derived from load.batch_size", "flag")),
        ({"load.request_rate": 4}, ("open", 4), ("derived from load.request_rate", "flag")),
        ({"load.capacity_share": 0.5, "load.seed": 3}, ("open", 0.5), ("derived from load.capacity_share", "flag")),
        ({"load": {"kind": "offline"}}, ("offline", 1), ("flag", "default")),
        ({"load": {"kind": "closed"}}, ("closed", 4), ("flag", OWN)),
        ({"load.kind": "open", "load.request_rate": 2.0}, ("open", 2.0), ("flag", "flag")),
    ],
)
def test_what_is_said_of_a_section_lies_over_the_backends_own(backends, said, load, sources):
    """Another kind, stated or by settings that only it has, takes the section's place; each value has its origin."""
    resolved = of(backends, **said)
    first = {"closed": "concurrency", "offline": "batch_size", "open": "request_rate"}[load[0]]
    if "load.capacity_share" in said:
        first = "capacity_share"
    assert (resolved.experiment.load.kind, getattr(resolved.experiment.load, first)) == load
    assert (resolved.sources["load.kind"], resolved.sources[f"load.{first}"]) == sources


def test_layers_that_go_back_to_the_backends_kind_keep_its_settings(backends):
    """A file says open, a flag says closed: nothing of the file's load is left; what is not said is the backend's."""
    layers = [
        Layer("file", {"backend": "served", "load": {"kind": "open", "request_rate": 3}}),
        Layer("flag", {"load.kind": "closed"}),
    ]
    assert resolve(layers, backends).experiment.load.concurrency == 4


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"load.concurrency": 2, "load.request_rate": 3}, "load.request_rate: is a setting of kind 'open'"),
        ({"load.concurency": 2}, "load.concurency: unknown field"),
        ({"load": 3}, "load: "),
    ],
)
def test_settings_of_no_one_kind_are_told(backends, said, message):
    """Of two kinds at once, of none, and no section at all."""
    with pytest.raises(ConfigError) as caught:
        of(backends, **said)
    assert message in str(caught.value)


def test_sections_without_kinds_and_of_plugins(backends):
    """Settings of the warm-up and of the workload are laid over each by itself; a preset lies under both."""
    resolved = of(backends, preset="quick", **{"warmup.batches": 7, "workload.seed": 9})
    one = resolved.experiment
    assert (one.warmup.batches, one.warmup.seconds) == (7, 1.5)
    assert (one.workload.input_tokens, one.workload.seed) == (11, 9)
    assert (resolved.sources["warmup.batches"], resolved.sources["warmup.seconds"]) == ("flag", OWN)
    stated = of(backends, workload={"kind": "file", "path": "p.txt"})
    assert (stated.experiment.workload.kind, stated.sources["workload.kind"]) == ("file", "flag")
    by_path = of(backends, **{"workload.path": "p.txt"})
    assert by_path.experiment.workload.kind == "file"
    assert by_path.sources["workload.kind"] == "derived from workload.path"


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
