"""lm-eval inside a worker: no progress bars, no chatter, no processes of its own; signs of life instead."""

from __future__ import annotations

import contextlib
import logging
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np

from llem_lmeval.config import Seeds

__all__ = ["Draws", "Progress", "quiet"]

T = TypeVar("T")

#: Progress is told this often at most, in seconds.
EVERY_S = 1.0
#: Resamples between two signs of life.
RESAMPLES = 100
TALKERS = ("lm_eval", "datasets", "huggingface_hub", "evaluate")


class Progress:
    """Requests done and all requests; asks at each sign of life whether to stop."""

    def __init__(
        self, tell: Callable[[int, int], None], check_stop: Callable[[], None], count: Callable[[], int]
    ) -> None:
        self._tell, self._check_stop, self._count = tell, check_stop, count
        self._done = self._total = 0
        self._told_s = -EVERY_S

    def begin(self) -> None:
        """All requests are made: they can be counted."""
        self._total = self._count()
        self.alive()

    def alive(self) -> None:
        """Something went on. Raises what `check_stop` raises."""
        self._check_stop()
        if time.monotonic() - self._told_s >= EVERY_S:
            self._say()

    def add(self, requests: int) -> None:
        """So many more requests are done."""
        self._done += requests
        self._check_stop()
        if self._done == self._total or time.monotonic() - self._told_s >= EVERY_S:
            self._say()

    def _say(self) -> None:
        self._told_s = time.monotonic()
        self._tell(self._done, self._total)


@contextlib.contextmanager
def quiet(alive: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Let lm-eval and datasets show and log nothing below errors, and put everything back in the end.

    lm-eval shows bars while it makes requests, and prints and forks a process per core while it resamples for a
    standard error. Within this, `alive` is called instead.
    """
    import datasets
    from lm_eval.api import metrics, task

    def watched(items: Iterable[T], *_: Any, **__: Any) -> Iterator[T]:
        for item in items:
            alive()
            yield item

    def resampled(statistic: Callable[[Sequence[Any]], float], items: Sequence[Any], iters: int) -> float:
        """As `lm_eval.api.metrics.bootstrap_stderr`, with its seeds, in this process."""
        size, drawn = min(1000, iters), []
        for number in range(iters // size):
            chance = random.Random(number)
            for count in range(size):
                if count % RESAMPLES == 0:
                    alive()
                drawn.append(statistic(chance.choices(items, k=len(items))))
        return float(metrics.sample_stddev(drawn))

    loggers = [logging.getLogger(name) for name in TALKERS]
    levels = [logger.level for logger in loggers]
    bars, shows, resample = datasets.are_progress_bars_disabled(), task.tqdm, metrics.bootstrap_stderr
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        datasets.disable_progress_bars()
        task.tqdm, metrics.bootstrap_stderr = watched, resampled
        yield
    finally:
        task.tqdm, metrics.bootstrap_stderr = shows, resample
        if not bars:
            datasets.enable_progress_bars()
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


class Draws:
    """Random numbers of tasks: within, the generators go on from the seeds; outside, they are as they were.

    Tasks draw while they load and while they make requests, from one sequence as in `lm_eval.simple_evaluate`.
    """

    def __init__(self, seeds: Seeds) -> None:
        self._own = (random.Random(seeds.random).getstate(), np.random.RandomState(seeds.numpy).get_state())

    def __enter__(self) -> Draws:
        self._others = self._swap(self._own)
        return self

    def __exit__(self, *raised: object) -> None:
        self._own = self._swap(self._others)

    @staticmethod
    def _swap(states: tuple[Any, Any]) -> tuple[Any, Any]:
        before = random.getstate(), np.random.get_state()
        random.setstate(states[0])
        np.random.set_state(states[1])
        return before
