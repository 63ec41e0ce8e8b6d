"""NVML, narrowed: what is asked of the library, and what becomes of its refusals."""

# ruff: noqa: N802  (functions are named as NVML names them)

from __future__ import annotations

from types import SimpleNamespace

import attrs
import pytest

from llem.devices.nvml import Gpu, Nvml
from llem.errors import MachineError
from llem.meters.nvml import NvmlMeter
from llem.testing.fakes import FakeClock, FakeGpu, FakeNvml, Load

A = FakeGpu(Load([(10.0, 300.0)]), uuid="GPU-A", pids=(41, 7))
B = FakeGpu(Load([(10.0, 100.0)]), uuid="GPU-B", power_limit_w=350.0)


def opened(*gpus: FakeGpu, kind: type[FakeNvml] = FakeNvml) -> Nvml:
    """An open NVML of these GPUs, 5 s after its beginning."""
    return Nvml.open(kind(FakeClock(5_000_000_000), gpus or (A, B)))


def test_gpus_are_listed_in_order_with_their_uuid() -> None:
    """Index, UUID, name, memory and MIG mode, each as the library says."""
    assert opened(A, attrs.evolve(B, mig=True)).gpus() == (
        Gpu(0, "GPU-A", "Fake GPU", 2**36, False),
        Gpu(1, "GPU-B", "Fake GPU", 2**36, True),
    )


def test_text_may_come_as_bytes() -> None:
    """Older bindings give bytes."""

    class Old(FakeNvml):
        def nvmlDeviceGetUUID(self, gpu):
            return gpu.uuid.encode()

        def nvmlSystemGetDriverVersion(self):
            return b"535.1"

    nvml = opened(kind=Old)

    assert [gpu.uuid for gpu in nvml.gpus()] == ["GPU-A", "GPU-B"]
    assert nvml.driver_version() == "535.1"


def test_readings_are_of_the_gpu_that_is_named() -> None:
    """By UUID, in joules and watts."""
    nvml = opened()

    assert nvml.energy_j("GPU-A") == pytest.approx(1500, rel=0.03)
    assert nvml.energy_j("GPU-B") == pytest.approx(500, rel=0.03)
    assert (nvml.power_instant_w("GPU-A"), nvml.power_instant_w("GPU-B")) == (300.0, 100.0)
    assert (nvml.power_limit_w("GPU-A"), nvml.power_limit_w("GPU-B")) == (700.0, 350.0)
    assert nvml.compute_pids("GPU-A") == (7, 41)


def test_what_a_gpu_does_not_have_is_none() -> None:
    """Readings that many boards lack are None, not an error and not 0."""
    nvml = opened()

    assert nvml.temperature_c("GPU-A") is None
    assert nvml.sm_clock_mhz("GPU-A") is None
    assert nvml.utilisation_percent("GPU-A") is None
    assert nvml.throttle_bits("GPU-A") is None


def test_health_readings_are_asked_for_as_the_library_names_them() -> None:
    """Each reading goes to its own function, with the constant that selects it."""

    class Full(FakeNvml):
        NVML_TEMPERATURE_GPU = 0
        NVML_CLOCK_SM = 1

        def nvmlDeviceGetTemperature(self, gpu, sensor):
            return {0: 55}[sensor]

        def nvmlDeviceGetClockInfo(self, gpu, clock):
            return {1: 1980}[clock]

        def nvmlDeviceGetUtilizationRates(self, gpu):
            return SimpleNamespace(gpu=97, memory=3)

        def nvmlDeviceGetCurrentClocksEventReasons(self, gpu):
            return 0x24

    nvml = opened(kind=Full)
    readings = nvml.temperature_c, nvml.sm_clock_mhz, nvml.utilisation_percent, nvml.throttle_bits

    assert [read("GPU-A") for read in readings] == [55, 1980, 97, 0x24]


