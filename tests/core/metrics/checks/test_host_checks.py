"""Interference on the host: told from what others took of the processors, and not where it is little or unknown."""

from __future__ import annotations

import attrs
import pytest

from llem.devices.load import HostLoad
from llem.metrics.checks.host import host_busy
from llem.metrics.result import compute_result
from llem.metrics.setup import setup_of


@pytest.fixture
def told(make):
    """`told(device, loads, seconds)`: the findings of trials with these loads of the host, one each."""

    def found(device, loads, seconds=10):
        trials = []
        for index, load in enumerate(loads):
            t0, t1 = make.window(index, seconds)
            trace, requests = make.trace(500.0, t0, t1), make.request_rows(index, t0, t1)
            trials.append(attrs.evolve(make.make_trial(index, trace, requests, t0, t1), host=load))
        engine = {**make.engine_document(), "device": {"device": device, "gpus": [], "names": []}}
        return list(host_busy(setup_of(make.experiment_document(), [engine]), trials))

    return found


@pytest.mark.parametrize(
    ("device", "cores", "others", "steal", "busy"),
    [
        ("cpu", 2, 0.08, 0.0, False),
        ("cpu", 2, 0.12, 0.0, True),
        ("cpu", 2, 0.06, 0.06, True),  # what the hypervisor takes is taken as well
        ("cpu", 64, 1.2, 0.0, False),  # 2 % of 64 cores are 1.28
        ("cpu", 64, 1.4, 0.0, True),
        ("cuda", 4, 0.45, 0.0, False),
        ("cuda", 4, 0.55, 0.0, True),
        ("cuda", 32, 3.0, 0.0, False),
        ("cuda", 32, 3.5, 0.0, True),
        ("cpu", 2, -0.02, 0.0, False),
    ],
)
def test_what_others_may_use(told, device, cores, others, steal, busy) -> None:
    """On the CPU a tenth of a core and 2 % of all; beside a GPU half a core and 10 %."""
    found = told(device, [HostLoad(cores, 1.0, others, steal)])

    assert [one.code for one in found] == (["host_busy"] if busy else [])


def test_ticks_are_no_load(told) -> None:
    """0.13 cores in a window of a second are within what ticks count wrong; in ten seconds they are others'."""
    load = HostLoad(2, 1.0, 0.13, 0.0)

    assert told("cpu", [load], 1) == []
    assert [one.severity for one in told("cpu", [load], 10)] == ["warning"]


def test_it_is_told_once_with_the_worst_figures(told) -> None:
    """Trials without it are not named, nor those of which nothing is known."""
    loads = [HostLoad(2, 1.9, 0.3, 0.0), None, HostLoad(2, 1.2, 0.8, 0.05), HostLoad(2, 2.0, 0.01, 0.0)]
    [found] = told("cpu", loads)

    assert found.message == (
        "other processes used 0.80 of 2 cores, and other virtual machines 0.05, while llem used 1.20 "
        "(the most of trials 0, 2)"
    )
    assert found.evidence == {
        "others_cores": 0.8, "steal_cores": 0.05, "own_cores": 1.2, "cores": 2, "limit_cores": 0.1, "trials": [0, 2],
    }  # fmt: skip


def test_a_quota_that_stops_the_worker(told) -> None:
    """One period in fifty is told; none, or no quota, is not."""
    loads = [HostLoad(2, 1.0, 0.0, 0.0, share) for share in (0.0, None, 0.02)]
    [found] = told("cuda", loads)

    assert (found.code, found.message) == (
        "cpu_throttled",
        "a CPU quota stopped the worker in 2% of its periods (trial 2)",
    )


def test_a_result_of_a_busy_host_is_not_publishable(make) -> None:
    """It is valid, with a warning."""
    trials, traces, requests = [], {}, {}
    for index in range(5):
        t0, t1 = make.window(index, 10)
        traces[index] = make.trace(make.WATTS[index], t0, t1)
        requests[index] = make.request_rows(index, t0, t1, batches=4, batch_size=128, outputs=512)
        trial = make.make_trial(index, traces[index], requests[index], t0, t1)
        trials.append(attrs.evolve(trial, host=HostLoad(2, 1.0, 0.9, 0.0)))
    baselines = [make.baseline(123.0)[0], make.baseline(123.0, phase="after")[0]]
    documents = make.experiment_document(), [make.engine_document()]
    result = compute_result(*documents, trials, baselines, requests, [make.outcome_document()], traces)

    assert [found.code for found in result.findings] == ["host_busy"]
    assert (result.valid, result.publishable) == (True, False)
