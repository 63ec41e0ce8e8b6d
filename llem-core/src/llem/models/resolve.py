"""From the name a user wrote to a `ModelSpec`. Reads a folder where one is meant; never the network."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llem.errors import ConfigError, nearest
from llem.foreign.files import Unread, read, regular
from llem.foreign.values import from_json
from llem.models.shapes import SHAPES
from llem.models.spec import ModelSpec

__all__ = ["NO_MODEL", "SERVED", "resolve_model"]

#: The model of a metered command that names none.
NO_MODEL = "none"

#: The model that a server serves, whatever it is; `served:NAME` is the one that it lists as NAME.
SERVED = "served"

SHAPE_PREFIX = "shape:"
WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".gguf")
FORMS = "a model is `shape:NAME`, a folder with a config.json, or a Hugging Face id such as `org/name`"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9_][\w.-]*)?", re.ASCII)


def resolve_model(name: str, *, revision: str | None = None, seed: int = 0) -> ModelSpec:
    """What `name` stands for.

    In this order: `none` (of a command); `served` and `served:NAME` (of a server, which alone knows what the name
    means); `shape:NAME`; a folder that exists; a Hugging Face id. The fingerprint names the model's content: for a
    shape its configuration and seed; for a folder its config.json and the names, sizes and samples of its weight files
    (see `_sampled`); for an id the id and revision. Of a served model there is no more than the name.

    Args:
        name: as written in the configuration.
        revision: branch, tag or commit, for an id only.
        seed: of a shape's random weights; other models have no use for it and their spec holds 0.

    Raises:
        ConfigError: an unknown shape, a folder that is not there or holds no model, a malformed id, or a revision
            where there are no revisions.
    """
    if name == NO_MODEL:
        _refuse_revision(revision, name)
        return ModelSpec(name=name, source="none", weights="unknown", fingerprint=NO_MODEL)
    if name == SERVED or name.startswith(f"{SERVED}:"):
        _refuse_revision(revision, name)
        return ModelSpec(name=name, source="served", weights="unknown", fingerprint=name)
    if name.startswith(SHAPE_PREFIX):
        _refuse_revision(revision, name)
        return _from_shape(name, seed)
    folder = Path(os.path.expanduser(name)) if name else Path()
    if name and folder.is_dir():
        _refuse_revision(revision, name)
        return _from_folder(name, folder)
    if _looks_like_path(name):
        raise ConfigError(f"model {name!r}: folder not found", FORMS, code="model_not_found")
    if not _HUB_ID.fullmatch(name) or ".." in name or "--" in name:
        raise ConfigError(f"model {name!r} is not a valid name", FORMS, code="model_not_found")
    fingerprint = f"hub:{name}@{revision or 'main'}"
    return ModelSpec(name=name, source="hub", weights="real", fingerprint=fingerprint, revision=revision)


def _from_shape(name: str, seed: int) -> ModelSpec:
    wanted = name.removeprefix(SHAPE_PREFIX)
    shape = SHAPES.get(wanted)
    if shape is None:
        near = nearest(wanted, SHAPES)
        guess = f"did you mean {SHAPE_PREFIX}{near}? " if near else ""
        raise ConfigError(f"unknown shape {wanted!r}", f"{guess}known: {', '.join(SHAPES)}", code="model_not_found")
    config = shape.kwargs()
    content = json.dumps({"config": config, "seed": seed}, sort_keys=True, separators=(",", ":"))
    fingerprint = f"shape:{_sha256(content.encode())}"
    return ModelSpec(name=name, source="shape", weights="random", fingerprint=fingerprint, config=config, seed=seed)


def _from_folder(name: str, folder: Path) -> ModelSpec:
    path = folder / "config.json"
    if not path.is_file():
        raise ConfigError(f"model folder {name!r} has no config.json", FORMS, code="model_not_found")
    files = sorted(f for f in folder.iterdir() if f.suffix in WEIGHT_SUFFIXES)
    try:
        raw = read(path)
        weights = [(f.name, f.stat().st_size, _sampled(f)) for f in files]
    except Unread as error:
        what = f"model folder {name!r}: a file of it {error}"
        raise ConfigError(what, "a model's files are regular files", code="model_not_found") from error
    except OSError as error:
        what = f"model folder {name!r}: {error.filename} cannot be read: {error.strerror}"
        raise ConfigError(what, "give this user the right to read it", code="model_not_found") from error
    digest = _sha256(raw + b"\0" + json.dumps(weights, separators=(",", ":")).encode())
    return ModelSpec(
        name=name,
        source="folder",
        weights="real",
        fingerprint=f"folder:{digest}",
        path=str(folder.resolve()),
        config=_parse_config(name, raw),
    )


#: Blocks that are read of a weight file, and bytes of each.
BLOCKS, BLOCK = 256, 4096


def _sampled(path: Path) -> str:
    """Hash of a weight file: of all of it up to a mebibyte, else of 256 blocks from its first to its last.

    A file may have tens of gigabytes. Another training or rounding changes nearly every weight, so it changes a block;
    a change of a few small tensors alone may lie between them and go unseen.
    """
    with regular(path) as file:
        size = file.seek(0, os.SEEK_END)
        whole = size <= BLOCKS * BLOCK
        starts = [0] if whole else [round(number * (size - BLOCK) / (BLOCKS - 1)) for number in range(BLOCKS)]
        found = hashlib.sha256()
        for start in starts:
            file.seek(start)
            found.update(file.read(size if whole else BLOCK))
    return found.hexdigest()


def _parse_config(name: str, raw: bytes) -> Mapping[str, Any]:
    hint = "it should be the config.json that was saved with the model, an object with `model_type`"
    try:
        config = from_json(raw, endless=True)
    except ValueError as error:  # also bytes that are not UTF-8
        raise ConfigError(f"{name}/config.json is not JSON: {error}", hint, code="model_not_found") from error
    if not isinstance(config, dict) or not isinstance(config.get("model_type"), str):
        raise ConfigError(f"{name}/config.json has no model_type", hint, code="model_not_found")
    return config


def _refuse_revision(revision: str | None, name: str) -> None:
    if revision is not None:
        raise ConfigError(
            f"revision {revision!r} does not apply to {name!r}",
            "only models named by a Hugging Face id have revisions; remove `revision`",
        )


def _looks_like_path(name: str) -> bool:
    return name.startswith((".", "/", "~")) or "\\" in name or name.count("/") > 1 or name.endswith("/")


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
