"""Registries with plugins made up here: backends, meters and workloads with settings, and careless ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import attrs
import pytest

from llem.config.fields import at_least, between, option
from llem.config.models import Quality
from llem.plugins import Reference, hookimpl
from llem.plugins.claims import Plugin
from llem.plugins.names import KNOWN_PACKAGES
from llem.plugins.registry import PluginSet, Registry


@attrs.frozen(kw_only=True)
class EchoConfig:
    """Settings of the fake backend."""

    delay_s: float = option(0.0, help="Time per token.", unit="s", validator=at_least(0))
    compile: bool | None = option(None, help="Compile first.")
    bits: Literal[4, 8] | None = option(None, help="Bits of a weight.")
    share: float | None = option(None, help="Share of the memory.", validator=between(0, 1))
    adapter: str | None = option(None, help="Folder of an adapter.", file=True)
    extra: Mapping[str, Any] = option(factory=dict, help="Handed on as it is.")


@attrs.frozen(kw_only=True)
class FastConfig:
    """Settings of another fake backend."""

    torch_compile: bool = option(False, help="Compile first.")
    cuda_graphs: tuple[int, ...] | None = option(None, help="Batch sizes with a graph.")


@attrs.frozen(kw_only=True)
class MeterConfig:
    """Settings of a fake meter."""

    country: str = option("DE", help="Where the energy comes from.")


@attrs.frozen(kw_only=True)
class Uniform:
    """Lengths from low to high."""

    kind: Literal["uniform"] = option("uniform", help="Equally likely lengths.")
    low: int = option(help="Shortest.", validator=at_least(1))
    high: int = option(help="Longest.")

    @high.validator
    def _not_below_low(self, attribute: Any, value: int) -> None:
        if value < self.low:
            raise ValueError(f"must not be below low ({self.low}), got {value}")


@attrs.frozen(kw_only=True)
class Lognormal:
    """Lengths whose logarithm is normal."""

    kind: Literal["lognormal"] = option("lognormal", help="Lognormal lengths.")
    mean: float = option(help="Mean.")


@attrs.frozen(kw_only=True)
class SyntheticConfig:
    """Random token ids."""

    kind: Literal["synthetic"] = option("synthetic", help="Random token ids.")
    input_tokens: int | Uniform | Lognormal = option(128, help="Length of a prompt.", unit="tokens")
    seed: int = option(0, help="Seed.")


@attrs.frozen(kw_only=True)
class FileConfig:
    """Prompts from a file."""

    kind: Literal["file"] = option("file", help="Prompts from a file.")
    path: str = option(help="The file.", file=True)


@attrs.frozen(kw_only=True)
class SpellingConfig(Quality):
    """Settings of a fake evaluator."""

    strict: bool = option(False, help="Count capital letters.")


class NoKindConfig:
    """Not an attrs class, and without `kind`: what a careless plugin may bring."""


@attrs.frozen(kw_only=True)
class UnresolvableConfig:
    """Has an annotation that names what is not there."""

    size: Nowhere = option(1, help="Names a type that does not exist.")  # noqa: F821


def here(cls: type) -> str:
    return f"{__name__}:{cls.__name__}"


def make(
    backends: Mapping[str, type | None],
    meters: Mapping[str, type | None],
    workloads: Mapping[str, type | None],
    evaluators: Mapping[str, type | None],
) -> Registry:
    """A registry with these names, each with its config class; a name of one of our packages is from that package."""
    given = {"backend": backends, "meter": meters, "workload": workloads, "evaluator": evaluators}

    class Hooks:
        def __init__(self, distribution: str) -> None:
            self._distribution = distribution

        def _references(self, kind: str) -> list[Reference]:
            return [
                Reference(name, "nowhere:Nothing", config=None if cls is None else here(cls))
                for name, cls in given[kind].items()
                if KNOWN_PACKAGES.get(name, "llem-fake") == self._distribution
            ]

        @hookimpl
        def llem_backends(self) -> list[Reference]:
            return self._references("backend")

        @hookimpl
        def llem_meters(self) -> list[Reference]:
            return self._references("meter")

        @hookimpl
        def llem_workloads(self) -> list[Reference]:
            return self._references("workload")

        @hookimpl
        def llem_evaluators(self) -> list[Reference]:
            return self._references("evaluator")

    found = PluginSet()
    for distribution in ("llem-fake", *KNOWN_PACKAGES.values()):
        found.add(Plugin("fake", "fake", distribution, "1"), Hooks(distribution))
    return Registry(found)


METERS = {"nvml": None, "rapl": None, "codecarbon": MeterConfig}
WORKLOADS = {"synthetic": SyntheticConfig, "file": FileConfig}
EVALUATORS = {"spelling": SpellingConfig, "plain": None}


@pytest.fixture(scope="session")
def registry() -> Registry:
    """Backends echo and fast, meters nvml, rapl and codecarbon, workloads synthetic and file, evaluators too."""
    return make({"echo": EchoConfig, "fast": FastConfig}, METERS, WORKLOADS, EVALUATORS)


@pytest.fixture(scope="session")
def with_backends() -> Callable[..., Registry]:
    """The same with other backends: `with_backends("a", "b")`; all take no settings."""
    return lambda *names: make(dict.fromkeys(names), METERS, WORKLOADS, EVALUATORS)


@pytest.fixture(scope="session")
def careless() -> Registry:
    """A registry in which some plugins bring config classes that cannot be used."""
    return make(
        {"echo": EchoConfig, "careless": UnresolvableConfig},
        {"plain": NoKindConfig},
        {"synthetic": SyntheticConfig, "nokind": EchoConfig, "nothing": None},
        {"spelling": SpellingConfig, "unlike": EchoConfig},
    )
