"""What llem relies on in any plugin, whatever it provides."""

from __future__ import annotations

import subprocess
import sys
from typing import Any, ClassVar

import attrs
import pytest

from llem.plugins.faults import reference_fault, target_fault
from llem.plugins.reference import Reference
from llem.testing.conformance.told import Rules, expect

__all__ = ["HEAVY", "PluginConformance", "PluginUnderTest", "loaded_after_import"]

#: Modules whose import a user would notice. A plugin's own requirements are added to them.
HEAVY = ("torch", "numpy", "scipy", "pandas", "transformers", "polars", "pynvml", "rich")


class PluginUnderTest(Rules):
    """The plugin that a suite is about; no checks.

    Attributes:
        hooks: the module of the entry point, `"llem_mine.hooks"`; None where the reference comes from elsewhere.
    """

    hooks: ClassVar[str | None] = None

    def reference(self) -> Reference:
        """The reference under test, as the plugin's hook returns it."""
        raise NotImplementedError("return the plugin's Reference")

    @pytest.fixture(scope="class")
    @classmethod
    def options(cls) -> Any:
        """The plugin's own section; all defaults."""
        config = cls().reference().load_config()
        return None if config is None else config()


class PluginConformance(PluginUnderTest):
    """Checks of the reference and of the section's class; part of every suite of a kind of plugin."""

    def test_reference_is_complete(self) -> None:
        """A user who lists plugins sees what each is, and what to install where something is missing."""
        reference = self.reference()
        expect(reference_fault(reference), None)
        expect(target_fault(reference), None)
        assert reference.summary, "summary is empty"
        assert reference.install or not reference.requires, "requires names modules and install says nothing"

    def test_target_carries_the_name(self) -> None:
        """The class behind the reference has the name that a user writes: `name`, or a workload's `kind`."""
        target = self.reference().load()
        expect(getattr(target, "kind", None) or getattr(target, "name", None), self.reference().name)

    def test_hooks_and_config_import_light(self) -> None:
        """A study is planned without importing what the plugin wraps."""
        reference = self.reference()
        targets = [(one or "").partition(":")[0] for one in (reference.config, reference.deploy)]
        modules = [name for name in (self.hooks, *targets) if name]
        target = reference.target.partition(":")[0]
        heavy = [*HEAVY, *reference.requires, *([] if target in modules else [target])]
        loaded = loaded_after_import(modules, heavy)
        assert not loaded, f"importing {' and '.join(modules)} also imports {', '.join(loaded)}"

    def test_config_is_frozen(self, options: Any) -> None:
        """A section cannot change after it was resolved and its identity computed."""
        if options is None:
            pytest.skip("the plugin takes no settings")
        assert attrs.has(type(options)), "the section is not an attrs class"
        for field in attrs.fields(type(options)):
            with pytest.raises(attrs.exceptions.FrozenInstanceError):
                setattr(options, field.name, None)

    def test_every_option_is_documented(self, options: Any) -> None:
        """Each setting has a help text, since reference pages and errors are made from it."""
        if options is None:
            pytest.skip("the plugin takes no settings")
        silent = [field.name for field in attrs.fields(type(options)) if not field.metadata.get("help")]
        assert not silent, f"no help text: {', '.join(silent)}; declare with llem.config.fields.option"


def loaded_after_import(modules: list[str], watched: list[str]) -> list[str]:
    """Which of the watched modules a fresh interpreter has loaded after importing `modules`."""
    code = (
        f"import sys; sys.path[:] = {sys.path!r}\n"
        f"for name in {modules!r}: __import__(name)\n"
        f"print(*(name for name in {watched!r} if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    expect(done.returncode, 0, done.stderr)
    return done.stdout.split()
