"""The backend `vllm`. Light to import: vllm and torch are imported by `load`, never by `check`."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Any

from llem.backends.base import Backend, Holding, Placement
from llem.backends.sharing import engine_settings
from llem.config.models import Experiment
from llem.findings import Finding
from llem.models.spec import ModelSpec
from llem_vllm.canonical import canonical, holding
from llem_vllm.checks import contradictions, lacking
from llem_vllm.config import VllmOptions
from llem_vllm.process import EngineEnvironment

if TYPE_CHECKING:
    from llem_vllm.engine import VllmEngine

__all__ = ["VllmBackend"]


class VllmBackend(Backend):
    """Checks a configuration and loads it."""

    name = "vllm"

    def __init__(self, options: Any = None) -> None:
        super().__init__(VllmOptions() if options is None else options)

    def check(self, experiment: Experiment, model: ModelSpec) -> Sequence[Finding]:
        """Contradictions, and names that the installed vLLM does not know, as findings `backend_check`."""
        return contradictions(self.options, experiment, model)

    def lacks(self, experiment: Experiment, capability: str) -> str | None:
        """Settings that hide or change log probabilities, and beam search, which no text ends."""
        return lacking(self.options, capability)

    def canonical(self, experiment: Experiment) -> Experiment:
        """Without settings that are what vLLM does by itself; see `llem_vllm.canonical`."""
        return canonical(self.options, experiment)

    def engine_key(self, experiment: Experiment) -> Hashable:
        """One engine serves every kind of load that is not offline. For quality it has the model's tokenizer."""
        offline, evaluated = experiment.load.kind == "offline", experiment.quality is not None
        return offline, evaluated, engine_settings(experiment, but=("load.kind",))

    def holding(self, experiment: Experiment, model: ModelSpec) -> Holding:
        """By the dtype, unless weights are quantised or offloaded, or further arguments may say so."""
        return holding(self.options, experiment)

    def load(self, experiment: Experiment, model: ModelSpec, placement: Placement) -> VllmEngine:
        """Load the model. What vLLM reads from the environment is set until the engine is closed.

        Raises:
            ConfigError: the model or adapter is not there or does not fit, or an option does not suit the device.
            MachineError: the installed build of vLLM is for another device, or a package is missing.
            ExperimentFailed: out of memory (`code` "oom"), or the engine's process ended.
        """
        environment = EngineEnvironment.apply(self.options)
        try:
            from llem_vllm.loading import check_platform, load_engine

            check_platform(placement)
            return load_engine(experiment, self.options, model, environment)
        except BaseException:
            environment.restore()
            raise
