"""Interference on the host: what others took of the processors that the engine runs on. Pure.

An engine on the CPU works with all processors, so its speed falls by the share that others take: 2 % of the cores is
already more than an interval of 1 % should hide, and below a tenth of a core lies what a quiet system does by itself.
An engine on a GPU needs the host for one or a few threads, which the scheduler moves to free processors; only more than
half a core, and more than a tenth of them, is told.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from llem.devices.load import HostLoad
from llem.findings import Finding, finding
from llem.metrics.checks.words import in_trials
from llem.metrics.setup import Setup
from llem.store.models import Trial

__all__ = ["host_busy"]

#: Cores, and share of all cores, that others may use: beside an engine on the CPU, and beside one on a GPU.
CPU_LIMIT, GPU_LIMIT = (0.1, 0.02), (0.5, 0.1)
#: Two ticks of 10 ms may be counted wrong per processor and edge; such errors add up as a root of squares.
TICKS_S = 0.02
#: A quota's periods last 0.1 s as a rule; one of a window of 10 s is told, for it stops the engine within a batch.
THROTTLED = 0.01


def host_busy(setup: Setup, trials: Sequence[Trial]) -> Iterable[Finding]:
    """Trials during which others used more of the host than the limit, and those that a quota slowed down."""
    limits = CPU_LIMIT if setup.device == "cpu" else GPU_LIMIT
    known = [(trial, trial.host) for trial in trials if trial.host is not None]
    busy = [(trial, load) for trial, load in known if _taken(load) > _limit(load, limits, trial.duration_s)]
    if busy:
        _, most = max(busy, key=lambda pair: _taken(pair[1]))
        where = [trial.index for trial, _ in busy]
        stolen = f", and other virtual machines {most.steal_cores:.2f}" if most.steal_cores >= 0.01 else ""
        message = (
            f"other processes used {most.others_cores:.2f} of {most.cores} cores{stolen}, "
            f"while llem used {most.own_cores:.2f}{in_trials(where, most=True)}"
        )
        figures = {"others_cores": most.others_cores, "steal_cores": most.steal_cores, "own_cores": most.own_cores}
        allowed = max(limits[0], limits[1] * most.cores)
        yield finding("host_busy", message, **figures, cores=most.cores, limit_cores=allowed, trials=where)
    stopped = [(trial, load.throttled) for trial, load in known if (load.throttled or 0.0) > THROTTLED]
    if stopped:
        share = max(share for _, share in stopped if share is not None)
        where = [trial.index for trial, _ in stopped]
        message = f"a CPU quota stopped the worker in {share:.0%} of its periods"
        yield finding("cpu_throttled", message + in_trials(where, most=True), share=share, trials=where)


def _taken(load: HostLoad) -> float:
    return load.others_cores + load.steal_cores


def _limit(load: HostLoad, limits: tuple[float, float], seconds: float) -> float:
    least, share = limits
    return max(least, share * load.cores) + TICKS_S * math.sqrt(2 * load.cores) / seconds
