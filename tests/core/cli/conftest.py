"""What these tests leave out: other work on the machine that runs them, of which `llem run` would tell."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def quiet_host(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The host is quiet, but for a test that asks for `busy_host`."""
    if "busy_host" not in request.fixturenames:
        monkeypatch.setattr("llem.devices.load.BUSY_CORES", float("inf"))
