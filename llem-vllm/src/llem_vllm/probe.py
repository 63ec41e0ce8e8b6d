"""Runs inside vLLM's workers, in whatever process they are: reports what was loaded, and peak memory.

vLLM adds this class to its worker's bases (`worker_extension_cls`), so that its methods can be called by name.
Answers are JSON values, which pass between processes without pickling.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch

__all__ = ["WorkerProbe"]

STATUS = Path("/proc/self/status")
CLEAR_REFS = Path("/proc/self/clear_refs")


class WorkerProbe:
    """Methods that a vLLM worker gains."""

    device: torch.device
    model_runner: Any
    vllm_config: Any

    def llem_facts(self) -> dict[str, Any]:
        """What this worker holds."""
        parameters = list(self.model_runner.get_model().parameters())
        dtypes = Counter(str(one.dtype).removeprefix("torch.") for one in parameters)
        # the CPU build packs weights away and leaves empty parameters behind: their size cannot be read any more
        packed = any(one.numel() == 0 for one in parameters)
        return {
            "device": str(self.device),
            "device_name": torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else None,
            "model_class": type(self.model_runner.get_model()).__name__,
            "attention_backends": sorted({layer.attn_backend.get_name() for layer in self._llem_attention()}),
            "parameter_dtypes": dict(dtypes),
            "weights_packed": packed,
            "weight_bytes": None if packed else _bytes(parameters),
            "lookup_bytes": None if packed else _bytes(self._llem_tables()),
            "expert_bytes": None if packed else _bytes(self._llem_experts()),
            "kv_cache_bytes": self._llem_cache_bytes(),
            "kv_cache_dtype": self._llem_cache_dtype(),
            "threads": torch.get_num_threads(),
            "cuda": torch.version.cuda if self.device.type == "cuda" else None,
        }

    def llem_reset_memory(self) -> None:
        """Start peak memory anew. On the CPU this needs Linux: writing 5 resets the high-water mark (man 5 proc)."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            return
        try:
            CLEAR_REFS.write_text("5")
        except OSError:
            self._llem_cannot_reset = True

    def llem_memory(self) -> int | None:
        """Peak in bytes since the reset: PyTorch's allocator on a GPU, the process's resident memory on the CPU."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        if getattr(self, "_llem_cannot_reset", False):
            return None
        try:
            found = re.search(r"^VmHWM:\s+(\d+) kB$", STATUS.read_text(), re.MULTILINE)
        except OSError:
            return None
        return None if found is None else int(found.group(1)) * 1024

    def _llem_tables(self) -> Iterator[torch.Tensor]:
        """Input embeddings that are not the output projection too."""
        modules = list(self.model_runner.get_model().modules())
        heads = {id(one.weight) for one in modules if type(one).__name__ == "ParallelLMHead" and hasattr(one, "weight")}
        for module in modules:
            if type(module).__name__ == "VocabParallelEmbedding" and id(module.weight) not in heads:
                yield from module.parameters(recurse=False)

    def _llem_experts(self) -> Iterator[torch.Tensor]:
        """Weights and scales of routed experts."""
        for module in self.model_runner.get_model().modules():
            if "FusedMoE" in type(module).__name__:
                yield from module.parameters(recurse=False)

    def _llem_attention(self) -> Iterator[Any]:
        layers = self.vllm_config.compilation_config.static_forward_context.values()
        return (layer for layer in layers if hasattr(layer, "attn_backend"))

    def _llem_cache_tensors(self) -> Iterator[torch.Tensor]:
        for layer in self._llem_attention():
            held = getattr(layer, "kv_cache", None)
            yield from (one for one in (held if isinstance(held, list | tuple) else [held]) if torch.is_tensor(one))

    def _llem_cache_bytes(self) -> int:
        """Layers may share one allocation, so allocations are counted and not tensors."""
        storages = {
            one.untyped_storage().data_ptr(): one.untyped_storage().nbytes() for one in self._llem_cache_tensors()
        }
        return sum(storages.values())

    def _llem_cache_dtype(self) -> list[str]:
        return sorted({str(one.dtype).removeprefix("torch.") for one in self._llem_cache_tensors()})


def _bytes(tensors: Iterable[torch.Tensor]) -> int:
    return sum(one.numel() * one.element_size() for one in tensors)
