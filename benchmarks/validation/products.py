"""A backend whose work is known exactly: one output token is a fixed number of equal matrix products.

A product of a few rows with a large square matrix reads the matrix from memory once, as a step of decoding reads the
weights. Twice as many tokens are twice the work, so the true ratio of two experiments is that of their lengths.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import attrs

from llem.backends.base import Backend, Completion, Engine, Holding, MemoryReading, Placement, Request
from llem.config.fields import at_least, option
from llem.config.models import Experiment, Sampling
from llem.findings import Finding
from llem.models.spec import Architecture, ModelSpec

__all__ = ["Products", "ProductsBackend", "ProductsOptions"]

#: Products that are queued at most before the host waits for the device.
QUEUED = 256


class Products:
    """Matrix products on one device: `rows` x `size` with `size` x `size`, bfloat16."""

    def __init__(self, rows: int, size: int, device: str) -> None:
        import torch

        self._torch, self._cuda = torch, device == "cuda"
        make = {"device": device, "dtype": torch.bfloat16}
        self._a = torch.randn(rows, size, **make)
        self._b = torch.randn(size, size, **make)
        self._out = torch.empty(rows, size, **make)

    def run(self, count: int) -> None:
        """So many products; returns when the last one is done."""
        for done in range(count):
            self._torch.matmul(self._a, self._b, out=self._out)
            if done % QUEUED == QUEUED - 1:
                self.wait()
        self.wait()

    def wait(self) -> None:
        """Until the device has nothing left to do."""
        if self._cuda:
            self._torch.cuda.synchronize()


@attrs.frozen(kw_only=True)
class ProductsOptions:
    """Section `products`."""

    rows: int = option(64, help="Rows of the left matrix.", validator=at_least(1))
    size: int = option(8192, help="Rows and columns of the right matrix.", validator=at_least(1))
    per_token: int = option(16, help="Products of one output token.", validator=at_least(1))
    growth: float = option(
        0.0, help="Share by which the work of a batch is greater than that of the one before it.", validator=at_least(0)
    )


class ProductsEngine(Engine):
    """Answers with zeros, after the work."""

    def __init__(self, options: ProductsOptions, device: str) -> None:
        self._options, self._device = options, device
        self._products = Products(options.rows, options.size, device)
        self._batches = 0

    def generate(
        self, requests: Sequence[Request], sampling: Sampling, *, token_times: bool = False
    ) -> Sequence[Completion]:
        grown = 1 + self._options.growth * self._batches
        self._batches += 1
        tokens = sum(request.output_tokens for request in requests)
        self._products.run(round(tokens * self._options.per_token * grown))
        end = time.monotonic_ns()
        return [
            Completion(
                one.index,
                (0,) * one.output_tokens,
                token_times_ns=(end,) * one.output_tokens if token_times else None,
            )
            for one in requests
        ]

    def effective_config(self) -> Mapping[str, Any]:
        return {**attrs.asdict(self._options), "device": self._device, "sampling": None}

    def architecture(self) -> Architecture | None:
        return None

    def memory(self) -> MemoryReading:
        return MemoryReading(None, covers="nothing: there is no model", reason="not_supported")

    def close(self) -> None:
        del self._products


class ProductsBackend(Backend):
    """The adapter of `ProductsEngine`. Loads nothing of the model."""

    name: ClassVar[str] = "products"
    options: ProductsOptions

    def __init__(self, options: ProductsOptions | None = None) -> None:
        super().__init__(options or ProductsOptions())

    def check(self, experiment: Experiment, model: ModelSpec) -> Sequence[Finding]:
        return []

    def holding(self, experiment: Experiment, model: ModelSpec) -> Holding:
        """It holds no model."""
        return Holding(weight_bits=0.0)

    def load(self, experiment: Experiment, model: ModelSpec, placement: Placement) -> Engine:
        return ProductsEngine(self.options, placement.device)
