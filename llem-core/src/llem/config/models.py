"""The Experiment: one fixed configuration, as frozen data; and the config classes of plugins.

Nothing here reads files, the machine or the environment.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import attrs

from llem.config.arrival import ClosedLoad, CommandLoad, OfflineLoad, OpenLoad, ReplayLoad
from llem.config.converter import kinds_of, settings
from llem.config.fields import DAY_S, Gpus, HowMany, at_least, between, how_many, option
from llem.config.slo import SLO_PRESETS, Slo
from llem.errors import BrokenPlugin
from llem.plugins.registry import Kind, Registry

__all__ = [
    "DEFAULT_METERS",
    "DEFAULT_WORKLOAD",
    "PRESETS",
    "SLO_PRESETS",
    "WINDOWS",
    "Baseline",
    "ClosedLoad",
    "CommandLoad",
    "Experiment",
    "OfflineLoad",
    "OpenLoad",
    "Phases",
    "Preset",
    "Quality",
    "Sampling",
    "Slo",
    "Warmup",
    "config_class",
    "least_trials",
]

#: Trials of one experiment; each of them is planned before the first is measured.
MOST = 100_000

Preset = Literal["quick", "standard", "publication"]
Dtype = Literal["auto", "float32", "float16", "bfloat16"]
Device = Literal["auto", "cpu", "cuda"]
Phases = Literal["none", "differential", "segregated", "regression"]
#: Windows of a trial, by how phases are told apart; see `llem.metrics.phases`.
WINDOWS: Mapping[Phases, int] = {"none": 1, "differential": 3, "segregated": 3, "regression": 6}


@attrs.frozen(kw_only=True)
class Sampling:
    """How the next token is chosen."""

    temperature: float = option(0.0, help="0 is greedy: the most likely token.", validator=at_least(0))
    top_k: int | None = option(None, help="Choose among the k most likely tokens.", validator=at_least(1))
    top_p: float | None = option(None, help="Choose among tokens of this total probability.", validator=between(0, 1))
    min_p: float | None = option(
        None, help="Drop tokens less likely than this share of the most likely one.", validator=between(0, 1)
    )
    repetition_penalty: float | None = option(None, help="Above 1 discourages repetition.", validator=at_least(0))
    seed: int = option(0, help="Seed of sampling.")
    ignore_eos: bool = option(
        True, help="Generate the requested number of tokens, so that every configuration does the same work."
    )

    def request_seed(self, index: int) -> int:
        """The seed of one request by itself, the same with every engine that seeds requests: 0 … 2^63 - 1."""
        return (self.seed * 1_000_003 + index) % 2**63


@attrs.frozen(kw_only=True)
class Warmup:
    """Work done before anything is measured, in a fixed amount: full-length batches, then a loaded thermal warm-up."""

    batches: int = option(
        2,
        help="Full-length batches first, for compilation, graphs and caches. With a serving load: single requests.",
        validator=at_least(0),
    )
    seconds: float = option(
        30.0,
        help="Then run the same load for at least this long, so that temperature settles.",
        unit="s",
        validator=between(0, DAY_S),
    )


@attrs.frozen(kw_only=True)
class Baseline:
    """Idle power of the same process with the engine resident, for net energy."""

    seconds: float = option(
        30.0, help="Length of the idle measurement; 0 measures none.", unit="s", validator=between(0, DAY_S)
    )
    discard_seconds: float = option(
        10.0, help="Discard this much of its beginning, while power settles.", unit="s", validator=between(0, DAY_S)
    )

    def kept_s(self, phase: Literal["before", "after"]) -> float:
        """Seconds of idle that are measured, past those left out; 1 at least.

        The baseline after the trials is half as long as the one before them: it is there to show drift.
        """
        if self.seconds == 0:
            return 0.0
        kept = max(self.seconds - self.discard_seconds, 1.0)
        return kept if phase == "before" else kept / 2

    def length_s(self, phase: Literal["before", "after"]) -> float:
        """Seconds that the baseline takes, with those left out; 0 where none is wanted."""
        return self.discard_seconds + self.kept_s(phase) if self.seconds else 0.0


def _some(_: Any, attribute: Any, value: tuple[str, ...]) -> None:
    if not value or len(set(value)) < len(value):
        raise ValueError("must name each task once, and one at least")


@attrs.frozen(kw_only=True)
class Quality:
    """What every evaluator's section has; an evaluator adds its own settings in a class that inherits from it."""

    evaluator: str = option(help="The evaluator: a name from `llem plugins`.")
    tasks: tuple[str, ...] = option(help="Tasks, by the evaluator's names.", validator=_some)
    limit: int | None = option(None, help="Items of each task, at most. Null takes all items.", validator=at_least(1))
    force: bool = option(False, help="Score random weights too, although their answers mean nothing.")


