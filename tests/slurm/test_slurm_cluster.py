"""Studies on a real Slurm of one node."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil
import pytest
import yaml

import llem
from llem.metrics.verify import verify
from llem.protocol.events import Event
from llem.protocol.study_events import Waiting
from llem.store.store import Store

pytestmark = [pytest.mark.process, pytest.mark.timeout(240)]

#: An image with llem and PyTorch, where `nox -s docker` has made one.
IMAGE = os.environ.get("LLEM_TEST_IMAGE")
#: A batch takes longer than the window, so that every trial is one batch, and has the same tokens wherever it runs.
QUICK = {
    "backend": "echo",
    "device": "cpu",
    "preset": "quick",
    "window_s": 0.1,
    "warmup": {"batches": 1, "seconds": 0},
    "baseline": {"seconds": 0},
    "workload": {"kind": "synthetic", "input_tokens": 16, "output_tokens": 16},
    "echo": {"token_seconds": 0.01},
    "meters": [],
}
#: Trials of more than a second.
SLOW = {"echo": {"token_seconds": 0.08}, "trials": 4}


def study(**changes: Any) -> dict[str, Any]:
    """Two experiments on each of two engines; `changes` to the settings that all share."""
    shared = {**QUICK, **changes}
    axes = shared.pop("axes", {"load.batch_size": [1, 2], "dtype": ["float32", "bfloat16"]})
    of_the_study = {"trials": shared.pop("trials", 2), "parallel": shared.pop("parallel", 2)}
    return {"name": "jobs", "base": shared, "axes": axes, **of_the_study}


#: A folder whose module `pynvml` knows four GPUs.
NVML = Path(__file__).parents[1] / "nvml"
ONE_ENGINE = {"axes": {"load.batch_size": [1, 2]}, "parallel": 1}


class Command:
    """`llem run` of a study as a process of its own."""

    def __init__(self, folder: Path, cluster: Any) -> None:
        self._folder, self._cluster = folder, cluster
        self.started: list[subprocess.Popen[str]] = []

    def start(self, document: Mapping[str, Any], out: Path, *more: str, **options: Any) -> subprocess.Popen[str]:
        """Begin it, with settings of the launcher `slurm`."""
        config = self._folder / "config.yaml"
        docker = {"docker": {"image": {"pytorch": IMAGE}}} if IMAGE else {}
        config.write_text(yaml.safe_dump({"launchers": {"slurm": options, **docker}}))
        path = self._folder / "study.yaml"
        path.write_text(yaml.safe_dump(dict(document)))
        command = [sys.executable, "-m", "llem", "run", str(path), "-o", str(out), *more]
        whole = {**os.environ, "LLEM_CONFIG": str(config)}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        self.started.append(subprocess.Popen(command, env=whole, **pipes))
        return self.started[-1]

    def run(self, document: Mapping[str, Any], out: Path, *more: str, **options: Any) -> tuple[int, str]:
        """To its end: exit status, and what it wrote on standard error."""
        process = self.start(document, out, *more, **options)
        _, told = process.communicate(timeout=200)
        return process.returncode, told

    def slurm(self, document: Mapping[str, Any], out: Path, *more: str, **options: Any) -> tuple[int, str]:
        """The same as jobs."""
        return self.run(document, out, "--launcher", "slurm", *more, **options)


@pytest.fixture
def command(tmp_path: Path, cluster: Any) -> Iterator[Command]:
    """Starts `llem run`; what still runs is killed."""
    made = Command(tmp_path, cluster)
    yield made
    for process in made.started:
        process.kill()
        process.communicate()


def outcomes(folder: Path) -> dict[str, str]:
    """How each experiment ended, by the configuration that varies."""
    store = Store.open(folder)
    found = {name: store.read_result(name) for name in store.experiment_ids()}
    return {name: "none" if result is None else result.outcome for name, result in found.items()}


def trials(folder: Path) -> dict[str, dict[int, tuple[int, int, str]]]:
    """What does not depend on where it was measured: tokens of each trial of each experiment, and their digest."""
    store = Store.open(folder)
    return {
        name: {one.index: (one.input_tokens, one.output_tokens, one.output_digest) for one in store.trials(name)}
        for name in store.experiment_ids()
    }


def files(folder: Path) -> dict[str, bytes]:
    """Every stored trial as it lies there."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.glob("experiments/*/trial-*")}


def marks(folder: Path) -> list[dict[str, Any]]:
    """What each job found when it began, in the order of workers."""
    paths = sorted(folder.glob("workers/*/slurm.jsonl"), key=lambda path: int(path.parent.name))
    return [json.loads(line) for path in paths for line in path.read_text().splitlines()]


