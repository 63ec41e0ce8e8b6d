"""What this package gives to llem. Imports nothing heavy: Zeus alone takes seconds to import."""

from __future__ import annotations

from collections.abc import Sequence

from llem.plugins import Reference, hookimpl

__all__ = ["llem_meters"]


@hookimpl
def llem_meters() -> Sequence[Reference]:
    return [
        Reference(
            "zeus",
            "llem_zeus.meter:ZeusMeter",
            config="llem_zeus.config:ZeusOptions",
            requires=("zeus",),
            install="pip install llem-zeus",
            summary="Zeus: NVML energy counters of GPUs, RAPL of CPUs and memory.",
        )
    ]
