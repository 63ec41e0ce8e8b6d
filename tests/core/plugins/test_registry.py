"""The registry without child processes: discovery is handed modules as entry points."""

from __future__ import annotations

import sys
import types
from importlib.metadata import EntryPoint

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llem.errors import BrokenPlugin, MachineError, UnknownPlugin
from llem.plugins import Reference, hookimpl
from llem.plugins.registry import KNOWN_NAMES, KNOWN_PACKAGES, Registry, discover


@pytest.fixture
def registry_with(monkeypatch):
    """A registry over hook modules made on the spot: name to mapping of hook functions."""

    def _registry_with(**modules) -> Registry:
        points = []
        for name, hooks in modules.items():
            module = types.ModuleType(f"made_{name}")
            for hook, function in hooks.items():
                function.__name__ = hook
                setattr(module, hook, hookimpl(function))
            monkeypatch.setitem(sys.modules, module.__name__, module)
            points.append(EntryPoint(name, module.__name__, "llem"))
        return Registry(discover(points))

    return _registry_with


def test_built_in_plugin_enters_by_the_same_door(registry_with):
    """Built-in backends, meters and workloads are in the registry, from llem-core, with nothing broken."""
    known = registry_with()

    assert "echo" in known.names("backend")
    assert {"nvml", "rapl"} <= set(known.names("meter"))
    assert "synthetic" in known.names("workload")
    assert {plugin.distribution for _, plugin in known.entries("meter")} == {"llem-core"}
    assert known.failures == []


def test_built_in_references_load(registry_with):
    """Every built-in reference points to a class that exists, and so does its config class."""
    known = registry_with()

    for kind in ("backend", "meter", "workload"):
        for reference, _ in known.entries(kind):
            assert isinstance(reference.load(), type), reference
            config = reference.load_config()
            assert config is None or hasattr(config, "__attrs_attrs__"), reference


def test_ask_isolates_a_hook_that_raises(registry_with):
    """Each plugin is asked by itself: one that raises is recorded, the others answer."""

    def fail():
        raise RuntimeError("boom")

    known = registry_with(a={"llem_environment": fail}, b={"llem_environment": lambda: {"rack": 7}})

    answers = [(plugin.name, answer) for plugin, answer in known.ask("llem_environment")]

    assert ("b", {"rack": 7}) in answers
    assert [(f.name, f.stage, f.error) for f in known.failures] == [("a", "call", "RuntimeError: boom")]


def test_ask_passes_only_the_arguments_a_hook_takes(registry_with):
    """An implementation may take fewer arguments than the hook offers."""
    seen = []
    known = registry_with(a={"llem_study_started": lambda store: seen.append(store)})

    list(known.ask("llem_study_started", study={}, store="out"))

    assert seen == ["out"]


def test_target_that_fails_to_import_is_a_broken_plugin(registry_with, monkeypatch, tmp_path):
    """A reference whose module raises when it is loaded gives BrokenPlugin with that cause."""
    (tmp_path / "cracked_engine.py").write_text("raise SystemExit('unsupported processor')")
    monkeypatch.syspath_prepend(tmp_path)
    known = registry_with(a={"llem_backends": lambda: [Reference("cracked", "cracked_engine:Engine")]})

    with pytest.raises(BrokenPlugin, match="SystemExit: unsupported processor"):
        known.load("backend", "cracked")


def test_missing_requirement_is_a_machine_error_with_the_install_command(registry_with):
    """What a reference requires is checked before its target is imported, also below a package that is not there."""
    needy = Reference("needy", "nowhere:Engine", requires=("no_such_package.sub",), install="pip install it")
    known = registry_with(a={"llem_backends": lambda: [needy]})

    with pytest.raises(MachineError, match=r"no_such_package\.sub") as caught:
        known.load("backend", "needy")

    assert caught.value.hint == "pip install it"
    assert caught.value.code == "requirement_missing"


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind, names in KNOWN_NAMES.items() for name in sorted(names)]
)
def test_known_package_that_is_not_installed_says_what_to_install(registry_with, kind, name):
    """Each of our own plugins that is not installed is named with its distribution, for its own kind."""
    known = registry_with()

    with pytest.raises(UnknownPlugin) as caught:
        known.reference(kind, name)

    assert f"pip install {KNOWN_PACKAGES[name]}" in caught.value.hint


@given(name=st.text(max_size=20))
def test_any_unknown_name_gets_advice(name):
    """Whatever is asked for, an unknown name raises UnknownPlugin and lists what is installed."""
    known = Registry(discover([]))
    if name in known.names("meter"):
        return

    with pytest.raises(UnknownPlugin) as caught:
        known.reference("meter", name)

    assert "installed: " in caught.value.hint
