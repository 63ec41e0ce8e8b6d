"""The backend `products` as a plugin of llem. `offered` makes it known to this process and to those that it starts."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from llem.plugins import Reference, hookimpl

__all__ = ["llem_backends", "offered"]

ROOT = Path(__file__).parents[2]


@hookimpl
def llem_backends() -> Sequence[Reference]:
    """The backend `products`."""
    return [
        Reference(
            "products",
            "benchmarks.validation.products:ProductsBackend",
            config="benchmarks.validation.products:ProductsOptions",
            requires=("torch",),
            summary="Matrix products of a known amount, for the validation.",
            capabilities={"generate": "supported", "token_times": "supported"},
        )
    ]


def offered(folder: Path) -> None:
    """Put a distribution with this plugin into `folder`, and the folder on the path of workers too.

    Call it before llem looks for plugins the first time.
    """
    info = folder / "llem_validation-0.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: llem-validation\nVersion: 0\n")
    (info / "entry_points.txt").write_text("[llem]\nvalidation = benchmarks.validation.hooks\n")
    ours = [str(folder.resolve()), str(ROOT)]
    sys.path[:0] = ours
    os.environ["PYTHONPATH"] = os.pathsep.join([*ours, *filter(None, [os.environ.get("PYTHONPATH")])])
