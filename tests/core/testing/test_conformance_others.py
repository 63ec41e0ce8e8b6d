"""The suites of launchers, workloads and commands: ours pass, and each seeded fault fails its check."""

from __future__ import annotations

import inspect
import sys
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import click
import pytest

from llem.backends.base import Request
from llem.builtin import llem_launchers, llem_workloads
from llem.launchers.base import Launcher
from llem.models.resolve import resolve_model
from llem.models.spec import vocabulary_of
from llem.plugins import Reference, hookimpl
from llem.protocol.events import Ended
from llem.testing.conformance import CommandConformance, LauncherConformance, WorkloadConformance
from llem.workloads.synthetic import SyntheticOptions, SyntheticWorkload

FAILED = (AssertionError, pytest.fail.Exception)


def named(references: Sequence[Reference], name: str) -> Reference:
    return next(one for one in references if one.name == name)


# --- ours ----------------------------------------------------------------------------------------------------------


@pytest.mark.process
class TestProcess(LauncherConformance):
    hooks = "llem.builtin"

    def reference(self) -> Reference:
        return named(llem_launchers(), "process")


@pytest.mark.process
class TestInline(LauncherConformance):
    hooks = "llem.builtin"

    def reference(self) -> Reference:
        return named(llem_launchers(), "inline")


class TestSynthetic(WorkloadConformance):
    hooks = "llem.builtin"

    def reference(self) -> Reference:
        return named(llem_workloads(), "synthetic")


class TestPrompts(WorkloadConformance):
    hooks = "llem.builtin"

    def reference(self) -> Reference:
        return named(llem_workloads(), "prompts")


class TestFile(WorkloadConformance):
    hooks = "llem.builtin"

    def reference(self) -> Reference:
        return named(llem_workloads(), "file")

    @pytest.fixture(scope="class")
    @classmethod
    def options(cls, tmp_path_factory: pytest.TempPathFactory) -> Any:
        path = tmp_path_factory.mktemp("prompts") / "mine.txt"
        path.write_text("Say hello\nSay goodbye\nSay nothing\n")
        return cls().reference().load_config()(path=str(path))


class TestTrace(WorkloadConformance):
    hooks = "llem.builtin"

    def reference(self) -> Reference:
        return named(llem_workloads(), "trace")

    @pytest.fixture(scope="class")
    @classmethod
    def options(cls, tmp_path_factory: pytest.TempPathFactory) -> Any:
        path = tmp_path_factory.mktemp("trace") / "mine.csv"
        path.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n0.0,5,3\n0.5,7,2\n2.0,4,9\n")
        return cls().reference().load_config()(path=str(path))


# --- workloads -----------------------------------------------------------------------------------------------------


class WorkloadKit(WorkloadConformance):
    """The suite as a plain object; named so that pytest does not collect it."""

    def __init__(self, target: type = SyntheticWorkload) -> None:
        self.target = target

    def reference(self) -> Reference:
        return Reference("synthetic", f"{__name__}:{self.target.__name__}", summary="Fake.")


class Shifted(SyntheticWorkload):
    def requests(self, start: int, count: int) -> Sequence[Request]:
        return [attrs.evolve(one, index=one.index + 1) for one in super().requests(start, count)]


class OneMore(SyntheticWorkload):
    def requests(self, start: int, count: int) -> Sequence[Request]:
        return super().requests(start, count + 1)


class Floats(SyntheticWorkload):
    def requests(self, start: int, count: int) -> Sequence[Request]:
        found = super().requests(start, count)
        return [attrs.evolve(one, token_ids=tuple(map(float, one.token_ids))) for one in found]


class Empty(SyntheticWorkload):
    def requests(self, start: int, count: int) -> Sequence[Request]:
        return [attrs.evolve(one, token_ids=()) for one in super().requests(start, count)]


class AsksForNothing(SyntheticWorkload):
    def requests(self, start: int, count: int) -> Sequence[Request]:
        return [attrs.evolve(one, output_tokens=0) for one in super().requests(start, count)]


class Capricious(SyntheticWorkload):
    calls = 0

    def requests(self, start: int, count: int) -> Sequence[Request]:
        self.calls += 1
        return [attrs.evolve(one, output_tokens=self.calls) for one in super().requests(start, count)]


class OfPortions(SyntheticWorkload):
    def requests(self, start: int, count: int) -> Sequence[Request]:
        return [attrs.evolve(one, output_tokens=count) for one in super().requests(start, count)]


class BeyondTheVocabulary(SyntheticWorkload):
    def requests(self, start: int, count: int) -> Sequence[Request]:
        return [attrs.evolve(one, token_ids=(self.vocab_size,)) for one in super().requests(start, count)]


class SaltedLengths(SyntheticWorkload):
    def requests(self, start: int, count: int) -> Sequence[Request]:
        return [attrs.evolve(one, output_tokens=1 + len(self.salt)) for one in super().requests(start, count)]


class NoneAtAll(SyntheticWorkload):
    distinct = 0  # type: ignore[assignment]


class TellsATuple(SyntheticWorkload):
    def describe(self) -> Any:
        return {"lengths": (1, 2)}


