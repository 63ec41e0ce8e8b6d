"""The doctor's checks, against machines made up for the test."""

from __future__ import annotations

import json
from pathlib import Path

import attrs
import pytest
from click.testing import CliRunner

from llem.devices.host import Docker, Host, Slurm
from llem.devices.nvml import Gpu
from llem.doctor import Probes, diagnose, update_periods
from llem.errors import MachineError
from llem.meters.rapl import RaplZone
from llem.plugins.registry import Registry, discover

HOST = Host("Xeon 9", 4, 8, 2**34, "Xinux 3", "Linux 6", "CPython 3.12", "performance", None, False)


class FakeNvml:
    """GPUs with a counter that ticks every 100 ms of a clock that the reading itself moves."""

    def __init__(self, gpus, *, counter=True, instant=300.0):
        self._gpus, self._counter, self._instant = gpus, counter, instant
        self.closed = False

    def gpus(self):
        return self._gpus

    def energy_j(self, uuid):
        if not self._counter:
            raise MachineError("no counter here", "needs Volta", code="counter_missing")
        return 1.0

    def power_instant_w(self, uuid):
        return self._instant

    def power_limit_w(self, uuid):
        return 700.0

    def driver_version(self):
        return "580.1"

    def close(self):
        self.closed = True


def _no_gpu():
    raise MachineError("no NVIDIA GPU can be reached", "install the driver", code="no_gpu")


def _probes(**changes):
    bare = Probes(
        host=lambda: HOST,
        nvml=_no_gpu,
        rapl=lambda: (),
        docker=lambda: Docker(client=False),
        slurm=lambda: Slurm(installed=False),
        plugins=lambda: Registry(discover([])),
        version=lambda name: None,
        poll_s=0.0,
    )
    return attrs.evolve(bare, **changes)


def _by_name(checks):
    return {check.name: check for check in checks}


def test_bare_machine_has_a_fix_for_each_thing_missing():
    """Without GPU, RAPL, Docker, Slurm and backends, each is missing and each says what to do."""
    checks = _by_name(diagnose(_probes()))

    missing = {name for name, check in checks.items() if check.status == "missing"}
    assert missing == {"gpu", "gpu energy counter", "rapl", "docker", "slurm", "backends"}
    assert all(checks[name].fix for name in missing)
    assert checks["meter nvml"].status == "ok"


def test_gpu_with_everything():
    """A GPU is told with its limit, its counter and its instantaneous power; NVML is closed."""
    nvml = FakeNvml((Gpu(0, "GPU-a", "H200", 141 * 2**30, False),))

    checks = _by_name(diagnose(_probes(nvml=lambda: nvml, version=lambda name: "2.13.0+cu130")))

    assert checks["gpu driver"].detail == "580.1"
    assert checks["gpu 0"].detail == "H200, 141 GiB, power limit 700 W, GPU-a"
    assert checks["gpu 0 instant power"].detail == "300 W now"
    assert checks["torch"].status == "ok"
    assert nvml.closed


def test_gpu_with_mig_without_counter_and_with_a_cpu_torch():
    """MIG and a torch without CUDA are warnings, a missing counter and instant power are missing, each with its fix."""
    nvml = FakeNvml((Gpu(1, "GPU-b", "K80", 2**34, True),), counter=False, instant=None)

    checks = _by_name(diagnose(_probes(nvml=lambda: nvml, version=lambda name: "2.13.0+cpu")))

    statuses = {name: checks[name].status for name in checks if name.startswith(("gpu 1", "torch"))}
    assert statuses == {
        "gpu 1": "warning",
        "gpu 1 energy counter": "missing",
        "gpu 1 instant power": "missing",
        "torch": "warning",
    }
    assert checks["gpu 1 energy counter"].fix == "needs Volta"


def test_update_period_is_the_median_time_between_changes():
    """A counter that ticks every 100 ms is told as such; one that stands still has no period; an error stays one."""
    now = [0.0]
    error = MachineError("gone")

    periods = update_periods(
        {"ticks": lambda: int(now[0] * 1000) // 100, "stuck": lambda: 5.0, "gone": lambda: error},
        1.0,
        clock=lambda: now[0],
        sleep=lambda seconds: now.__setitem__(0, now[0] + seconds),
    )

    assert periods["ticks"] == pytest.approx(0.1, abs=0.004)
    assert periods["stuck"] is None
    assert periods["gone"] is error


def test_rapl_that_may_not_be_read_comes_with_the_command():
    """A zone without permission is missing, with the command that grants it and the rule that keeps it."""
    zones = (
        RaplZone("cpu:0", "cpu", Path("x"), False, 1.0),
        RaplZone("dram:0", "dram", Path("y"), True, 1.0),
    )

    checks = _by_name(diagnose(_probes(rapl=lambda: zones)))

    assert (checks["rapl cpu:0"].status, checks["rapl dram:0"].status) == ("missing", "ok")
    assert "chmod" in checks["rapl cpu:0"].fix
    assert "udev" in checks["rapl cpu:0"].fix


@pytest.mark.parametrize(
    ("docker", "status", "fix"),
    [
        (Docker(True, error="permission denied while trying to connect"), "missing", "usermod -aG docker"),
        (Docker(True, error="Cannot connect"), "missing", "systemctl start docker"),
        (Docker(True, "4.3", "podman"), "warning", "install Docker itself"),
        (Docker(True, "28", "docker", True), "ok", ""),
    ],
)
def test_docker_states(docker, status, fix):
    """Each state of Docker has its own fix."""
    check = _by_name(diagnose(_probes(docker=lambda: docker)))["docker"]

    assert check.status == status
    assert fix in check.fix


def test_docker_without_nvidia_runtime_is_told():
    """A daemon that cannot give the GPU to a container is told apart from one that can."""
    checks = _by_name(diagnose(_probes(docker=lambda: Docker(True, "28"))))

    assert checks["docker gpu"].status == "missing"


def test_probe_that_raises_becomes_a_check():
    """A probe that fails in an unforeseen way is told as a warning; the other checks are still there."""

    def fail():
        raise ValueError("odd file")

    checks = _by_name(diagnose(_probes(rapl=fail, host=fail)))

    assert checks["rapl"].status == "warning"
    assert "ValueError: odd file" in checks["rapl"].detail
    assert "docker" in checks


@pytest.mark.process
def test_command_prints_json_of_this_machine():
    """`llem doctor --json` ends with 0 on any machine, prints JSON alone, and has a fix for each thing missing."""
    from llem.cli import cli

    done = CliRunner().invoke(cli, ["doctor", "--json"])

    assert done.exit_code == 0, done.output
    checks = json.loads(done.stdout)["checks"]
    assert {"host", "system"} <= {check["name"] for check in checks}
    assert [check["name"] for check in checks if check["status"] == "missing" and not check["fix"]] == []


def test_user_configuration_is_named_and_read(isolated_llem):
    """Where it is; and where it is wrong, what is, since every other command would end with that."""
    isolated_llem.config.write_text("gpus: [0]\n")
    [found] = [check for check in diagnose(_probes()) if check.name == "user configuration"]
    assert (found.status, found.detail) == ("ok", str(isolated_llem.config))

    isolated_llem.config.write_text("gpu: [0]\n")
    [found] = [check for check in diagnose(_probes()) if check.name == "user configuration"]
    assert found.status == "warning"
    assert "did you mean 'gpus'?" in found.detail
    assert str(isolated_llem.config) in found.fix
