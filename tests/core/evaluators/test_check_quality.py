"""What is refused of quality before anything is loaded."""

from __future__ import annotations

import json
from typing import Any

import attrs
import jsonschema
import pytest

from llem.backends.sharing import engine_settings
from llem.config.identity import experiment_id
from llem.config.load import Layer, resolve, to_document
from llem.config.models import Quality
from llem.config.schema import json_schema
from llem.errors import BrokenPlugin, ConfigError, UnknownPlugin
from llem.evaluators.base import check_quality
from llem.models.resolve import resolve_model
from llem.plugins.registry import Registry, discover

SPELLING = {"evaluator": "spelling", "tasks": ["fruit"]}
FORCED = {**SPELLING, "force": True}


@pytest.fixture
def registry(isolated_llem, lab) -> Registry:
    """With the core's plugins and that of the tests, whatever else is installed."""
    found = discover()
    found.plugins = [plugin for plugin in found.plugins if plugin.distribution in ("llem-core", "llem-lab")]
    return Registry(found)


def resolved(registry: Registry, quality: Any, **more: Any):
    """The experiment of these settings."""
    return resolve([Layer("python", {"backend": "lab", "quality": quality, **more})], registry).experiment


@pytest.mark.parametrize(
    ("quality", "problem"),
    [
        (3, "quality: must be a section, got the number 3 (such as {evaluator: NAME, tasks: [TASK]})"),
        ({}, "quality.evaluator: is missing (installed: choosy, perplexity, spelling)"),
        ({"evaluator": 3}, "quality.evaluator: must be text, got the number 3"),
        ({"evaluator": "spelling"}, "quality.tasks: is missing (Tasks, by the evaluator's names.)"),
        ({**SPELLING, "tasks": []}, "quality.tasks: must name each task once, and one at least"),
        ({**SPELLING, "tasks": ["fruit", "fruit"]}, "quality.tasks: must name each task once, and one at least"),
        ({**SPELLING, "limt": 3}, "quality.limt: unknown field (did you mean 'limit'?)"),
        ({**SPELLING, "limit": 0}, "quality.limit: must be at least 1, got 0"),
    ],
)
def test_a_section_is_checked_as_any_other(registry: Registry, quality: Any, problem: str) -> None:
    """By the class of the evaluator that it names, with what is missing and what would be right."""
    with pytest.raises(ConfigError) as caught:
        resolved(registry, quality)

    assert [str(one) for one in caught.value.problems] == [problem]


def test_an_evaluator_that_is_not_there_is_named(registry: Registry) -> None:
    """With the package to install, where it is one of ours."""
    with pytest.raises(UnknownPlugin, match="unknown evaluator 'lmeval'") as caught:
        resolved(registry, {"evaluator": "lmeval", "tasks": ["x"]})

    assert "pip install llem-lmeval" in caught.value.hint


def test_a_section_comes_back_from_its_document(registry: Registry) -> None:
    """Settings that an evaluator has beside those of every evaluator included; one without such has the plain class."""
    for evaluator, more in (("spelling", {"fail_in": "x"}), ("choosy", {})):
        one = resolved(registry, {**SPELLING, "evaluator": evaluator, **more})
        assert resolve([Layer("stored", to_document(one))], registry).experiment == one
        assert isinstance(one.quality, Quality)
    assert type(one.quality) is Quality


def test_the_schema_takes_what_the_loader_takes(registry: Registry) -> None:
    """Each evaluator with its own settings, by its name."""
    validator = jsonschema.Draft202012Validator(json_schema(registry))
    good = [None, SPELLING, {**SPELLING, "fail_in": "x"}, {"evaluator": "choosy", "tasks": ["a"]}]
    bad = [{}, {"evaluator": "spelling"}, {"evaluator": "no", "tasks": ["a"]}, {**good[2], "evaluator": "choosy"}]

    assert [validator.is_valid({"backend": "lab", "quality": one}) for one in good] == [True] * len(good)
    assert [validator.is_valid({"backend": "lab", "quality": one}) for one in bad] == [False] * len(bad)


def test_quality_is_no_part_of_an_identity(registry: Registry) -> None:
    """It changes nothing that is executed in a window, and engines that differ in it alone are one."""
    one, other = (resolved(registry, quality) for quality in (None, FORCED))
    model = resolve_model("shape:tiny")

    assert experiment_id(one, model) == experiment_id(other, model)
    assert engine_settings(one) == engine_settings(other)


@pytest.mark.parametrize(
    ("quality", "settings", "problem"),
    [
        (SPELLING, {}, "quality: the weights of shape:tiny are random, so its answers mean nothing"),
        ({**FORCED, "tasks": ["fruit", "frut"]}, {}, "quality.tasks: no task 'frut'"),
        (FORCED, {"backend": "mute"}, "quality.tasks: these tasks need stop, which the mute backend does not support"),
        ({**FORCED, "evaluator": "choosy"}, {}, "quality.tasks: these tasks need memory, which the lab backend"),
    ],
)
def test_the_plan_refuses_what_cannot_be_evaluated(run_llem, isolated_llem, lab, quality, settings, problem) -> None:
    """Before anything is loaded: an unknown task, a capability that is not there, weights that answer at random."""
    base = {"backend": "lab", "model": "shape:tiny", "device": "cpu", "quality": quality, **settings}
    (isolated_llem.folder / "study.yaml").write_text(json.dumps({"base": base}))
    done = run_llem("plan", "study.yaml")

    assert done.exit_code == 2
    assert problem in done.stderr


def test_real_weights_need_no_force(registry: Registry) -> None:
    """Only what is random is refused."""
    model = attrs.evolve(resolve_model("shape:tiny"), weights="real")

    check_quality(resolved(registry, SPELLING), model, registry)


def test_a_capability_that_there_is_not_is_the_evaluators_fault(registry: Registry, monkeypatch) -> None:
    """A typo is told as one, with the nearest name: no other backend would help."""
    experiment = resolved(registry, FORCED)
    spelling = registry.load("evaluator", "spelling")
    monkeypatch.setattr(spelling, "needs", lambda self: ("stop", "loglikelyhood"))

    with pytest.raises(BrokenPlugin, match=r"unknown capability 'loglikelyhood' \(did you mean loglikelihood\?\)"):
        check_quality(experiment, resolve_model("shape:tiny"), registry)
