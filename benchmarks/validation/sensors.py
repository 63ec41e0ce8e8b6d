"""The parts that look at the sensors alone, without an engine: known loads under llem's sampling process."""

from __future__ import annotations

import time
from pathlib import Path

from benchmarks.validation.loads import square, staircase, steady
from benchmarks.validation.products import Products
from benchmarks.validation.recorder import Recorder, recorder
from benchmarks.validation.sizes import Sizes
from benchmarks.validation.windows import plan

__all__ = ["sensors", "thermal"]

#: Rows and size of the products of each steady level; the first ones are bound by the host.
LEVELS = ((64, 256), (512, 1024), (1024, 2048), (64, 8192), (256, 8192), (2048, 4096), (4096, 8192), (8192, 8192))
#: Period in ms, and how many phases of it.
SQUARES = ((25.0, 2), (50.0, 4), (99.5, 2), (100.0, 6), (200.0, 3), (400.0, 2), (800.0, 3))
#: Seconds of a square wave that are used, and what its sensors need to settle before.
SQUARE_S, SETTLE_S = 2.2, 0.6
#: Lengths of loads between two idle times, in seconds.
BURSTS_S = (1.0, 1.0, 2.0, 2.0, 5.0, 10.0)


def sensors(folder: Path, sizes: Sizes) -> None:
    """Idle, steady levels, a staircase and square waves."""
    with recorder(folder) as found:
        _rest(found, sizes, 2.0)
        _idle(found, sizes, 8.0)
        levels = [Products(rows, _least(size, sizes), sizes.device) for rows, size in LEVELS]
        for shape, products in zip(LEVELS, levels, strict=True):
            with found.segment("level", steady(products), rows=shape[0], size=shape[1]):
                time.sleep(sizes.seconds(6.0))
        with found.segment("stairs", staircase(levels[2:], sizes.seconds(1.0)), step_s=sizes.seconds(1.0)):
            time.sleep(sizes.seconds(12.0))
        busy = Products(_least(4096, sizes), _least(4096, sizes), sizes.device)
        for period_ms, phases in SQUARES:
            for number in range(phases):
                phase = number / phases
                with found.segment("square", square(busy, period_ms / 1000, phase), period_ms=period_ms, phase=phase):
                    time.sleep(SETTLE_S + sizes.seconds(SQUARE_S))
        _rest(found, sizes, 2.0)
        _idle(found, sizes, 5.0)  # with a context, where the first one was without


def thermal(folder: Path, sizes: Sizes) -> None:
    """From idle into a constant load: drift, short windows within it, and then bursts between idle times.

    The windows lie within the last `60 s` of the constant load, whose mean power is their truth.
    """
    products = Products(sizes.rows, sizes.size, sizes.device)
    products.run(16)  # kernels are chosen and loaded before anything is recorded
    reference_s = sizes.seconds(60.0)
    with recorder(folder) as found:
        _idle(found, sizes, 8.0)
        with found.segment("constant", steady(products), reference_s=reference_s):
            time.sleep(sizes.seconds(50.0))
            start = time.monotonic()
            windows = plan(reference_s, seed=1, scale=sizes.scale)
            for edge in sorted({0.0, reference_s, *(edge for _, *both in windows for edge in both)}):
                time.sleep(max(start + edge - time.monotonic(), 0))
                found.read_counter()
            time.sleep(1.0)
        for length in BURSTS_S:
            _burst(found, products, sizes.seconds(length))
        _rest(found, sizes, 2.5)


def _burst(found: Recorder, products: Products, length_s: float) -> None:
    """Idle, so much of the load, idle; the average reading is polled every 100 ms, as tools do that integrate it."""
    time.sleep(2.5)
    with found.segment("burst", steady(products), length_s=length_s):
        found.read_counter()
        begin, polls = time.monotonic(), 0
        while (left := begin + length_s - time.monotonic()) > 0:
            found.read_average()
            polls += 1
            time.sleep(max(min(left, begin + 0.1 * polls - time.monotonic()), 0))
        found.read_average()
        found.read_counter()


def _idle(found: Recorder, sizes: Sizes, seconds: float) -> None:
    with found.segment("idle"):
        time.sleep(sizes.seconds(seconds))


def _rest(found: Recorder, sizes: Sizes, seconds: float) -> None:
    with found.segment("settling"):
        time.sleep(sizes.seconds(seconds))


def _least(size: int, sizes: Sizes) -> int:
    """A size of a matrix, no greater than those of `sizes` times the usual ones."""
    return max(1, size * sizes.size // 8192)
