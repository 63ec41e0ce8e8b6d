"""A configuration checked again, once it is known where it runs."""

from __future__ import annotations

import pytest

from llem.backends.base import Placement, Scored
from llem.backends.check import check_placed, check_scored
from llem.backends.echo import EchoBackend
from llem.config.models import Experiment
from llem.errors import ConfigError
from llem.findings import finding
from llem.models.resolve import resolve_model

TINY = resolve_model("shape:tiny")


class Choosy(EchoBackend):
    """Refuses the CPU, and warns on CUDA."""

    def check(self, experiment, model):
        if experiment.device == "cpu":
            return [finding("backend_check", "device: needs a GPU", parameter="device")]
        return [finding("prompt_as_text", "sends text")] if experiment.device == "cuda" else []


def test_what_hung_on_the_device_is_refused_once_it_is_known() -> None:
    """With the backend's name, the device and its reason; a warning refuses nothing."""
    experiment = Experiment(backend="echo")
    check_placed(Choosy(), experiment, TINY, Placement("cuda", ("GPU-a",)))
    with pytest.raises(ConfigError, match="backend echo cannot run this on cpu") as caught:
        check_placed(Choosy(), experiment, TINY, Placement("cpu"))

    assert [problem.message for problem in caught.value.problems] == ["device: needs a GPU"]


def test_a_continuation_of_nothing_is_refused() -> None:
    """A model predicts nothing from nothing; an empty continuation is certain."""
    check_scored([Scored((1,), (2, 3)), Scored((), ())], 3, "of this test")
    with pytest.raises(ConfigError, match="follows no token"):
        check_scored([Scored((1,), (2,)), Scored((), (2,))], None, "of this test")
