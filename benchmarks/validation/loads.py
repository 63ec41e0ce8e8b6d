"""Loads of one GPU whose power over time is known: steady levels, steps and square waves.

A load runs in a thread of its own, so that instruments can be read meanwhile.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

from benchmarks.validation.products import Products

__all__ = ["Load", "running", "square", "staircase", "steady"]

#: Does work until the event is set, and returns the products that it did.
Load = Callable[[threading.Event], int]


def steady(products: Products, at_once: int = 16) -> Load:
    """Products without pause."""

    def run(stop: threading.Event) -> int:
        done = 0
        while not stop.is_set():
            products.run(at_once)
            done += at_once
        return done

    return run


def square(products: Products, period_s: float, phase: float = 0.0, at_once: int = 1) -> Load:
    """Busy in the first half of each period, idle in the second one.

    Periods are counted from 0 on the monotonic clock, so that two loads of one period have a known distance.

    Args:
        phase: share of a period by which it begins later.
    """
    period_ns = round(period_s * 1e9)

    def run(stop: threading.Event) -> int:
        done = 0
        while not stop.is_set():
            within = (time.monotonic_ns() - round(phase * period_ns)) % period_ns
            if within < period_ns // 2:
                products.run(at_once)
                done += at_once
            else:
                time.sleep(min((period_ns - within) / 1e9, 0.05))
        return done

    return run


def staircase(stairs: list[Products], step_s: float) -> Load:
    """One after the other, each for so long."""

    def run(stop: threading.Event) -> int:
        begin, done = time.monotonic(), 0
        while not stop.is_set():
            stairs[int((time.monotonic() - begin) / step_s) % len(stairs)].run(1)
            done += 1
        return done

    return run


@contextlib.contextmanager
def running(load: Load, done: list[int]) -> Iterator[None]:
    """The load runs while the body does; then `done` has what it did. Raises what ended the load."""
    stop, failed = threading.Event(), []

    def work() -> None:
        try:
            done.append(load(stop))
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    if failed:
        raise failed[0]
