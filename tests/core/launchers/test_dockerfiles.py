"""The Dockerfiles of the repository: pinned, not root, and with the versions that were tested."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from llem.launchers.docker import DOCKERFILES

REPOSITORY = Path(__file__).parents[3]


@pytest.mark.parametrize("backend", DOCKERFILES)
def test_an_image_is_pinned_and_not_root(backend: str) -> None:
    """Its base has a version or is for the builder to name, its user is not root, and it installs core and backend."""
    text = (REPOSITORY / "containers" / backend / "Dockerfile").read_text(encoding="utf-8")
    [base] = re.findall(r"^ARG BASE(=\S+)?$", text, re.M)

    assert re.search(r":v?\d+\.\d+\.\d+", base) or (backend, base) == ("tensorrt", "")
    assert set(re.findall(r"^FROM (\S+)", text, re.M)) == {"${BASE}"}
    assert re.findall(r"^USER (\S+)$", text, re.M) == ["llem"]
    assert "/wheels/llem_core-*.whl" in text
    assert f"/wheels/llem_{backend}-*.whl" in text


def test_every_dockerfile_is_known_to_the_launcher() -> None:
    """Its error for a missing image names the Dockerfile where there is one."""
    assert {path.parent.name for path in REPOSITORY.glob("containers/*/Dockerfile")} == set(DOCKERFILES)


def test_the_versions_are_those_that_were_tested() -> None:
    """The image for PyTorch takes what the constraints of the tests say."""
    text = (REPOSITORY / "containers" / "pytorch" / "Dockerfile").read_text(encoding="utf-8")
    tested = (REPOSITORY / "constraints" / "cpu.txt").read_text(encoding="utf-8").splitlines()
    [torch] = re.findall(r'^ARG TORCH="(\S+)"$', text, re.M)
    [engine] = re.findall(r'^ARG ENGINE="(.+)"$', text, re.M)

    assert torch in tested
    assert set(engine.split()) <= set(tested)
