"""The loaded model. `generate` is the hot path: one tensor in, one call, one tensor out."""

from __future__ import annotations

import copy
import functools
import gc
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
import torch
from transformers import GenerationConfig, PreTrainedModel

from llem.backends.base import Completion, Engine, Likelihood, MemoryReading, Request, Scored
from llem.backends.check import check_scored
from llem.config.models import Experiment, Sampling
from llem.errors import ConfigError
from llem.models.spec import Architecture
from llem.models.tokenizer import stops_at
from llem_pytorch.architecture import architecture_of, unfit_of
from llem_pytorch.config import STATIC_CACHES, PyTorchOptions
from llem_pytorch.effective import effective_config, speculation
from llem_pytorch.failures import generation_failures, memory_failures
from llem_pytorch.generation import SpecialIds, TokenClock, completions, generation_config, left_padded
from llem_pytorch.likelihood import likelihoods
from llem_pytorch.loading import Loaded
from llem_pytorch.memory import PeakMemory
from llem_pytorch.process import ProcessSettings
from llem_pytorch.speculation import drafting_settings
from llem_pytorch.stopping import RequestStops, StopTexts

__all__ = ["PyTorchEngine"]


class PyTorchEngine(Engine):
    """A transformers model on its device.

    Args:
        loaded: the model, in evaluation mode and without gradients, and what goes with it.
        options: the section `pytorch:`.
        sampling: of the experiment, for `effective_config`; `generate` is given its own.
        settings: what to put back on `close`.
    """

    def __init__(self, loaded: Loaded, options: PyTorchOptions, sampling: Sampling, settings: ProcessSettings) -> None:
        model = self.model = loaded.model
        self.assistant = loaded.assistant
        self._options = options
        self._sampling = sampling
        self._settings = settings
        self._ids = SpecialIds.of(model)
        # `generate` fills what a call leaves open from the model's own settings file: nothing must be left there
        self._left_out = _own_defaults(model)
        model.generation_config = GenerationConfig()
        # with no other model to draft, the first layers of this one do
        drafting = model if self.assistant is None else self.assistant
        self._positions: int | None = getattr(
            model.config.get_text_config(decoder=True), "max_position_embeddings", None
        )
        self._configs: dict[tuple[Sampling, int], GenerationConfig] = {}
        self._device = _input_device(model)
        self._memory = PeakMemory(self._device.type)
        if options.torch_compile is True and options.cache_implementation not in STATIC_CACHES:
            _compile_forward(model, options)
        with generation_failures():  # what the settings alone tell to be wrong is said before anything runs
            drafting.generation_config = GenerationConfig(**drafting_settings(options))
            self._stop = _stop_texts(loaded, options)
            self._config(sampling, 1)
        self._inputs = _generate_inputs(loaded, self._stop)
        self._tokenizer = functools.cache(loaded.read_tokenizer)

    def generate(
        self, requests: Sequence[Request], sampling: Sampling, *, token_times: bool = False
    ) -> Sequence[Completion]:
        """Run one batch to the largest `output_tokens` in it; see `llem.backends.base.Engine.generate`.

        Sampling (temperature above 0) draws from torch's global generator, seeded anew for each batch from
        `sampling.seed` and the first request's index: a batch gives the same tokens whatever ran before it, and other
        batches give others. Greedy decoding touches no generator.

        Raises:
            ExperimentFailed: out of memory (`code` "oom").
            ConfigError: more tokens than the model has positions, token times or stop texts of a beam search, or
                settings that transformers does not take.
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
        inputs = self._with_stops(requests, width, config)
        if config.do_sample:
            torch.manual_seed(sampling.request_seed(requests[0].index))
        if self._stop is not None:
            self._stop.begin(width)
        with (
            generation_failures(),
            memory_failures(f"generating {new_tokens} tokens for each of {len(requests)} requests"),
            torch.inference_mode(),
        ):
            output = self.model.generate(
                input_ids=ids.to(self._device),
                attention_mask=mask.to(self._device),
                generation_config=config,
                streamer=clock,
                **inputs,
            )
            # asked for logits or attention weights it gives them beside the tokens
            sequences = output if isinstance(output, torch.Tensor) else output.sequences
            rows = sequences[:, width:].tolist()
        times_ns = None if clock is None else clock.times_ns
        return completions(requests, rows, config.eos_token_id or (), times_ns, self._ends(requests, rows))

    def prefilled(self, requests: Sequence[Request], sampling: Sampling) -> Callable[[], Sequence[Completion]]:
        """The prompts' key-value cache, and decoding from a copy of it; see `llem.backends.base.Engine.prefilled`.

        transformers changes a cache as it decodes, so each call takes a copy: its bytes are read and written once, of
        which every step reads them all. Raises as `generate`.
        """
        new_tokens = max(request.output_tokens for request in requests)
        ids, mask = (one.to(self._device) for one in left_padded(requests, self._ids.pad))
        width = ids.shape[1]
        with generation_failures(), memory_failures(f"keeping {len(requests)} prompts"), torch.inference_mode():
            first = self.model.generate(
                input_ids=ids,
                attention_mask=mask,
                generation_config=self._config(sampling, 1),
                return_dict_in_generate=True,
                **self._inputs,
            )
        begun = torch.cat([mask, mask.new_ones((len(requests), 1))], dim=1)

        def decode() -> Sequence[Completion]:
            with (
                generation_failures(),
                memory_failures(f"decoding {new_tokens} tokens for each of {len(requests)} requests"),
                torch.inference_mode(),
            ):
                output = self.model.generate(
                    input_ids=first.sequences,
                    attention_mask=begun,
                    past_key_values=copy.deepcopy(first.past_key_values),
                    generation_config=self._config(sampling, max(new_tokens - 1, 1)),
                    **self._inputs,
                )
                rows = output[:, width + 1 :].tolist()
            asked = [attrs.evolve(one, output_tokens=max(one.output_tokens - 1, 0)) for one in requests]
            return completions(asked, rows, (), None, [0] * len(rows))

        return decode

    def _with_stops(self, requests: Sequence[Request], width: int, config: GenerationConfig) -> dict[str, Any]:
        """Arguments of `model.generate` beside the tensors, with the stop texts of these requests."""
        if not any(request.stop for request in requests):
            return self._inputs
        if config.num_beams > 1:
            raise ConfigError("beam search does not end at texts", "leave num_beams at 1")
        stops = RequestStops(requests, self._tokenizer(), width)
        return {**self._inputs, "stopping_criteria": [*self._inputs.get("stopping_criteria", ()), stops]}

    def _ends(self, requests: Sequence[Request], rows: Sequence[Sequence[int]]) -> list[int]:
        """Per row the number of tokens after which a text ended it; 0 where none did."""
        ends = [0] * len(rows) if self._stop is None else self._stop.ends() or [0] * len(rows)
        for place, (request, row) in enumerate(zip(requests, rows, strict=True)):
            own = stops_at(row, request.stop, self._tokenizer()) if request.stop else None
            ends[place] = min(filter(None, (own, ends[place])), default=0)
        return ends

    def loglikelihood(self, requests: Sequence[Scored]) -> Sequence[Likelihood]:
        """Of continuations given their contexts, by the model itself: `sampling` has no part in it.

        Nor have the settings of generation: caches, models that draft, what is compiled. Weights, adapters, dtype and
        attention are those that were measured.

        Raises:
            ExperimentFailed: out of memory (`code` "oom").
            ConfigError: a text that is longer than `scored_length`.
        """
        check_scored(requests, self.scored_length(), "the model's positions and one token that is only predicted")
        with memory_failures(f"scoring {len(requests)} texts"):
            return likelihoods(self.model, requests, self._ids.pad, self._device)

    def _config(self, sampling: Sampling, new_tokens: int) -> GenerationConfig:
        key = (sampling, new_tokens)
        if key not in self._configs:
            self._configs[key] = generation_config(self._options, sampling, self._ids, new_tokens)
        return self._configs[key]

    def turn_to(self, experiment: Experiment) -> None:
        """`effective_config` tells this experiment's sampling from now on."""
        self._sampling = experiment.sampling

    def effective_config(self) -> Mapping[str, Any]:
        """What is loaded and set, read back from the model, torch and the generation settings."""
        config = generation_config(self._options, self._sampling, self._ids, None)
        told = effective_config(self.model, config, self._options, self._left_out)
        return {**told, "speculation": speculation(self.model, self.assistant, config, self._options)}

    def architecture(self) -> Architecture | None:
        """Sizes of the loaded model; None for kinds it would have to guess at (see `architecture_of`)."""
        config = generation_config(self._options, self._sampling, self._ids, None)
        drafts = speculation(self.model, self.assistant, config, self._options) is not None
        bits = (config.cache_config or {}).get("nbits", 4) if config.cache_implementation == "quantized" else None
        return architecture_of(self.model, unfit_of(config, drafts), bits)

    def context_length(self) -> int | None:
        """The model's positions, or a static cache that is shorter."""
        known = [length for length in (self._positions, self._options.max_cache_len) if length is not None]
        return min(known, default=None)

    def scored_length(self) -> int | None:
        """One more than the model's positions: the last token is only predicted. No cache limits it."""
        return None if self._positions is None else self._positions + 1

    def memory(self) -> MemoryReading:
        """Peak memory: PyTorch's allocator on GPUs, resident memory of the process on the CPU."""
        return self._memory.read()

    def reset_memory(self) -> None:
        """Start the peak anew."""
        self._memory.reset()

    def close(self) -> None:
        """Drop the model and give its memory back."""
        self._configs.clear()
        self._inputs.clear()
        self.assistant = None
        self.__dict__.pop("model", None)
        gc.collect()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        self._settings.restore()


def _input_device(model: PreTrainedModel) -> torch.device:
    """Where the embedding computes, which is not where its weights lie when these are offloaded."""
    embedding = model.get_input_embeddings()
    computes_on = getattr(getattr(embedding, "_hf_hook", None), "execution_device", None)
    return embedding.weight.device if computes_on is None else torch.device(computes_on)


def _stop_texts(loaded: Loaded, options: PyTorchOptions) -> StopTexts | None:
    texts = (options.extra_generation or {}).get("stop_strings")
    return None if texts is None else StopTexts(loaded.tokenizers["tokenizer"], texts)


def _generate_inputs(loaded: Loaded, stop: StopTexts | None) -> dict[str, Any]:
    """Arguments of `model.generate` that are the same for every batch and no settings."""
    inputs: dict[str, Any] = {}
    if loaded.assistant is not None:
        inputs["assistant_model"] = loaded.assistant
    if "assistant_tokenizer" in loaded.tokenizers:
        inputs |= loaded.tokenizers
    if stop is not None:
        inputs["stopping_criteria"] = [stop]
    return inputs


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
        "options": None if options.torch_compile_options is None else dict(options.torch_compile_options),
    }
    model.compile(**{name: value for name, value in arguments.items() if value is not None})
