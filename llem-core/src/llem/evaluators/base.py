"""What an evaluator implements: quality of the very configuration that was measured."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import attrs

from llem.backends.base import Engine
from llem.models.tokenizer import Tokenizer

__all__ = ["Evaluator", "Score"]


@attrs.frozen
class Score:
    """One figure of quality.

    Attributes:
        task: what was asked, for example `arc_easy`.
        metric: how it was scored, for example `acc_norm`.
        value: the score.
        stderr: its standard error; None where the evaluator states none.
        n: how many items it is computed from.
        higher_is_better: which way to read it.
    """

    task: str
    metric: str
    value: float
    stderr: float | None
    n: int
    higher_is_better: bool = True


class Evaluator(ABC):
    """Scores a loaded engine. Constructed with its own section of the configuration, which must be cheap."""

    name: ClassVar[str]

    def __init__(self, options: Any) -> None:
        self.options = options

    @abstractmethod
    def evaluate(self, engine: Engine, tokenizer: Tokenizer) -> Sequence[Score]:
        """Ask the engine and score its answers. Called after the trials, outside every window.

        Raises ConfigError for an unknown task, or one that needs a capability the engine does not have.
        """

    def describe(self) -> Mapping[str, Any]:
        """What to record beside the scores: versions, number of shots, data hashes; JSON values only."""
        return {}
