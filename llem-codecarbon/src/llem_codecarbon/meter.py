"""The meter `codecarbon`: one task of CodeCarbon's offline tracker per window."""

from __future__ import annotations

import contextlib
import logging
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from llem.devices.nvml import Nvml
from llem.errors import MachineError
from llem.meters.base import Domain, WindowMeter
from llem_codecarbon.config import CodeCarbonOptions
from llem_codecarbon.parts import Part, energies, find_parts, gpu_marks

__all__ = ["CodeCarbonMeter", "tracker_settings"]

HINT = "look for settings in ~/.codecarbon.config, ./.codecarbon.config and CODECARBON_* variables, which it reads too"


def tracker_settings(options: CodeCarbonOptions) -> dict[str, Any]:
    """Every setting of the tracker that could change a figure, write or send something, stated.

    What is left out is taken from configuration files and environment variables of CodeCarbon, which must not change
    a measurement here.
    """
    return {
        # carbon is computed from joules elsewhere: with an intensity of 0 no country is needed and none assumed
        "force_carbon_intensity_g_co2e_kwh": 0.0,
        "country_iso_code": None,
        "country_2letter_iso_code": None,
        "region": None,
        "cloud_provider": None,
        "cloud_region": None,
        "electricitymaps_api_token": None,
        # nothing is written or sent
        "output_methods": [],
        "output_handlers": [],
        "emissions_endpoint": None,
        "output_dir": tempfile.gettempdir(),  # must exist
        "allow_multiple_runs": True,  # no lock file
        "log_level": "error",
        "logger_preamble": "",
        # what is counted
        "tracking_mode": "machine",
        "gpu_ids": [],  # its sum over GPUs is not used: each is read by UUID
        "pue": 1.0,
        "wue": 0.0,
        "force_cpu_power": options.cpu_power_w,
        "force_ram_power": options.ram_power_w,
        "force_mode_cpu_load": False,
        "rapl_include_dram": False,
        "rapl_prefer_psys": False,
    }


class CodeCarbonMeter(WindowMeter):
    """CPU, memory and the experiment's GPUs as CodeCarbon sees them; the domain says whether a sensor is behind it."""

    name: ClassVar[str] = "codecarbon"

    def __init__(self, options: CodeCarbonOptions | None = None, gpu_uuids: Sequence[str] = ()) -> None:
        super().__init__(options or CodeCarbonOptions(), gpu_uuids)
        self._tracker: Any = None
        self._parts: list[Part] = []
        self._marks: dict[str, float | None] = {}
        self._task = ""
        self._windows = 0

    def open(self) -> Sequence[Domain]:
        """Find the hardware; takes seconds. Raises MachineError when CodeCarbon cannot be set up, and for MIG."""
        if self.gpu_uuids:
            _refuse_mig(self.gpu_uuids)
        self._tracker = _new_tracker(self.options)
        self._parts = find_parts(self._tracker._hardware, self.gpu_uuids)
        if not self._parts:
            raise MachineError("codecarbon found nothing to read on this machine", HINT, code="no_meter")
        self.begin()  # the first task loads tables
        self.end()
        return [part.domain for part in self._parts]

    def begin(self) -> None:
        tracker = self._opened()
        if self._task:  # a window that was never ended
            tracker.stop_task(self._task)
        self._windows += 1
        self._task = f"llem-{self._windows}"
        tracker.start_task(self._task)
        self._marks = gpu_marks(self._parts)

    def end(self) -> Mapping[str, float | None]:
        task = self._opened().stop_task(self._task)
        self._task = ""
        return energies(self._parts, task, self._marks)

    def _opened(self) -> Any:
        if self._tracker is None:
            raise MachineError("the codecarbon meter is not open", "call open() first")
        return self._tracker

    def close(self) -> None:
        if self._tracker is not None:
            self._tracker.stop()
            self._tracker = None


def _refuse_mig(gpu_uuids: Sequence[str]) -> None:
    nvml = Nvml.open()
    try:
        slices = {gpu.uuid for gpu in nvml.gpus() if gpu.mig}
    finally:
        nvml.close()
    for uuid in gpu_uuids:
        if uuid in slices or uuid.startswith("MIG"):
            hint = "use a GPU without MIG: the counter covers the whole GPU, not a slice"
            raise MachineError(f"MIG is on for GPU {uuid}", hint, code="mig")


def _new_tracker(options: CodeCarbonOptions) -> Any:
    with contextlib.redirect_stdout(sys.stderr):  # an AMD library prints when it finds no AMD GPU
        from codecarbon import OfflineEmissionsTracker
    logging.getLogger("codecarbon").setLevel(logging.ERROR)  # its own setting comes after its first lines
    tracker = OfflineEmissionsTracker(**tracker_settings(options))
    if not hasattr(tracker, "run_id"):  # the constructor swallows its errors; this is what it sets last
        raise MachineError("codecarbon's tracker could not be made", HINT)
    try:
        tracker.get_detected_hardware()
    except Exception as error:  # a stranger's hardware detection may raise anything: say which, and stop
        raise MachineError(
            f"codecarbon could not detect the hardware: {type(error).__name__}: {error}", HINT
        ) from error
    return tracker
