"""The user's own configuration: only what varies by machine, never what is measured."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from llem.config.converter import default_of, settings, structure
from llem.config.fields import Gpus, HowMany, option
from llem.config.text import parse_mapping, read_text
from llem.errors import ConfigError

__all__ = ["VARIABLE", "UserConfig", "load_user_config", "named_user_config", "user_config_path", "with_setting"]

#: Environment variable that names another file.
VARIABLE = "LLEM_CONFIG"


@attrs.frozen(kw_only=True)
class UserConfig:
    """What varies by machine."""

    backend: str | None = option(
        None,
        help="Backend if neither the study nor a flag names one. Null takes the first installed backend that can run "
        "on this machine.",
    )
    results_dir: str = option("llem-results", help="Folder for results if `-o` names none.")
    gpus: Gpus = option(
        None,
        help="GPUs to use if the study does not set `gpus`. A list names them by index or UUID. A number takes this "
        "many visible and free GPUs. Null takes the first visible GPU.",
        validator=HowMany(),
    )
    launchers: Mapping[str, Any] = option(factory=dict, help="Sections of launchers, each named after its launcher.")
    observers: Mapping[str, Any] = option(
        factory=dict, help="Sections of plugins that observe studies, each named after its plugin."
    )


def user_config_path(environ: Mapping[str, str] = os.environ) -> Path:
    """The file that LLEM_CONFIG names, else `config.yaml` in the platform's folder for user configuration."""
    if named := environ.get(VARIABLE):
        return Path(named).expanduser()
    import platformdirs

    return Path(platformdirs.user_config_dir("llem")) / "config.yaml"


def named_user_config(environ: Mapping[str, str] = os.environ) -> str:
    """The file as messages name it."""
    return f"the user configuration {user_config_path(environ)}"


def load_user_config(environ: Mapping[str, str] = os.environ) -> UserConfig:
    """The user's configuration; all defaults where there is no file.

    Raises:
        ConfigError: the file is invalid, or LLEM_CONFIG names one that is not there.
    """
    path = user_config_path(environ)
    if VARIABLE not in environ and not path.exists():
        return UserConfig()
    if not path.exists():
        raise ConfigError(f"no such file: {path}", f"{VARIABLE} names it: give the path of a YAML file, or unset it")
    named = named_user_config(environ)
    raw = parse_mapping(read_text(path), named, may_be_empty=True, such_as="results_dir: my-results")
    return structure(UserConfig, raw, source=named)


def with_setting(text: str, key: str, value: Any, named: str) -> str:
    """The text of a user configuration with one setting changed; every other line stays, comments too. Pure.

    Args:
        key: a setting that is no section.
        named: the file, for messages.

    Raises ConfigError: the text or the value is invalid, there is no such setting, it is a section, or its present
    value takes several lines.
    """
    known = {field.name: default_of(field) for field in settings(UserConfig)}
    if key not in known or isinstance(known[key], Mapping):
        sections = "is a section" if key.partition(".")[0] in known else "is no setting of a user configuration"
        simple = ", ".join(name for name, default in known.items() if not isinstance(default, Mapping))
        raise ConfigError(f"{key} {sections}", f"settings: {simple}; edit {named} by hand for anything else")
    before = parse_mapping(text, named, may_be_empty=True)
    line = f"{key}: {json.dumps(value, ensure_ascii=False)}\n"
    pattern = re.compile(rf"^{key}[ \t]*:.*\n?", re.M)
    changed = pattern.sub(lambda _: line, text, count=1)
    if changed == text and not pattern.search(text):
        changed = f"{text}{'' if not text or text.endswith(chr(10)) else chr(10)}{line}"
    structure(UserConfig, {**before, key: value}, source=named)
    try:
        after = parse_mapping(changed, named)
    except ConfigError:
        after = {}
    if after != {**before, key: value}:
        raise ConfigError(f"the value of {key} in {named} takes several lines", "edit the file by hand")
    return changed
