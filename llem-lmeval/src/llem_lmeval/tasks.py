"""Finding and loading tasks: the user's folders first, then lm-eval's own 14,000, whose index takes seconds to read."""

from __future__ import annotations

import contextlib
import functools
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import attrs
from lm_eval.tasks import TaskManager
from lm_eval.tasks._factory import TaskFactory
from lm_eval.tasks._index import Kind
from lm_eval.tasks._yaml_loader import load_yaml

from llem.errors import ConfigError, Problem, nearest
from llem_lmeval.config import LmEvalOptions

__all__ = ["Loaded", "find", "folders", "load"]

#: How long the hub of data sets may take to accept a connection, in seconds.
PATIENCE_S = 5.0
#: What `datasets` reads by itself, without the hub.
LOCAL = ("arrow", "csv", "json", "parquet", "text")
#: Files of tasks with their times and sizes, by which a change of a folder is seen.
_Files = tuple[tuple[str, int, int], ...]


@attrs.frozen
class Loaded:
    """A task, group or tag as asked for, its data read.

    Attributes:
        name: as the user wrote it.
        kind: "task", "group" or "tag".
        tasks: lm-eval's task objects by name; the tasks of a group are its own copies.
        groups: lm-eval's group objects by name.
    """

    name: str
    kind: str
    tasks: Mapping[str, Any]
    groups: Mapping[str, Any]


def folders(options: LmEvalOptions) -> tuple[str, ...]:
    """The user's folders of tasks. Raises ConfigError naming each that is none."""
    paths = tuple(os.path.expanduser(path) for path in options.include_path)
    problems = tuple(
        Problem(f"quality.include_path[{place}]", f"{path} is no folder", "name a folder that holds tasks' YAML files")
        for place, path in enumerate(paths)
        if not os.path.isdir(path)
    )
    if problems:
        raise ConfigError("tasks cannot be found", problems=problems)
    return paths


def find(options: LmEvalOptions) -> TaskManager:
    """The index that holds all tasks of the section.

    Raises:
        ConfigError: names that are no task, group or tag, each with the nearest one; a folder that is none.
    """
    paths = folders(options)
    if paths:
        own = _own_index(paths, _files(paths))
        if all(_within(own, name) for name in options.tasks):
            return own
    index = _whole_index(paths, _files(paths))
    problems = tuple(
        Problem(f"quality.tasks[{place}]", f"no task, group or tag {name!r}", _meant(name, index, paths))
        for place, name in enumerate(options.tasks)
        if name not in index.task_index
    )
    if problems:
        raise ConfigError("unknown tasks", problems=problems)
    return index


def load(index: TaskManager, name: str) -> Loaded:
    """Read a task, group or tag with its data. Raises whatever lm-eval, datasets and the task's own code raise."""
    with _without_waiting():
        found = index.load([name])
    kind = index.task_index[name].kind
    said = {Kind.GROUP: "group", Kind.TAG: "tag"}.get(kind, "task")
    return Loaded(name, said, found["tasks"], found.get("groups", {}))


def _files(paths: Sequence[str]) -> _Files:
    found = (file for path in paths for file in sorted(Path(path).rglob("*")) if file.suffix in (".yaml", ".py"))
    return tuple((str(file), file.stat().st_mtime_ns, file.stat().st_size) for file in found)


@functools.lru_cache(maxsize=4)
def _own_index(paths: tuple[str, ...], files: _Files) -> TaskManager:
    return _index(paths, include_defaults=False)


@functools.lru_cache(maxsize=2)
def _whole_index(paths: tuple[str, ...], files: _Files) -> TaskManager:
    return _index(paths, include_defaults=True)


def _index(paths: tuple[str, ...], *, include_defaults: bool) -> TaskManager:
    made = TaskManager(include_path=list(paths) or None, include_defaults=include_defaults)
    made._factory = _Factory()
    return made


def _within(index: TaskManager, name: str, groups: tuple[str, ...] = ()) -> bool:
    """Whether a name and all that it stands for are in this index.

    Args:
        groups: what the name stands in, from the outside.

    Raises ConfigError for a group that holds itself.
    """
    entry = index.task_index.get(name)
    if entry is None:
        return False
    if name in groups:
        path = " → ".join((*groups, name))
        problem = Problem("quality.tasks", f"a group holds itself: {path}", "mend the YAML file of the group")
        raise ConfigError("these tasks cannot be evaluated", problems=(problem,))
    return entry.kind != Kind.GROUP or all(_member_within(index, one, (*groups, name)) for one in _members(entry.cfg))


