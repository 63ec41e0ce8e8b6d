"""What llem relies on in the evaluator; what it refuses, before anything is measured; what it leaves as it was."""

from __future__ import annotations

import json
import logging
import os
import random
import shutil
import time
from pathlib import Path
from typing import Any

import attrs
import datasets.config
import lm_eval.api.metrics
import lm_eval.api.task
import numpy as np
import pytest

from llem.backends.echo import EchoEngine, EchoOptions
from llem.config.layers import Layer
from llem.config.load import resolve
from llem.config.models import Experiment
from llem.errors import ConfigError, ExperimentFailed, Problem
from llem.evaluators.base import Context
from llem.models.resolve import resolve_model
from llem.models.tokenizer import load_tokenizer
from llem.plugins import Reference
from llem.plugins.registry import registry
from llem.store.evaluations import evaluation_key
from llem.testing.conformance.evaluator import EvaluatorConformance
from llem_lmeval import hooks
from llem_lmeval import tasks as finding
from llem_lmeval.checks import configure
from llem_lmeval.config import LmEvalOptions
from llem_lmeval.evaluator import LmEvalEvaluator


class TestLmEval(EvaluatorConformance):
    """The suite that every evaluator runs."""

    @classmethod
    def reference(cls) -> Reference:
        return hooks.llem_evaluators()[0]

    @pytest.fixture(scope="class")
    @classmethod
    def options(cls, tasks: str) -> LmEvalOptions:
        wanted = ("toy_choice", "toy_answer", "toy_group", "toy_choices")
        return LmEvalOptions(tasks=wanted, include_path=(tasks,))

    @pytest.fixture(scope="class")
    @classmethod
    def experiment(cls, options: Any, models: dict[str, str]) -> Experiment:
        return Experiment(model=models["bos"], backend="echo", quality=options)


def _problems(tasks_folder: str, *names: str, model: str = "shape:tiny", **settings: Any) -> tuple[Problem, ...]:
    options = LmEvalOptions(tasks=names, include_path=(tasks_folder,), **settings)
    experiment = Experiment(model=model, backend="echo", quality=options)
    with pytest.raises(ConfigError) as raised:
        LmEvalEvaluator(options).check(experiment, resolve_model(model))
    return raised.value.problems


def test_a_misspelt_task_is_told_with_the_nearest_name(tasks):
    """Of the user's and of lm-eval's own, each at its place in the list."""
    [own, theirs] = _problems(tasks.replace("broken", ""), "toy_choyce", "arc_eazy")

    assert (own.path, theirs.path) == ("quality.tasks[0]", "quality.tasks[1]")
    assert "toy_choyce" in own.message


def test_the_nearest_name_is_given(tmp_path, tasks):
    """Unless a file of the user's own cannot be read, which is then the likelier cause."""
    shutil.copytree(tasks, tmp_path / "whole")
    (tmp_path / "whole" / "broken.yaml").unlink()

    [own, theirs] = _problems(str(tmp_path / "whole"), "toy_choyce", "arc_eazy")
    [broken] = _problems(tasks, "toy_choyce")

    assert (own.hint, theirs.hint) == ("did you mean toy_choice?", "did you mean arc_easy?")
    assert "broken.yaml" in broken.hint


def test_own_tasks_are_found_without_lm_evals_index(tasks, monkeypatch):
    """It takes seconds to read; groups and tags work as well."""

    def read(*_: Any) -> None:
        pytest.fail("the index of lm-eval's own tasks was read")

    monkeypatch.setattr(finding, "_whole_index", read)
    names = ("toy_choice", "toy_group", "toy_choices")
    options = LmEvalOptions(tasks=names, include_path=(tasks,))

    LmEvalEvaluator(options).check(Experiment(backend="echo", quality=options), resolve_model("shape:tiny"))


def test_lm_evals_own_names_are_found_beside_the_users(tasks):
    """Both are in one index."""
    options = LmEvalOptions(tasks=("toy_choice", "arc_easy"), include_path=(tasks,))

    assert {"toy_choice", "arc_easy", "mmlu"} <= finding.find(options).task_index.keys()


