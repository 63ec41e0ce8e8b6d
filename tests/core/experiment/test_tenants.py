"""Who is a stranger on the GPU, without knowing our own process ids as NVML sees them."""

from __future__ import annotations

import os

from llem.devices.nvml import Nvml
from llem.experiment.environment import Tenants
from llem.testing.fakes import FakeClock, FakeGpu, FakeNvml, Load


class Pids:
    """The process ids on a GPU, as a test sets them."""

    def __init__(self, *pids: int) -> None:
        self.now = set(pids)

    def __call__(self) -> set[int]:
        return set(self.now)


def test_what_came_while_the_engine_loaded_is_the_engine() -> None:
    """Also with the host's process ids, which a container does not know as its own."""
    pids = Pids()
    tenants = Tenants(pids)
    pids.now = {901, 902}
    tenants.engine_loaded()

    assert tenants.strangers() == ()


def test_whoever_was_there_before_is_a_stranger() -> None:
    """A process that computed before our engine came is not ours, and stays a stranger while it is there."""
    pids = Pids(500)
    tenants = Tenants(pids)
    pids.now = {500, 901}
    tenants.engine_loaded()
    assert tenants.strangers() == (500,)

    pids.now = {901}
    assert tenants.strangers() == ()


def test_what_the_engine_names_is_no_stranger() -> None:
    """A server that ran before it was measured; others that ran before stay strangers."""
    tenants = Tenants(Pids(500, 501, 77))
    tenants.engine_loaded({500, 501})

    assert tenants.strangers() == (77,)


def test_whoever_comes_later_is_a_stranger() -> None:
    """Sorted, all of them, and only while they are there."""
    pids = Pids()
    tenants = Tenants(pids)
    pids.now = {901}
    tenants.engine_loaded()
    pids.now = {901, 77, 12}

    assert tenants.strangers() == (12, 77)


def test_a_program_that_used_the_gpu_before_it_called_llem_is_no_stranger() -> None:
    """With the inline launcher this very process may be on the GPU already."""
    tenants = Tenants(Pids(os.getpid()))
    tenants.engine_loaded()

    assert tenants.strangers() == ()


def test_all_gpus_of_the_experiment_are_watched_and_no_others() -> None:
    """A stranger on any of ours counts; one on a GPU that we do not use does not."""
    load = Load([(1.0, 100.0)])
    gpus = [FakeGpu(load, uuid=f"GPU-{n}", pids=(n,)) for n in (100, 200, 300)]
    tenants = Tenants.on(Nvml.open(FakeNvml(FakeClock(), gpus)), ["GPU-100", "GPU-300"])

    assert tenants.strangers() == (100, 300)
