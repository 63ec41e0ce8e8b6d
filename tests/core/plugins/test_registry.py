"""The registry without child processes: discovery is handed modules as entry points."""

from __future__ import annotations

import sys
import types
from importlib.metadata import EntryPoint

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llem.config.load import FIELDS
from llem.config.study.file import STUDY_KEYS
from llem.errors import BrokenPlugin, MachineError, UnknownPlugin
from llem.plugins import Reference, hookimpl
from llem.plugins.claims import Plugin
from llem.plugins.faults import hook_fault, reference_fault, target_fault
from llem.plugins.names import CAPABILITIES, COMMANDS, KNOWN_NAMES, KNOWN_PACKAGES, NAME_RULE, SETTINGS
from llem.plugins.registry import Registry, discover


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


def test_commands_of_llem_are_reserved():
    """Every command of the command line is in the list of names that no plugin can take."""
    from llem.cli import cli

    assert set(cli.commands) <= COMMANDS


def test_settings_are_reserved():
    """A backend or a meter of such a name could never have a section of its own."""
    assert {*FIELDS, *STUDY_KEYS} == SETTINGS

    known = offered(one=("load", "axes", "mine"))
    assert known.names("backend") == ("command", "echo", "mine")
    assert [failure.error for failure in known.failures] == [
        f"the name {name!r} of a backend belongs to llem-core (choose another one, such as 'one-{name}')"
        for name in ("load", "axes")
    ]


class Of:
    """Hooks of one distribution, which gives these backends."""

    def __init__(self, *names: str) -> None:
        self._names = names

    @hookimpl
    def llem_backends(self):
        return [Reference(name, "nowhere:X") for name in self._names]


def offered(**given: tuple[str, ...]) -> Registry:
    """A registry of the core's plugin and these distributions, each with backends of these names."""
    found = discover([])
    for distribution, names in given.items():
        found.add(Plugin(distribution, distribution, distribution, "1"), Of(*names))
    return Registry(found)


def test_two_that_give_a_name_leave_the_others_alone():
    """What each gives besides is used; a name that one gives twice is an error as well."""
    known = offered(one=("good", "mine"), two=("good", "yours"), three=("twice", "twice"))

    assert known.names("backend") == ("command", "echo", "mine", "yours")
    assert sorted({failure.claim for failure in known.failures}) == [("backend", "good"), ("backend", "twice")]
    assert [failure.distribution for failure in known.failures] == ["one", "two", "three", "three"]


@pytest.mark.parametrize("spelling", ["llem_pytorch", "LLEM.pytorch", "llem-pytorch"])
def test_our_own_package_is_known_however_it_is_spelt(spelling):
    """As package indexes compare names; a stranger beside it changes nothing."""
    known = offered(**{"aaa": ("pytorch",), spelling: ("pytorch",)})

    assert [plugin.distribution for reference, plugin in known.entries("backend") if reference.name == "pytorch"] == [
        spelling
    ]
    assert [failure.distribution for failure in known.failures] == ["aaa"]


def test_a_name_of_ours_is_kept_where_our_package_is_not_installed():
    """A stranger's engine never measures under it; the error says how to get the real one."""
    with pytest.raises(BrokenPlugin, match="belongs to llem-vllm") as caught:
        offered(aaa=("vllm",)).load("backend", "vllm")

    assert caught.value.hint == "pip install llem-vllm, and remove aaa"


@pytest.mark.parametrize("name", ["", "Good", " good", "good one", "\x1b[31mred", "-b", "a/b", 7])
def test_a_name_that_nobody_can_type_is_refused(name):
    """Names are what users write: no capitals, spaces, control sequences."""
    known = offered(one=(name,))

    assert known.names("backend") == ("command", "echo")
    assert [failure.error for failure in known.failures] == [f"{name!r} is no name: {NAME_RULE}"]


@pytest.mark.parametrize(
    ("reference", "wrong"),
    [
        (
            Reference("x", "m:X", capabilities={"streem": "supported"}),
            "unknown capability 'streem' (did you mean stream?)",
        ),
        (Reference("x", "m:X", capabilities={"stream": "yes"}), "capability 'stream' is 'yes', and must be one of"),
        (Reference("x", "m.n.X"), "target of 'x' is 'm.n.X', and must be \"module:name\" (did you mean m.n:X?)"),
        (Reference("x", "m:n:X"), "target of 'x' is 'm:n:X', and must be \"module:name\" (did you mean m.n:X?)"),
        (Reference("x", "m:X", config="m/c.py"), "config of 'x' is 'm/c.py', and must be \"module:name\""),
        (Reference("x", "m:X", deploy=print), "deploy of 'x' is <built-in function print>"),
    ],
)
def test_a_reference_that_is_written_wrongly_is_told_with_the_right_form(reference, wrong):
    """Before anything is imported."""
    assert (reference_fault(reference) or "").startswith(wrong)


def test_a_right_reference_has_no_fault():
    """Every capability that there is, and every support."""
    right = Reference("my-one.2", "a.b:C", config="a:b", capabilities=dict.fromkeys(CAPABILITIES, "unknown"))

    assert reference_fault(right) is None


@pytest.mark.parametrize(
    ("target", "wrong"),
    [
        ("llem.backends.echo:EchoBackend", None),
        ("llem.backends.ecko:EchoBackend", "there is no module llem.backends.ecko (did you mean llem.backends.echo?)"),
        ("llem.backends.echo:EchoBakend", "llem.backends.echo has no EchoBakend (did you mean EchoBackend?)"),
        ("lleem:X", "there is no module lleem (did you mean llem?)"),
        ("sys:no_such_name", None),  # no source: its import will tell
    ],
)
def test_what_is_not_there_is_told_without_importing_it(target, wrong):
    """With the nearest name that is there."""
    told = target_fault(Reference("x", target))

    assert told == (wrong and f"target {target!r}: {wrong}")


def test_an_absent_class_is_told_when_it_is_used(registry_with):
    """The error names the class that is there."""
    known = registry_with(a={"llem_backends": lambda: [Reference("mine", "llem.backends.echo:EchoBakend")]})

    with pytest.raises(BrokenPlugin, match=r"has no EchoBakend \(did you mean EchoBackend\?\)"):
        known.load("backend", "mine")
    assert [failure.claim for failure in known.examine()] == [("backend", "mine")]
    assert len(known.examine()) == 1


def test_hooks_that_llem_would_never_call_are_told():
    """A missing marker, a name that is none, a module without any hook."""

    def function() -> types.FunctionType:
        return types.FunctionType((lambda: None).__code__, {"__name__": "made_hooks"})

    def made(**functions: object) -> types.ModuleType:
        module = types.ModuleType("made_hooks")
        vars(module).update(functions)
        return module

    assert hook_fault(made(llem_meters=hookimpl(function()), helper=function())) is None
    assert "llem_meters has no `@hookimpl` above it" in hook_fault(made(llem_meters=function()))
    renamed = hookimpl(function(), specname="llem_meter")
    assert "unknown hook llem_meter (did you mean llem_meters?)" in hook_fault(made(f=renamed))
    near = hook_fault(made(llem_environment=hookimpl(function()), llem_comands=function()))
    assert near == "llem_comands is no hook, and has no `@hookimpl` above it (did you mean llem_commands?)"
    assert "implements no hook" in hook_fault(made(helper=function()))
