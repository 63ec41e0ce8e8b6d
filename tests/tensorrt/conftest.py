"""The stand-in for TensorRT-LLM, on the path while a module of these tests runs and no longer."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from llem.backends.base import Placement
from llem.backends.check import check_placed
from llem.config.models import Experiment
from llem.models.resolve import resolve_model
from llem.models.spec import ModelSpec
from llem_tensorrt.backend import TensorRTBackend
from llem_tensorrt.config import TensorRTOptions

if TYPE_CHECKING:
    from llem_tensorrt.engine import TensorRTEngine

STANDIN = str(Path(__file__).parent / "standin")


def _forget() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "tensorrt_llm"]:
        del sys.modules[name]


@pytest.fixture(scope="module", autouse=True)
def _library() -> Iterator[None]:
    """Other tests in this process must not find a TensorRT-LLM."""
    sys.path.insert(0, STANDIN)
    yield
    sys.path.remove(STANDIN)
    _forget()


@pytest.fixture
def control() -> Iterator[Any]:
    """What the stand-in received, and how it shall fail."""
    from tensorrt_llm.standin import control

    control.reset()
    yield control
    control.reset()


@pytest.fixture
def tiny() -> ModelSpec:
    """The smallest shape."""
    return resolve_model("shape:tiny")


@pytest.fixture
def experiment() -> Callable[..., Experiment]:
    """Make an experiment; `options` are keywords of TensorRTOptions."""

    def make(options: dict[str, Any] | None = None, **changes: Any) -> Experiment:
        return Experiment(
            backend="tensorrt", options=TensorRTOptions(**(options or {})), **{"device": "cuda", **changes}
        )

    return make


@pytest.fixture
def load(control: Any, tiny: Any, experiment: Any) -> Iterator[Callable[..., TensorRTEngine]]:
    """Load an engine on as many GPUs as the options ask for; every one is closed at the end."""
    engines = []

    def make(options: dict[str, Any] | None = None, spec: ModelSpec | None = None, **changes: Any) -> TensorRTEngine:
        asked = experiment(options, **changes)
        backend, model, placement = TensorRTBackend(asked.options), spec or tiny, Placement("cuda")
        check_placed(backend, asked, model, placement)
        engine = backend.load(asked, model, placement)
        engines.append(engine)
        return engine

    yield make
    for engine in engines:
        engine.close()
