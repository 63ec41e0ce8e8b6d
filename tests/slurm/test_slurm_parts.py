"""The parts of the launcher `slurm` that need no Slurm."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest

from llem.config.load import Layer, resolve
from llem.errors import ConfigError, LlemError, MachineError, StoreError
from llem.plugins.registry import registry
from llem.protocol.events import Ended as LastWord
from llem.protocol.events import Event, Failure, Outcome, Phase, Started
from llem.protocol.lines import to_json
from llem.protocol.study_events import Waited, Waiting
from llem_slurm import cluster, submission
from llem_slurm.cluster import Ended, Queue, Queued, check_cluster, ended, queued
from llem_slurm.config import SlurmOptions
from llem_slurm.launcher import TOO_MUCH, SlurmLauncher
from llem_slurm.parameters import parameters
from llem_slurm.submission import Job, Submitter, comment_of
from llem_slurm.watch import Lines, Watch

Program = Callable[[str, str], None]


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    """Programs of one's own in place of Slurm's; there are no others."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def make(name: str, script: str) -> None:
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)

    return make


# asking Slurm


def test_no_slurm_here(program: Program) -> None:
    """Is told before anything is written, with where to go."""
    with pytest.raises(MachineError, match="needs `sbatch`") as caught:
        check_cluster(None)
    assert caught.value.code == "slurm_missing"
    assert "login node" in caught.value.hint


@pytest.mark.process
def test_a_controller_that_is_down(program: Program) -> None:
    """Slurm's own words are passed on."""
    for name in ("sbatch", "srun"):
        program(name, "")
    program("sinfo", "echo 'Unable to contact slurm controller (connect failure)' >&2; exit 1")
    with pytest.raises(MachineError, match="Unable to contact slurm controller") as caught:
        check_cluster(None)
    assert caught.value.code == "slurm_down"


@pytest.mark.process
def test_a_study_is_checked_once_and_not_by_each_worker(program: Program) -> None:
    """The launcher asks Slurm before anything is written, and whether jobs have as many GPUs as are used."""
    for name in ("sbatch", "srun"):
        program(name, "")
    program("sinfo", "echo gpu")
    asked = [resolve([Layer("test", {"backend": "echo", "gpus": 2})], registry()).experiment]
    SlurmLauncher(SlurmOptions(partition="gpu")).check(asked)
    launcher = SlurmLauncher(SlurmOptions(partition="gpus", gpus_per_node=1))
    with pytest.raises(ConfigError) as caught:
        launcher.check(asked)
    assert "slurm.gpus_per_node: asks for 1" in str(caught.value)
    with pytest.raises(ConfigError, match="there is no partition 'gpus'"):
        launcher.check([attrs.evolve(asked[0], gpus=1)])


@pytest.mark.process
def test_a_partition_that_is_not_there(program: Program) -> None:
    """The nearest name is offered; each of several has to be there."""
    for name in ("sbatch", "srun"):
        program(name, "")
    program("sinfo", "echo gpu; echo cpu; echo gpu")
    check_cluster("gpu,cpu")
    with pytest.raises(ConfigError, match="there is no partition 'gpus'") as caught:
        check_cluster("cpu,gpus")
    assert caught.value.hint == "did you mean 'gpu'?"


@pytest.mark.process
@pytest.mark.parametrize(
    ("held", "refused"), [("echo 'sbatch: error: Invalid account' >&2; exit 1", True), ("echo '17;east'", False)]
)
def test_what_sbatch_refuses_is_told_apart_from_what_is_not_free_now(
    program: Program, tmp_path: Path, held: str, refused: bool
) -> None:
    """A job that is submitted for the answer alone does not begin, and is taken back."""
    program("srun", "")
    program("sbatch", f'echo "$@" >> {tmp_path}/asked; case $1 in --test-only) exit 1;; *) {held};; esac')
    program("scancel", f'echo "$@" >> {tmp_path}/taken_back')
    asked = parameters(SlurmOptions(account="x"), 0, "llem-check", "llem check")
    if refused:
        with pytest.raises(ConfigError, match="sbatch refused the job: Invalid account"):
            submission.try_out(asked)
        assert not (tmp_path / "taken_back").exists()
    else:
        submission.try_out(asked)
        assert (tmp_path / "taken_back").read_text() == "--quiet 17\n"
    assert "--hold" in (tmp_path / "asked").read_text().splitlines()[1]


@pytest.mark.process
@pytest.mark.parametrize(
    ("told", "most"), [("MaxArraySize            = 1001", 1001), ("MaxArraySize = 0", 1), ("", None)]
)
def test_how_long_an_array_may_be(program: Program, told: str, most: int | None) -> None:
    """As the cluster is configured."""
    program("scontrol", f"echo 'MaxArrayTasks = 5'; echo '{told}'")
    cluster.longest_array.cache_clear()
    assert cluster.longest_array() == most
    cluster.longest_array.cache_clear()