def events(folder: Path, worker: int) -> list[dict[str, Any]]:
    """What a worker told."""
    lines = (folder / "workers" / str(worker) / "events.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def used_gpus(folder: Path) -> dict[str, list[str]]:
    """UUIDs of the GPUs of each experiment's engine."""
    store = Store.open(folder)
    return {name: gpus for name in store.experiment_ids() for gpus in [store.engines(name)[0]["device"]["gpus"]]}


def measuring(folder: Path, stored: int = 0) -> Callable[[], bool]:
    """Whether a trial is under way, and so many are stored."""

    def look() -> bool:
        events = [path.read_text().splitlines() for path in folder.glob("workers/*/events.jsonl")]
        under_way = any(lines and json.loads(lines[-1]).get("phase") == "trial" for lines in events)
        return under_way and len(list(folder.glob("experiments/*/trial-*.json"))) >= stored

    return look


# what comes out


def test_the_same_as_by_process(command: Command, cluster: Any, tmp_path: Path) -> None:
    """The same experiments with the same tokens in every trial; the store verifies, and no job is left."""
    assert command.run(study(parallel=1), tmp_path / "process")[0] == 0
    status, told = command.slurm(study(), tmp_path / "slurm")
    assert status == 0, told

    found = trials(tmp_path / "slurm")
    assert [len(one) for one in found.values()] == [2, 2, 2, 2]
    assert found == trials(tmp_path / "process")
    assert set(outcomes(tmp_path / "slurm").values()) == {"done"}
    assert verify(Store.open(tmp_path / "slurm")) == []
    assert cluster.jobs() == []
    assert not list((tmp_path / "slurm").rglob("*.pkl"))


def test_the_same_by_every_launcher(command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """PyTorch makes the same tokens in a process, in a job, and, where the session brings Docker, in a container."""
    # one batch takes longer than the window anywhere, so that every trial is one batch
    lengths = {"kind": "synthetic", "input_tokens": 16, "output_tokens": 768}
    axes = {"load.batch_size": [1]}
    document = study(
        backend="pytorch", dtype="float32", workload=lengths, axes=axes, trials=1, parallel=1, window_s=0.1
    )
    del document["base"]["echo"]
    found = {}
    for launcher in ("process", "slurm", *(["docker"] if IMAGE else [])):
        status, told = command.run(document, tmp_path / launcher, "--launcher", launcher)
        assert status == 0, told
        found[launcher] = trials(tmp_path / launcher)
    with capsys.disabled():
        print("\nlauncher  experiment        input tokens  output tokens  digest of the output")
        for launcher, experiments in found.items():
            for name, made in experiments.items():
                print(
                    f"{launcher:8}  {name}",
                    *(f"{given:13}  {out:13}  {digest}" for given, out, digest in made.values()),
                )

    [first, *others] = found.values()
    assert [trial[1] for one in first.values() for trial in one.values()] == [768]
    assert others == [first] * len(others)


# what is asked for


def test_the_queue_shows_the_jobs(command: Command, cluster: Any, tmp_path: Path) -> None:
    """One array with a job for each engine, named after the folder, with what each asked for."""
    process = command.start(study(**SLOW), tmp_path / "out", "--launcher", "slurm", cpus=2, memory_gb=0.25)
    cluster.wait(measuring(tmp_path / "out"), "a trial")
    lines = cluster.ask("squeue", "--noheader", "--array", "--format=%i|%j|%T|%C|%m|%R").splitlines()
    print(cluster.ask("squeue", "--array", "--format=%.8i %.12j %.9T %.6M %.4C %.8m %R"))
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)

    ids = [line.split("|")[0] for line in lines]
    assert len({one.partition("_")[0] for one in ids}) == 1, "not one array"
    assert sorted(one.partition("_")[2] for one in ids) == ["0", "1"]
    assert {line.partition("|")[2] for line in lines} == {"llem-out|RUNNING|2|256M|node0"}


def test_gpus_are_those_that_slurm_assigns(command: Command, tmp_path: Path) -> None:
    """As many as are asked for, different ones for jobs that run at once, told to the worker by Slurm's variable."""
    status, told = command.slurm(study(echo={"token_seconds": 0.05}), tmp_path / "one", gpus_per_node=1)
    assert status == 0, told
    assert {mark["gpus"] for mark in marks(tmp_path / "one")} == {"0", "1"}

    status, told = command.slurm(study(), tmp_path / "two", gres="gpu:2")
    assert status == 0, told
    assert sorted(mark["gpus"] for mark in marks(tmp_path / "two")) == ["0,1", "2,3"]


def test_a_number_of_gpus_is_whatever_the_job_was_given(command: Command, cluster: Any, tmp_path: Path) -> None:
    """By UUID in the result, and not in the id; where `llem` runs there is no GPU. More than a node has is refused."""
    settings = {
        "device": "cuda",
        "gpus": 2,
        "axes": {"dtype": ["float32", "bfloat16"]},
        "echo": {"token_seconds": 0.05},
    }
    setup = [f"export PYTHONPATH={NVML}:$PYTHONPATH"]
    status, told = command.slurm(study(**settings), tmp_path / "first", setup=setup)
    assert status == 0, told
    other = cluster.ask("sbatch", "--parsable", "--gpus-per-node=2", "--output=/dev/null", "--wrap=sleep 60")
    status, told = command.slurm(study(**settings, parallel=1), tmp_path / "then", setup=setup)
    assert status == 0, told
    cluster.ask("scancel", other)

    first, then = used_gpus(tmp_path / "first"), used_gpus(tmp_path / "then")
    assert sorted(first.values()) == [["GPU-A", "GPU-B"], ["GPU-C", "GPU-D"]]
    assert list(then.values()) == [["GPU-C", "GPU-D"]] * 2
    assert first.keys() == then.keys()

    status, told = command.slurm(study(**settings | {"gpus": 5}), tmp_path / "five", setup=setup)
    assert status != 0
    assert "Requested node configuration is not available" in " ".join(told.split())


def test_gpus_that_nobody_asked_for_are_left_alone(command: Command, tmp_path: Path) -> None:
    """`device: auto` asks for none, and runs on the CPU of a node whose GPUs others may have."""
    setup = [f"export PYTHONPATH={NVML}:$PYTHONPATH"]
    status, told = command.slurm(study(device="auto", **ONE_ENGINE), tmp_path / "cpu", setup=setup)
    assert status == 0, told
    assert list(used_gpus(tmp_path / "cpu").values()) == [[], []]

    status, told = command.slurm(study(device="auto", **ONE_ENGINE), tmp_path / "gpu", setup=setup, gpus_per_node=1)
    assert status == 0, told
    assert list(used_gpus(tmp_path / "gpu").values()) == [["GPU-A"]] * 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"partition": "mian"}, "there is no partition 'mian'"),
        ({"gpus_per_node": 5}, "Requested node configuration is not available"),
        ({"extra": {"nodelst": "a"}}, "did you mean 'nodelist'?"),
        ({"sbatch": {"reservation": "none"}}, "reservation"),
        ({"setup": ["echo no such module >&2", "exit 3"]}, "exit status 3 before its worker began: no such module"),
        ({"setup": ["rm slurm/*_log.*", "exit 1"], "sbatch": {"chdir": "OUT"}}, "its node does not see this folder"),
        ({"partition": "closed", "pending_limit_min": 0.02}, "PartitionDown"),
    ],
)
def test_what_slurm_cannot_give(
    command: Command, cluster: Any, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    """An error in words that say it, without a traceback, and nothing in the queue."""
    out = tmp_path / "out"
    options = json.loads(json.dumps(options).replace("OUT", str(out)))
    status, told = command.slurm(study(**ONE_ENGINE), out, **options)
    assert status in (1, 2, 3)
    assert message in " ".join(told.split())
    assert "Traceback" not in told
    assert cluster.jobs() == []
    if status == 2:
        assert not out.exists(), "refused before anything is written"


def test_what_is_only_taken_now_is_waited_for(command: Command, cluster: Any, tmp_path: Path) -> None:
    """It is not refused, though nobody can say when it begins; arrays are as long as the cluster lets them be."""
    cluster.ask("sbatch", "--partition=urgent", "--exclusive", "--output=/dev/null", "--wrap=sleep 5")
    axes = {"load.batch_size": [1], "weights_seed": [0, 1, 2, 3]}
    status, told = command.slurm(study(axes=axes, parallel=4), tmp_path / "out")
    assert status == 0, told
    assert set(outcomes(tmp_path / "out").values()) == {"done"}
    assert len(marks(tmp_path / "out")) == 4
    scripts = [path.read_text() for path in (tmp_path / "out" / "slurm").glob("*_submission.sh")]
    assert sorted("--array=0-2%" in script for script in scripts) == [False, True]


def test_what_a_job_waits_for_is_told(cluster: Any, tmp_path: Path) -> None:
    """In Slurm's words, once for each; and the study goes on when there is room."""
    hold = ("sbatch", "--parsable", "--partition=urgent", "--exclusive", "--output=/dev/null", "--wrap=sleep 200")
    other = cluster.ask(*hold)
    events: list[Event] = []

    def heard(event: Event) -> None:
        events.append(event)
        if isinstance(event, Waiting):
            cluster.ask("scancel", other)

    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(study(**ONE_ENGINE)))
    llem.run_study(path, tmp_path / "out", launcher="slurm", on_event=heard)

    waiting = [event.what for event in events if isinstance(event, Waiting)]
    assert waiting
    assert len(waiting) == len(set(waiting))
    assert all(re.fullmatch(r"Slurm, job \d+: (Resources|Priority)", one) for one in waiting)
    assert set(outcomes(tmp_path / "out").values()) == {"done"}


