"""From a model's name to its spec: which kind it is, what names its content, and what is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from llem.errors import ConfigError
from llem.models.resolve import resolve_model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "my-model"
    path.mkdir()
    (path / "config.json").write_text(json.dumps({"model_type": "llama", "vocab_size": 300}))
    (path / "model.safetensors").write_bytes(b"x" * 10)
    return path


def test_shape() -> None:
    """`shape:NAME` is an architecture with random weights, its configuration and its seed."""
    spec = resolve_model("shape:tiny", seed=3)
    assert (spec.source, spec.weights, spec.seed, spec.path) == ("shape", "random", 3, None)
    assert spec.config is not None
    assert spec.config["vocab_size"] == 512


def test_a_spec_is_a_key(folder: Path) -> None:
    """Specs of shapes and folders can be keys of a cache, although they hold a mapping; equal ones are one key."""
    named = ("shape:tiny", "shape:qwen2.5-0.5b", str(folder), "org/name")
    specs = {resolve_model(name) for name in named for _ in range(2)}
    assert len(specs) == len(named)

    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "vocab_size": 301}))
    assert resolve_model(str(folder)) not in specs


def test_fingerprint_of_a_shape_depends_on_name_and_seed_only() -> None:
    """Same shape and seed, same fingerprint; another shape or seed, another."""
    prints = [resolve_model(f"shape:{n}", seed=s).fingerprint for n in ("tiny", "qwen2.5-0.5b") for s in (0, 1)]
    assert len(set(prints)) == 4
    assert resolve_model("shape:tiny", seed=1).fingerprint == prints[1]


def test_fingerprint_of_a_shape_is_the_same_everywhere() -> None:
    """It is part of stored identities, so it may not move without notice."""
    expected = "shape:7973d8d300e7a580fd330375ce0bdd31bcb9e56ddc105a60e5341c0d9e0f1e51"
    assert resolve_model("shape:tiny").fingerprint == expected


def test_unknown_shape_names_the_nearest_and_all() -> None:
    """A mistyped shape is answered with a guess and the list."""
    with pytest.raises(ConfigError) as caught:
        resolve_model("shape:llama-3.1-8")
    text = str(caught.value)
    assert "unknown shape 'llama-3.1-8'" in text
    assert "did you mean shape:llama-3.1-8b?" in text
    assert "qwen2.5-0.5b" in text


def test_folder(folder: Path) -> None:
    """A folder's configuration is read, and its path made absolute."""
    spec = resolve_model(str(folder))
    assert (spec.source, spec.weights, spec.path) == ("folder", "real", str(folder.resolve()))
    assert spec.config == {"model_type": "llama", "vocab_size": 300}


def test_relative_folder_and_home(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`name`, `./name` and `~/name` all reach a folder that exists."""
    monkeypatch.chdir(folder.parent)
    monkeypatch.setenv("HOME", str(folder.parent))
    specs = [resolve_model(name) for name in ("my-model", "./my-model", "~/my-model")]
    assert {spec.path for spec in specs} == {str(folder.resolve())}


def test_fingerprint_of_a_folder_follows_its_content_not_its_place(folder: Path, tmp_path: Path) -> None:
    """A renamed copy has the same fingerprint; other weights or another configuration do not."""
    first = resolve_model(str(folder)).fingerprint
    (folder / "README.md").write_text("words about the model")
    moved = folder.rename(tmp_path / "moved_boards")
    assert resolve_model(str(moved)).fingerprint == first
    (moved / "model.safetensors").write_bytes(b"x" * 11)
    second = resolve_model(str(moved)).fingerprint
    (moved / "config.json").write_text(json.dumps({"model_type": "llama", "vocab_size": 301}))
    assert len({first, second, resolve_model(str(moved)).fingerprint}) == 3


@pytest.mark.parametrize("size", [1000, 5_000_000])
def test_other_weights_of_the_same_size_are_another_model(folder: Path, size: int) -> None:
    """Two trainings of one architecture have equal files but for the bytes; their results must never be shared."""
    weights = folder / "model.safetensors"
    found = set()
    for fill in (0, 1):
        weights.write_bytes(bytes([fill]) * size)
        found.add(resolve_model(str(folder)).fingerprint)

    assert len(found) == 2


def test_weights_that_cannot_be_read_are_named(folder: Path) -> None:
    """As a mistake to mend, not as a traceback."""
    (folder / "broken.safetensors").symlink_to(folder / "nowhere")

    with pytest.raises(ConfigError, match=r"broken\.safetensors cannot be read"):
        resolve_model(str(folder))


@pytest.mark.parametrize("name", ["config.json", "more.safetensors"])
@pytest.mark.timeout(20)
def test_a_pipe_or_a_device_in_a_folder_is_refused(folder: Path, name: str) -> None:
    """At once: nobody writes to the pipe, and the device has no end."""
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to("/dev/zero")
    with pytest.raises(ConfigError, match=r"no regular file|has no config\.json"):
        resolve_model(str(folder))
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(ConfigError, match=r"no regular file|has no config\.json"):
        resolve_model(str(folder))


@pytest.mark.parametrize("content", ["", "[1]", "{}", '{"model_type": 3}', "\ufffe{"])
def test_broken_config_in_a_folder(folder: Path, content: str) -> None:
    """A config.json that is no configuration is named in the error."""
    (folder / "config.json").write_text(content, encoding="utf-16")
    with pytest.raises(ConfigError, match=r"config\.json"):
        resolve_model(str(folder))


def test_folder_without_config(tmp_path: Path) -> None:
    """A folder that holds no model is refused, not taken for a Hub id."""
    with pytest.raises(ConfigError, match=r"has no config\.json"):
        resolve_model(str(tmp_path))


@pytest.mark.parametrize("name", ["./nothing", "/no/such/folder", "~/nothing-here", "a/b/c", "models/", "..\\x"])
def test_path_that_does_not_exist(name: str) -> None:
    """What looks like a path and is not there is reported as a missing folder."""
    with pytest.raises(ConfigError, match="folder not found"):
        resolve_model(name)


def test_hub_id() -> None:
    """Anything else that has the form of an id is one; its revision is part of its identity."""
    spec = resolve_model("meta-llama/Llama-3.1-8B", revision="abc123")
    assert (spec.source, spec.weights, spec.revision, spec.config) == ("hub", "real", "abc123", None)
    assert spec.fingerprint == "hub:meta-llama/Llama-3.1-8B@abc123"
    assert resolve_model("gpt2", seed=5).fingerprint == "hub:gpt2@main"
    assert resolve_model("gpt2", seed=5).seed == 0


@pytest.mark.parametrize("name", ["", " ", "a b", "shapes:tiny", "org/na me", "org/..", "a--b", "-x", "org/ü"])
def test_malformed_name(name: str) -> None:
    """What can be none of the three is refused with the three forms."""
    with pytest.raises(ConfigError, match="shape:NAME"):
        resolve_model(name)


def test_revision_is_refused_where_there_is_none(folder: Path) -> None:
    """Shapes and folders have no revisions, and the setting is not silently dropped."""
    for name in ("shape:tiny", str(folder)):
        with pytest.raises(ConfigError, match="revision 'v1' does not apply"):
            resolve_model(name, revision="v1")


@pytest.mark.process
def test_resolving_imports_no_engine_library() -> None:
    """Planning a study must work where neither torch nor transformers is installed, and start quickly."""
    code = (
        "import sys; from llem.models.resolve import resolve_model; import llem.models.tokenizer; "
        "resolve_model('shape:tiny'); "
        "sys.exit(bool({'torch', 'transformers', 'huggingface_hub', 'numpy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
