"""Offline batches with the engine in a process of its own, which is vLLM's default."""

from __future__ import annotations

import os

import psutil
import pytest

from llem.backends.base import Request
from llem.config.models import Sampling
from llem.errors import ExperimentFailed

pytestmark = pytest.mark.process

GREEDY = Sampling()
NGRAM = {
    "speculative_method": "ngram",
    "num_speculative_tokens": 3,
    "prompt_lookup_max": 3,
    "prompt_lookup_min": 2,
}
VARIABLES = ("VLLM_ENABLE_V1_MULTIPROCESSING", "VLLM_WORKER_MULTIPROC_METHOD", "VLLM_NO_USAGE_STATS")


def test_own_process_speculates_and_ends(opened, requests_of, workers):
    """Neither the engine's place nor prompt lookup changes a token; its processes end with it, the environment is put
    back. (vLLM's CPU build cannot start another engine in a process that has looked up prompts.)
    """
    batch = [*requests_of((3, 9), (17, 4), (1, 12)), Request(3, (11, 12, 13, 14) * 6, 24)]
    before = {name: os.environ.get(name) for name in VARIABLES}
    with opened() as engine:
        inside = [done.token_ids for done in engine.generate(batch, GREEDY)]
        assert engine.effective_config()["engine_process"] == "worker"
        assert workers() == []
    with opened({"in_process": None, **NGRAM}) as engine:
        assert [done.token_ids for done in engine.generate(batch, GREEDY)] == inside
        timed = engine.generate(batch, GREEDY, token_times=True)
        assert [done.token_ids for done in timed] == inside
        assert [len(done.token_times_ns) for done in timed] == [9, 4, 12, 24]
        assert len(set(timed[3].token_times_ns)) < 24  # several tokens came at once
        effective = engine.effective_config()
        assert effective["engine_process"] == "own"
        assert effective["attention_backends"] == ["CPU_ATTN"]
        assert effective["speculative_config"]["prompt_lookup_min"] == 2
        engine.reset_memory()
        assert engine.memory().peak_bytes > 0
        children = workers()
        assert children
    _, alive = psutil.wait_procs(children, timeout=20)
    assert alive == []
    assert {name: os.environ.get(name) for name in VARIABLES} == before


def test_engine_process_that_cannot_start(opened, workers):
    """A failure there is told, with where its cause stands; nothing is left running."""
    with (
        pytest.raises(ExperimentFailed, match=r"engine process ended|out of memory"),
        opened({"in_process": None, "kv_cache_memory_bytes": 70_000}),
    ):
        pass
    _, alive = psutil.wait_procs(workers(), timeout=20)
    assert alive == []
