"""The suite that every backend passes."""

from __future__ import annotations

from llem.plugins import Reference
from llem.testing.conformance import BackendConformance, LikelihoodConformance
from llem_pytorch.hooks import llem_backends


class TestPyTorch(BackendConformance, LikelihoodConformance):
    """The backend `pytorch` on `shape:tiny`."""

    hooks = "llem_pytorch.hooks"

    def reference(self) -> Reference:
        return llem_backends()[0]
