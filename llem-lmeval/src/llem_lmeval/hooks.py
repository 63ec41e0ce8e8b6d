"""What this package gives to llem. Imports nothing heavy: lm-eval alone takes seconds to import."""

from __future__ import annotations

from collections.abc import Sequence

from llem.plugins import Reference, hookimpl

__all__ = ["llem_evaluators"]


@hookimpl
def llem_evaluators() -> Sequence[Reference]:
    """The evaluator `lmeval`."""
    return [
        Reference(
            "lmeval",
            "llem_lmeval.evaluator:LmEvalEvaluator",
            config="llem_lmeval.config:LmEvalOptions",
            requires=("lm_eval",),
            summary="Tasks of EleutherAI's lm-evaluation-harness, and your own in its format.",
            install="pip install llem-lmeval",
        )
    ]
