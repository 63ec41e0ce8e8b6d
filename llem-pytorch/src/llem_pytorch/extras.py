"""Values in `extra_generation` and `extra_model` that would have no effect, given the rest of the configuration."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

from llem.backends.check import Refusal
from llem.config.models import Experiment
from llem.models.spec import ModelSpec
from llem_pytorch.config import PyTorchOptions

__all__ = ["generation_faults", "model_faults"]

SAMPLED = ("top_h", "typical_p", "epsilon_cutoff", "eta_cutoff", "assistant_ensemble_weight")
ENDS = ("min_length", "exponential_decay_length_penalty", "stop_strings")
OUTPUTS = ("output_attentions", "output_hidden_states", "output_scores", "output_logits")
DOWNLOAD = ("cache_dir", "force_download", "local_files_only")
FILES = (
    *DOWNLOAD,
    "code_revision",
    "subfolder",
    "variant",
    "use_safetensors",
    "weights_only",
    "disable_mmap",
    "gguf_file",
    "key_mapping",
    "ignore_mismatched_sizes",
)


def generation_faults(options: PyTorchOptions, experiment: Experiment, model: ModelSpec) -> Iterator[Refusal]:
    """Fields of GenerationConfig that generation would not look at."""
    given, sampling = options.extra_generation or {}, experiment.sampling
    path = "pytorch.extra_generation"
    for name in SAMPLED:
        if name in given and sampling.temperature == 0:
            yield f"{path}.{name}", "has no effect at temperature 0 (greedy); leave it out or raise temperature"
    for name in ENDS:
        if name in given and sampling.ignore_eos:
            yield f"{path}.{name}", "has no effect with `sampling.ignore_eos: true`, which never ends early"
    if "min_length" in given and options.min_new_tokens is not None:
        yield f"{path}.min_length", "has no effect beside min_new_tokens; leave one of them out"
    for name in OUTPUTS:
        if given.get(name) and not given.get("return_dict_in_generate"):
            yield f"{path}.{name}", "has no effect without `return_dict_in_generate: true`"
    if given.get("output_attentions") and options.attn_implementation != "eager":
        yield f"{path}.output_attentions", "other kernels keep no attention weights; set `attn_implementation: eager`"
    if "forced_bos_token_id" in given and getattr(experiment.workload, "input_tokens", None) != 1:
        yield f"{path}.forced_bos_token_id", "acts on prompts of one token only; set `workload.input_tokens: 1`"
    if "stop_strings" in given:
        yield from _stop_strings(options, model)


def _stop_strings(options: PyTorchOptions, model: ModelSpec) -> Iterator[Refusal]:
    path = "pytorch.extra_generation.stop_strings"
    if model.source == "shape":
        yield path, "a shape has no tokenizer, so there is no text to find them in"
    if (options.num_beams or 1) > 1:
        yield path, "does not work with beam search; leave num_beams at 1"


def model_faults(options: PyTorchOptions, model: ModelSpec) -> Iterator[Refusal]:
    """Arguments of from_pretrained that loading this model would not look at."""
    given, path = options.extra_model or {}, "pytorch.extra_model"
    idle = {"shape": FILES, "folder": DOWNLOAD}.get(model.source, ())
    reason = "a shape's weights come from no file" if model.source == "shape" else "a folder is not downloaded"
    for name in idle:
        if name in given:
            yield f"{path}.{name}", f"has no effect: {reason}; leave it out"
    if "quantization_config" in given and (options.load_in_4bit or options.load_in_8bit):
        yield f"{path}.quantization_config", "load_in_4bit and load_in_8bit are one; leave either out"
    for name in ("kernel_config", "allow_all_kernels"):
        if given.get(name) and importlib.util.find_spec("kernels") is None:
            yield f"{path}.{name}", "needs kernels: pip install kernels"
