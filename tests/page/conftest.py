"""A headless Chromium that opens pages of reports from files, and lets nothing else be fetched."""

from __future__ import annotations

import os
import runpy
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from llem.reports.page.html import page as page_of

#: Set by the nox session that installs Chromium: without it these tests are skipped, with it they must run.
WANTED = "LLEM_TEST_PAGE"
#: No sandbox: it needs a user namespace, which root of a container has not. The others keep Chromium from calling home.
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip


@pytest.fixture(scope="session")
def samples() -> dict[str, Any]:
    """Functions that make documents, by name."""
    return runpy.run_path(str(Path(__file__).parent / "samples.py"))


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Debian's Chromium, driven by Playwright; its user folder is its own and is removed."""
    if not os.environ.get(WANTED):
        pytest.skip(f"needs Chromium: `nox -s page`, or set {WANTED}=1")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=shutil.which("chromium"), args=list(FLAGS))
        yield opened
        opened.close()


@pytest.fixture
def show(browser: Any, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Writes a report to a file and opens it; at the end, no page may have failed, complained or asked for anything."""
    contexts, told = [], []

    def opened(made: tuple[Any, Any], fragment: str = "", **settings: Any) -> Any:
        document, details = made
        path = tmp_path / "report.html"
        path.write_text("".join(page_of(document, details.items())), encoding="utf-8")
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **settings})
        context.set_default_timeout(15_000)
        contexts.append(context)

        def asked(route: Any) -> None:
            if route.request.url.split("#")[0] == path.as_uri():
                route.continue_()
            else:
                told.append(f"request: {route.request.url}")
                route.abort()

        context.route("**/*", asked)
        one = context.new_page()
        one.on("console", lambda message: told.append(f"console: {message.type} {message.text}"))
        one.on("pageerror", lambda error: told.append(f"error: {error}"))
        one.goto(path.as_uri() + fragment)
        return one

    yield opened
    for context in contexts:
        context.close()
    assert told == []