@pytest.mark.parametrize(
    ("task", "told"),
    [
        ("toy_gone", "gone.jsonl"),
        ("toy_wrong_field", "qestion"),
        ("toy_far_away", "nobody/has-this"),
        ("toy_seen", "images or sound"),
        ("toy_mixed", "no score of its own"),
    ],
)
def test_a_task_that_cannot_be_evaluated_is_refused(tasks, task, told):
    """With its name, the cause, and what would be right."""
    begun = time.monotonic()
    [problem] = _problems(tasks, task)

    assert problem.path == "quality.tasks[0]"
    assert task in problem.message or task in ("toy_seen",)
    assert told in problem.message
    assert problem.hint
    assert time.monotonic() - begun < 15, "it does not wait for a network"


def test_every_problem_is_told(tasks):
    """Not only the first."""
    assert [one.path for one in _problems(tasks, "toy_gone", "toy_choice", "toy_wrong_field")] == [
        "quality.tasks[0]",
        "quality.tasks[2]",
    ]


@pytest.mark.parametrize(
    ("task", "settings", "path", "told"),
    [
        ("toy_unsafe", {}, "quality.confirm_run_unsafe_code", "runs code"),
        ("toy_strange", {}, "quality.gen_kwargs", "temprature"),
        ("toy_answer", {"gen_kwargs": {"length_penalty": 2.0}}, "quality.gen_kwargs", "length_penalty"),
        ("toy_group", {"gen_kwargs": {"length_penalty": 2.0}}, "quality.gen_kwargs", "length_penalty"),
        ("toy_answer", {"gen_kwargs": {"do_sample": True}}, "quality.gen_kwargs", "temperature"),
        (
            "toy_answer",
            {"gen_kwargs": {"temperature": 1, "do_sample": True, "top_p": 7}},
            "quality.gen_kwargs.top_p",
            "1",
        ),
        ("toy_answer", {"gen_kwargs": {"temperature": 0.5}}, "quality.gen_kwargs", "no effect"),
        ("toy_answer", {"gen_kwargs": {"max_gen_toks": 0}}, "quality.gen_kwargs", "max_gen_toks"),
        ("toy_answer", {"gen_kwargs": {"max_gen_toks": "many"}}, "quality.gen_kwargs", "many"),
        ("toy_choice", {"num_fewshot": 8}, "quality.num_fewshot", "7 to choose"),
        ("toy_choice", {"cluster_by": "passege"}, "quality.cluster_by", "passege"),
        ("toy_choice", {"apply_chat_template": True}, "quality.apply_chat_template", "no chat template"),
        ("toy_choice", {"fewshot_as_multiturn": True}, "quality.fewshot_as_multiturn", "chat template"),
    ],
)
def test_settings_that_no_task_can_be_asked_with_are_refused(tasks, task, settings, path, told):
    """At the setting that is wrong."""
    [problem] = _problems(tasks, task, **settings)

    assert problem.path == path
    assert told in problem.message
    assert problem.hint or "must be between" in problem.message


def test_an_unknown_generation_setting_is_told_without_a_task_that_generates(tasks):
    """With the nearest name, beside all else that is wrong; other names of lm-eval's are none."""
    [problem, _] = _problems(tasks, "toy_choice", "toy_gone", gen_kwargs={"temprature": 1, "max_new_tokens": 5})
    options = LmEvalOptions(tasks=("toy_choice",), include_path=(tasks,), gen_kwargs={"max_tokens": 5, "num_beams": 1})

    assert (problem.path, problem.hint) == ("quality.gen_kwargs", "did you mean temperature?")
    assert problem.message == "temprature: no such generation setting here"
    LmEvalEvaluator(options).check(Experiment(backend="echo", quality=options), resolve_model("shape:tiny"))


@pytest.mark.parametrize(("split", "itself"), [({}, True), ({"fewshot_split": "test"}, False)])
def test_examples_from_test_items_hold_the_question_unless_their_split_is_named(tmp_path, split, itself):
    """As docs/howto/quality.md says of lm-eval."""
    rows = [{"question": f"number {place}", "choices": ["a", "b"], "answer": 1} for place in range(5)]
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = {"dataset_path": "json", "dataset_kwargs": {"data_files": {"test": "own.jsonl"}}, "test_split": "test"}
    asked = {"doc_to_text": "{{question}}:", "doc_to_choice": "choices", "doc_to_target": "answer"}
    task = {"task": "own", "output_type": "multiple_choice", "metric_list": [{"metric": "acc"}], **data, **asked}
    (tmp_path / "own.yaml").write_text(json.dumps({**task, **split}))
    options = LmEvalOptions(tasks=("own",), include_path=(str(tmp_path),), num_fewshot=4)

    LmEvalEvaluator(options).check(Experiment(backend="echo", quality=options), resolve_model("shape:tiny"))
    found = finding.load(finding.find(options), "own")
    configure(found, options)
    found.tasks["own"].build_all_requests()
    twice = [one.args[0].count(one.doc["question"]) == 2 for one in found.tasks["own"].instances]
    assert any(twice) is itself


