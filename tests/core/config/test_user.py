"""The user's own configuration."""

from __future__ import annotations

import pytest

from llem.config.user import UserConfig, load_user_config, user_config_path
from llem.errors import ConfigError


@pytest.fixture
def load(tmp_path):
    """Load a user configuration with this text."""

    def _load(text):
        path = tmp_path / "mine.yaml"
        path.write_text(text)
        return load_user_config({"LLEM_CONFIG": str(path)})

    return _load


def test_values_are_read(load):
    """Folder and GPUs come from the file."""
    assert load("results_dir: /data\ngpus: [1, GPU-3]\n") == UserConfig(results_dir="/data", gpus=(1, "GPU-3"))
    assert load("gpus: 2\n").gpus == 2


def test_no_file_gives_defaults(tmp_path, monkeypatch):
    """Without a file in the platform's folder all is default."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))

    assert load_user_config({}) == UserConfig(results_dir="llem-results", gpus=None)
    assert user_config_path({}).name == "config.yaml"


def test_a_named_file_must_be_there(tmp_path):
    """A file that LLEM_CONFIG names and that is not there is an error."""
    with pytest.raises(ConfigError, match="no such file") as caught:
        load_user_config({"LLEM_CONFIG": str(tmp_path / "none.yaml")})

    assert caught.value.hint.startswith("LLEM_CONFIG names it")


def test_what_is_no_mapping_is_told_with_the_file(load, tmp_path):
    """And with a line that may stand in this file, which no experiment's setting may."""
    with pytest.raises(ConfigError) as caught:
        load("[1]")

    assert str(caught.value) == (
        f"the user configuration {tmp_path / 'mine.yaml'} holds a list, not a mapping\n"
        "  write lines such as `results_dir: my-results`"
    )


def test_what_is_measured_does_not_belong_there(load, tmp_path):
    """An experiment's setting is refused, and the error names the file."""
    with pytest.raises(ConfigError) as caught:
        load("dtype: float16\ngpus: 0\n")

    assert str(caught.value) == (
        f"invalid settings in the user configuration {tmp_path / 'mine.yaml'}\n"
        "  dtype: unknown field (known: 'backend', 'results_dir', 'gpus', 'launchers', 'observers')\n"
        "  gpus: must be at least 1, got 0: a number says how many GPUs; `[0]` says which, and `device: cpu` uses none"
    )
