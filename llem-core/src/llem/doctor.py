"""What this machine and environment can measure and run, and what to do about each thing that is missing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import metadata
from itertools import pairwise
from statistics import median
from typing import Literal

import attrs

from llem.config.user import load_user_config, user_config_path
from llem.devices.host import Docker, Host, Slurm, probe_docker, probe_host, probe_slurm
from llem.devices.load import HostLoad, busy, watched
from llem.devices.nvml import Gpu, Nvml
from llem.errors import LlemError
from llem.meters.rapl import RaplZone, rapl_zones
from llem.plugins.registry import KINDS, Registry, registry

__all__ = ["Check", "Probes", "diagnose", "update_periods"]

Status = Literal["ok", "missing", "warning"]

RAPL_FIX = (
    "sudo chmod -R a+r /sys/class/powercap/intel-rapl:*/ lets every user read it until the next restart; to keep it, "
    'put the line `SUBSYSTEM=="powercap", ACTION=="add", RUN+="/bin/sh -c \'chmod a+r /sys%p/energy_uj\'"` '
    "into /etc/udev/rules.d/60-rapl.rules. Kernels since 5.10 give it to root alone, because power can leak secrets "
    "to other users of a shared machine"
)


@attrs.frozen
class Check:
    """One thing looked at: what was found, and what to do where it is not as it should be."""

    name: str
    status: Status
    detail: str
    fix: str = ""


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


@attrs.frozen
class Probes:
    """Where the facts come from; tests and other machines put their own here.

    Attributes:
        poll_s: how long the host is watched for its load, and the energy counters for their update period.
        load: watches the host for this many seconds.
    """

    host: Callable[[], Host] = probe_host
    nvml: Callable[[], Nvml] = Nvml.open
    rapl: Callable[[], tuple[RaplZone, ...]] = rapl_zones
    docker: Callable[[], Docker] = probe_docker
    slurm: Callable[[], Slurm] = probe_slurm
    plugins: Callable[[], Registry] = registry
    version: Callable[[str], str | None] = _version
    poll_s: float = 1.0
    load: Callable[[float], HostLoad | None] = watched


def diagnose(probes: Probes | None = None) -> list[Check]:
    """Every check, in the order in which one would mend things. A probe that fails becomes a check, not an error."""
    probes = probes or Probes()
    sections: Sequence[tuple[str, Callable[[Probes], Iterator[Check]]]] = (
        ("host", _host),
        ("gpu", _gpus),
        ("rapl", _rapl),
        ("docker", _docker),
        ("slurm", _slurm),
        ("user configuration", _user_config),
        ("plugins", _plugins),
    )
    return [check for name, section in sections for check in _guarded(name, section, probes)]


def _guarded(name: str, section: Callable[[Probes], Iterator[Check]], probes: Probes) -> list[Check]:
    """The checks of one section. An error of its probe becomes a check, so that the other sections still show."""
    try:
        return list(section(probes))
    except Exception as error:
        found = f"could not be looked at: {type(error).__name__}: {error}"
        return [Check(name, "warning", found, "please report this with the output of `llem doctor --json`")]


def _host(probes: Probes) -> Iterator[Check]:
    host = probes.host()
    memory = f"{host.memory_bytes / 2**30:.1f} GiB"
    where = (f", in a container ({host.container})" if host.container else "") + (", virtual machine" * host.virtual)
    cores = "? cores" if host.cores is None else f"{host.cores} cores"
    cpu = host.cpu or "unknown processor"
    yield Check("host", "ok", f"{cpu}, {cores}, {host.threads or '?'} threads, {memory}{where}")
    yield Check("system", "ok", f"{host.system}, {host.kernel}, {host.python}")
    yield _load(probes.load(probes.poll_s))
    if host.governor is None:
        yield Check("cpu governor", "ok", "this system does not report it, and sets the clocks by itself")
    elif host.governor == "performance":
        yield Check("cpu governor", "ok", "performance")
    else:
        fix = "sudo cpupower frequency-set -g performance, where host-bound speed must not vary"
        yield Check("cpu governor", "warning", f"{host.governor}: clocks follow the load", fix)


def _load(load: HostLoad | None) -> Check:
    if (found := busy(load)) is not None:
        return Check("host load", "warning", found, "end them, or wait: they are in what is measured (`host_busy`)")
    return Check("host load", "ok", "this system does not report it" if load is None else "others leave it idle")


def _gpus(probes: Probes) -> Iterator[Check]:
    try:
        nvml = probes.nvml()
    except LlemError as error:
        yield Check("gpu", "missing", error.message, error.hint)
        yield Check("gpu energy counter", "missing", "no GPU to read", "as for `gpu`; energy is then None or modelled")
        return
    try:
        gpus = nvml.gpus()
        if not gpus:
            fix = "give the container or job a GPU (docker: --gpus, Slurm: --gres)"
            yield Check("gpu", "missing", "the driver works, but shows this process no GPU", fix)
            return
        yield Check("gpu driver", "ok", nvml.driver_version())
        for gpu in gpus:
            yield _gpu(gpu, nvml)
        periods = update_periods({gpu.uuid: _counter(nvml, gpu.uuid) for gpu in gpus}, probes.poll_s)
        for gpu in gpus:
            yield _energy_counter(gpu, periods[gpu.uuid])
            yield _instant_power(gpu, nvml)
        yield from _torch(probes)
    finally:
        nvml.close()


def _gpu(gpu: Gpu, nvml: Nvml) -> Check:
    limit = nvml.power_limit_w(gpu.uuid)
    limits = "" if limit is None else f", power limit {limit:.0f} W"
    memory = "memory shared with the host" if gpu.memory_bytes is None else f"{gpu.memory_bytes / 2**30:.0f} GiB"
    detail = f"{gpu.name}, {memory}{limits}, {gpu.uuid}"
    if gpu.mig:
        fix = "use a GPU without MIG, or ask the administrator to turn it off: a slice's energy cannot be measured"
        return Check(f"gpu {gpu.index}", "warning", f"{detail}; MIG is on", fix)
    return Check(f"gpu {gpu.index}", "ok", detail)


def _counter(nvml: Nvml, uuid: str) -> Callable[[], float | LlemError]:
    def read() -> float | LlemError:
        try:
            return nvml.energy_j(uuid)
        except LlemError as error:
            return error

    return read


def update_periods(
    readers: Mapping[str, Callable[[], float | LlemError]],
    seconds: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, float | LlemError | None]:
    """Watch readings for `seconds` and give the median time in seconds between changes of each.

    None for one that changed fewer than two times, the error for one that cannot be read.
    """
    last = {name: read() for name, read in readers.items()}
    changed: dict[str, list[float]] = {name: [] for name in readers}
    end = clock() + seconds
    while clock() < end:
        for name, read in readers.items():
            value = read()
            if value != last[name]:
                changed[name].append(clock())
                last[name] = value
        sleep(0.002)
    found: dict[str, float | LlemError | None] = {}
    for name, times in changed.items():
        gaps = [after - before for before, after in pairwise(times)]
        value = last[name]
        found[name] = value if isinstance(value, LlemError) else median(gaps) if gaps else None
    return found


def _energy_counter(gpu: Gpu, period: float | LlemError | None) -> Check:
    name = f"gpu {gpu.index} energy counter"
    if isinstance(period, LlemError):
        return Check(name, "missing", period.message, period.hint)
    if period is None:
        return Check(name, "warning", "it did not advance while watched", "check the driver; energy will be None")
    return Check(name, "ok", f"updates every {period * 1000:.0f} ms (median, as watched now)")


def _instant_power(gpu: Gpu, nvml: Nvml) -> Check:
    name = f"gpu {gpu.index} instant power"
    power = nvml.power_instant_w(gpu.uuid)
    if power is None:
        fix = "a newer driver may have it; until then the counter has no second instrument beside it"
        return Check(name, "missing", "this GPU or driver has no such reading", fix)
    return Check(name, "ok", f"{power:.0f} W now")


def _torch(probes: Probes) -> Iterator[Check]:
    """By its version alone: importing torch takes seconds."""
    version = probes.version("torch")
    if version is not None and version.endswith("+cpu"):
        yield Check("torch", "warning", f"{version} is a build without CUDA", "install a CUDA build of torch")
    elif version is not None:
        yield Check("torch", "ok", version)


def _rapl(probes: Probes) -> Iterator[Check]:
    try:
        zones = probes.rapl()
    except LlemError as error:
        yield Check("rapl", "missing", error.message, error.hint)
        return
    if not zones:
        fix = "virtual machines and some processors have none: measure on bare metal, or use `codecarbon` (modelled)"
        yield Check("rapl", "missing", "no RAPL counters: CPU and memory energy cannot be measured", fix)
        return
    for zone in zones:
        if zone.readable and zone.trouble:
            fix = "CPU and memory energy cannot be measured here; use `codecarbon` (modelled)"
            yield Check(f"rapl {zone.domain}", "missing", zone.trouble, fix)
        elif zone.readable:
            yield Check(f"rapl {zone.domain}", "ok", "readable")
        else:
            yield Check(f"rapl {zone.domain}", "missing", "present, and this user may not read it", RAPL_FIX)


def _docker(probes: Probes) -> Iterator[Check]:
    docker = probes.docker()
    if not docker.client:
        yield Check("docker", "missing", "no `docker` program", "install Docker, if you want to run in containers")
    elif docker.server is None:
        denied = "permission denied" in docker.error.lower()
        start = "start it (sudo systemctl start docker), or give this container the host's Docker socket"
        fix = "sudo usermod -aG docker $USER, then log in again" if denied else start
        yield Check("docker", "missing", f"the daemon cannot be reached: {docker.error}", fix)
    elif docker.engine != "docker":
        fix = "install Docker itself: through this socket exit codes are lost and `--gpus` is ignored"
        yield Check("docker", "warning", f"{docker.engine} {docker.server} answers as Docker", fix)
    else:
        yield Check("docker", "ok", f"daemon {docker.server}")
        if docker.nvidia:
            yield Check("docker gpu", "ok", "NVIDIA runtime")
        else:
            fix = "install the NVIDIA Container Toolkit, then: sudo nvidia-ctk runtime configure --runtime=docker"
            yield Check("docker gpu", "missing", "the daemon has no NVIDIA runtime", fix)


def _slurm(probes: Probes) -> Iterator[Check]:
    slurm = probes.slurm()
    if not slurm.installed:
        fix = "log in to a cluster's login node, if you want to submit jobs"
        yield Check("slurm", "missing", "no `sbatch` and `sinfo`", fix)
    elif slurm.error:
        yield Check("slurm", "missing", f"the controller cannot be reached: {slurm.error}", "ask the administrator")
    else:
        yield Check("slurm", "ok", f"{slurm.version or '?'}; partitions: {', '.join(slurm.partitions) or 'none'}")


def _user_config(_: Probes) -> Iterator[Check]:
    path = user_config_path()
    try:
        load_user_config()
    except LlemError as error:
        yield Check("user configuration", "warning", str(error).replace("\n", ";"), f"correct {path}")
    else:
        yield Check("user configuration", "ok", f"{path}{'' if path.exists() else ' (none there)'}")


def _plugins(probes: Probes) -> Iterator[Check]:
    known = probes.plugins()
    for kind in KINDS:
        for reference, plugin in known.entries(kind):
            name = f"{kind} {reference.name}"
            missing = reference.missing()
            if missing:
                fix = reference.install or f"pip install {' '.join(missing)}"
                yield Check(name, "missing", f"needs {', '.join(missing)}, which is not installed", fix)
            else:
                yield Check(name, "ok", f"installed, {plugin.distribution} {plugin.version}")
    if all(plugin.name == "builtin" for _, plugin in known.entries("backend")):
        fix = "pip install llem-pytorch, or another backend"
        yield Check("backends", "missing", "none is installed that runs a real model", fix)
    for failure in known.examine():
        detail = f"{failure.distribution} {failure.version} failed at {failure.stage}: {failure.error}"
        yield Check(f"plugin {failure.name}", "warning", detail, "see `llem plugins -v`; reinstall or remove it")
