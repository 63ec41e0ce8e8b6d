"""Environment variables that steer vLLM: set while an engine lives, put back when it is closed."""

from __future__ import annotations

import os
from collections.abc import Mapping

import attrs

from llem_vllm.config import VllmOptions

__all__ = ["EngineEnvironment"]


@attrs.frozen
class EngineEnvironment:
    """What stood in the environment before."""

    before: Mapping[str, str | None]

    @classmethod
    def apply(cls, options: VllmOptions) -> EngineEnvironment:
        """Choose the engine's process, and that nothing is sent to vLLM's makers while energy is measured.

        New processes are spawned, not forked: a fork of a process in which CUDA has started cannot use it. The CPU
        build lets a variable overrule the size of the cache; where the option is set, it counts.
        """
        wanted: dict[str, str | None] = {
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0" if options.in_process else "1",
            "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
            "VLLM_NO_USAGE_STATS": "1",
        }
        if options.kv_cache_memory_bytes is not None:
            wanted["VLLM_CPU_KVCACHE_SPACE"] = None
        before = {name: os.environ.get(name) for name in wanted}
        _set(wanted)
        # standard output belongs to llem's results; vLLM reads this once, when it is imported
        os.environ.setdefault("VLLM_LOGGING_STREAM", "ext://sys.stderr")
        return cls(before)

    def restore(self) -> None:
        """Put back what was there."""
        _set(self.before)


def _set(values: Mapping[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
