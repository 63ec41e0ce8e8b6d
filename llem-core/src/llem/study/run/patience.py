"""When it is enough of workers that leave their job to others."""

from __future__ import annotations

from llem.errors import ExperimentFailed
from llem.store.store import Store
from llem.study.plan.schedule import Job

__all__ = ["Patience"]

#: So many workers in a row may leave what is left of a job as it was. One that lost its lease leaves it to who took it,
#: and the next one waits for that. A scheduler that requeues jobs has a bound of its own, `requeue`.
VAIN = 10


class Patience:
    """With the workers of one job."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._before: Job | None = None
        self._vain = 0

    def over(self, rest: Job) -> ExperimentFailed | None:
        """Why no further worker gets what is left of the job; None while one may try."""
        self._vain = self._vain + 1 if rest == self._before else 0
        self._before = rest
        if self._vain < VAIN:
            return None
        what = f"{VAIN} workers in a row left this to others, and nobody measured any of it"
        return ExperimentFailed(what, f"see what their logs say, in {self._store.path / 'workers'}")
