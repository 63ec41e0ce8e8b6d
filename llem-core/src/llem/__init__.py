"""llem: which deployment configuration? Energy, compute, time and quality of LLM inference, with an error bar."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llem.analysis.collection import Results
    from llem.analysis.decision import Recommendation
    from llem.analysis.prices import Prices, read_prices
    from llem.api import load_results, load_study, report, run, run_study
    from llem.config.models import Experiment
    from llem.errors import ConfigError, ExperimentFailed, LlemError, MachineError, StoreError
    from llem.findings import Finding
    from llem.plugins import Reference, hookimpl
    from llem.reports.export import export
    from llem.store.bundle import bundle
    from llem.store.models import Quantity, Result

__version__ = "0.1.0"

__all__ = [
    "ConfigError",
    "Experiment",
    "ExperimentFailed",
    "Finding",
    "LlemError",
    "MachineError",
    "Prices",
    "Quantity",
    "Recommendation",
    "Reference",
    "Result",
    "Results",
    "StoreError",
    "__version__",
    "bundle",
    "export",
    "hookimpl",
    "load_results",
    "load_study",
    "read_prices",
    "report",
    "run",
    "run_study",
]

#: Where each public name lives. They are imported when first used: `llem --help` and every plugin's `hooks` module
#: import this package, and must stay fast.
_HOMES = {
    "ConfigError": "llem.errors",
    "Experiment": "llem.config.models",
    "ExperimentFailed": "llem.errors",
    "Finding": "llem.findings",
    "LlemError": "llem.errors",
    "MachineError": "llem.errors",
    "Prices": "llem.analysis.prices",
    "Quantity": "llem.store.models",
    "Recommendation": "llem.analysis.decision",
    "Reference": "llem.plugins",
    "Result": "llem.store.models",
    "Results": "llem.analysis.collection",
    "StoreError": "llem.errors",
    "bundle": "llem.store.bundle",
    "export": "llem.reports.export",
    "hookimpl": "llem.plugins",
    "load_results": "llem.api",
    "load_study": "llem.api",
    "read_prices": "llem.analysis.prices",
    "report": "llem.api",
    "run": "llem.api",
    "run_study": "llem.api",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
