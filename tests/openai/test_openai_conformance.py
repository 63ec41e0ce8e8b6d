"""The suite that every backend passes, against a server that runs already."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from llem.config.models import Experiment
from llem.plugins import Reference
from llem.testing.conformance import BackendConformance, LikelihoodConformance, WireConformance
from llem_openai.config import OpenAIOptions
from llem_openai.hooks import llem_backends

pytestmark = pytest.mark.process


class TestOpenAI(WireConformance, LikelihoodConformance, BackendConformance):
    """The backend `openai`, with a server that gives token ids, as the suite compares outputs."""

    hooks = "llem_openai.hooks"

    def reference(self) -> Reference:
        return llem_backends()[0]

    @pytest.fixture(scope="class")
    @classmethod
    def server(cls, server_class: Any) -> Iterator[Any]:
        """The server, whose longest answer lasts for as long as it takes to send others."""
        server = server_class("--eos", "5", "--context", "128", "--delay", "0.005")
        yield server
        server.stop()

    @pytest.fixture(scope="class")
    @classmethod
    def options(cls, server: Any) -> OpenAIOptions:
        return OpenAIOptions(base_url=server.url, return_token_ids=True)

    @pytest.fixture(scope="class")
    @classmethod
    def experiment(cls, options: Any) -> Experiment:
        return Experiment(model="shape:tiny", backend="openai", dtype="auto", device="cpu", options=options)
