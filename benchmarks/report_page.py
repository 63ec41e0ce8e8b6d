"""How long a browser takes until the page of a report can be used, for studies of growing size.

`python benchmarks/report_page.py` prints for each size: megabytes of the file, nodes of the page, milliseconds from the
request of the page until its script has drawn everything, and those of a filter, of a sort and of the opening of an
experiment until they are painted. Needs Chromium and Playwright (`nox -s page` installs both). Times are of this
machine and of what else runs on it; the tests hold the number of nodes instead.
"""

from __future__ import annotations

import runpy
import shutil
import statistics
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

from llem.reports.page.html import page as page_of

ROOT = Path(__file__).parents[1]
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
REPEATS = 5

#: Does something and waits until the browser has painted it.
TIMED = """async (what) => {
  const painted = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done, 0)));
  await painted();
  const from = performance.now();
  if (what === 'filter') {
    const box = document.querySelector('#table input[type=search]');
    box.value = 'fp8'; box.dispatchEvent(new Event('input'));
  } else if (what === 'sort') document.querySelector('#table thead th:nth-child(6) button').click();
  else location.hash = document.querySelector('#table tbody a').getAttribute('href');
  await painted();
  return performance.now() - from;
}"""


def measured(page: Page, path: Path) -> dict[str, float]:
    """One visit: milliseconds, and the number of nodes."""
    page.goto("about:blank")
    page.goto(path.as_uri())
    found: dict[str, float] = {"ready": float(page.evaluate("document.documentElement.dataset.ready"))}
    found["nodes"] = page.evaluate("document.querySelectorAll('*').length")
    for what in ("filter", "sort", "open"):
        found[what] = page.evaluate(TIMED, what)
    return found


def main() -> None:
    """Print a line for each size."""
    study: Any = runpy.run_path(str(ROOT / "tests" / "page" / "samples.py"))["study"]
    print("experiments    MB   nodes  ready ms  filter ms  sort ms  open ms")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        for count in (8, 100, 1000):
            path = Path(folder, f"{count}.html")
            document, details = study(count)
            path.write_text("".join(page_of(document, details.items())), encoding="utf-8")
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            visits = [measured(page, path) for _ in range(REPEATS)]
            median = {key: statistics.median(one[key] for one in visits) for key in visits[0]}
            print(
                f"{count:11,} {path.stat().st_size / 1e6:5.1f} {median['nodes']:7,.0f} {median['ready']:9,.0f} "
                f"{median['filter']:10,.0f} {median['sort']:8,.0f} {median['open']:8,.0f}"
            )
            page.close()
        browser.close()


if __name__ == "__main__":
    main()
