"""One loaded engine, and requests for it: what the suites of backends share."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import psutil
import pytest

from llem.backends.base import Backend, Engine, Placement, Request
from llem.config.models import Experiment, Sampling
from llem.models.resolve import resolve_model
from llem.models.spec import ModelSpec
from llem.testing.conformance.plugin import PluginUnderTest

__all__ = ["GREEDY", "EngineUnderTest", "kept"]

GREEDY = Sampling(temperature=0.0, ignore_eos=True)
#: Prompt and output lengths of one batch: none alike, so that padding on either side shows.
MIXED = ((3, 9), (17, 4), (1, 6), (8, 1))


#: Calls that may fill caches, and calls after them of which each keeps something where there is a leak.
FIRST, THEN = 3, 8


def kept(call: Callable[[], object]) -> tuple[int, int]:
    """How many objects of Python, and bytes of this process's memory, most calls keep, once caches are full.

    A pool grows now and then, and what is kept may find room in memory that was had before; the lower quartile is of
    neither.
    """
    for _ in range(FIRST):
        call()
    objects, resident = [], []
    for _ in range(THEN):
        call()
        gc.collect()
        objects.append(len(gc.get_objects()))
        resident.append(psutil.Process().memory_info().rss)
    kept_objects, kept_bytes = (sorted(b - a for a, b in pairwise(found))[THEN // 4] for found in (objects, resident))
    return max(kept_objects, 0), max(kept_bytes, 0)


class EngineUnderTest(PluginUnderTest):
    """Fixtures of scope class, class methods that a suite may override; no checks."""

    page = "docs/howto/write-a-backend.md"

    @pytest.fixture(scope="class")
    @classmethod
    def experiment(cls, options: Any) -> Experiment:
        """A configuration that the backend accepts."""
        return Experiment(
            model="shape:tiny", backend=cls().reference().name, dtype="float32", device="cpu", options=options
        )

    @pytest.fixture(scope="class")
    @classmethod
    def model(cls, experiment: Experiment) -> ModelSpec:
        """Its model."""
        return resolve_model(experiment.model, revision=experiment.revision, seed=experiment.weights_seed)

    @pytest.fixture(scope="class")
    @classmethod
    def vocab_size(cls, model: ModelSpec) -> int:
        """Token ids run from 0 to this number, exclusive."""
        return int((model.config or {})["vocab_size"])

    @pytest.fixture(scope="class")
    @classmethod
    def placement(cls) -> Placement:
        """Where to run."""
        return Placement("cpu")

    @pytest.fixture(scope="class")
    @classmethod
    def backend(cls, options: Any) -> Backend:
        """The backend under test."""
        made: Backend = cls().reference().load()(options)
        return made

    @pytest.fixture(scope="class")
    @classmethod
    def runner(cls) -> Iterator[asyncio.Runner]:
        """The event loop in which the engine streams; it lives longer than the engine."""
        with asyncio.Runner() as runner:
            yield runner

    @pytest.fixture(scope="class")
    @classmethod
    def engine(
        cls,
        runner: asyncio.Runner,
        backend: Backend,
        experiment: Experiment,
        model: ModelSpec,
        placement: Placement,
    ) -> Iterator[Engine]:
        """One loaded engine for all checks."""
        engine = backend.load(experiment, model, placement)
        yield engine
        engine.close()

    @pytest.fixture(scope="class")
    @classmethod
    def requests(cls, vocab_size: int) -> Sequence[Request]:
        """A batch of unlike lengths, with indices that do not start at 0."""
        lengths = enumerate(MIXED, start=40)
        return [Request(i, tuple((31 * i + 7 * j) % vocab_size for j in range(n)), m) for i, (n, m) in lengths]
