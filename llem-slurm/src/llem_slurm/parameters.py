"""From this plugin's settings to submitit's parameters. Pure, but for asking submitit which it knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llem.config.models import Experiment
from llem.errors import ConfigError, Problem, nearest
from llem_slurm.config import SlurmOptions
from llem_slurm.job import ALL_GPUS

__all__ = ["check_options", "gpus_of", "parameters"]

#: submitit's name for each setting that is passed on as it is.
NAMES = {
    "partition": "partition",
    "account": "account",
    "qos": "qos",
    "time_limit_min": "time",
    "gres": "gres",
    "cpus": "cpus_per_task",
    "constraint": "constraint",
    "array_parallelism": "array_parallelism",
}

#: Parameters of submitit that have a setting of their own, or that this launcher sets, and what to do instead.
TAKEN = {
    **{theirs: f"set `{ours}`" for ours, theirs in NAMES.items()},
    "gpus_per_node": "set `gpus_per_node` outside `extra`",
    "num_gpus": "set `gpus_per_node`",
    "mem": "set `memory_gb`",
    "exclusive": "set `exclusive` outside `extra`",
    "setup": "set `setup` outside `extra`",
    "additional_parameters": "set `sbatch`",
    "job_name": "it names the study",
    "comment": "by it the study's jobs are found",
    "nodes": "an engine process runs on one node",
    "ntasks_per_node": "a job is one engine process",
    "gpus_per_task": "set `gpus_per_node`",
    "stderr_to_stdout": "the worker's log has both",
    "teardown": "the exit status of a job is its worker's",
    "use_srun": "the worker runs under srun, which passes it Slurm's signals",
}

#: Options of sbatch that this launcher sets or that would take the job out of its hands.
OURS = frozenset({"array", "output", "error", "open-mode", "comment", "job-name", "requeue", "no-requeue", "signal"})


def check_options(options: SlurmOptions) -> None:
    """Refuse what submitit or this launcher would not take. Raises ConfigError that lists every fault."""
    known = _known()
    problems = []
    for name in options.extra:
        if name in TAKEN:
            problems.append(Problem(f"slurm.extra.{name}", "is not set here", TAKEN[name]))
        elif name not in known:
            free = sorted(known - TAKEN.keys())
            near = nearest(name, free)
            hint = f"did you mean {near!r}?" if near else f"known: {', '.join(free)}"
            problems.append(Problem(f"slurm.extra.{name}", "is no parameter of submitit", hint))
    for name in options.sbatch:
        flag = name.replace("_", "-")
        if flag in OURS or flag.replace("-", "_") in known | {"mem"} or flag == "time":
            problems.append(Problem(f"slurm.sbatch.{name}", "is not set here", _instead(flag)))
    if options.gres is not None and options.gpus_per_node:
        problems.append(Problem("slurm.gres", "is set beside `gpus_per_node`", "set one of the two"))
    if problems:
        raise ConfigError("invalid settings of the launcher slurm", problems=tuple(problems))


def _instead(flag: str) -> str:
    name = flag.replace("-", "_")
    return TAKEN.get(name, "this launcher sets it" if flag in OURS else f"set it in `extra`, as {name}")


def _known() -> frozenset[str]:
    from submitit import SlurmExecutor

    return frozenset(SlurmExecutor._valid_parameters())


def gpus_of(experiments: Sequence[Experiment]) -> int:
    """How many GPUs the experiments of one engine process use, where the settings do not say it."""
    return max((one.gpu_count or int(one.device == "cuda") for one in experiments), default=0)


def parameters(options: SlurmOptions, gpus: int, name: str, comment: str) -> dict[str, Any]:
    """Parameters of `SlurmExecutor.update_parameters`.

    Args:
        gpus: for each job, where the settings do not say it.
        name, comment: of the jobs.

    Raises ConfigError where the settings ask for fewer GPUs than the experiments use. None is no contradiction: on a
    cluster that does not count GPUs, a job sees its node's.
    """
    if 0 < (options.gpus_per_node or 0) < gpus:
        message = f"asks for {options.gpus_per_node}, and an experiment uses {gpus}"
        hint = "leave it out: a job then asks for as many as its experiments use"
        problem = Problem("slurm.gpus_per_node", message, hint)
        raise ConfigError("invalid settings of the launcher slurm", problems=(problem,))
    found: dict[str, Any] = {theirs: getattr(options, ours) for ours, theirs in NAMES.items()}
    wanted = gpus if options.gpus_per_node is None else options.gpus_per_node
    if options.gres is None and wanted:
        found["gpus_per_node"] = wanted
    if options.memory_gb is not None:
        found["mem"] = f"{round(options.memory_gb * 1024)}M"
    if options.exclusive:
        found["exclusive"] = True
    setup = [*options.setup, *([f"export {ALL_GPUS}=1"] if options.gpus_per_node == 0 else ())]
    if setup:
        found["setup"] = setup
    found = {key: value for key, value in found.items() if value is not None}
    # submitit's own defaults that are not the cluster's: five minutes, and an accounting key that must exist
    found.setdefault("time", None)
    found["wckey"] = None
    found |= {"job_name": name, "comment": comment, **options.extra}
    if options.cpus is not None:  # since 22.05 srun does not take over what sbatch was told
        found["srun_args"] = [*found.get("srun_args", ()), f"--cpus-per-task={options.cpus}"]
    found.setdefault("signal_delay_s", _notice_s(options.time_limit_min))
    notice = f"TERM@{found['signal_delay_s']}"  # the worker ends its trial and stops
    found["additional_parameters"] = {**_flags(options.sbatch), "signal": notice, "no-requeue": True}
    return found


def _notice_s(time_limit_min: int | None) -> int:
    """How long before the time limit: submitit's 90 s, but no more than a quarter of it."""
    return 90 if time_limit_min is None else min(90, 15 * time_limit_min)


def _flags(sbatch: Mapping[str, Any]) -> dict[str, Any]:
    return {name.replace("_", "-"): value for name, value in sbatch.items() if value not in (None, False)}