def _members(config: Mapping[str, Any] | None) -> list[Any]:
    listed = (config or {}).get("task")
    return [listed] if isinstance(listed, str) else list(listed or ())


def _member_within(index: TaskManager, member: Any, groups: tuple[str, ...]) -> bool:
    if isinstance(member, str):
        return _within(index, member, groups)
    if isinstance(member.get("task"), list):  # a group that is written out within the group
        return all(_member_within(index, one, groups) for one in member["task"])
    name = member.get("group") or member.get("task")
    return _within(index, name, groups) or "dataset_path" in member or "custom_dataset" in member


def _meant(name: str, index: TaskManager, paths: Sequence[str]) -> str:
    if broken := _broken(paths):
        return f"a file of your own cannot be read: {broken}"
    if os.sep in name or name.endswith(".yaml"):
        return "write the task's name, and its folder in `include_path`"
    if "*" in name:
        return "patterns are not taken; write names, or the name of a group"
    close = nearest(name, index.all_tasks)
    return f"did you mean {close}?" if close else "`lm_eval ls tasks` lists lm-eval's; `include_path` names own folders"


def _broken(paths: Sequence[str]) -> str | None:
    """The first YAML file that lm-eval leaves out of its index in silence, and why."""
    for path in paths:
        for file in sorted(Path(path).rglob("*.yaml")):
            try:
                load_yaml(file, resolve_func=False)
            except Exception as error:  # whatever is in the file
                return f"{file.name}: {' '.join(str(error).split())}"
    return None


class _Factory(TaskFactory):
    """Reads the YAML of tasks. Data files named relative to a task's YAML file are found, too."""

    def _load_full_config(self, entry: Any, overrides: dict[str, Any] | None = None) -> dict[str, Any]:
        config: dict[str, Any] = super()._load_full_config(entry, overrides)
        if entry.yaml_path is not None:
            beside = Path(entry.yaml_path).expanduser().resolve().parent
            given = config.get("dataset_kwargs") or {}
            placed = {name: _placed(given[name], beside) for name in ("data_files", "data_dir") if name in given}
            if placed:
                config["dataset_kwargs"] = {**given, **placed}
        if entry.kind != Kind.GROUP and not _is_local(config):
            _go_offline_unless_reachable()
        return config


def _placed(value: Any, beside: Path) -> Any:
    """File names of a setting: as they are where such a file is, else beside the task's YAML file if it is there."""
    if isinstance(value, Mapping):
        return {split: _placed(inner, beside) for split, inner in value.items()}
    if isinstance(value, list):
        return [_placed(inner, beside) for inner in value]
    if isinstance(value, str) and not os.path.exists(value) and (beside / value).exists():
        return str(beside / value)
    return value


def _is_local(config: Mapping[str, Any]) -> bool:
    """Whether the data need no network for certain."""
    if callable(config.get("custom_dataset")):
        return True
    path = config.get("dataset_path")
    named = "://" in str((config.get("dataset_kwargs") or {}).get("data_files"))
    return isinstance(path, str) and not named and (path in LOCAL or os.path.exists(path))


@contextlib.contextmanager
def _without_waiting() -> Iterator[None]:
    """Put back whether the hub is asked, which `_go_offline_unless_reachable` may change within."""
    import datasets.config
    import huggingface_hub.constants

    before = datasets.config.HF_HUB_OFFLINE, huggingface_hub.constants.HF_HUB_OFFLINE
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE, huggingface_hub.constants.HF_HUB_OFFLINE = before


def _go_offline_unless_reachable() -> None:
    """Without a network, `datasets` would ask six times over half a minute, even for what is in its cache.

    Where a proxy is set its address says nothing of the hub, so the hub is asked as ever.
    """
    import datasets.config
    import huggingface_hub.constants

    if datasets.config.HF_HUB_OFFLINE or any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy")):
        return
    hub = urlsplit(huggingface_hub.constants.ENDPOINT)
    try:
        port = hub.port or (80 if hub.scheme == "http" else 443)
        socket.create_connection((hub.hostname or "", port), timeout=PATIENCE_S).close()
    except OSError:
        datasets.config.HF_HUB_OFFLINE = huggingface_hub.constants.HF_HUB_OFFLINE = True
