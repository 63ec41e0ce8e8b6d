"""Suites that a plugin's own tests inherit, so that its author learns what llem relies on before a user does.

    from llem.testing.conformance import MeterConformance
    from llem_mine.hooks import llem_meters

    class TestMine(MeterConformance):
        hooks = "llem_mine.hooks"

        def reference(self):
            return llem_meters()[0]

A backend that streams, or that gives likelihoods, inherits `StreamConformance` or `LikelihoodConformance` beside
`BackendConformance`; one that is a server, with a wire, `WireConformance` instead of `StreamConformance`. A class may
inherit several suites, and loads one engine for all of them.

Every other input is a fixture of scope class with a default; override it with another fixture of that scope, which is a
class method as they are (`@pytest.fixture(scope="class")` above `@classmethod`): there is no instance that all checks
share. A check that does not hold for a plugin is a question to llem's authors before it is a method to override.
"""

import pytest

# without this a failed check would not show the values it compared
MODULES = (
    *("told", "plugin", "engine", "backend", "stream", "likelihood", "wire"),
    *("meter", "evaluator", "launcher", "workload", "command"),
)
pytest.register_assert_rewrite(*(f"{__name__}.{module}" for module in MODULES))

from llem.testing.conformance.backend import BackendConformance  # noqa: E402
from llem.testing.conformance.command import CommandConformance  # noqa: E402
from llem.testing.conformance.evaluator import EvaluatorConformance  # noqa: E402
from llem.testing.conformance.launcher import LauncherConformance  # noqa: E402
from llem.testing.conformance.likelihood import LikelihoodConformance  # noqa: E402
from llem.testing.conformance.meter import MeterConformance  # noqa: E402
from llem.testing.conformance.stream import StreamConformance  # noqa: E402
from llem.testing.conformance.wire import WireConformance  # noqa: E402
from llem.testing.conformance.workload import WorkloadConformance  # noqa: E402

__all__ = [
    "BackendConformance",
    "CommandConformance",
    "EvaluatorConformance",
    "LauncherConformance",
    "LikelihoodConformance",
    "MeterConformance",
    "StreamConformance",
    "WireConformance",
    "WorkloadConformance",
]