@attrs.frozen(kw_only=True)
class Experiment:
    """One fixed configuration: what runs, on what, and how it is measured."""

    model: str = option(
        "shape:tiny",
        help="A Hugging Face id, a folder, `shape:NAME` (an architecture with seeded random weights), or `served:NAME` "
        "(what a server lists as NAME).",
    )
    revision: str | None = option(None, help="Branch, tag or commit of a Hugging Face model.")
    weights_seed: int = option(0, help="Seed of the random weights of a `shape:` model.")
    trust_remote_code: bool = option(False, help="Allow code that comes with the model to run.")
    backend: str = option(help="The backend: a name from `llem plugins`.")
    dtype: Dtype = option("bfloat16", help="Number format of weights and activations. `auto` takes the model's own.")
    device: Device = option("auto", help="`auto` takes CUDA if a GPU is visible, else the CPU. The result says which.")
    gpus: Gpus = option(
        None,
        help="GPUs to use. A list names them by index or UUID. A number takes this many visible and free GPUs, "
        "whatever their model. Null takes the first visible GPU.",
        validator=HowMany(),
    )
    workload: Any = option(None, help="Which requests are sent: a section whose `kind` names a workload.")
    load: OfflineLoad | ClosedLoad | OpenLoad | ReplayLoad | CommandLoad = option(
        factory=OfflineLoad, help="How the requests arrive."
    )
    slo: Slo | None = option(
        None,
        help="Limits on the latencies of a serving load, applied after the measurement. With `load.request_rate: max` "
        "they decide the rate.",
    )
    quality: Any = option(
        None,
        help="A section whose `evaluator` names an evaluator. It scores each engine configuration after the last "
        "trial, outside every window. Null evaluates nothing.",
    )
    sampling: Sampling = option(factory=Sampling, help="How tokens are chosen.")
    warmup: Warmup = option(factory=Warmup, help="Work before the first window.")
    baseline: Baseline = option(factory=Baseline, help="Idle measurement for net energy.")
    meters: tuple[str, ...] | None = option(
        None,
        help="Meters by name. Results report the first meter that covers a domain. Null takes the built-in meters "
        "that work here (nvml, rapl). If a meter named here cannot measure, llem ends with an error.",
    )
    preset: Preset = option("standard", help="Defaults for the measurement: quick, standard or publication.")
    window_s: float = option(10.0, help="Least length of a measured window.", unit="s", validator=between(0.1, DAY_S))
    trials: int = option(5, help="Trials, at least.", validator=between(1, MOST))
    max_trials: int = option(
        10,
        help="Trials, at most. llem makes more than `trials` where the first three scatter too much for the target.",
        validator=between(1, MOST),
    )
    target_half_width: float = option(
        0.01,
        help="Half-width of the 95 % interval, as a share of the mean, that the number of trials is chosen for.",
        validator=at_least(0),
    )
    processes: int = option(
        1,
        help="Engine processes that share the trials. If `processes` is above `trials`, llem raises the number of "
        "trials to one for each process.",
        validator=between(1, MOST),
    )
    token_times: bool = option(
        False,
        help="Record the time of every token of an offline load (TTFT, TPOT, ITL). Recording slows the engine, and the "
        "result has a finding. A serving load streams, so it always has these times.",
    )
    phases: Phases = option(
        "none",
        help="Measure prefill and decode energy of an offline load apart. `differential` adds windows with one output "
        "token a request to each trial, and windows in which these alternate with whole batches. `segregated` adds "
        "windows of prompts alone and of decoding alone, where the engine can. `regression` adds windows of shorter "
        "prompts and answers, to which it fits joules per token. A trial takes three times as long, and six times with "
        "`regression`.",
    )
    options: Any = option(None, help="The backend's own section, named after it.")
    meter_options: Mapping[str, Any] = option(factory=dict, help="Sections of meters, each named after its meter.")

    @property
    def gpu_count(self) -> int | None:
        """How many GPUs `gpus` asks for; None where it leaves that open."""
        return how_many(self.gpus)

    @property
    def windows_s(self) -> float:
        """Seconds of all windows of a trial, at least."""
        return self.window_s * WINDOWS[self.phases]

    @property
    def least_trials(self) -> int:
        """Trials at least, over all engine processes."""
        return least_trials(self.trials, self.processes)

    @property
    def most_trials(self) -> int:
        """Trials at most, over all engine processes."""
        return max(self.max_trials, self.least_trials)


