"""The trained model of docs/examples/trained_model: trained once in a run of the tests, and scored through llem."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from filelock import FileLock

from llem.backends.base import Placement
from llem.config.models import Experiment
from llem.evaluators.base import Context
from llem.models.resolve import resolve_model
from llem.models.tokenizer import load_tokenizer

os.environ["HF_HUB_OFFLINE"] = "1"  # before anything imports transformers or datasets: no test may reach the network
os.environ["DISABLE_MULTIPROC"] = "1"  # lm-eval would fork for its standard errors

SCRIPTS = Path(__file__).parents[2] / "docs" / "examples" / "trained_model"
#: Values of a task's items, by their ids.
Values = Mapping[str, float]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The first test waits for the training; warnings of torch and transformers are their own affair."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.process)
            item.add_marker(pytest.mark.timeout(600))
            for kind in ("FutureWarning", "UserWarning", "ResourceWarning"):
                item.add_marker(pytest.mark.filterwarnings(f"ignore::{kind}:(?!llem).*"))


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the script writes; one training for all tests that run side by side."""
    base = tmp_path_factory.getbasetemp()
    out = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "trained"
    with FileLock(f"{out}.lock"):
        if not (out / "about.json").exists():  # written last
            command = (sys.executable, str(SCRIPTS / "train.py"), str(out))
            subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "2"}, capture_output=True)
    return out


@pytest.fixture(scope="session")
def scored(trained: Path) -> Callable[[str, str], Values]:
    """Score a variant of the model at a task: `scored("model", "made_answer")`."""

    @functools.cache
    def scored(name: str, task: str) -> Values:
        from llem_lmeval import config
        from llem_lmeval import evaluator as lmeval
        from llem_pytorch.backend import PyTorchBackend
        from llem_pytorch.config import PyTorchOptions

        path, options = str(trained / name), PyTorchOptions()
        experiment = Experiment(model=path, backend="pytorch", dtype="float32", device="cpu", options=options)
        model = resolve_model(path)
        tokenizer = load_tokenizer(model)
        evaluator = lmeval.LmEvalEvaluator(config.LmEvalOptions(tasks=(task,), include_path=(str(trained / "tasks"),)))
        context = Context(task, experiment, model, lambda done, total: None, lambda: None)
        engine = PyTorchBackend(options).load(experiment, model, Placement("cpu"))
        try:
            evaluator.prepare(tokenizer, context)
            return {item.id: item.value for item in evaluator.evaluate(engine, tokenizer, context)[0].items}
        finally:
            engine.close()

    return scored