def test_of_several_arrays_none_is_left_where_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody would follow the jobs of the first."""
    jobs = [Job(str(number), "", 0.0, (), ()) for number in range(2)]
    arrays = iter([jobs, ConfigError("sbatch refused the job: too many", "hint")])

    def array(*_: Any) -> list[Job]:
        found = next(arrays)
        if isinstance(found, Exception):
            raise found
        return found

    taken_back: list[str] = []
    monkeypatch.setattr(submission, "_array", array)
    monkeypatch.setattr(submission, "longest_array", lambda: 2)
    monkeypatch.setattr(submission, "cancel", taken_back.extend)
    with pytest.raises(ConfigError, match="too many"):
        submission._submit([Path("a"), Path("b"), Path("c")], Path("folder"), {})
    assert taken_back == ["0", "1"]


@pytest.mark.process
def test_the_queue_is_read(program: Program) -> None:
    """Tasks of an array by themselves; a reason may hold the character that parts the columns."""
    program("squeue", "echo '7|RUNNING|llem ab|None'; echo '8_0|PENDING|(null)|a|b'")
    assert queued() == {"7": Queued("RUNNING", "llem ab", "None"), "8_0": Queued("PENDING", "(null)", "a|b")}


@pytest.mark.process
@pytest.mark.parametrize(
    ("code", "status"), [("0:0", 0), ("1:0", 1), ("137:0", -9), ("0:15", -15), ("0:9", -9), ("(null)", None)]
)
def test_how_a_job_ended(program: Program, code: str, status: int | None) -> None:
    """Its exit status as Python tells it: minus the signal, also where srun told it as 128 and the signal."""
    program("scontrol", f"echo 'JobId=7 JobName=x JobState=FAILED Reason=None ExitCode={code} DerivedExitCode=5:0'")
    assert ended("7") == Ended("FAILED", status)


@pytest.mark.process
def test_how_a_job_ended_that_slurm_has_forgotten(program: Program) -> None:
    """Its database is asked, which need not be there."""
    program("scontrol", "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1")
    program("sacct", "echo 'Slurm accounting storage is disabled' >&2; exit 1")
    assert ended("7") == Ended("UNKNOWN", None)
    program("sacct", "echo 'CANCELLED by 1000|0:15'")
    assert ended("7") == Ended("CANCELLED", -15)


@pytest.mark.process
def test_a_controller_may_be_away_for_a_while(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was last known is not taken for the present; after too long it is an error."""
    queue = Queue()
    program("squeue", "exit 1")
    assert queue.look("7", max_age_s=0, since=0) == (False, None)
    program("squeue", "echo '7|RUNNING|c|None'")
    assert queue.look("7", max_age_s=0, since=0) == (True, Queued("RUNNING", "c", "None"))
    program("squeue", "exit 1")
    assert queue.look("7", max_age_s=0, since=0)[0] is False
    monkeypatch.setattr(cluster, "LOST_S", 0)
    with pytest.raises(MachineError, match="squeue"):
        queue.look("7", max_age_s=0, since=0)


@pytest.mark.process
def test_one_look_serves_many(program: Program, tmp_path: Path) -> None:
    """Slurm is asked once for all jobs, unless the answer is from before a job was submitted."""
    program("squeue", f"echo asked >> {tmp_path}/asked; echo '7|RUNNING|c|None'")
    queue = Queue()
    assert [queue.look(job, max_age_s=60, since=0)[0] for job in ("7", "8", "9")] == [True] * 3
    assert (tmp_path / "asked").read_text().split() == ["asked"]
    queue.look("10", max_age_s=60, since=float("inf"))
    assert (tmp_path / "asked").read_text().split() == ["asked"] * 2


# submitting


class Submitted:
    """Takes submitit's place: notes what is submitted together."""

    def __init__(self, error: LlemError | None = None) -> None:
        self.batches: list[list[str]] = []
        self.error = error

    def __call__(self, orders: Sequence[Path], folder: Path, parameters: Mapping[str, Any]) -> list[Job]:
        self.batches.append(sorted(order.name for order in orders))
        if self.error is not None:
            raise self.error
        return [Job(order.name, "token", 0.0, (), ()) for order in orders]


