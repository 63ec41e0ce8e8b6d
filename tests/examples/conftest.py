"""The example plugins of `docs/examples`, found by their entry points as if they were installed."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

import pytest

import llem
from llem.plugins.registry import registry
from llem.store.models import Result

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """`example("mlflow_observer")`: its package can be imported, and llem finds its entry point."""

    def install(folder: str) -> None:
        project = tomllib.loads((EXAMPLES / folder / "pyproject.toml").read_text(encoding="utf-8"))
        name, version = project["project"]["name"], project["project"]["version"]
        registry.cache_clear()
        if any(one.name == name for one in metadata.distributions()):
            return  # it is installed
        info = tmp_path / "site" / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        points = project["project"]["entry-points"]["llem"]
        (info / "entry_points.txt").write_text("[llem]\n" + "".join(f"{key} = {at}\n" for key, at in points.items()))
        monkeypatch.syspath_prepend(str(EXAMPLES / folder / "src"))
        monkeypatch.syspath_prepend(str(info.parent))

    yield install
    registry.cache_clear()
    for module in [one for one in sys.modules if one.startswith(("llem_mlflow", "llem_wandb", "llem_prometheus"))]:
        del sys.modules[module]


@pytest.fixture
def measured(isolated_llem) -> Callable[..., Result]:
    """`measured(**settings)`: the result of a run with echo of a second, in this process, into the folder `out`."""

    def run(**settings: object) -> Result:
        short = {"preset": "quick", "device": "cpu", "window_s": 0.2, "warmup": {"seconds": 0.0}}
        rest = {"baseline": {"seconds": 0.0}, "workload": {"output_tokens": 8, "input_tokens": 8}}
        return llem.run(backend="echo", out="out", launcher="inline", **{**short, **rest, **settings})

    return run
