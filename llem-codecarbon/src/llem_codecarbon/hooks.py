"""What this package gives to llem. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Sequence

from llem.plugins import Reference, hookimpl

__all__ = ["llem_meters"]


@hookimpl
def llem_meters() -> Sequence[Reference]:
    return [
        Reference(
            "codecarbon",
            "llem_codecarbon.meter:CodeCarbonMeter",
            config="llem_codecarbon.config:CodeCarbonOptions",
            requires=("codecarbon",),
            install="pip install llem-codecarbon",
            summary="CodeCarbon, offline: CPU and memory (modelled where there is no sensor), NVIDIA GPUs.",
        )
    ]
