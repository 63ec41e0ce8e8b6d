"""How long the parts of a study took before it was interrupted, from the events that its workers left. Pure but for
reading them."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import fmean

import attrs

from llem.config.models import Experiment
from llem.errors import LlemError
from llem.protocol.events import Calibrated, Event, Phase, Started, TrialEnded
from llem.protocol.lines import stored_events
from llem.protocol.study_events import JobPlan
from llem.store.names import WORKER, numbered
from llem.store.store import Store
from llem.study.plan.schedule import Job, job_plan

__all__ = ["Learnt"]

#: What says when the parts of a worker's time began and ended.
KINDS = (Started, Phase, Calibrated, TrialEnded)
#: So many workers are enough to learn from, the last ones.
WORKERS = 100


@attrs.frozen
class Learnt:
    """Seconds of each time that it was done, by experiment; a load by each experiment that shared it."""

    loads: Mapping[str, list[float]]
    warm_ups: Mapping[str, list[float]]
    trials: Mapping[str, list[float]]

    @classmethod
    def of(cls, store: Store) -> Learnt:
        """From all that is stored. What cannot be read teaches nothing."""
        learnt = cls(defaultdict(list), defaultdict(list), defaultdict(list))
        for folder in list(numbered(store.path / "workers", WORKER))[-WORKERS:]:
            with contextlib.suppress(LlemError):
                learnt._take([_part(event) for event in stored_events(folder / "events.jsonl", KINDS)])
        return learnt

    def _take(self, events: list[tuple[str, str | None, float]]) -> None:
        since, last = events[0][2] if events else 0.0, ""
        load_s: float | None = None
        names: set[str] = set()
        for kind, name, now in events:
            if load_s is None and kind not in ("started", "load"):  # the worker's own start belongs to its load
                load_s, since = now - since, now
            if kind == "warm-up" and last not in ("warm-up", "trial"):  # else it begins where the last trial ended
                since = now
            if name is not None:
                names.add(name)
                (self.warm_ups if kind == "calibrated" else self.trials)[name].append(now - since)
                since = now
            last = kind
        if load_s is not None:
            for name in names:
                self.loads[name].append(load_s)

    def plans(
        self, jobs: Sequence[Job], experiments: Mapping[str, Experiment], *, gap_s: float = 0.0
    ) -> tuple[JobPlan, ...]:
        """What jobs will do, by what is known of it rather than by what is asked for."""
        return tuple(self._plan(job, experiments, gap_s) for job in jobs)

    def _plan(self, job: Job, experiments: Mapping[str, Experiment], gap_s: float) -> JobPlan:
        plan = job_plan(job, experiments, gap_s=gap_s)
        known = [seconds for name in job.experiments for seconds in self.loads.get(name, ())]
        known = known or [seconds for found in self.loads.values() for seconds in found]
        better = {
            name: attrs.evolve(
                one,
                trial_s=fmean(self.trials[name]) if self.trials.get(name) else one.trial_s,
                warm_up_s=fmean(self.warm_ups[name]) if self.warm_ups.get(name) else one.warm_up_s,
            )
            for name, one in plan.experiments.items()
        }
        return attrs.evolve(plan, experiments=better, load_s=fmean(known) if known else plan.load_s)


def _part(event: Event) -> tuple[str, str | None, float]:
    """The beginning of a phase, or the end of a warm-up or a trial: what, of which experiment, at which second."""
    kind = event.phase if isinstance(event, Phase) else event.kind
    name = event.id if isinstance(event, Calibrated | TrialEnded) else None
    return kind, name, event.at.monotonic_ns / 1e9
