"""The suite that every backend passes, against the stand-in."""

from __future__ import annotations

import pytest

from llem.backends.base import Placement
from llem.config.models import Experiment
from llem.plugins import Reference
from llem.testing.conformance import BackendConformance
from llem_tensorrt.hooks import llem_backends


class TestTensorRT(BackendConformance):
    """The backend `tensorrt` on `shape:tiny`; it has no CPU."""

    hooks = "llem_tensorrt.hooks"

    def reference(self) -> Reference:
        return llem_backends()[0]

    @pytest.fixture(scope="class")
    @classmethod
    def experiment(cls, options) -> Experiment:
        return Experiment(model="shape:tiny", backend="tensorrt", dtype="bfloat16", device="cuda", options=options)

    @pytest.fixture(scope="class")
    @classmethod
    def placement(cls) -> Placement:
        return Placement("cuda")