def test_a_folder_that_is_none_is_refused():
    """At its place in the list."""
    [problem] = _problems("/no/such/folder", "toy_choice")

    assert problem.path == "quality.include_path[0]"


def test_a_group_that_holds_itself_is_refused(tasks, tmp_path):
    """With the way back to it, also through another group."""
    for name, within in {"inner": ["outer"], "outer": [{"group": "inner"}]}.items():
        (tmp_path / f"{name}.yaml").write_text(json.dumps({"group": name, "task": within}))
    [problem] = _problems(str(tmp_path), "outer")

    assert problem.message == "a group holds itself: outer → inner → outer"


def test_chat_template_of_a_folder_is_seen_without_loading(tasks, models):
    """One that has a template passes, one that has none is refused."""
    options = LmEvalOptions(tasks=("toy_choice",), include_path=(tasks,), apply_chat_template=True)
    experiment = Experiment(model=models["bos"], backend="echo", quality=options)

    LmEvalEvaluator(options).check(experiment, resolve_model(models["bos"]))
    assert _problems(tasks, "toy_choice", model=models["none"], apply_chat_template=True)


def test_a_model_without_template_is_refused_when_its_tokenizer_is_there(tasks, models):
    """As for a model of the Hub."""
    options = LmEvalOptions(tasks=("toy_choice",), include_path=(tasks,), apply_chat_template=True)
    model = resolve_model(models["none"])
    context = Context("toy_choice", Experiment(backend="echo", quality=options), model, print, print)

    with pytest.raises(ConfigError, match="chat template"):
        LmEvalEvaluator(options).prepare(load_tokenizer(model), context)


@pytest.mark.parametrize(
    ("names", "needs"),
    [
        (("toy_choice",), ["loglikelihood"]),
        (("toy_text", "toy_target"), ["loglikelihood"]),
        (("toy_answer",), ["stop"]),
        (("toy_mixed",), ["loglikelihood", "stop"]),
        (("toy_group", "toy_answer"), ["loglikelihood", "stop"]),
    ],
)
def test_needs_are_those_of_the_tasks(tasks, names, needs, monkeypatch):
    """Choices need likelihoods, answers stop texts."""
    monkeypatch.setattr("llem_lmeval.checks._pooled", lambda path, loaded: ())

    assert LmEvalEvaluator(LmEvalOptions(tasks=names, include_path=(tasks,))).needs() == needs


def test_a_study_looks_once_for_all_its_experiments(tasks, monkeypatch):
    """Tasks without problems are loaded once for the same section; a changed file is looked at again."""
    from llem_lmeval import checks

    looked = []
    load = checks.load
    monkeypatch.setattr(checks, "load", lambda index, name: looked.append(name) or load(index, name))
    options = LmEvalOptions(tasks=("toy_choice",), include_path=(tasks,), limit=7)
    for _ in range(3):
        LmEvalEvaluator(options).check(Experiment(backend="echo", quality=options), resolve_model("shape:tiny"))
    assert looked == ["toy_choice"]

    os.utime(Path(tasks) / "toy_choice.yaml")
    LmEvalEvaluator(options).needs()
    assert looked == ["toy_choice"] * 2


@pytest.mark.parametrize(
    "changed",
    [
        {"num_fewshot": 1},
        {"gen_kwargs": {"top_k": 3}},
        {"seed": 3},
        {"apply_chat_template": True},
        {"limit": 3},
        {"include_path": ()},
        {"add_bos_token": True},
    ],
)
def test_what_may_change_a_score_is_part_of_its_name(changed):
    """So that a stored score is not taken for another one."""
    options = LmEvalOptions(tasks=("toy_choice",), include_path=("own",))

    assert evaluation_key(options, "toy_choice") != evaluation_key(attrs.evolve(options, **changed), "toy_choice")


