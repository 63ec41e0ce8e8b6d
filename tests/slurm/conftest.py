"""A real Slurm of one node, started by hand without systemd: munged, slurmctld, slurmd, each in the foreground.

Four devices stand in for GPUs: character devices that behave as /dev/null, so that requests for GPUs, their counts and
`CUDA_VISIBLE_DEVICES` are real and nothing computes on them.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

#: Set by the nox session that installs Slurm: without it the tests that need one are skipped, with it they must run.
WANTED = "LLEM_TEST_SLURM"
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol")
NODE, CPUS, GPUS = "node0", 8, 4

CONF = """
ClusterName=llem
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
SlurmctldPort={ctld_port}
SlurmdPort={slurmd_port}
StateSaveLocation={folder}/state
SlurmdSpoolDir={spool}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerNode=2000
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
GresTypes=gpu
SlurmdParameters=config_overrides
ReturnToService=2
JobRequeue=1
KillWait=5
CompleteWait=0
MaxArraySize=3
SchedulerParameters=sched_interval=2
NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=16000 Gres=gpu:{gpus} State=UNKNOWN
PartitionName=main Nodes={node} Default=YES MaxTime=60 State=UP PriorityTier=1 PreemptMode=REQUEUE
PartitionName=urgent Nodes={node} MaxTime=60 State=UP PriorityTier=9 PreemptMode=OFF
PartitionName=closed Nodes={node} MaxTime=60 State=DOWN
"""


class Cluster:
    """The running Slurm."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {"SLURM_CONF": str(folder / "slurm.conf")}

    def ask(self, *command: str) -> str:
        """Standard output of a command of Slurm."""
        whole = {**os.environ, **self.environment}
        asked = subprocess.run(command, env=whole, capture_output=True, text=True, timeout=60, check=False)
        return asked.stdout.strip()

    def jobs(self) -> list[str]:
        """Ids of all jobs that are not over."""
        return self.ask("squeue", "--noheader", "--array", "--format=%i").split()

    def wait(self, condition: Callable[[], Any], what: str, seconds: float = 60) -> None:
        """Until the condition holds. Fails with the daemons' logs when it does not."""
        until = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > until:
                for path in sorted([*self.folder.glob("*.log"), *self.folder.glob("*.out")]):
                    print(f"== {path.name}\n{path.read_text(errors='replace')[-2000:]}")
                pytest.fail(f"{what}: not in {seconds:.0f} s; squeue:\n{self.ask('squeue')}")
            time.sleep(0.1)


@pytest.fixture(scope="session")
def running_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Slurm, started once for all tests and stopped after them with all that ran in it."""
    if not os.environ.get(WANTED):
        pytest.skip("a real Slurm is started by `nox -s slurm`, as root")
    if missing := [name for name in PROGRAMS if shutil.which(name) is None]:
        pytest.fail(f"not installed: {', '.join(missing)} (Debian: slurmctld slurmd slurm-client munge)")
    if os.geteuid() != 0:
        pytest.fail("slurmd needs root")
    with started(tmp_path_factory.mktemp("slurm")) as cluster:
        yield cluster


@contextlib.contextmanager
def started(folder: Path) -> Iterator[Cluster]:
    """Slurm with an idle node, and its files in this folder; at the end nothing is left of it, nor of any job."""
    cluster = Cluster(folder)
    munge = [f"--{name}={cluster.folder / path}" for name, path in MUNGE.items()]
    with contextlib.ExitStack() as running:
        # The paths of sockets in it may have 108 characters, which the folder of a test can exceed by itself.
        spool = running.enter_context(tempfile.TemporaryDirectory(prefix="slurmd-", dir="/tmp"))
        _configure(cluster.folder, spool)
        running.enter_context(_daemon(cluster, "munged", "--foreground", "--force", "--num-threads=2", *munge))
        cluster.wait((cluster.folder / MUNGE["socket"]).exists, "munged")
        running.enter_context(_daemon(cluster, "slurmctld", "-D", "-i"))
        running.enter_context(_daemon(cluster, "slurmd", "-D", "-N", NODE))
        cluster.wait(lambda: cluster.ask("sinfo", "-h", "-N", "-p", "main", "-o", "%T") == "idle", "an idle node")
        try:
            yield cluster
        finally:
            _empty(cluster)


MUNGE = {
    "socket": "munge.socket",
    "key-file": "munge.key",
    "seed-file": "munge.seed",
    "pid-file": "munge.pid",
    "log-file": "munge.log",
}


def _configure(folder: Path, spool: str) -> None:
    (folder / "state").mkdir()
    key = folder / MUNGE["key-file"]
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o400)
    names = {"folder": folder, "spool": spool, "host": socket.gethostname().partition(".")[0]}
    text = CONF.format(**names, node=NODE, cpus=CPUS, gpus=GPUS, ctld_port=_free_port(), slurmd_port=_free_port())
    (folder / "slurm.conf").write_text(text.lstrip())
    for number in range(GPUS):
        os.mknod(folder / f"gpu{number}", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    (folder / "gres.conf").write_text(f"NodeName={NODE} Name=gpu File={folder}/gpu[0-{GPUS - 1}]\n")


@contextlib.contextmanager
def _daemon(cluster: Cluster, *command: str) -> Iterator[None]:
    with (cluster.folder / f"{command[0]}.out").open("wb") as out:
        whole = {**os.environ, **cluster.environment}
        process = subprocess.Popen(command, env=whole, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _empty(cluster: Cluster) -> None:
    """End what is in the queue: slurmd would leave it running."""
    for job in cluster.jobs():
        cluster.ask("scancel", "--signal=KILL", f"{job}.0")
        cluster.ask("scancel", job)
    cluster.wait(lambda: not cluster.jobs(), "the end of all jobs")


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


@pytest.fixture
def cluster(running_cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """Slurm, with its configuration in the environment; whatever a test left in the queue is ended."""
    for name, value in running_cluster.environment.items():
        monkeypatch.setenv(name, value)
    yield running_cluster
    _empty(running_cluster)