# what comes in between


def test_preempted_work_goes_on_in_another_job(command: Command, cluster: Any, tmp_path: Path) -> None:
    """Without anybody's doing; trials that are stored stay as they are, and none is measured twice."""
    out = tmp_path / "out"
    process = command.start(study(**ONE_ENGINE, **SLOW), out, "--launcher", "slurm")
    cluster.wait(measuring(out, 2), "two trials")
    cluster.ask("sbatch", "--partition=urgent", "--exclusive", "--output=/dev/null", "--wrap=sleep 2")
    log = out / "workers" / "0" / "log.txt"
    cluster.wait(lambda: "ended as PREEMPTED" in log.read_text(), "the preemption")
    before = files(out)
    _, told = process.communicate(timeout=120)

    assert process.returncode == 0, told
    assert len({mark["job"] for mark in marks(out)}) == 2
    assert {name: content for name, content in files(out).items() if name in before} == before
    assert [sorted(one) for one in trials(out).values()] == [[0, 1, 2, 3]] * 2
    assert set(outcomes(out).values()) == {"done"}
    assert verify(Store.open(out)) == []


def test_a_job_that_is_preempted_again_and_again(command: Command, cluster: Any, tmp_path: Path) -> None:
    """Is given up after `requeue` further jobs."""
    out = tmp_path / "out"
    document = study(axes={"load.batch_size": [1]}, parallel=1, **SLOW)
    process = command.start(document, out, "--launcher", "slurm", requeue=0)
    cluster.wait(measuring(out), "a trial")
    cluster.ask("sbatch", "--partition=urgent", "--exclusive", "--output=/dev/null", "--wrap=sleep 2")
    process.communicate(timeout=120)

    assert process.returncode == 1
    assert len(marks(out)) == 1
    assert "done" not in outcomes(out).values()


