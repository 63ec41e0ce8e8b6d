"""The backend `pytorch`. Light to import: torch and transformers are imported by `load`, never by `check`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from llem.backends.base import Backend, Holding, Placement
from llem.backends.sharing import batch_shapes, engine_settings
from llem.config.models import Experiment
from llem.findings import Finding
from llem.models.spec import ModelSpec
from llem_pytorch.canonical import canonical, weight_bits
from llem_pytorch.checks import contradictions, unkept
from llem_pytorch.config import STATIC_CACHES, PyTorchOptions

if TYPE_CHECKING:
    from llem_pytorch.engine import PyTorchEngine

__all__ = ["PyTorchBackend"]


class PyTorchBackend(Backend):
    """Checks a configuration and loads it."""

    name = "pytorch"

    def __init__(self, options: Any = None) -> None:
        super().__init__(PyTorchOptions() if options is None else options)

    def check(self, experiment: Experiment, model: ModelSpec) -> Sequence[Finding]:
        """Contradictions and missing packages, all of them, as findings `backend_check`."""
        return contradictions(self.options, experiment, model)

    def lacks(self, experiment: Experiment, capability: str) -> str | None:
        """Beam search does not end at texts; and settings with which no plain cache can be decoded from again."""
        if capability == "prefilled":
            return unkept(self.options)
        if capability == "stop" and (self.options.num_beams or 1) > 1:
            return "beam search does not end at texts; leave `pytorch.num_beams` at 1"
        return None

    def canonical(self, experiment: Experiment) -> Experiment:
        """Without settings that are what transformers and torch do by themselves; see `llem_pytorch.canonical`."""
        return canonical(self.options, experiment)

    def holding(self, experiment: Experiment, model: ModelSpec) -> Holding:
        """By the dtype, unless weights are quantised or may lie elsewhere."""
        return Holding(weight_bits=weight_bits(self.options, experiment))

    def engine_key(self, experiment: Experiment) -> tuple[object, ...]:
        """Sampling comes with each batch, and nothing of a prompt outlives it. What is compiled is compiled for its
        shapes, and torch falls back to slower code after a few of them: there load and workload count too, as far as
        they make shapes."""
        settings = engine_settings(experiment, but=("sampling", "token_times", "load.kind"))
        if self.options.torch_compile or self.options.cache_implementation in STATIC_CACHES:
            return settings, batch_shapes(experiment)
        return (settings,)

    def load(self, experiment: Experiment, model: ModelSpec, placement: Placement) -> PyTorchEngine:
        """Load the model and set what is process-wide (threads, float32 precision) until the engine is closed.

        Raises:
            ConfigError: the model or adapter is not there or does not fit, or an option does not suit the device.
            MachineError: no CUDA, or a package that the options need is missing.
            ExperimentFailed: out of memory (`code` "oom").
        """
        from llem_pytorch.engine import PyTorchEngine
        from llem_pytorch.loading import load
        from llem_pytorch.process import ProcessSettings

        settings = ProcessSettings.apply(self.options)
        try:
            loaded = load(experiment, self.options, model, placement)
            return PyTorchEngine(loaded, self.options, experiment.sampling, settings)
        except BaseException:
            settings.restore()
            raise
