"""A tiny llama on vLLM's CPU build. Engines run in this process where nothing else is said: they start in seconds."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from llem.backends.base import Placement, Request
from llem.backends.check import check_placed
from llem.config.models import Experiment
from llem.models.spec import ModelSpec
from llem_vllm.backend import VllmBackend
from llem_vllm.config import VllmOptions

if TYPE_CHECKING:
    from llem_vllm.engine import VllmEngine

os.environ["HF_HUB_OFFLINE"] = "1"  # before anything imports transformers: no test may reach the network
os.environ["VLLM_CPU_KVCACHE_SPACE"] = "1"  # GiB; the CPU build would take half of the memory

#: Heads of 32, the least that vLLM's CPU attention has.
TINY = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_act": "silu",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 32,
    "vocab_size": 512,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-5,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
    "tie_word_embeddings": False,
    "bos_token_id": 256,
    "eos_token_id": 257,
    "dtype": "float32",
}
#: What every engine of these tests has: quick to start, and the same weights as elsewhere.
QUICK = {"enforce_eager": True, "in_process": True, "shape_weights": "seeded"}

OTHERS_WARNINGS = (
    "FutureWarning",
    "UserWarning",
    "RuntimeWarning",
    "ResourceWarning",
    "pytest.PytestUnraisableExceptionWarning",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Warnings of vLLM and torch are their own affair; llem's stay errors. An engine may take a minute to start."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.timeout(400))
            for kind in OTHERS_WARNINGS:
                item.add_marker(pytest.mark.filterwarnings(f"ignore::{kind}:(?!llem).*"))


@pytest.fixture(scope="session")
def tiny() -> Callable[..., ModelSpec]:
    """Make a shape, its configuration changed by keywords."""

    def make(seed: int = 0, **changes: Any) -> ModelSpec:
        return ModelSpec("shape:tiny", "shape", "random", "tiny", config={**TINY, **changes}, seed=seed)

    return make


@pytest.fixture(scope="session")
def experiment_of() -> Callable[..., Experiment]:
    """Make an experiment; `options` are keywords of VllmOptions."""

    def make(options: dict[str, Any] | None = None, **changes: Any) -> Experiment:
        given = {"dtype": "float32", "device": "cpu", **changes}
        return Experiment(backend="vllm", options=VllmOptions(**(options or {})), **given)

    return make


@pytest.fixture(scope="session")
def opened(tiny: Any, experiment_of: Any) -> Callable[..., AbstractContextManager[VllmEngine]]:
    """A context with an engine in it. One engine at a time lives in a process."""

    @contextmanager
    def make(
        options: dict[str, Any] | None = None, spec: ModelSpec | None = None, **changes: Any
    ) -> Iterator[VllmEngine]:
        spec = spec or tiny()
        quick = {**QUICK, "shape_weights": "seeded" if spec.source == "shape" else None}
        asked = experiment_of({**quick, **(options or {})}, **changes)
        backend, placement = VllmBackend(asked.options), Placement("cpu")
        check_placed(backend, asked, spec, placement)
        engine = backend.load(asked, spec, placement)
        try:
            yield engine
        finally:
            engine.close()

    return make


@pytest.fixture(scope="session")
def requests_of() -> Callable[..., list[Request]]:
    """Requests from (prompt length, output tokens) pairs; prompts differ from each other."""

    def make(*sizes: tuple[int, int]) -> list[Request]:
        return [
            Request(index, tuple((7 + 31 * index + 13 * place) % 250 + 5 for place in range(length)), output)
            for index, (length, output) in enumerate(sizes)
        ]

    return make


@pytest.fixture(scope="session")
def workers() -> Callable[[], list[psutil.Process]]:
    """List the processes that vLLM started; Python's own resource tracker stays for good."""

    def listed() -> list[psutil.Process]:
        children = psutil.Process().children(recursive=True)
        return [one for one in children if "resource_tracker" not in " ".join(one.cmdline())]

    return listed


@pytest.fixture(scope="session")
def reference(tiny: Any) -> Any:
    """The same seeded model in transformers."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    spec = tiny()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.seed)
        return AutoModelForCausalLM.from_config(AutoConfig.for_model(**dict(spec.config)), dtype=torch.float32).eval()