@pytest.mark.parametrize("how", ["scancel", "killed"])
def test_what_somebody_ended_is_resumed_when_asked(command: Command, cluster: Any, tmp_path: Path, how: str) -> None:
    """Not by itself. `--resume` measures what is missing, and nothing of what is there again."""
    out = tmp_path / "out"
    process = command.start(study(**ONE_ENGINE, **SLOW), out, "--launcher", "slurm")
    cluster.wait(measuring(out, 2), "two trials")
    [job] = cluster.jobs()
    cluster.ask("scancel", *(["--signal=KILL", f"{job}.0"] if how == "killed" else [job]))
    process.communicate(timeout=60)
    assert process.returncode == 1
    assert len(marks(out)) == (2 if how == "killed" else 1)  # the one it was at crashed; the other was not at fault
    before = files(out)

    status, told = command.slurm(study(**ONE_ENGINE, **SLOW), out, "--resume")
    assert status == 0, told
    assert {name: content for name, content in files(out).items() if name in before} == before
    assert [sorted(one) for one in trials(out).values()] == [[0, 1, 2, 3]] * 2
    assert verify(Store.open(out)) == []


def test_the_first_interrupt_lets_trials_end(command: Command, cluster: Any, tmp_path: Path) -> None:
    """Those that run; jobs that wait are taken back, and none is left."""
    out = tmp_path / "out"
    process = command.start(study(**SLOW), out, "--launcher", "slurm", cpus=5)
    cluster.wait(measuring(out), "a trial")
    assert len(cluster.jobs()) == 2, "one of the two should wait: the node has 8 CPUs"
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)

    assert process.returncode == 130, told
    assert cluster.jobs() == []
    assert len(files(out)) > 0, "the trial that was under way is lost"
    assert len(marks(out)) == 1


