"""`llem config`: check, schema and show, on a registry made up here."""

from __future__ import annotations

import json
from typing import Any, Literal

import attrs
import pytest
import yaml
from click.testing import CliRunner

from llem.cli.config import config
from llem.config.fields import at_least, option
from llem.plugins import Reference, hookimpl
from llem.plugins import registry as registry_module
from llem.plugins.claims import Plugin
from llem.plugins.registry import PluginSet


@attrs.frozen(kw_only=True)
class EngineConfig:
    """Settings of a made-up engine."""

    delay_s: float = option(0.0, help="Time per token.", validator=at_least(0))


@attrs.frozen(kw_only=True)
class RandomConfig:
    """Random prompts."""

    kind: Literal["synthetic"] = option("synthetic", help="Random token ids.")
    seed: int = option(0, help="Seed.")


class Hooks:
    @hookimpl
    def llem_backends(self) -> list[Reference]:
        return [Reference("engine", "nowhere:Engine", config=f"{__name__}:EngineConfig")]

    @hookimpl
    def llem_workloads(self) -> list[Reference]:
        return [Reference("synthetic", "nowhere:Synthetic", config=f"{__name__}:RandomConfig")]


@pytest.fixture
def llem_config(tmp_path, monkeypatch):
    """Run `llem config` in an empty folder with the made-up registry and user configuration."""
    found = PluginSet()
    found.add(Plugin("made-up", "made_up", "made-up", "1"), Hooks())
    made_up = registry_module.Registry(found)
    monkeypatch.setattr(registry_module, "registry", lambda: made_up)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "user.yaml").write_text("gpus: [2]\n")
    monkeypatch.setenv("LLEM_CONFIG", str(tmp_path / "user.yaml"))

    def _run(*arguments: str) -> Any:
        return CliRunner().invoke(config, arguments)

    return _run


def test_check_reports_each_file(llem_config, tmp_path):
    """Valid files are named on stdout, invalid ones with their problems on stderr, and the exit code is 2."""
    (tmp_path / "good.yaml").write_text("name: s\nbase: {model: shape:tiny}\ntrials: 3\n")
    (tmp_path / "bad.yaml").write_text("load: {batch_sise: 1}\ntrials: two\n")
    done = llem_config("check", "good.yaml", "bad.yaml", "none.yaml")

    assert done.stdout == "good.yaml: valid (shape:tiny on engine)\n"
    assert done.stderr == (
        "bad.yaml: invalid configuration from file bad.yaml\n"
        "  load.batch_sise: unknown field (did you mean 'batch_size'?)\n"
        "  trials: must be an integer, got the text 'two'\n"
        "none.yaml: no such file: none.yaml\n"
        "  give the path of a YAML file\n"
    )
    assert done.exit_code == 2


def test_check_of_valid_files_ends_with_0(llem_config, tmp_path):
    """Nothing wrong, nothing on stderr."""
    (tmp_path / "good.yaml").write_text("backend: engine\n")
    done = llem_config("check", "good.yaml")

    assert (done.exit_code, done.stderr) == (0, "")


def test_schema_is_json(llem_config):
    """The schema holds the sections of what is installed."""
    schema = json.loads(llem_config("schema").stdout)

    assert schema["properties"]["engine"]["properties"]["delay_s"]["minimum"] == 0


def test_show_tells_where_each_value_comes_from(llem_config, tmp_path):
    """Every value is there as YAML, with its source."""
    (tmp_path / "study.yaml").write_text("preset: quick\nengine: {delay_s: 1}\n")
    done = llem_config("show", "study.yaml", "--set", "load.batch_size=8", "--set", "load.batch_size=16")
    lines = done.stdout.splitlines()

    for line in (
        "model: shape:tiny  # default",
        "backend: engine  # only backend installed",
        "gpus: [2]  # user config",
        "  batch_size: 16  # flag",
        "preset: quick  # file study.yaml",
        "window_s: 5.0  # preset quick",
        "  delay_s: 1.0  # file study.yaml",
    ):
        assert line in lines
    assert yaml.safe_load(done.stdout)["engine"] == {"delay_s": 1.0}
    assert done.exit_code == 0


def test_show_names_the_user_configuration(llem_config, tmp_path, monkeypatch):
    """In the first line, which is a comment of YAML, and whether it is there."""
    assert llem_config("show").stdout.splitlines()[0] == f"# user configuration: {tmp_path / 'user.yaml'}"

    monkeypatch.delenv("LLEM_CONFIG")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "nowhere"))
    assert llem_config("show").stdout.splitlines()[0].endswith("config.yaml (none there)")


def test_show_with_nothing_given(llem_config):
    """Without a file, the defaults are shown."""
    assert "trials: 5  # preset standard" in llem_config("show").stdout.splitlines()
