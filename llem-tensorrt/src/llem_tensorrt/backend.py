"""The adapter that llem constructs. Imports neither torch nor tensorrt_llm until something is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from llem.backends.base import Backend, Holding, Placement
from llem.backends.sharing import engine_settings
from llem.config.models import Experiment
from llem.errors import MachineError
from llem.findings import Finding
from llem.models.spec import ModelSpec
from llem_tensorrt.checks import contradictions, lacking
from llem_tensorrt.config import TensorRTOptions
from llem_tensorrt.memory import holding

if TYPE_CHECKING:
    from llem_tensorrt.engine import TensorRTEngine

__all__ = ["TensorRTBackend"]


class TensorRTBackend(Backend):
    """Checks a configuration and loads it. Not yet run on the real library."""

    name = "tensorrt"

    def __init__(self, options: Any = None) -> None:
        super().__init__(TensorRTOptions() if options is None else options)

    def check(self, experiment: Experiment, model: ModelSpec) -> Sequence[Finding]:
        """Contradictions, and names in `extra` that are wrong, all of them, as findings `backend_check`."""
        return contradictions(self.options, experiment, model)

    def lacks(self, experiment: Experiment, capability: str) -> str | None:
        """Likelihoods, with block reuse (which is on by itself) or chunked prefill."""
        return lacking(self.options, capability)

    def holding(self, experiment: Experiment, model: ModelSpec) -> Holding:
        """By the dtype or the algorithm of a shape; what a checkpoint brings is read when it loads."""
        return holding(self.options, experiment, model)

    def engine_key(self, experiment: Experiment) -> str:
        """An engine for each experiment, unless block reuse is off: it cannot forget the prompts of others."""
        cache = self.options.kv_cache_config
        if cache is not None and cache.enable_block_reuse is False:
            return engine_settings(experiment)
        return repr(experiment)

    def load(self, experiment: Experiment, model: ModelSpec, placement: Placement) -> TensorRTEngine:
        """Load the model.

        Raises:
            ConfigError: an option is wrong, or unknown to the installed version; the model or adapter is not there.
            MachineError: no CUDA, or a package is missing.
            ExperimentFailed: out of memory (`code` "oom").
        """
        if placement.device != "cuda":
            raise MachineError(
                "TensorRT-LLM runs on NVIDIA GPUs only, and there is none to use",
                "check the driver with `llem doctor`, or use another backend",
            )
        from llem_tensorrt.engine import TensorRTEngine
        from llem_tensorrt.loading import load_model

        return TensorRTEngine(load_model(experiment, self.options, model), self.options, experiment.sampling)
