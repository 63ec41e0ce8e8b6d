"""The example notebook runs from its first cell to its last, and its output is what the how-to page says."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parents[2] / "docs" / "examples" / "notebook.ipynb"
#: The session `docs` installs a Jupyter kernel and an engine after all other tests, for this one.
LACKING = [name for name in ("nbclient", "nbconvert", "ipykernel") if importlib.util.find_spec(name) is None]


@pytest.mark.process
@pytest.mark.timeout(900)
@pytest.mark.backends("pytorch")
@pytest.mark.skipif(bool(LACKING), reason=f"not installed: {', '.join(LACKING)}")
def test_the_example_notebook_runs(tmp_path, monkeypatch):
    """Each result is shown as a table, the recommendation with a plot, and none of it as an error."""
    import nbformat
    from nbclient import NotebookClient
    from nbconvert import HTMLExporter

    monkeypatch.setenv("LLEM_CONFIG", str(tmp_path / "config.yaml"))
    (tmp_path / "config.yaml").write_text("")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells), "it is stored without output"
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [
        output.data.get("text/html", "")
        for cell in notebook.cells
        for output in cell.get("outputs", ())
        if output.output_type == "execute_result"
    ]
    text, _ = HTMLExporter().from_notebook_node(notebook)

    assert sum("<table" in one for one in shown) == 4
    assert ["<svg" in one for one in shown].count(True) == 1
    assert "none (not_requested)" in text
    assert "has the highest output tokens/s" in text
    assert "cannot show this" not in text
