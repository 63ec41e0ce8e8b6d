"""Reading what is stored: results, their page, and how a notebook shows them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llem.analysis.collection import Results
from llem.analysis.prices import Prices, read_prices
from llem.display import drawn_by
from llem.reports.page.document import Report
from llem.reports.page.target import write_report
from llem.store.store import Store

__all__ = ["load_results", "report"]


def _html(shown: Any) -> str:
    from llem.reports.notebook import html  # imported for the first object that a notebook shows

    return html(shown)


drawn_by(_html)


def load_results(folder: str | Path, prices: Prices | str | Path | None = None) -> Results:
    """Every stored result of a folder, by experiment id, in the study's order; each is read when it is asked for.

    Args:
        prices: with which every result has metrics of cost and carbon too; or a YAML file of them.

    Raises:
        StoreError: the folder is no store. ConfigError: the file of prices cannot be read or is invalid.
    """
    given = read_prices(prices) if isinstance(prices, (str, Path)) else prices
    return Results.open(Store.open(folder), given)


def report(results: Results | str | Path, path: str | Path = "report.html", **asked: str | None) -> Report:
    """Write results as one HTML file that opens without llem and without a network.

    Args:
        results: of a folder, or the folder.
        path: the file. One that is there is replaced if it is a page of HTML.
        asked: `minimise`, `maximise`, `slo`, `quality`, `memory`, `power` and `reference`, as of `Results.recommend`.

    Returns what was written: `head` is the document of the page, with the verdict.

    Raises:
        LlemError: an option is wrong, the folder is no store, or the file is no page of HTML or cannot be written.
    """
    return write_report(results if isinstance(results, Results) else load_results(results), path, **asked)