@pytest.mark.parametrize(
    ("workload", "check"),
    [
        (Shifted, "test_requests_are_those_asked_for"),
        (OneMore, "test_requests_are_those_asked_for"),
        (Floats, "test_requests_are_those_asked_for"),
        (Empty, "test_requests_are_those_asked_for"),
        (AsksForNothing, "test_requests_are_those_asked_for"),
        (Capricious, "test_requests_hang_on_settings_and_index_alone"),
        (OfPortions, "test_requests_hang_on_settings_and_index_alone"),
        (BeyondTheVocabulary, "test_tokens_are_of_the_vocabulary"),
        (SaltedLengths, "test_a_salt_changes_no_length"),
        (NoneAtAll, "test_distinct_prompts_are_counted"),
        (TellsATuple, "test_description_can_be_stored"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_a_faulty_workload_is_caught(workload: type[SyntheticWorkload], check: str) -> None:
    """The check passes for the right workload and fails for the faulty one, with the page."""

    def run(target: type[SyntheticWorkload]) -> None:
        method = getattr(WorkloadKit(target), check)
        vocab_size = vocabulary_of(resolve_model("shape:tiny"))
        options = SyntheticOptions(input_tokens=4, output_tokens=2)
        given = {"make": lambda: target(options, None, vocab_size), "vocab_size": vocab_size, "options": options}
        method(**{name: given[name] for name in inspect.signature(method).parameters})

    run(SyntheticWorkload)
    with pytest.raises(FAILED, match=r"page      docs/howto/write-a-plugin\.md"):
        run(workload)


# --- launchers -----------------------------------------------------------------------------------------------------


class LauncherKit(LauncherConformance):
    """The suite as a plain object."""

    patience_s = 5.0

    def __init__(self, target: type[Launcher]) -> None:
        self.target = target

    def reference(self) -> Reference:
        return Reference("fake", f"{__name__}:{self.target.__name__}", summary="Fake.")


class DoesNothing(Launcher):
    name = "fake"

    def launch(self, order: Path, emit: Any, stop: Any) -> int:
        return 0


class TellsText(DoesNothing):
    def launch(self, order: Path, emit: Any, stop: Any) -> int:
        emit("ended")
        return 0


class NoStatus(DoesNothing):
    def launch(self, order: Path, emit: Any, stop: Any) -> int:
        emit(Ended())
        return None  # type: ignore[return-value]


class KillsOnlyWhatRuns(DoesNothing):
    worker: Any = None

    def kill(self) -> None:
        assert self.worker is not None, "nothing to kill"


class NeedsSettings(DoesNothing):
    def __init__(self, options: Any) -> None:
        assert options is not None, "settings are needed"


class SaysMaybe(DoesNothing):
    same_machine = "maybe"  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("launcher", "check"),
    [
        (DoesNothing, "test_a_worker_runs_to_its_end"),
        (TellsText, "test_a_worker_runs_to_its_end"),
        (NoStatus, "test_a_worker_runs_to_its_end"),
        (DoesNothing, "test_stop_ends_a_worker"),
        (KillsOnlyWhatRuns, "test_kill_when_nothing_runs"),
        (SaysMaybe, "test_where_it_runs_is_said"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_a_faulty_launcher_is_caught(launcher: type[Launcher], check: str, tmp_path: Path, capfd: Any) -> None:
    """By the check that is named, with the page."""
    kit = LauncherKit(launcher)
    given = {"options": None, "launcher": launcher(), "order": lambda trials: tmp_path / "a/b/c", "capfd": capfd}
    method = getattr(kit, check)
    with pytest.raises(FAILED, match=r"page      docs/howto/write-a-plugin\.md"):
        method(**{name: given[name] for name in inspect.signature(method).parameters})


def test_a_launcher_that_needs_settings_is_caught() -> None:
    """Users without a section of it could not launch."""
    with pytest.raises((*FAILED, TypeError)):
        LauncherKit(NeedsSettings).test_constructed_without_settings(None)


# --- commands ------------------------------------------------------------------------------------------------------


def module_of(monkeypatch: pytest.MonkeyPatch, commands: dict[str, Any]) -> type[CommandConformance]:
    """The suite of a module that adds these commands."""
    module = types.ModuleType("made_commands")
    module.llem_commands = hookimpl(lambda: commands, specname="llem_commands")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "made_commands", module)
    return type("Kit", (CommandConformance,), {"hooks": "made_commands"})


def good(**more: Any) -> click.Command:
    return click.Command("greet", help="Greet.", **more)


@pytest.mark.parametrize(
    ("commands", "check"),
    [
        ({"doctor": good()}, "test_names_are_free"),
        ({"Say Hello": good()}, "test_names_are_free"),
        ({"greet": lambda: None}, "test_commands_are_clicks"),
        ({}, "test_commands_are_clicks"),
        ({"greet": click.Command("greet")}, "test_help_is_told"),
    ],
)
def test_faulty_commands_are_caught(monkeypatch: pytest.MonkeyPatch, commands: dict[str, Any], check: str) -> None:
    """The check passes for a right command and fails for these, with the page."""
    getattr(module_of(monkeypatch, {"greet": good()})(), check)({"greet": good()})
    with pytest.raises(FAILED, match=r"page      docs/howto/write-a-plugin\.md"):
        getattr(module_of(monkeypatch, commands)(), check)(commands)


def test_a_hook_without_its_marker_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """llem would never call it."""
    kit = module_of(monkeypatch, {"greet": good()})
    kit().test_hooks_are_called()
    monkeypatch.setattr(sys.modules["made_commands"], "llem_commands", dict)
    with pytest.raises(FAILED, match="has no `@hookimpl` above it"):
        kit().test_hooks_are_called()