def test_the_second_interrupt_kills(command: Command, cluster: Any, tmp_path: Path) -> None:
    """Without waiting for the trial's end."""
    out = tmp_path / "out"
    process = command.start(study(**{**SLOW, "echo": {"token_seconds": 5}}), out, "--launcher", "slurm")
    logs = ("workers/0/events.jsonl", "workers/1/events.jsonl")
    cluster.wait(
        lambda: all((out / log).exists() and "warm-up" in (out / log).read_text() for log in logs), "both jobs"
    )
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        time.sleep(2)
    process.communicate(timeout=60)

    assert process.returncode == 130
    cluster.wait(lambda: not cluster.jobs(), "the end of all jobs", 15)
    assert files(out) == {}


def test_a_killed_llem_leaves_jobs_that_do_no_harm(command: Command, cluster: Any, tmp_path: Path) -> None:
    """Going on waits for the job that runs, takes back those that wait, and measures the rest once."""
    out = tmp_path / "out"
    process = command.start(study(**SLOW), out, "--launcher", "slurm", cpus=5)
    cluster.wait(measuring(out), "a trial")
    process.kill()
    process.communicate()
    assert len(cluster.jobs()) == 2

    status, told = command.slurm(study(**SLOW), out, "--resume", cpus=5)
    assert status == 0, told
    assert [sorted(one) for one in trials(out).values()] == [[0, 1, 2, 3]] * 4
    assert cluster.jobs() == []


def test_a_node_that_is_set_down_while_its_worker_lives(command: Command, cluster: Any, tmp_path: Path) -> None:
    """Slurm believes the job gone and starts another; no trial is measured twice, and no two at one time."""
    out = tmp_path / "out"
    document = study(axes={"load.batch_size": [1, 2]}, parallel=1, **{**SLOW, "trials": 6})
    process = command.start(document, out, "--launcher", "slurm")
    cluster.wait(measuring(out, 2), "two trials")
    [pid] = [one["pid"] for one in events(out, 0) if one["event"] == "started"]
    for keeper in psutil.Process(pid).parents():  # as on a node that is cut off, nobody can end it
        if "slurmstepd" in keeper.name():
            keeper.kill()
    for state in ("DOWN", "RESUME"):
        cluster.ask("scontrol", "update", "NodeName=node0", f"State={state}", "Reason=test")
    cluster.wait(lambda: len(marks(out)) == 2, "the second job")
    assert psutil.pid_exists(pid), "Slurm ended the first worker, so that there is nothing to see"
    _, told = process.communicate(timeout=120)

    assert process.returncode == 0, told
    assert [sorted(one) for one in trials(out).values()] == [list(range(6))] * 2
    began = [
        (one["id"], one["trial"]) for number in (0, 1) for one in events(out, number) if one.get("phase") == "trial"
    ]
    assert len(began) == len(set(began)), "a trial was measured twice"
    assert set(outcomes(out).values()) == {"done"}
    assert verify(Store.open(out)) == []


@pytest.mark.parametrize("kind", ["node set DOWN", "kill step", "resume beside a job"])
def test_faults_at_random_moments(cluster: Any, benchmark_script: Callable[[str], ModuleType], kind: str) -> None:
    """A round of `benchmarks/kills.py`: nothing is lost, doubled, or not told."""
    kills = benchmark_script("kills")
    name = f"slurm: {kind}"
    row = kills.hit(1, name, kills.SLURM[name], cluster)
    assert row["hit"] == 1, "nothing was done to a study that ran"
    assert {count: row[count] for count in kills.COUNTED} == dict.fromkeys(kills.COUNTED, 0)


def test_a_job_that_uses_more_memory_than_it_was_given(command: Command, tmp_path: Path) -> None:
    """Is `oom`, in Slurm's words, and the study goes on with the others."""
    out = tmp_path / "out"
    large = {"kind": "synthetic", "input_tokens": 16, "output_tokens": 20000}
    document = study(axes={"load.batch_size": [1, 15000]}, parallel=1, workload=large, echo={"token_seconds": 0})
    status, told = command.slurm(document, out, memory_gb=0.4)
    assert status == 1, told
    assert sorted(outcomes(out).values()) == ["done", "oom"]
    assert "memory limit" in " ".join(told.split())