def test_instant_power_that_the_driver_lacks_is_none() -> None:
    """The field answers with an error of its own, not by raising."""

    class Without(FakeNvml):
        def nvmlDeviceGetFieldValues(self, gpu, fields):
            return [SimpleNamespace(nvmlReturn=3, value=SimpleNamespace(uiVal=0)) for _ in fields]

    assert opened(kind=Without).power_instant_w("GPU-A") is None


def test_no_driver_is_the_machines_state() -> None:
    """NVML that does not start says that no GPU can be reached, and what to do."""
    with pytest.raises(MachineError, match="no NVIDIA GPU can be reached: driver not loaded") as caught:
        Nvml.open(FakeNvml(FakeClock(), []))

    assert caught.value.code == "no_gpu"
    assert "llem doctor" in caught.value.hint


def test_an_unknown_uuid_is_named() -> None:
    """A GPU that was there yesterday is an error with its UUID."""
    with pytest.raises(MachineError, match="no GPU with UUID GPU-gone") as caught:
        opened().energy_j("GPU-gone")

    assert caught.value.code == "gpu_missing"


def test_a_gpu_that_cannot_be_reached_does_not_hide_the_others() -> None:
    """One that fell off the bus, or that a container withholds, is left out; the rest keep their index."""

    class Lost(FakeNvml):
        def nvmlDeviceGetHandleByIndex(self, index):
            if index == 0:
                raise self.NVMLError("GPU is lost")
            return super().nvmlDeviceGetHandleByIndex(index)

    assert [(gpu.index, gpu.uuid) for gpu in opened(kind=Lost).gpus()] == [(1, "GPU-B")]


def test_a_gpu_without_memory_of_its_own_is_listed() -> None:
    """Where GPU and host share memory the library refuses to say how much: None, and no traceback."""

    class Shared(FakeNvml):
        def nvmlDeviceGetMemoryInfo(self, gpu):
            raise self.NVMLError("Not Supported")

    assert [gpu.memory_bytes for gpu in opened(kind=Shared).gpus()] == [None, None]


def test_facts_hold_what_is_stored_with_a_result() -> None:
    """JSON values, with None for what the board does not say."""
    assert opened().facts("GPU-B") == {
        "index": 1,
        "uuid": "GPU-B",
        "name": "Fake GPU",
        "memory_bytes": 2**36,
        "mig": False,
        "power_limit_w": 350.0,
        "default_power_limit_w": 350.0,
        "persistence_mode": None,
        "ecc": None,
    }


def test_closing_never_raises() -> None:
    """It runs in a `finally`, where another error is on its way."""

    class Stubborn(FakeNvml):
        def nvmlShutdown(self):
            raise self.NVMLError("uninitialized")

    opened(kind=Stubborn).close()


def test_the_meter_reads_only_the_gpus_it_is_given() -> None:
    """One domain per GPU of the experiment, named by UUID, with its limit; the other GPU is none of its business."""
    meter = NvmlMeter(None, ["GPU-B"], library=FakeNvml(FakeClock(5_000_000_000), [A, B]))
    [domain] = meter.open()

    assert (domain.name, domain.scope, domain.kind, domain.power_limit_w) == ("gpu:GPU-B", "gpu", "measured", 350.0)
    assert (domain.period_s, domain.sensor_relative) == (0.1, 0.05)
    assert meter.read_counter(domain.name) == pytest.approx(500, rel=0.03)
    assert meter.read_power(domain.name) == 100.0


def test_the_meter_without_a_gpu_has_nothing_to_read() -> None:
    """An experiment on the CPU gives a reason, and no attempt to start NVML."""
    with pytest.raises(MachineError) as caught:
        NvmlMeter(None, [], library=None).open()

    assert (caught.value.code, caught.value.hint) == ("no_gpu", "use `device: cuda`")


def test_a_closed_meter_does_not_read() -> None:
    """Closing twice is safe, and a reading afterwards is an error instead of a crash."""
    meter = NvmlMeter(None, ["GPU-A"], library=FakeNvml(FakeClock(), [A]))
    meter.open()
    meter.close()
    meter.close()

    with pytest.raises(MachineError, match="not open"):
        meter.read_counter("gpu:GPU-A")
