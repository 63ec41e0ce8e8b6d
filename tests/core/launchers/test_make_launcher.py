"""A launcher by its name, with its section of the user configuration."""

from __future__ import annotations

import pytest

from llem.errors import ConfigError, UnknownPlugin
from llem.launchers.base import make_launcher
from llem.launchers.docker import DockerLauncher
from llem.plugins.registry import registry


def test_without_a_section_the_defaults_hold() -> None:
    """Docker needs no configuration where its images have the names that the documentation gives them."""
    made = make_launcher("docker", registry(), {})

    assert isinstance(made, DockerLauncher)
    assert (made.options.network, made.options.image) == ("none", {})


def test_a_section_is_the_launchers_options() -> None:
    """Typed by its class, including null for a variable that is passed on."""
    section = {"image": {"vllm": "mine:2"}, "network": "host", "env": {"HF_TOKEN": None}, "mounts": ["~/models"]}
    made = make_launcher("docker", registry(), {"docker": section})

    assert made.options.image == {"vllm": "mine:2"}
    assert made.options.env == {"HF_TOKEN": None}
    assert made.options.mounts == ("~/models",)


@pytest.mark.parametrize(
    ("sections", "error", "text"),
    [
        (
            {"docker": {"netwrk": "none"}},
            ConfigError,
            "launchers.docker.netwrk: unknown field (did you mean 'network'?)",
        ),
        ({"docker": {"network": "bridged"}}, ConfigError, "launchers.docker.network: must be one of"),
        ({"process": {"nice": 3}}, ConfigError, "launchers.process: this launcher takes no settings"),
        ({"dokcer": {}}, UnknownPlugin, "did you mean 'docker'"),
    ],
)
def test_mistakes_are_named(sections, error, text: str, isolated_llem) -> None:
    """A misspelt launcher or setting, and a section that is of no use, are told with the file where they stand."""
    with pytest.raises(error) as caught:
        make_launcher("process" if "process" in sections else "docker", registry(), sections)

    assert text in str(caught.value)
    assert str(isolated_llem.config) in str(caught.value)
