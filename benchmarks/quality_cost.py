"""What a quality run costs through llem's evaluator, over lm-eval's own `hf` model on the same machine. Prints JSON.

    python docs/examples/trained_model/train.py OUT
    python benchmarks/quality_cost.py OUT [--pairs 6] [--batch 32] [--dtype float32] [--device cpu] [--threads 2]

Both score the trained model at the same 500 items of a task with several choices and of one with answers, with the same
dtype, batch size and threads, in one process. Each engine is loaded once, before anything is timed, and both go once
through each task untimed. Then pairs follow, one side after the other, the order turned from pair to pair. The time of
a side is that of reading the task, asking the model and scoring; CPU seconds are given beside it for a machine that
others use too. Reported is llem / lm-eval with an interval over pairs, and whether both gave the same score.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ |= {"HF_HUB_OFFLINE": "1", "DISABLE_MULTIPROC": "1"}  # read as lm-eval is imported

import attrs
import torch
from lm_eval import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from llem.backends.base import Engine, Placement
from llem.config.models import Experiment
from llem.evaluators.base import Context
from llem.metrics.statistics import mean, paired_ratio
from llem.models.resolve import resolve_model
from llem.models.tokenizer import load_tokenizer
from llem_lmeval import config
from llem_lmeval import evaluator as lmeval
from llem_pytorch.backend import PyTorchBackend
from llem_pytorch.config import PyTorchOptions

TASKS = {"made_choose": "acc", "made_answer": "exact_match"}
#: Scores one task, and gives the score.
Side = Callable[[str], float]


def through_llem(args: argparse.Namespace) -> tuple[Side, Engine]:
    """llem's evaluator on a loaded engine."""
    path, options = str(args.out / "model"), PyTorchOptions()
    experiment = Experiment(model=path, backend="pytorch", dtype=args.dtype, device=args.device, options=options)
    model = resolve_model(path)
    tokenizer = load_tokenizer(model)
    engine = PyTorchBackend(options).load(experiment, model, Placement(args.device))

    def score(task: str) -> float:
        section = config.LmEvalOptions(
            tasks=(task,), include_path=(str(args.out / "tasks"),), batch_size=args.batch, bootstrap_iters=0
        )
        evaluator = lmeval.LmEvalEvaluator(section)
        context = Context(task, experiment, model, lambda done, total: None, lambda: None)
        evaluator.prepare(tokenizer, context)
        return evaluator.evaluate(engine, tokenizer, context)[0].value

    return score, engine


def by_itself(args: argparse.Namespace) -> Side:
    """lm-eval with its own model."""
    lm = HFLM(pretrained=str(args.out / "model"), dtype=args.dtype, device=args.device, batch_size=args.batch)

    def score(task: str) -> float:
        found = simple_evaluate(
            model=lm,
            tasks=[task],
            task_manager=TaskManager(include_path=str(args.out / "tasks"), include_defaults=False),
            bootstrap_iters=0,
        )
        return float(found["results"][task][f"{TASKS[task]},none"])

    return score


def timed(side: Side, task: str) -> dict[str, float]:
    """Wall and CPU seconds of one run."""
    wall, cpu = time.perf_counter(), time.process_time()
    score = side(task)
    return {"score": score, "wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}


def compare(task: str, sides: dict[str, Side], pairs: int) -> dict[str, Any]:
    """Run both in turn, and state the ratio."""
    for side in sides.values():
        side(task)
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
    for pair in range(pairs):
        for name in sorted(sides, reverse=pair % 2 == 1):
            runs[name].append(timed(sides[name], task))
    ratios = {
        f"{key}_ratio": attrs.asdict(paired_ratio(*([run[key] for run in runs[name]] for name in ("lm-eval", "llem"))))
        for key in ("wall_s", "cpu_s")
    }
    means = {f"{name} {key}": mean([run[key] for run in runs[name]]) for name in sides for key in ("wall_s", "cpu_s")}
    return {"task": task, "scores": {name: found[0]["score"] for name, found in runs.items()}, **means, **ratios}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="what train.py wrote")
    parser.add_argument("--pairs", type=int, default=6)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    torch.set_num_threads(args.threads)
    ours, engine = through_llem(args)
    sides = {"llem": ours, "lm-eval": by_itself(args)}
    try:
        for task in TASKS:
            print(json.dumps(compare(task, sides, args.pairs), indent=1), flush=True)
    finally:
        engine.close()


if __name__ == "__main__":
    main()
