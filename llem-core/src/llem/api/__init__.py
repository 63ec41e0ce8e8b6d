"""The library: what `import llem` gives. The command line is a thin layer over it."""

from llem.api.confirming import PreparedConfirmation, confirm, prepare_confirmation
from llem.api.measuring import Ready, load_study, prepare, run, run_study
from llem.api.reading import load_results, report

__all__ = [
    "PreparedConfirmation",
    "Ready",
    "confirm",
    "load_results",
    "load_study",
    "prepare",
    "prepare_confirmation",
    "report",
    "run",
    "run_study",
]
