"""Settings of the launcher `slurm`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from llem.config.fields import YEAR_S, at_least, between, option

__all__ = ["SlurmOptions"]


@attrs.frozen(kw_only=True)
class SlurmOptions:
    """The section `slurm` of a launcher's settings: what each job asks for. Null is the cluster's own default."""

    partition: str | None = option(None, help="Partition to submit to.")
    account: str | None = option(None, help="Account to charge.")
    qos: str | None = option(None, help="Quality of service.")
    time_limit_min: int | None = option(
        None,
        help="Time limit of a job. It has to hold a load of the engine and a trial; further jobs do the rest.",
        unit="min",
        validator=between(1, YEAR_S // 60),
    )
    gpus_per_node: int | None = option(
        None,
        help="GPUs of a job. Null asks for as many as `gpus` says or lists, or one with `device: cuda`. 0 is for a "
        "cluster that does not count GPUs: a job then sees all GPUs of its node.",
        validator=at_least(0),
    )
    gres: str | None = option(None, help="Generic resources instead of `gpus_per_node`, such as `gpu:h100:2`.")
    cpus: int | None = option(None, help="CPUs of a job.", validator=at_least(1))
    memory_gb: float | None = option(None, help="Memory of a job.", unit="GB", validator=at_least(0.001))
    constraint: str | None = option(None, help="Features that the node must have.")
    exclusive: bool = option(
        False,
        help="Run no other job on the node, since CPU and memory counters cover all jobs of the node.",
    )
    array_parallelism: int | None = option(
        None,
        help="Jobs of one array that may run at once. Null takes submitit's own limit.",
        validator=at_least(1),
    )
    setup: tuple[str, ...] = option(
        (), help="Lines of shell that run in the job before the worker, such as `module load`."
    )
    requeue: int = option(
        3,
        help="If Slurm ends a job (preemption, time limit, node failure), llem submits the remaining trials again, at "
        "most this many times for one trial.",
        validator=at_least(0),
    )
    pending_limit_min: float | None = option(
        None,
        help="Cancel a job that has not begun after this long. Null waits.",
        unit="min",
        validator=between(0.01, YEAR_S // 60),
    )
    extra: Mapping[str, Any] = option(
        factory=dict, help="Further parameters by submitit's names: exclude, nodelist, mail_type, mem_per_gpu, …"
    )
    sbatch: Mapping[str, Any] = option(
        factory=dict,
        help="Further options of sbatch that submitit does not know, such as `reservation`; true for a flag.",
    )
