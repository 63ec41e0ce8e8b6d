"""What is stored about the machine: the same for two runs in one state, and no plugin can spoil it."""

from __future__ import annotations

import json

import pytest

from llem.devices.nvml import Nvml
from llem.experiment.environment import NAME, environment_facts
from llem.plugins import hookimpl
from llem.plugins.claims import Plugin
from llem.plugins.registry import Registry, discover
from llem.testing.fakes import FakeClock, FakeGpu, FakeNvml, Load


class Telling:
    """A plugin that tells something about the environment."""

    def __init__(self, answer: object) -> None:
        self.answer = answer

    @hookimpl
    def llem_environment(self):
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def with_plugins(*answers: object) -> Registry:
    """A registry with a plugin for each answer; they are installed nowhere."""
    found = discover([])
    for number, answer in enumerate(answers):
        found.add(Plugin(f"p{number}", "m", f"llem-p{number}", "1"), Telling(answer))
    return Registry(found)


def test_facts_are_json_and_the_same_twice() -> None:
    """Two runs on one machine in one state share one environment."""
    (first, _), (second, _) = (environment_facts(with_plugins(), None, ()) for _ in range(2))

    assert first == second
    assert json.loads(json.dumps(first)) == first
    assert (first["driver"], first["gpus"]) == (None, [])
    assert first["plugins"] == {"llem-core": first["llem"]}
    assert "attrs" in first["packages"]


def test_gpus_are_those_of_the_experiment() -> None:
    """The others of the machine are not part of it."""
    gpus = [FakeGpu(Load([(1, 1.0)]), uuid=uuid) for uuid in ("GPU-A", "GPU-B")]
    facts, _ = environment_facts(with_plugins(), Nvml.open(FakeNvml(FakeClock(), gpus)), ["GPU-B"])

    assert [gpu["uuid"] for gpu in facts["gpus"]] == ["GPU-B"]
    assert facts["driver"] == "000.00"


def test_plugins_add_facts_and_replace_none() -> None:
    """What llem states stays as it is; of two plugins the first keeps its say."""
    facts, failures = environment_facts(with_plugins({"rack": 7, "driver": "mine"}), None, ())

    assert failures == []
    assert facts["rack"] == 7
    assert facts["driver"] is None


@pytest.mark.parametrize("answer", [OSError("no network"), 7, {"when": object()}, {"share": float("nan")}, [1]])
def test_a_plugin_that_cannot_tell_is_told_and_passed_over(answer: object) -> None:
    """It raises, or answers with what cannot be stored: a failure with its name, and the other's fact is there."""
    registry = with_plugins(answer, {"rack": 7})
    facts, failures = environment_facts(registry, None, ())

    assert facts["rack"] == 7
    assert [failure.distribution for failure in failures] == ["llem-p0"]
    json.dumps(facts, allow_nan=False)


@pytest.mark.parametrize(
    ("requirement", "name"),
    [
        ("attrs>=23", "attrs"),
        ("torch2", "torch2"),
        ("nvidia-cuda-cu12==12.1; platform_system == 'Linux'", "nvidia-cuda-cu12"),
        ("h5py [all] >= 3", "h5py"),
        ("ruamel.yaml~=0.18", "ruamel.yaml"),
        ("x", "x"),
    ],
)
def test_a_requirement_gives_its_name(requirement: str, name: str) -> None:
    """Digits at the end of a name belong to it."""
    found = NAME.match(requirement)

    assert found is not None
    assert found[0] == name
