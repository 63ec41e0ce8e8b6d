"""Peak rates by name, and work counted against hand calculations."""

from __future__ import annotations

import attrs
import pytest

from llem.devices.peaks import PEAKS, peak_of
from llem.metrics.work import Ceiling, window_work
from llem.store.models import RequestRow


@pytest.mark.parametrize(
    ("name", "tflops", "tb_per_s"),
    [
        ("NVIDIA H200", 989.4, 4.8),
        ("NVIDIA H100 80GB HBM3", 989.4, 3.35),
        ("NVIDIA H100 PCIe", 756.0, 2.0),
        ("NVIDIA A100-SXM4-80GB", 312.0, 2.039),
        ("NVIDIA A10", 125.0, 0.6),
        ("NVIDIA GeForce RTX 4090", 165.2, 1.008),
    ],
)
def test_known_devices(name, tflops, tb_per_s):
    """Datasheet figures are found by the name that NVML gives."""
    peak = peak_of(name)
    assert peak is not None
    assert peak.rate("bfloat16") == pytest.approx(tflops * 1e12)
    assert peak.bytes_per_s == pytest.approx(tb_per_s * 1e12)


@pytest.mark.parametrize("name", ["NVIDIA A10G", "NVIDIA A100", "NVIDIA H300", "", "GeForce"])
def test_unknown_devices(name):
    """A name that is only like a known one has no peak: a wrong ceiling is worse than none."""
    assert peak_of(name) is None


def test_formats_a_device_lacks():
    """A V100 has no bfloat16, so there is no rate and no ceiling."""
    peak = peak_of("Tesla V100-SXM2-16GB")
    assert peak is not None
    assert peak.rate("bfloat16") is None
    assert Ceiling.of(peak, "bfloat16", 1) is None
    assert Ceiling.of(peak, "float16", 2) == Ceiling(2 * 125e12, 2 * 0.9e12)


def test_table_is_plausible():
    """Half precision is never slower than single, and every figure is positive."""
    for name, peak in PEAKS.items():
        assert peak.flops["float16"] > peak.flops["float32"] > 0, name
        assert 1e11 < peak.bytes_per_s < 1e13, name


def test_flops_per_token_by_hand(make):
    """128 tokens in, 64 out: 191 positions, mean context 96, so 2 N + 4 L H Q 96 each."""
    work = window_work(make.ARCHITECTURE, make.request_rows(0, 0, make.S, batches=1, batch_size=1))
    assert work is not None
    expected = 2 * 7_504_924_672 + 4 * 32 * 32 * 128 * 96
    assert work.flops_per_token == pytest.approx(expected, rel=1e-12)
    assert work.flops == expected * 191


def test_attention_share_at_4096():
    """At a context of 4096 attention adds 14 % to 2 N for an 8B model."""
    architecture_flops = 4 * 32 * 32 * 128 * 4096 / (2 * 7_504_924_672)
    assert architecture_flops == pytest.approx(0.143, abs=0.001)


def test_bytes_by_hand(make):
    """Two requests, 64 steps: the weights 64 times, and the cache of each context once per decode step."""
    work = window_work(make.ARCHITECTURE, make.request_rows(0, 0, make.S, batches=1, batch_size=2))
    assert work is not None
    weights = 16_060_522_496 * 7_504_924_672 / 8_030_261_248
    cache = 2 * sum(128 + step for step in range(1, 64)) * 131_072
    assert work.steps == 64
    assert work.least_bytes == pytest.approx(64 * weights + cache, rel=1e-12)


def test_roofline_of_decode_on_h200(make):
    """A decode step of an 8B model in bfloat16 takes 3.1 ms at least on an H200 (15 GB at 4.8 TB/s)."""
    peak = peak_of("NVIDIA H200")
    ceiling = Ceiling.of(peak, "bfloat16", 1)
    work = window_work(make.ARCHITECTURE, make.request_rows(0, 0, make.S, batches=1, batch_size=1, outputs=128))
    assert work is not None
    assert work.least_s(ceiling) / work.steps == pytest.approx(3.13e-3, rel=0.01)


def test_long_prefill_is_bound_by_operations(make):
    """One output token after a long prompt: the roofline is operations over the peak rate."""
    ceiling = Ceiling(1e12, 1e15)
    rows = make.request_rows(0, 0, make.S, batches=1, batch_size=1, inputs=4096, outputs=1)
    work = window_work(make.ARCHITECTURE, rows)
    assert work is not None
    assert work.least_s(ceiling) == pytest.approx(work.flops / 1e12)


def test_idle_experts_are_not_counted_as_read(make):
    """A mixture of experts with half of its parameters active reads half of its weights per step."""
    sparse = attrs.evolve(make.ARCHITECTURE, active_parameters=make.ARCHITECTURE.parameters // 2)
    rows = (RequestRow(0, 0, 10, 1, 0, 1),)
    work = window_work(sparse, rows)
    assert work is not None
    assert work.least_bytes == pytest.approx(make.ARCHITECTURE.weight_bytes / 2, rel=1e-9)


def test_no_requests_no_work(make):
    """A window without requests has no work, rather than work of 0."""
    assert window_work(make.ARCHITECTURE, ()) is None
