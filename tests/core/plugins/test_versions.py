"""Versions of installed distributions."""

import sys
from importlib import metadata
from types import SimpleNamespace

from llem.plugins.reference import installed_versions, torch_versions


def test_only_what_is_installed_is_named():
    """A distribution that is not there is left out, not null."""
    assert installed_versions(["pluggy", "no-such-distribution"]) == {"pluggy": metadata.version("pluggy")}


def test_cuda_is_told_only_where_torch_is_imported(monkeypatch):
    """The CUDA version comes from an imported torch, and importing it is not this function's call."""
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    assert "torch_cuda" not in torch_versions(["pluggy"])
    assert "torch" not in sys.modules
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(version=SimpleNamespace(cuda="13.0")))
    assert torch_versions([])["torch_cuda"] == "13.0"
