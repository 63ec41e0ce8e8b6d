"""The loaded model. `generate` is the hot path: one tensor in, one call, one tensor out."""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedModel

from llem.backends.base import Completion, Engine, MemoryReading, Request
from llem.config.models import Sampling
from llem.errors import ConfigError
from llem.models.spec import Architecture
from llem_pytorch.architecture import architecture_of
from llem_pytorch.config import STATIC_CACHES, PyTorchOptions
from llem_pytorch.effective import effective_config
from llem_pytorch.failures import memory_failures
from llem_pytorch.generation import SpecialIds, TokenClock, completions, generation_config, left_padded
from llem_pytorch.memory import PeakMemory
from llem_pytorch.process import ProcessSettings

__all__ = ["PyTorchEngine"]


class PyTorchEngine(Engine):
    """A transformers model on its device.

    Args:
        model: in evaluation mode, without gradients.
        options: the section `pytorch:`.
        sampling: of the experiment, for `effective_config`; `generate` is given its own.
        settings: what to put back on `close`.
    """

    def __init__(
        self, model: PreTrainedModel, options: PyTorchOptions, sampling: Sampling, settings: ProcessSettings
    ) -> None:
        self.model = model
        self._options = options
        self._sampling = sampling
        self._settings = settings
        self._ids = SpecialIds.of(model)
        # `generate` fills what a call leaves open from the model's own settings file: nothing must be left there
        self._left_out = _own_defaults(model)
        model.generation_config = GenerationConfig()
        self._positions: int | None = getattr(
            model.config.get_text_config(decoder=True), "max_position_embeddings", None
        )
        self._configs: dict[tuple[Sampling, int], GenerationConfig] = {}
        self._device = model.get_input_embeddings().weight.device
        self._memory = PeakMemory(self._device.type)
        if options.torch_compile is True and options.cache_implementation not in STATIC_CACHES:
            _compile_forward(model, options)

    def generate(
        self, requests: Sequence[Request], sampling: Sampling, *, token_times: bool = False
    ) -> Sequence[Completion]:
        """Run one batch to the largest `output_tokens` in it; see `llem.backends.base.Engine.generate`.

        Sampling (temperature above 0) draws from torch's global generator, seeded anew for each batch from
        `sampling.seed` and the first request's index: a batch gives the same tokens whatever ran before it, and other
        batches give others. Greedy decoding touches no generator.

        Raises:
            ExperimentFailed: out of memory (`code` "oom").
            ConfigError: more tokens than the model has positions, or token times of a beam search.
        """
        new_tokens = max(request.output_tokens for request in requests)
        ids, mask = left_padded(requests, self._ids.pad)
        width = ids.shape[1]
        if self._positions is not None and width + new_tokens > self._positions:
            raise ConfigError(
                f"prompts of {width} and outputs of {new_tokens} tokens exceed the model's {self._positions} positions",
                "use shorter prompts or fewer output tokens",
            )
        config = self._config(sampling, new_tokens)
        if token_times and config.num_beams > 1:
            raise ConfigError("beam search has no time per token", "leave token_times off or num_beams at 1")
        clock = TokenClock(len(requests)) if token_times else None
        if config.do_sample:
            torch.manual_seed((sampling.seed * 1_000_003 + requests[0].index) % 2**63)
        with (
            memory_failures(f"generating {new_tokens} tokens for each of {len(requests)} requests"),
            torch.inference_mode(),
        ):
            output = self.model.generate(
                input_ids=ids.to(self._device),
                attention_mask=mask.to(self._device),
                generation_config=config,
                streamer=clock,
            )
            rows = output[:, width:].tolist()
        return completions(requests, rows, config.eos_token_id or (), None if clock is None else clock.times_ns)

    def _config(self, sampling: Sampling, new_tokens: int) -> GenerationConfig:
        key = (sampling, new_tokens)
        if key not in self._configs:
            self._configs[key] = generation_config(self._options, sampling, self._ids, new_tokens)
        return self._configs[key]

    def effective_config(self) -> Mapping[str, Any]:
        """What is loaded and set, read back from the model, torch and the generation settings."""
        config = generation_config(self._options, self._sampling, self._ids, None)
        return effective_config(self.model, config, self._options, self._left_out)

    def architecture(self) -> Architecture | None:
        """Sizes of the loaded model; None for kinds it would have to guess at (see `architecture_of`)."""
        return architecture_of(self.model)

    def memory(self) -> MemoryReading:
        """Peak memory: PyTorch's allocator on GPUs, resident memory of the process on the CPU."""
        return self._memory.read()

    def reset_memory(self) -> None:
        """Start the peak anew."""
        self._memory.reset()

    def close(self) -> None:
        """Drop the model and give its memory back."""
        self._configs.clear()
        self.__dict__.pop("model", None)
        gc.collect()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        self._settings.restore()


def _own_defaults(model: PreTrainedModel) -> dict[str, Any]:
    """Settings that came with the model and are not applied, apart from special ids."""
    given = model.generation_config.to_diff_dict() if model.generation_config is not None else {}
    hidden = ("transformers_version", "use_cache", "output_attentions", "output_hidden_states")
    return {
        name: value
        for name, value in given.items()
        if not name.startswith("_") and not name.endswith("_token_id") and name not in hidden
    }


def _compile_forward(model: PreTrainedModel, options: PyTorchOptions) -> None:
    """Compile the whole forward pass, as there is no static cache for which transformers compiles the decode step."""
    arguments: dict[str, Any] = {
        "mode": options.torch_compile_mode,
        "backend": options.torch_compile_backend,
        "fullgraph": options.torch_compile_fullgraph,
        "dynamic": options.torch_compile_dynamic,
    }
    model.compile(**{name: value for name, value in arguments.items() if value is not None})
