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
    """128 tokens in, 64 out: 191 positions, mean context 96, so 4 L H Q 96 each; logits for 64 of them."""
    work = window_work(make.ARCHITECTURE, make.request_rows(0, 0, make.S, batches=1, batch_size=1))
    assert work is not None
    logits = 128_256 * 4096
    expected = 191 * (2 * (7_504_924_672 - logits) + 4 * 32 * 32 * 128 * 96) + 64 * 2 * logits
    assert work.flops == expected
    assert work.flops_per_token == pytest.approx(expected / 191, rel=1e-12)


def test_phases_by_hand(make):
    """The prompt's 128 positions at a mean context of 64.5 give logits once; each decoded token gives its own."""
    work = window_work(make.ARCHITECTURE, make.request_rows(0, 0, make.S, batches=1, batch_size=1))
    assert work is not None
    body, logits, attention = 2 * 6_979_588_096, 2 * 128_256 * 4096, 4 * 32 * 32 * 128
    assert work.prefill_flops == 128 * body + logits + attention * 128 * 129 // 2
    assert work.prefill_flops_per_token == pytest.approx(work.prefill_flops / 128)
    assert work.decode_flops_per_token == pytest.approx(body + logits + attention * (129 + 191) / 2)
    assert work.flops == work.prefill_flops + work.decode_flops
    everywhere = work.prefill_flops + 127 * logits
    assert everywhere / work.prefill_flops == pytest.approx(1.07, abs=0.01), "what logits for all positions add"


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
    assert work.least_step_s(ceiling) == pytest.approx(3.13e-3, rel=0.01)


def test_long_prefill_is_bound_by_operations(make):
    """One output token after a long prompt: the roofline is operations over the peak rate."""
    ceiling = Ceiling(1e12, 1e15)
    rows = make.request_rows(0, 0, make.S, batches=1, batch_size=1, inputs=4096, outputs=1)
    work = window_work(make.ARCHITECTURE, rows)
    assert work is not None
    assert work.least_step_s(ceiling) == pytest.approx(work.flops / 1e12)


def test_windows_cap_contexts(make):
    """At 8k a window of 1,024 in every layer leaves 1/8 of a decoded token's cache to read; in half of them 9/16."""
    row = (RequestRow(0, 0, 8191, 2, 0, 1),)

    def cache(windows):
        work = window_work(attrs.evolve(make.ARCHITECTURE, windows=windows, read_bytes=0), row)
        assert work is not None
        return work.least_bytes

    assert cache(()) == 8192 * 131_072
    assert cache(((1024, 32),)) == 1024 * 131_072
    assert cache(((1024, 16),)) == pytest.approx(8192 * 131_072 * 9 / 16)


def test_windows_cap_operations(make):
    """Position p of a sliding layer attends to min(p, window) tokens, itself among them; counted one by one here."""
    sizes = attrs.evolve(make.ARCHITECTURE, windows=((50, 20), (100, 4)))
    work = window_work(sizes, (RequestRow(0, 0, 128, 64, 0, 1),))
    assert work is not None

    def attended(first, last):
        return sum(8 * p + 20 * min(p, 50) + 4 * min(p, 100) for p in range(first, last + 1))

    endless = window_work(make.ARCHITECTURE, (RequestRow(0, 0, 128, 64, 0, 1),))
    attention = 4 * 32 * 128
    full = 32 * sum(range(1, 129)), 32 * sum(range(129, 192))
    assert endless.prefill_flops - work.prefill_flops == attention * (full[0] - attended(1, 128))
    assert endless.decode_flops - work.decode_flops == attention * (full[1] - attended(129, 191))


def test_experts_of_one_token_are_read(make):
    """The bytes of a pass are those that the backend says it reads at least, whatever else the model holds."""
    sparse = attrs.evolve(make.ARCHITECTURE, read_bytes=make.ARCHITECTURE.weight_bytes // 8, experts=8)
    work = window_work(sparse, (RequestRow(0, 0, 10, 1, 0, 1),))
    assert work is not None
    assert work.least_bytes == make.ARCHITECTURE.weight_bytes // 8


def test_cached_prompt_tokens_of_a_batch_are_no_work(make):
    """A prefix that the engine says it had cached is not computed again; the rest of the prompt still attends to it."""
    plain, cached, whole = (
        window_work(make.ARCHITECTURE, (RequestRow(0, 0, 128, 64, 0, 1, engine_metrics=told),))
        for told in (None, {"cached_tokens": 96.0}, {"cached_tokens": 128.0})
    )
    assert plain.prefill_positions - cached.prefill_positions == 96
    body, attention = 2 * 6_979_588_096, 4 * 32 * 32 * 128
    assert plain.prefill_flops - cached.prefill_flops == 96 * body + attention * 96 * 97 // 2
    assert (plain.decode_flops, plain.least_bytes) == (cached.decode_flops, cached.least_bytes)
    assert whole.prefill_positions == 1, "the last position is always computed: it gives the first token"


def test_unknown_bytes_stay_unknown(make):
    """Without the bytes of the weights there are operations, and no bytes and no time by the roofline."""
    blind = attrs.evolve(make.ARCHITECTURE, read_bytes=None)
    work = window_work(blind, make.request_rows(0, 0, make.S, batches=1, batch_size=1))
    assert work is not None
    assert work.flops > 0
    assert work.least_bytes is None
    assert work.least_step_s(Ceiling(1e12, 1e12)) is None


def test_no_requests_no_work(make):
    """A window without requests has no work, rather than work of 0."""
    assert window_work(make.ARCHITECTURE, ()) is None
