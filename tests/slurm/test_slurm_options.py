"""Settings of the launcher `slurm`: what becomes of each, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from llem.config.converter import structure
from llem.config.models import Experiment
from llem.errors import ConfigError
from llem.plugins import Reference
from llem.testing.conformance.plugin import PluginConformance
from llem_slurm.config import SlurmOptions
from llem_slurm.hooks import llem_launchers
from llem_slurm.parameters import TAKEN, check_options, gpus_of, parameters


class TestSlurm(PluginConformance):
    """What llem relies on in any plugin."""

    hooks = "llem_slurm.hooks"

    def reference(self) -> Reference:
        return llem_launchers()[0]


def script(options: SlurmOptions, gpus: int = 0) -> list[str]:
    """Lines of the file that submitit gives to sbatch."""
    from submitit.slurm.slurm import _make_sbatch_string

    return _make_sbatch_string("COMMAND", "/folder", **parameters(options, gpus, "llem-x", "llem 1")).splitlines()


def flags(options: SlurmOptions, gpus: int = 0) -> dict[str, str | bool]:
    """Options of sbatch in that file."""
    found: dict[str, str | bool] = {}
    for line in script(options, gpus):
        name, is_set, value = line.removeprefix("#SBATCH --").partition("=")
        if line.startswith("#SBATCH"):
            found[name] = value.strip("'") if is_set else True
    return found


def test_what_is_not_set_is_left_to_the_cluster() -> None:
    """submitit's own five minutes and accounting key are not passed on; the jobs have the study's name and comment."""
    found = flags(SlurmOptions())
    assert {"time", "wckey", "partition", "mem", "gpus-per-node", "cpus-per-task"}.isdisjoint(found)
    assert (found["job-name"], found["comment"]) == ("llem-x", "llem 1")


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"partition": "gpu"}, {"partition": "gpu"}),
        ({"account": "a", "qos": "q"}, {"account": "a", "qos": "q"}),
        ({"time_limit_min": 90}, {"time": "90"}),
        ({"gpus_per_node": 2}, {"gpus-per-node": "2"}),
        ({"gres": "gpu:h100:1"}, {"gres": "gpu:h100:1"}),
        ({"cpus": 4}, {"cpus-per-task": "4"}),
        ({"memory_gb": 1.5}, {"mem": "1536M"}),
        ({"constraint": "h100&nvlink"}, {"constraint": "h100&nvlink"}),
        ({"exclusive": True}, {"exclusive": True}),
        ({"extra": {"exclude": "n[1-2]", "mail_type": "END"}}, {"exclude": "n[1-2]", "mail-type": "END"}),
        ({"sbatch": {"reservation": "r", "spread_job": True, "x": False}}, {"reservation": "r", "spread-job": True}),
    ],
)
def test_each_setting_reaches_sbatch(settings: dict[str, Any], expected: dict[str, Any]) -> None:
    """By the option of sbatch that it is about."""
    options = structure(SlurmOptions, settings, source="test")
    check_options(options)
    found = flags(options)
    assert {name: found.get(name) for name in expected} == expected
    assert "x" not in found


def test_cpus_are_told_to_srun_too() -> None:
    """Since 22.05 srun does not take over `--cpus-per-task` of sbatch, and would run with one CPU."""
    [line] = [line for line in script(SlurmOptions(cpus=4)) if "COMMAND" in line]
    assert "--cpus-per-task=4" in line.split()


def test_setup_lines_come_before_the_worker() -> None:
    """In their order."""
    lines = script(SlurmOptions(setup=("module load cuda", "export A=1")))
    places = [lines.index("module load cuda"), lines.index("export A=1")]
    assert places == sorted(places)
    assert places[-1] < next(number for number, line in enumerate(lines) if "COMMAND" in line)


def test_the_end_is_announced_by_the_signal_that_ends_trials() -> None:
    """SIGTERM before the time limit; a job that Slurm ended is submitted anew here, with what is left, not by Slurm."""
    assert flags(SlurmOptions())["signal"] == "TERM@90"
    assert flags(SlurmOptions(time_limit_min=2))["signal"] == "TERM@30"
    found = flags(SlurmOptions(extra={"signal_delay_s": 300}))
    assert found["signal"] == "TERM@300"
    assert found["no-requeue"] is True


@pytest.mark.parametrize(
    ("experiments", "expected"),
    [
        ([{"device": "cpu"}], 0),
        ([{}], 0),
        ([{"device": "cuda"}], 1),
        ([{"device": "cuda", "gpus": (0, 1)}, {"device": "cuda"}], 2),
        ([{"gpus": 4}, {"gpus": (0,)}], 4),
    ],
)
def test_gpus_follow_from_the_experiments(experiments: list[dict[str, Any]], expected: int) -> None:
    """The most that one of them uses; `device: auto` asks for none, since it can do without."""
    assert gpus_of([Experiment(backend="echo", **one) for one in experiments]) == expected


def test_gpus_of_the_settings_come_first() -> None:
    """Also none; and `gres` stands alone."""
    assert flags(SlurmOptions(), 1)["gpus-per-node"] == "1"
    assert flags(SlurmOptions(gpus_per_node=4), 1)["gpus-per-node"] == "4"
    assert "gpus-per-node" not in flags(SlurmOptions(gpus_per_node=0), 1)
    assert "gpus-per-node" not in flags(SlurmOptions(gres="gpu:1"), 1)


@pytest.mark.parametrize(
    ("settings", "shown"), [({}, False), ({"gpus_per_node": 1}, False), ({"gpus_per_node": 0}, True)]
)
def test_jobs_see_gpus_that_were_not_assigned_only_where_slurm_counts_none(
    settings: dict[str, Any], shown: bool
) -> None:
    """Which the setting 0 says; it is told to the job by a variable."""
    assert ("export LLEM_SLURM_ALL_GPUS=1" in script(SlurmOptions(**settings), 1)) is shown


def test_fewer_gpus_than_the_experiments_use() -> None:
    """Are refused before a job waits for them in vain."""
    with pytest.raises(ConfigError) as caught:
        flags(SlurmOptions(gpus_per_node=1), 2)
    [problem] = caught.value.problems
    assert (problem.path, problem.message) == (
        "slurm.gpus_per_node",
        "asks for 1, and an experiment uses 2",
    )


def test_every_fault_is_listed_with_what_to_do() -> None:
    """Names that submitit does not know, and those that this launcher sets itself."""
    options = SlurmOptions(
        gpus_per_node=1,
        gres="gpu:1",
        extra={"mail_typ": "END", "nodes": 2, "mem": "1G"},
        sbatch={"comment": "x", "qos": 1},
    )
    with pytest.raises(ConfigError) as caught:
        check_options(options)
    told = {problem.path: problem.hint for problem in caught.value.problems}
    assert told == {
        "slurm.extra.mail_typ": "did you mean 'mail_type'?",
        "slurm.extra.nodes": "an engine process runs on one node",
        "slurm.extra.mem": "set `memory_gb`",
        "slurm.sbatch.comment": "by it the study's jobs are found",
        "slurm.sbatch.qos": "set `qos`",
        "slurm.gres": "set one of the two",
    }


def test_names_of_submitit_are_those_of_the_installed_one() -> None:
    """Whatever is refused by name is a parameter that it has."""
    from submitit import SlurmExecutor

    assert set(TAKEN) <= SlurmExecutor._valid_parameters()
