"""Which processes are the server, and whether they compute on the GPUs that are measured."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import psutil

from llem.devices.nvml import Nvml
from llem.errors import MachineError

__all__ = ["GpuProcesses", "family", "gpu_processes", "listeners", "misplaced"]

#: Processes on each GPU, by UUID.
GpuProcesses = Mapping[str, Collection[int]]

#: Programs that listen here for a server that runs elsewhere.
TUNNELS = ("ssh", "sshd", "autossh", "kubectl", "socat", "cloudflared")


def listeners(port: int) -> frozenset[int]:
    """Processes that listen on a port of this machine.

    Raises MachineError where they cannot be seen, or only pass on to another machine.
    """
    start = "let llem start the server with openai.command"
    try:
        found = [one for one in psutil.net_connections("tcp") if one.status == psutil.CONN_LISTEN]
    except psutil.AccessDenied as error:  # macOS tells root alone
        raise MachineError(f"the process that listens on port {port} cannot be seen: no permission", start) from error
    pids = frozenset(one.pid for one in found if one.laddr and one.laddr.port == port and one.pid)
    if not pids:
        raise MachineError(
            f"the process that listens on port {port} cannot be seen, so its GPU work cannot be told from a stranger's",
            f"it is another user's or another container's: {start}, or run llem as that user",
        )
    names = sorted({psutil.Process(pid).name() for pid in pids} & set(TUNNELS))
    if names:
        raise MachineError(
            f"{names[0]} listens on port {port}, for a server on another machine whose energy cannot be measured here",
            "run llem on that machine",
        )
    return pids


def family(pids: Collection[int]) -> frozenset[int]:
    """The processes with all that they started."""
    found = set(pids)
    for pid in pids:
        try:
            found |= {child.pid for child in psutil.Process(pid).children(recursive=True)}
        except psutil.NoSuchProcess:  # ended meanwhile
            continue
    return frozenset(found)


def gpu_processes() -> GpuProcesses:
    """Processes that compute on each GPU of this machine; empty where there is none."""
    try:
        nvml = Nvml.open()
    except MachineError:
        return {}
    try:
        return {gpu.uuid: frozenset(nvml.compute_pids(gpu.uuid)) for gpu in nvml.gpus()}
    finally:
        nvml.close()


def misplaced(
    before: GpuProcesses, after: GpuProcesses, server: Collection[int], measured: Sequence[str]
) -> str | None:
    """Why the server does not compute on just the measured GPUs; None where it does. Pure.

    In a container NVML shows the host's process ids, so what came to a measured GPU since `before` is the server too.

    Args:
        before: as it was before the server was started; of one that ran already the same as `after`.
        server: process ids as this process sees them.
        measured: UUIDs; empty for a measurement of the CPU.
    """
    came = {pid for uuid in measured for pid in after.get(uuid, ()) if pid not in before.get(uuid, ())}
    own = {*server, *came}
    used = {uuid for uuid, pids in after.items() if own & set(pids)}
    idle = [uuid for uuid in measured if uuid not in used]
    if idle:
        return f"the server does not compute on {', '.join(idle)}, which would be measured"
    others = sorted(used - set(measured))
    return f"the server computes on {', '.join(others)}, which would not be measured" if others else None
