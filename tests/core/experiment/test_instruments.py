"""Built-in meters that cannot measure here: told by a finding, and not an error where nobody named them."""

from __future__ import annotations

import pytest

from llem.errors import MachineError
from llem.experiment.instruments import _unusable


@pytest.mark.parametrize(
    ("code", "told", "severity"),
    [
        ("permission", "meter_permission", "info"),
        ("mig", "mig", "error"),
        ("no_gpu", "meter_unavailable", "info"),
        ("counter_missing", "meter_unavailable", "info"),
    ],
)
def test_why_a_built_in_meter_is_not_used(code: str, told: str, severity: str) -> None:
    """A slice of a GPU is not measured without a word, and its result is not valid."""
    found = _unusable("nvml", MachineError("MIG is on for GPU GPU-a", "use a GPU without MIG", code))

    assert (found.code, found.severity) == (told, severity)
    assert found.message == "nvml: MIG is on for GPU GPU-a"
    assert found.evidence == {"meter": "nvml", "hint": "use a GPU without MIG"}
