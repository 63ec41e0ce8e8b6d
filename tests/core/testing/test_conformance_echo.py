"""The suites of backends pass for a backend that is right."""

from __future__ import annotations

from llem.builtin import llem_backends
from llem.plugins import Reference
from llem.testing.conformance import BackendConformance, LikelihoodConformance, StreamConformance


class TestEcho(StreamConformance, LikelihoodConformance, BackendConformance):
    """The built-in backend that repeats the prompt."""

    hooks = "llem.builtin"

    def reference(self) -> Reference:
        return next(reference for reference in llem_backends() if reference.name == "echo")
