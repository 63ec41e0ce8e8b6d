"""Peak rates of GPUs, from their vendor's datasheets: the ceiling that utilisation is a share of.

Source: the NVIDIA datasheets and architecture white papers of each product; dense figures (half of the "with
sparsity" ones), tensor cores with float32 accumulation where the product makes a difference, boost clock. "float32"
is without tensor cores, "tfloat32" with. Keys are the names that NVML gives, without "NVIDIA" or "Tesla".
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

__all__ = ["PEAKS", "Peak", "peak_of"]


@attrs.frozen
class Peak:
    """Peak rates of one GPU: operations per second by number format, and memory bytes per second."""

    flops: Mapping[str, float]
    bytes_per_s: float

    def rate(self, dtype: str) -> float | None:
        """Peak operations per second in this format; None where the device has none stated."""
        return self.flops.get(dtype)


def _peak(half: float, tf32: float | None, single: float, tb_per_s: float, *, bfloat16: bool = True) -> Peak:
    """Figures in TFLOP/s and TB/s; float16 and bfloat16 run at the same rate on every device listed that has both."""
    rates = {"float16": half, "float32": single}
    if bfloat16:
        rates["bfloat16"] = half
    if tf32 is not None:
        rates["tfloat32"] = tf32
    return Peak({name: rate * 1e12 for name, rate in rates.items()}, tb_per_s * 1e12)


PEAKS: Mapping[str, Peak] = {
    "B200": _peak(2250.0, 1125.0, 75.0, 8.0),
    "H200": _peak(989.4, 494.7, 66.9, 4.8),
    "H200 NVL": _peak(835.5, 417.5, 60.0, 4.8),
    "H100 80GB HBM3": _peak(989.4, 494.7, 66.9, 3.35),
    "H100 PCIe": _peak(756.0, 378.0, 51.0, 2.0),
    "H100 NVL": _peak(835.5, 417.5, 60.0, 3.9),
    "A100-SXM4-40GB": _peak(312.0, 156.0, 19.5, 1.555),
    "A100-PCIE-40GB": _peak(312.0, 156.0, 19.5, 1.555),
    "A100-SXM4-80GB": _peak(312.0, 156.0, 19.5, 2.039),
    "A100 80GB PCIe": _peak(312.0, 156.0, 19.5, 1.935),
    "L40S": _peak(362.05, 183.0, 91.6, 0.864),
    "L4": _peak(121.0, 60.0, 30.3, 0.3),
    "A40": _peak(149.7, 74.8, 37.4, 0.696),
    "A10": _peak(125.0, 62.5, 31.2, 0.6),
    "RTX A6000": _peak(154.8, 77.4, 38.7, 0.768),
    "GeForce RTX 4090": _peak(165.2, 82.6, 82.6, 1.008),
    "GeForce RTX 3090": _peak(71.0, 35.6, 35.6, 0.936),
    "V100-SXM2-16GB": _peak(125.0, None, 15.7, 0.9, bfloat16=False),
    "V100-SXM2-32GB": _peak(125.0, None, 15.7, 0.9, bfloat16=False),
    "T4": _peak(65.0, None, 8.1, 0.32, bfloat16=False),
}


def peak_of(name: str) -> Peak | None:
    """Peak rates of the GPU that NVML calls `name`; None when it is not in the table.

    The whole name must match: "A10", "A10G" and "A100" are three devices.
    """
    bare = name.strip().removeprefix("NVIDIA ").removeprefix("Tesla ").casefold()
    return next((peak for known, peak in PEAKS.items() if known.casefold() == bare), None)
