"""A tiny llama on the CPU: loads in milliseconds, so every test runs the real engine."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from llem.backends.base import Placement
from llem.backends.check import check_placed
from llem.config.models import Experiment
from llem.models.spec import ModelSpec
from llem_pytorch.backend import PyTorchBackend
from llem_pytorch.config import PyTorchOptions

if TYPE_CHECKING:
    from llem_pytorch.engine import PyTorchEngine

os.environ["HF_HUB_OFFLINE"] = "1"  # before anything imports transformers: no test may reach the network

TINY = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 512,
    "max_position_embeddings": 256,
}


@pytest.fixture(scope="session", autouse=True)
def _few_objects_to_collect() -> None:
    """Closing an engine collects garbage, which is slow over all that torch and transformers made at import."""
    gc.freeze()


@pytest.fixture
def tiny() -> Callable[..., ModelSpec]:
    """Make a shape, its configuration changed by keywords."""

    def make(seed: int = 0, **changes: Any) -> ModelSpec:
        return ModelSpec("shape:tiny", "shape", "random", "tiny", config={**TINY, **changes}, seed=seed)

    return make


@pytest.fixture
def experiment() -> Callable[..., Experiment]:
    """Make an experiment; `options` are keywords of PyTorchOptions."""

    def make(options: dict[str, Any] | None = None, **changes: Any) -> Experiment:
        given = {"dtype": "float32", "device": "cpu", **changes}
        return Experiment(backend="pytorch", options=PyTorchOptions(**(options or {})), **given)

    return make


@pytest.fixture
def load(tiny: Any, experiment: Any) -> Iterator[Callable[..., PyTorchEngine]]:
    """Load an engine; every one is closed at the end."""
    engines = []

    def make(options: dict[str, Any] | None = None, spec: ModelSpec | None = None, **changes: Any) -> PyTorchEngine:
        asked = experiment(options, **changes)
        backend, model, placement = PyTorchBackend(asked.options), spec or tiny(), Placement("cpu")
        check_placed(backend, asked, model, placement)
        engine = backend.load(asked, model, placement)
        engines.append(engine)
        return engine

    yield make
    for engine in engines:
        engine.close()
