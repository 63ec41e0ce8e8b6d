"""The trained model answers well, and each way to make it cheaper shows in its scores."""

from __future__ import annotations

import importlib.util
import itertools
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import binomtest

SCRIPTS = Path(__file__).parents[2] / "docs" / "examples" / "trained_model"
COPIES = ("model-rounded-4bit", "model-fewer-layers", "model-short-context")
#: A gap that is there by chance in one of 1,000 tests.
RARE = 1e-3


@pytest.fixture(scope="module")
def data() -> Any:
    spec = importlib.util.spec_from_file_location("trained_model_data", SCRIPTS / "data.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _mean(values: Any) -> float:
    return sum(values.values()) / len(values)


def _lower(before: Any, after: Any) -> float:
    """P of McNemar's exact test that the second answers no worse, from the items that one of the two has right."""
    assert before.keys() == after.keys()
    lost = sum(before[item] > after[item] for item in before)
    won = sum(before[item] < after[item] for item in before)
    return 1.0 if lost == 0 else float(binomtest(lost, lost + won, alternative="greater").pvalue)


def test_it_answers_well_above_chance(scored):
    choose, answer = scored("model", "made_choose"), scored("model", "made_answer")

    assert len(choose) == len(answer) == 500
    assert _mean(choose) > 0.8  # 1 of 8 by chance
    assert _mean(answer) > 0.4  # 0 by chance


@pytest.mark.parametrize("name", COPIES)
def test_a_copy_that_is_worse_answers_worse(scored, name):
    assert _lower(scored("model", "made_answer"), scored(name, "made_answer")) < RARE


@pytest.mark.parametrize("name", COPIES[1:])
def test_a_copy_with_fewer_layers_or_positions_chooses_worse(scored, name):
    assert _lower(scored("model", "made_choose"), scored(name, "made_choose")) < RARE


def test_the_model_is_no_worse_than_itself(scored):
    """The test can tell: equal answers are no loss."""
    assert _lower(scored("model", "made_answer"), scored("model", "made_answer")) == 1.0


def test_files_are_small(trained):
    assert sum(path.stat().st_size for path in (trained / "model").iterdir()) < 1_000_000
    assert json.loads((trained / "about.json").read_text())["steps"] > 0


def test_no_question_was_trained_on(trained, data):
    """The held-out stories are none of those that the training drew."""
    about = json.loads((trained / "about.json").read_text())
    world, chance = data.World(about["seed"]), random.Random(f"{about['seed']} training")
    texts = [world.text(chance) for _ in range(about["texts"])]
    stories = {text.split(" ? ")[0] for text in texts}
    rows = itertools.chain(*((trained / "tasks" / f"{name}.jsonl").open() for name in ("made_choose", "made_answer")))
    asked = {json.loads(row)["question"].split(" ? ")[0] for row in rows}

    assert len(asked) == 1000
    assert not asked & stories


def test_the_same_seed_makes_the_same_data(tmp_path, data):
    for name in ("one", "two"):
        data.write_tasks(data.World(3), 3, tmp_path / name, 20)
    for task in ("made_choose", "made_answer", "made_text"):
        rows = (tmp_path / "one" / f"{task}.jsonl").read_text()
        assert rows == (tmp_path / "two" / f"{task}.jsonl").read_text()
        assert rows.count("\n") == 20


def test_lm_eval_itself_runs_the_tasks_from_any_folder(trained, tmp_path):
    model = f"pretrained={trained / 'model'},dtype=float32"
    command = (
        sys.executable,
        "-m",
        "lm_eval",
        "--model",
        "hf",
        "--model_args",
        model,
        "--device",
        "cpu",
        "--limit",
        "20",
    )
    tasks = ("--include_path", str(trained / "tasks"), "--tasks", "made_choose,made_answer,made_text")
    ran = subprocess.run((*command, *tasks), cwd=tmp_path, capture_output=True, text=True, check=False)

    assert ran.returncode == 0, ran.stderr[-2000:]
    assert "exact_match" in ran.stdout
    assert "bits_per_byte" in ran.stdout
