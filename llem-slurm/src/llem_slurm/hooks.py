"""What this package gives to llem. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Sequence

from llem.plugins import Reference, hookimpl

__all__ = ["llem_launchers"]


@hookimpl
def llem_launchers() -> Sequence[Reference]:
    return [
        Reference(
            "slurm",
            "llem_slurm.launcher:SlurmLauncher",
            config="llem_slurm.config:SlurmOptions",
            requires=("submitit",),
            install="pip install llem-slurm",
            summary="Jobs of a Slurm cluster, through submitit.",
        )
    ]