def least_trials(trials: int, processes: int) -> int:
    """Trials that are measured at least: those asked for, and one in each engine process."""
    return max(trials, processes)


#: Meters of `meters: null`, each used where it is present. A fixed list: installing a package never changes it.
DEFAULT_METERS = ("nvml", "rapl")

#: The workload where the `workload` section names no `kind`.
DEFAULT_WORKLOAD = "synthetic"

#: What each preset sets where the user sets nothing. Windows and warm-up: recommended protocol of the methodology.
#: Trials and processes: on an H200 energy per token varied by 0.3 to 0.6 % between windows of 5 s of one process, and
#: by 0.2 to 0.4 % (speed by up to 1.5 %) between processes; see docs/explanation/statistics.md. Five processes of two
#: trials give an interval of ± 1.2 standard deviations of a process mean, two processes of five ± 9.
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "quick": {
        "window_s": 5.0,
        "trials": 1,
        "max_trials": 1,
        "warmup.batches": 1,
        "warmup.seconds": 3.0,
        "baseline.seconds": 5.0,
        "baseline.discard_seconds": 2.0,
    },
    "standard": {"window_s": 10.0, "trials": 5, "max_trials": 10},
    "publication": {
        "window_s": 60.0,
        "trials": 10,
        "max_trials": 20,
        "warmup.seconds": 120.0,
        "processes": 5,
    },
}


def config_class(registry: Registry, kind: Kind, name: str) -> Any:
    """The attrs class that types a plugin's section; None where it takes no settings. An evaluator takes some always.

    Raises:
        UnknownPlugin: no such plugin.
        BrokenPlugin: its class does not import, is no attrs class, for a workload has no field `kind`, or for an
            evaluator is no `Quality`.
    """
    reference = registry.reference(kind, name)
    try:
        cls = reference.load_config()
        if cls is not None:
            settings(cls)  # resolves annotations, which may name what cannot be imported
    except Exception as error:  # a stranger's module may raise anything
        raise _broken(kind, name, f"{type(error).__name__}: {error}") from error
    if kind == "workload" and (cls is None or name not in kinds_of(cls)):
        raise _broken(kind, name, f"it needs a field `kind: Literal[{name!r}]`, by which the section names it")
    if kind == "evaluator":
        cls = Quality if cls is None else cls
        if not issubclass(cls, Quality):
            raise _broken(kind, name, "it must inherit from llem.config.models.Quality")
    return cls


def _broken(kind: str, name: str, why: str) -> BrokenPlugin:
    return BrokenPlugin(
        f"the config class of {kind} {name!r} cannot be used: {why}", "reinstall or remove the package that provides it"
    )
