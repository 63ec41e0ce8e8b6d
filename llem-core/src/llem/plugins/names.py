"""Names that are llem's own: of its packages, of its commands, and of what an engine can do."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

__all__ = [
    "BUILTIN",
    "CAPABILITIES",
    "COMMANDS",
    "CORE",
    "KNOWN_NAMES",
    "KNOWN_PACKAGES",
    "NAME_RULE",
    "SETTINGS",
    "STUDY_KEYS",
    "Claim",
    "canonical",
    "is_name",
]

#: What a name is claimed for.
Claim = Literal["backend", "meter", "evaluator", "launcher", "workload", "command"]

CORE = "llem-core"
#: The module of the core's own plugin.
BUILTIN = "llem.builtin"
KNOWN_PACKAGES: Mapping[str, str] = {
    "pytorch": "llem-pytorch",
    "vllm": "llem-vllm",
    "tensorrt": "llem-tensorrt",
    "openai": "llem-openai",
    "zeus": "llem-zeus",
    "codecarbon": "llem-codecarbon",
    "lmeval": "llem-lmeval",
    "slurm": "llem-slurm",
}
#: Which of these names are of which kind. A hint never crosses kinds. What else the core gives is in `llem.builtin`.
KNOWN_NAMES: Mapping[str, frozenset[str]] = {
    "backend": frozenset({"pytorch", "vllm", "tensorrt", "openai"}),
    "meter": frozenset({"zeus", "codecarbon"}),
    "evaluator": frozenset({"lmeval"}),
    "launcher": frozenset({"slurm"}),
}
#: Commands that no plugin can take, also those that are not there yet.
COMMANDS = frozenset(
    {
        *("run", "plan", "meter", "show", "compare", "recommend", "pareto", "report", "export", "bundle", "verify"),
        *("init", "doctor", "config", "plugins", "completion", "worker", "help"),
    }
)
#: What a study may hold. A file with any of these but `trials`, which experiments have too, is a study.
STUDY_KEYS = (
    "name",
    "includes",
    "base",
    "axes",
    "zip",
    "experiments",
    "exclude",
    "reference",
    "trials",
    "order",
    "limits",
    "parallel",
)
#: Settings of an experiment and of a study. A backend or a meter has a section of its own name beside them.
SETTINGS = frozenset(
    {
        *("model", "revision", "weights_seed", "trust_remote_code", "backend", "dtype", "device", "gpus", "workload"),
        *("load", "slo", "quality", "sampling", "warmup", "baseline", "meters", "preset", "window_s", "trials"),
        *("max_trials", "target_half_width", "processes", "token_times", "phases"),
        *STUDY_KEYS,
    }
)
#: What a backend can declare, all there is.
CAPABILITIES: Mapping[str, str] = {
    "generate": "runs batches, which every backend does",
    "stream": "runs requests beside one another, for serving loads",
    "token_times": "tells the time of each token of a batch",
    "memory": "tells its peak memory",
    "prefilled": "decodes from prompts that it computed before, for `phases: segregated`",
    "loglikelihood": "gives likelihoods of texts, for evaluators",
    "stop": "ends answers at stop texts, for evaluators",
}

NAME_RULE = "a name has small letters, digits, `-`, `_` and `.`, and begins with a letter or a digit"
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]*")


def is_name(name: object) -> bool:
    """Whether users can type it, and it means one thing only."""
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


def canonical(distribution: str) -> str:
    """A distribution's name as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", distribution).lower()