def test_section_is_read_from_a_study():
    """Seeds as one number or four, settings of answers as a mapping."""
    given = {"evaluator": "lmeval", "tasks": ["a"], "seed": [1, 2, 3, 4], "gen_kwargs": {"temperature": 0.5}}
    section = resolve([Layer("study", {"backend": "echo", "quality": given})], registry()).experiment.quality

    assert attrs.astuple(section.seeds) == (1, 2, 3, 4)
    assert attrs.astuple(LmEvalOptions(tasks=("a",), seed=5).seeds) == (5, 5, 5, 5)
    assert section.gen_kwargs == {"temperature": 0.5}


def _evaluate(tasks_folder: str, task: str, model: str, **settings: Any) -> LmEvalEvaluator:
    options = LmEvalOptions(tasks=(task,), include_path=(tasks_folder,), **settings)
    spec = resolve_model(model)
    evaluator = LmEvalEvaluator(options)
    context = Context(
        task, Experiment(model=model, backend="echo", quality=options), spec, lambda *_: None, lambda: None
    )
    tokenizer = load_tokenizer(spec)
    random.seed(3)
    np.random.seed(3)
    evaluator.evaluate(EchoEngine(EchoOptions(), spec), tokenizer, context)
    return evaluator


def test_nothing_is_printed_and_all_is_put_back(tasks, models, capfd):
    """Bars, loggers, resampling, random numbers and the environment are as before."""
    before = dict(os.environ), lm_eval.api.task.tqdm, lm_eval.api.metrics.bootstrap_stderr
    offline, level = datasets.config.HF_HUB_OFFLINE, logging.getLogger("lm_eval").level
    expected = random.Random(3).random(), np.random.RandomState(3).rand()
    capfd.readouterr()

    _evaluate(tasks, "toy_target", models["bos"])

    assert (dict(os.environ), lm_eval.api.task.tqdm, lm_eval.api.metrics.bootstrap_stderr) == before
    assert (datasets.config.HF_HUB_OFFLINE, logging.getLogger("lm_eval").level) == (offline, level)
    assert (random.random(), np.random.rand()) == expected
    assert capfd.readouterr() == ("", "")


def test_all_is_put_back_after_an_error(tasks, models):
    """The user stops while requests are made."""
    kept = lm_eval.api.task.tqdm, lm_eval.api.metrics.bootstrap_stderr
    options = LmEvalOptions(tasks=("toy_choice",), include_path=(tasks,))
    spec = resolve_model(models["bos"])
    left = iter(range(3))

    def stop() -> None:
        if next(left, None) is None:
            raise ExperimentFailed("stopped by the user", code="interrupted")

    context = Context("toy_choice", Experiment(backend="echo", quality=options), spec, lambda *_: None, stop)
    with pytest.raises(ExperimentFailed, match="stopped"):
        LmEvalEvaluator(options).evaluate(EchoEngine(EchoOptions(), spec), load_tokenizer(spec), context)
    assert (lm_eval.api.task.tqdm, lm_eval.api.metrics.bootstrap_stderr) == kept


@pytest.mark.parametrize(
    ("task", "total"), [("toy_choice", 48), ("toy_text", 12), ("toy_sampled", 24), ("toy_group", 84)]
)
def test_progress_counts_requests_up_to_all(tasks, models, task, total, monkeypatch):
    """A request of several windows, or asked twice, counts as lm-eval counts it."""
    monkeypatch.setattr("llem_lmeval.quiet.EVERY_S", 0.0)
    options = LmEvalOptions(tasks=(task,), include_path=(tasks,), batch_size=5)
    spec, told = resolve_model(models["bos"]), []
    context = Context(
        task, Experiment(backend="echo", quality=options), spec, lambda *said: told.append(said), lambda: None
    )
    LmEvalEvaluator(options).evaluate(EchoEngine(EchoOptions(), spec), load_tokenizer(spec), context)

    assert told == sorted(told)
    assert told[-1] == (total, total)
    assert len({done for done, _ in told}) > 2


