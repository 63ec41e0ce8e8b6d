"""Settings that PyTorch keeps per process: applied with the engine, put back when it is closed."""

from __future__ import annotations

import attrs
import torch

from llem_pytorch.config import PyTorchOptions

__all__ = ["ProcessSettings"]


@attrs.frozen
class ProcessSettings:
    """What was set before the engine came."""

    num_threads: int
    float32_matmul_precision: str

    @classmethod
    def apply(cls, options: PyTorchOptions) -> ProcessSettings:
        """Set what the options ask for; returns what to put back."""
        before = cls(torch.get_num_threads(), torch.get_float32_matmul_precision())
        if options.num_threads is not None:
            torch.set_num_threads(options.num_threads)
        if options.float32_matmul_precision is not None:
            torch.set_float32_matmul_precision(options.float32_matmul_precision)
        return before

    def restore(self) -> None:
        """Put back what was set before."""
        if torch.get_num_threads() != self.num_threads:
            torch.set_num_threads(self.num_threads)
        if torch.get_float32_matmul_precision() != self.float32_matmul_precision:
            torch.set_float32_matmul_precision(self.float32_matmul_precision)
