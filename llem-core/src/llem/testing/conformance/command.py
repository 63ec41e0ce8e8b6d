"""What llem relies on in commands that a plugin adds."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any, ClassVar

import click
import pytest
from click.testing import CliRunner

from llem.plugins.claims import Plugin, claimed
from llem.plugins.faults import hook_fault
from llem.plugins.names import is_name
from llem.testing.conformance.plugin import HEAVY, loaded_after_import
from llem.testing.conformance.told import Rules, expect

__all__ = ["CommandConformance"]


class CommandConformance(Rules):
    """Inherit, and name the module of the entry point.

    Attributes:
        hooks: that module, such as "llem_mine.hooks".
    """

    hooks: ClassVar[str]

    @pytest.fixture(scope="class")
    @classmethod
    def commands(cls) -> Mapping[str, Any]:
        """The plugin's commands, by name."""
        found: Mapping[str, Any] = import_module(cls.hooks).llem_commands()
        return found

    def test_hooks_are_called(self) -> None:
        """Every hook of the module is one of llem's, and is marked with `@hookimpl`."""
        expect(hook_fault(import_module(self.hooks)), None)

    def test_hooks_import_light(self) -> None:
        """Every `llem` command imports them, so what a command needs is imported in its body."""
        expect(loaded_after_import([self.hooks], [*HEAVY]), [], f"imported with {self.hooks}")

    def test_names_are_free(self, commands: Mapping[str, Any]) -> None:
        """A command has a name that users can type, and none of llem's own."""
        expect([name for name in commands if not is_name(name)], [], "names that are none")
        plugin = Plugin("mine", self.hooks, "mine", "0")
        _, taken = claimed("command", [(name, command, plugin) for name, command in commands.items()])
        expect([failure.error for failure in taken], [])

    def test_commands_are_clicks(self, commands: Mapping[str, Any]) -> None:
        """There is one at least, and each is a click command."""
        expect(bool(commands), True, "whether there are commands")
        expect([name for name, one in commands.items() if not isinstance(one, click.Command)], [], "no click commands")

    def test_help_is_told(self, commands: Mapping[str, Any]) -> None:
        """Each says what it does, in `llem --help` and by itself, and does nothing then."""
        expect([name for name, one in commands.items() if not (one.help or one.short_help)], [], "without a help text")
        for name, command in commands.items():
            done = CliRunner().invoke(command, ["--help"], prog_name=f"llem {name}")
            expect((done.exit_code, done.exception), (0, None), f"of `llem {name} --help`")