def test_what_is_recorded(tasks, models):
    """Versions, shots, seeds, hashes, filters; JSON."""
    told = _evaluate(tasks, "toy_filtered", models["bos"], num_fewshot=2, apply_chat_template=True).describe()

    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert told["lm_eval"].startswith("0.4.")
    assert told["task_versions"] == {"toy_filtered": "1.0"}
    assert told["num_fewshot"] == {"toy_filtered": 2}
    assert told["filters"] == {"toy_filtered": ["first-word", "as-it-is"]}
    assert told["documents"] == {"toy_filtered": {"original": 12, "effective": 12}}
    assert told["seeds"] == {"random": 0, "numpy": 1234, "torch": 1234, "fewshot": 1234}
    assert len(told["chat_template"]) == len(told["document_hashes"]["toy_filtered"]) == 16


@pytest.mark.parametrize(
    ("task", "given", "told"),
    [
        ("toy_choice", None, {"scored": 512}),
        ("toy_text", 5, {"scored": 5}),
        ("toy_answer", None, {"generated": 32}),
        ("toy_answer", 3, {"generated": 3}),
    ],
)
def test_batch_size_in_effect_is_recorded(tasks, models, task, given, told):
    """It changes the energy of the evaluation; scores of another batch size are still of one thing."""
    options = LmEvalOptions(tasks=(task,), include_path=(tasks,), batch_size=given)

    assert _evaluate(tasks, task, models["bos"], batch_size=given).describe()["batch_size"] == told
    assert evaluation_key(options, task) == evaluation_key(attrs.evolve(options, batch_size=7), task)


def test_hash_of_a_task_changes_with_the_task_alone(tasks, models, tmp_path):
    """Not with the folder nor with the address of a function; a changed prompt or function is another task."""

    def hashed(folder: Path, name: str) -> str:
        return str(_evaluate(str(folder), name, models["bos"], limit=2).describe()["task_version_hashes"][name])

    moved = shutil.copytree(tasks, tmp_path / "moved")
    names = ("toy_choice", "toy_function")
    first = [hashed(Path(tasks), name) for name in names]
    assert [hashed(moved, name) for name in names] == first

    functions, choice = moved / "functions.py", moved / "toy_choice.yaml"
    functions.write_text(functions.read_text().replace("4", "5"))
    changed = [hashed(moved, name) for name in names]
    assert changed[0] == first[0]
    assert changed[1] != first[1]
    choice.write_text(choice.read_text().replace("Q:", "Question:"))
    assert hashed(moved, "toy_choice") != first[0]


def test_data_beside_the_yaml_file_are_found_from_anywhere(tasks, models, tmp_path, monkeypatch):
    """lm-eval itself looks from where it runs; a file there comes first."""
    monkeypatch.chdir(tmp_path)
    before = _evaluate(tasks, "toy_choice", models["bos"]).describe()["documents"]["toy_choice"]["original"]
    (tmp_path / "data").mkdir()
    rows = (Path(tasks) / "data" / "test.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "data" / "test.jsonl").write_text("".join(rows[:5]))

    after = _evaluate(tasks, "toy_choice", models["bos"]).describe()["documents"]["toy_choice"]["original"]
    assert (before, after) == (12, 5)


def test_texts_that_the_engine_cannot_take_are_told(tasks, loaded):
    """Answers that leave no room for a prompt, and a context that the engine does not have."""
    with pytest.raises(ConfigError, match="no room"):
        loaded().scores(LmEvalOptions(tasks=("toy_answer",), include_path=(tasks,), gen_kwargs={"max_gen_toks": 128}))
    with pytest.raises(ConfigError, match="999 tokens"):
        loaded().scores(LmEvalOptions(tasks=("toy_choice",), include_path=(tasks,), max_length=999))
    with pytest.raises(ConfigError, match="continuation has"):
        loaded().scores(LmEvalOptions(tasks=("toy_phrases",), include_path=(tasks,), max_length=2))


def test_a_score_that_is_no_number_is_a_failure(tasks, loaded, monkeypatch):
    """It cannot be stored; what happened is told."""
    one = loaded()
    endless = attrs.evolve(one.engine.loglikelihood([_scored()])[0], logprob=-float("inf"))
    monkeypatch.setattr(one.engine, "loglikelihood", lambda asked: [endless for _ in asked])

    with pytest.raises(ExperimentFailed, match="toy_target: perplexity is inf, and 12 of 12 items"):
        one.scores(LmEvalOptions(tasks=("toy_target",), include_path=(tasks,), bootstrap_iters=0))


def _scored() -> Any:
    from llem.backends.base import Scored

    return Scored((1,), (2,))
