"""This machine's memory as its processes may use it: what is free, and how often the kernel ended one for lack of it.

A container or a batch job has a control group with a limit of its own, and counts of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil

__all__ = ["RESERVE_BYTES", "free_bytes", "oom_kills"]

#: What is to stay free where there is that much, so that the kernel has no reason to end a process.
RESERVE_BYTES = 2**30


def free_bytes(root: Path = Path("/")) -> int:
    """How much more this process may use: of the machine, and within each limit of a group that it is in."""
    return min([int(psutil.virtual_memory().available), *_free_in_groups(root)])


def oom_kills(root: Path = Path("/"), *, elsewhere: bool = False) -> int | None:
    """How many processes of this one's control group the kernel has ended for want of memory, or of the whole machine
    where there is no such count; None where the system tells neither.

    Args:
        elsewhere: what is asked about has another control group: count those of the whole machine.
    """
    for folder in () if elsewhere else _groups(root):
        for name in ("memory.events", "memory.oom_control"):
            if (count := _named(folder / name, "oom_kill")) is not None:
                return count
    return _named(root / "proc/vmstat", "oom_kill")


def _groups(root: Path) -> Iterator[Path]:
    """This process's control group of memory and those around it, innermost first; of version 2, then of version 1."""
    for line in _lines(root / "proc/self/cgroup"):
        number, controllers, path = line.split(":", 2)
        if number == "0" or "memory" in controllers.split(","):
            mounted = root / "sys/fs/cgroup" / ("" if number == "0" else "memory")
            own = mounted / path.lstrip("/")
            yield from (one for one in (own, *own.parents) if one.is_relative_to(mounted))


def _free_in_groups(root: Path) -> Iterator[int]:
    for folder in _groups(root):
        for most, used, files in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            limit, now = _number(folder / most), _number(folder / used)
            if limit is not None and now is not None:  # pages of files are given back when memory is wanted
                yield max(limit - now + (_named(folder / "memory.stat", files) or 0), 0)


def _number(path: Path) -> int | None:
    lines = _lines(path)
    return int(lines[0]) if lines and lines[0].isdigit() else None  # "max" is no limit


def _named(path: Path, name: str) -> int | None:
    pairs = (line.split() for line in _lines(path))
    return next((int(pair[1]) for pair in pairs if pair[:1] == [name] and len(pair) == 2 and pair[1].isdigit()), None)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:  # it is not there, or not for us
        return []
