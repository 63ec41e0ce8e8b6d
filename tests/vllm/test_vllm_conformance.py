"""The suites that every backend passes, and one that scores text; that of streams is in test_vllm_serving."""

from __future__ import annotations

from typing import Any

import pytest

from llem.models.spec import ModelSpec
from llem.plugins import Reference
from llem.testing.conformance import BackendConformance, LikelihoodConformance
from llem_vllm.config import VllmOptions
from llem_vllm.hooks import llem_backends

pytestmark = pytest.mark.process


class TestVllm(BackendConformance, LikelihoodConformance):
    """The backend `vllm` on a tiny shape with heads that vLLM's CPU build has."""

    hooks = "llem_vllm.hooks"

    def reference(self) -> Reference:
        return llem_backends()[0]

    @pytest.fixture(scope="class")
    @classmethod
    def options(cls) -> VllmOptions:
        """Quick to start."""
        return VllmOptions(enforce_eager=True, in_process=True, shape_weights="seeded")

    @pytest.fixture(scope="class")
    @classmethod
    def model(cls, tiny: Any) -> ModelSpec:
        """The tests' own shape."""
        return tiny()
