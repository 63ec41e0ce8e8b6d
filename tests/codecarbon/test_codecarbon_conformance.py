"""CodeCarbon passes the meter suite, on the real library."""

from __future__ import annotations

import pytest

from llem.plugins import Reference
from llem.testing.conformance import MeterConformance
from llem_codecarbon.hooks import llem_meters

pytestmark = pytest.mark.process


class TestCodeCarbon(MeterConformance):
    """Every machine has a CPU and memory, so nothing is skipped for want of a device."""

    hooks = "llem_codecarbon.hooks"

    def reference(self) -> Reference:
        return llem_meters()[0]
