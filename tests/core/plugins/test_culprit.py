"""Which plugin an error comes from: the last one of those that its lines went through."""

from __future__ import annotations

import types
from collections.abc import Callable

import pytest

from llem.plugins.culprit import culprit
from llem.plugins.reference import Reference
from llem.plugins.registry import Plugin, PluginSet, Registry


def provider(*references: Reference) -> types.ModuleType:
    """A module with the hook `llem_meters`."""
    from llem.plugins import hookimpl

    module = types.ModuleType("hooks")
    module.llem_meters = hookimpl(lambda: list(references), specname="llem_meters")
    return module


@pytest.fixture
def registry() -> Registry:
    """Of two plugins: one with a meter, one with two in one package."""
    found = PluginSet()
    one = Reference("watts", "its_watts.meter:Meter")
    several = [Reference("volts", "its_lab.volts:Meter"), Reference("amps", "its_lab.amps:Meter")]
    found.add(Plugin("watts", "its_watts.hooks", "llem-watts", "0.3"), provider(one))
    found.add(Plugin("lab", "its_lab.hooks", "llem-lab", "1.2"), provider(*several))
    return Registry(found)


def raised(*modules: str) -> BaseException:
    """An error that went through lines of these modules, the last of which raised it."""

    def fail() -> None:
        raise PermissionError(13, "Permission denied")

    call: Callable[[], None] = fail
    for name in reversed(modules):
        scope = {"__name__": name, "inner": call}
        exec("def call():\n    inner()", scope)
        call = scope["call"]
    try:
        call()
    except PermissionError as error:
        return error
    raise AssertionError


@pytest.mark.parametrize(
    ("through", "told"),
    [
        (["llem.experiment.worker", "its_watts.meter"], "the meter 'watts' of llem-watts 0.3"),
        (["its_watts.meter", "some_library"], "the meter 'watts' of llem-watts 0.3"),
        (["its_watts.deep.inside"], "the meter 'watts' of llem-watts 0.3"),
        (["its_lab.amps"], "the meter 'amps' of llem-lab 1.2"),
        (["its_lab.shared"], "the plugin llem-lab 1.2"),
        (["its_watts.meter", "its_lab.volts"], "the meter 'volts' of llem-lab 1.2"),
        (["llem.experiment.worker"], ""),
    ],
)
def test_the_last_plugin_on_the_way_is_named(registry: Registry, through: list[str], told: str) -> None:
    """As exactly as its modules tell."""
    assert culprit(raised(*through), registry) == told


def test_of_several_in_one_module_it_is_the_one_whose_method_failed() -> None:
    """Known by its class; a line outside of any of them is the plugin's."""
    found = PluginSet()
    both = [Reference("volts", "its_lab:Volts"), Reference("amps", "its_lab:Amps")]
    found.add(Plugin("lab", "its_lab", "llem-lab", "1.2"), provider(*both))
    scope: dict = {"__name__": "its_lab"}
    exec("class Volts:\n    def open(self):\n        open('/nowhere/volts')", scope)
    exec("class Amps:\n    def open(self):\n        open('/nowhere/amps')", scope)
    exec("class Ohms:\n    def open(self):\n        open('/nowhere/ohms')", scope)
    told = []
    for name in ("Volts", "Amps", "Ohms"):
        with pytest.raises(FileNotFoundError) as caught:
            scope[name]().open()
        told.append(culprit(caught.value, Registry(found)))
    assert told == ["the meter 'volts' of llem-lab 1.2", "the meter 'amps' of llem-lab 1.2", "the plugin llem-lab 1.2"]
