"""How the experiments of a study ended."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from llem.errors import LlemError, StoreError
from llem.store.models import Result

__all__ = ["Ran", "unscored"]


@attrs.frozen
class Ran:
    """How the experiments of a study ended, in running order; those that never began are not among them.

    Attributes:
        results: one for each experiment that began, failed ones included.
        errors: by id, the errors of experiments that failed.
        stopped: why the study ended early: the user stopped it, or too many failures came in a row.
        damaged: by id, why experiments are left out: what is stored of them cannot be read or computed with. One that
            had a result keeps it.
    """

    results: tuple[Result, ...]
    errors: Mapping[str, LlemError]
    stopped: LlemError | None = None
    damaged: Mapping[str, StoreError] = attrs.field(factory=dict)

    def only(self) -> Result:
        """The result of a study of one experiment. Raises LlemError: its failure, or why the study stopped."""
        for error in (*self.errors.values(), self.stopped, *self.damaged.values()):
            if error is not None:
                raise error
        [result] = self.results
        return result

    @property
    def interrupted(self) -> LlemError | None:
        """Why the study stopped, if the user stopped it before it was done."""
        return self.stopped if self.stopped is not None and self.stopped.code == "interrupted" else None


def unscored(result: Result) -> bool:
    """Whether a task of quality that was asked for has no score."""
    return any(one.reason == "not_evaluated" for one in result.metrics.values())