def together(submitter: Submitter, orders: Mapping[str, Any]) -> dict[str, Any]:
    """Submit orders with their parameters from as many threads; each one's job, or its error."""
    found: dict[str, Any] = {}

    def submit(name: str) -> None:
        try:
            found[name] = submitter.submit(Path(name), Path("folder"), orders[name]).id
        except LlemError as error:
            found[name] = error

    threads = [threading.Thread(target=submit, args=(name,)) for name in orders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def test_orders_that_come_together_are_one_array(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each thread gets its own order's job; what wants other resources is submitted by itself."""
    monkeypatch.setattr(submission, "_submit", submitted := Submitted())
    alike: dict[str, Any] = {"gpus_per_node": 1}
    found = together(Submitter(), {"a": alike, "b": dict(alike), "c": alike, "d": {"gpus_per_node": 2}})
    assert found == {name: name for name in "abcd"}
    assert sorted(submitted.batches) == [["a", "b", "c"], ["d"]]


def test_a_refusal_reaches_every_order_of_an_array(monkeypatch: pytest.MonkeyPatch) -> None:
    """None of them waits for a job that does not exist."""
    refusal = ConfigError("sbatch refused the job: no", "hint")
    monkeypatch.setattr(submission, "_submit", Submitted(refusal))
    assert together(Submitter(), {"a": {}, "b": {}}) == {"a": refusal, "b": refusal}


def test_a_job_may_submit_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Slurm set for this job is hidden from sbatch; where Slurm is, and the user's own defaults, are not."""
    values = {"SLURM_JOB_ID": "1", "SRUN_X": "1", "CUDA_VISIBLE_DEVICES": "0", "SLURM_CONF": "c", "SBATCH_ACCOUNT": "a"}
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    with submission._outside_a_job():
        assert {name for name in values if name in os.environ} == {"SLURM_CONF", "SBATCH_ACCOUNT"}
    assert {name: os.environ[name] for name in values} == values


def test_the_comment_tells_stores_apart(tmp_path: Path) -> None:
    """By where they are, however they are named."""
    assert comment_of(tmp_path) == comment_of(tmp_path / "x" / "..")
    assert comment_of(tmp_path) != comment_of(tmp_path / "x")


# in the job


STAND_IN = """
import os, signal, sys
print("to nobody")
print("GPUs", os.environ.get("CUDA_VISIBLE_DEVICES"), file=sys.stderr)
print("to the log", file=sys.stderr)
os.kill(os.getpid(), signal.SIGUSR2)
sys.exit(5 if sys.argv[1] == "worker" else 6)
"""


def begun(folder: Path, **set_by_slurm: str) -> subprocess.CompletedProcess[str]:
    """A job of an order in this folder, with a stand-in for llem's program."""
    package = folder / "llem"
    package.mkdir()
    (package / "__init__.py").write_text("import pkgutil\n__path__ = pkgutil.extend_path(__path__, __name__)\n")
    (package / "__main__.py").write_text(STAND_IN)
    code = f"from llem_slurm.job import begin; begin({str(folder / 'order.json')!r}, 'abc')"
    outside = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    whole = {**outside, "PYTHONPATH": str(folder), "SLURM_JOB_ID": "7", **set_by_slurm}
    return subprocess.run([sys.executable, "-c", code], env=whole, capture_output=True, text=True, check=False)


@pytest.mark.process
def test_the_job_becomes_the_worker(tmp_path: Path) -> None:
    """It tells that it began, what the worker prints goes to its log, and its exit status is the job's."""
    done = begun(tmp_path, CUDA_VISIBLE_DEVICES="1")

    assert (done.returncode, done.stdout, done.stderr) == (5, "", "")
    assert (tmp_path / "log.txt").read_text() == "GPUs 1\nto the log\n"
    [mark] = map(json.loads, (tmp_path / "slurm.jsonl").read_text().splitlines())
    assert {name: mark[name] for name in ("token", "job", "gpus")} == {"token": "abc", "job": "7", "gpus": "1"}


@pytest.mark.process
@pytest.mark.parametrize(
    ("set_by_slurm", "seen"),
    [({"CUDA_VISIBLE_DEVICES": "2,3"}, "2,3"), ({}, ""), ({"LLEM_SLURM_ALL_GPUS": "1"}, "None")],
)
def test_what_slurm_did_not_assign_is_not_seen(tmp_path: Path, set_by_slurm: dict[str, str], seen: str) -> None:
    """A job without GPUs has no variable that says so; only a cluster that counts none shows all."""
    done = begun(tmp_path, **set_by_slurm)
    assert done.returncode == 5
    assert (tmp_path / "log.txt").read_text().splitlines()[0] == f"GPUs {seen}"


def test_events_are_read_whole_and_once(tmp_path: Path) -> None:
    """A line that is being written waits; one that a killed worker left unfinished is passed over."""
    path = tmp_path / "events.jsonl"
    lines = Lines(path)
    assert list(lines.new()) == []
    path.write_text('{"n": 1}\n{"n": 2')
    assert list(lines.new()) == [{"n": 1}]
    with path.open("a") as file:
        file.write('}\n{"n": \n{"n": 4}\n')
    assert list(lines.new()) == [{"n": 2}, {"n": 4}]
    assert list(lines.new()) == []


def test_a_pipe_in_the_place_of_events_keeps_nobody_waiting(tmp_path: Path) -> None:
    """It is told as what it is."""
    os.mkfifo(tmp_path / "events.jsonl")
    with pytest.raises(StoreError, match=r"events\.jsonl is no regular file"):
        list(Lines(tmp_path / "events.jsonl").new())


class Turns:
    """Slurm's queue, look by look; `begins` is done before the second, as the job would."""

    def __init__(self, begins: Callable[[], object]) -> None:
        self.looks, self._begins = 0, begins

    def look(self, *_: object, **__: object) -> tuple[bool, Queued | None]:
        self.looks += 1
        if self.looks == 1:
            return True, Queued("PENDING", "", "Priority")
        if self.looks == 2:
            self._begins()
        return True, Queued("RUNNING", "", "None") if self.looks == 2 else None


def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *lines: str) -> list[Any]:
    """What a job's watch tells whose worker writes these lines, and what it holds at the end."""
    monkeypatch.setattr("llem_slurm.watch.TICK_S", 0.0)
    monkeypatch.setattr(cluster, "ended", lambda _: Ended("COMPLETED", 0))

    def begins() -> None:
        (tmp_path / "slurm.jsonl").write_text('{"token": "t"}\n')
        (tmp_path / "events.jsonl").write_text("".join(lines))

    seen: list[Event] = []
    job, stop = Job("7", "t", 0.0, (), ()), threading.Event()
    watch = Watch(job, tmp_path, seen.append, stop, threading.Event(), Turns(begins), None)
    assert watch.wait() == Ended("COMPLETED", 0)
    return [*seen, *(("held", one) for one in watch.held)]


def test_a_wait_in_the_queue_ends_before_the_workers_first_word(tmp_path: Path, monkeypatch) -> None:
    """So that the time of the wait is known; the worker's events keep theirs."""
    started = Started(pid=1)
    seen = watched(tmp_path, monkeypatch, to_json(started), to_json(LastWord()))

    assert seen == [Waiting(what="Slurm, job 7: Priority"), Waited(), started, LastWord()]
    assert seen[2].at == started.at


def test_a_worker_of_another_version_is_not_passed_over(tmp_path: Path, monkeypatch) -> None:
    """What it tells and this llem does not know names its log."""
    with pytest.raises(MachineError, match="an event 'quality'") as caught:
        watched(tmp_path, monkeypatch, '{"event": "quality"}\n')

    assert str(tmp_path / "log.txt") in caught.value.hint


def test_a_failure_that_the_worker_told_last_is_held(tmp_path: Path, monkeypatch) -> None:
    """Until it goes on with another experiment: a job that Slurm ends may lose the meters' reader before its worker."""
    failed = Outcome(id="a", outcome="invalid", error=Failure("invalid", "the reader has ended", "", "meter", 1))
    other, phase = Outcome(id="b", outcome="done"), Phase(phase="trial", id="b", trial=0)

    for name in ("1", "2"):
        (tmp_path / name).mkdir()
    last = watched(tmp_path / "1", monkeypatch, to_json(other), to_json(failed), to_json(LastWord()))
    assert [one for one in last if not isinstance(one, Waiting | Waited)] == [other, LastWord(), ("held", failed)]
    went_on = watched(tmp_path / "2", monkeypatch, to_json(failed), to_json(phase), to_json(other))
    assert [one for one in went_on if not isinstance(one, Waiting | Waited)] == [failed, phase, other]


@pytest.mark.parametrize(
    ("line", "is_memory"),
    [
        (
            "slurmstepd: error: Detected 1 oom-kill event(s) in StepId=191.batch cgroup. Some of your processes may",
            True,
        ),
        ("slurmstepd: error: Detected 1 oom_kill event in StepId=440575.0. Some of the step tasks have been", True),
        ("slurmstepd: error: StepId=7.0 exceeded memory limit (419430400 > 268435456), being killed", True),
        ("slurmstepd: error: Exceeded job memory limit", True),
        ("slurmstepd-node0: error: Exceeded job memory limit", True),
        ("srun: error: nid001277: tasks 1-3: Out Of Memory", True),
        ("slurmstepd: error: *** STEP 7.0 ON node0 CANCELLED AT 2026-01-01T00:00:00 DUE TO TIME LIMIT ***", False),
        ("zoom_killer: started", False),
        ("ValueError: the prompt exceeded the KV memory limit", False),
        ("engine: slurmstepd: error: Exceeded job memory limit", False),
        ("srun: error: node0: task 0: Killed", False),
    ],
)
def test_what_slurm_says_of_memory(line: str, is_memory: bool) -> None:
    """Its own lines alone, in the words of its versions; what an engine writes is none."""
    assert bool(TOO_MUCH.search(line)) == is_memory
