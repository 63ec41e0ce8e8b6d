"""Settings by the names that people try first: another tool's word, or the setting without the section it is in."""

from __future__ import annotations

import contextlib
import re
import typing
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import attrs

from llem.config.converter import settings
from llem.config.models import Experiment, config_class
from llem.errors import BrokenPlugin, nearest
from llem.plugins.registry import Kind, Registry

__all__ = ["Guess", "in_python", "meant"]

#: Words of other tools, and what they are here.
WORDS: Mapping[str, str] = {
    "batch": "load.batch_size",
    "clients": "load.concurrency",
    "max_concurrency": "load.concurrency",
    "rate": "load.request_rate",
    "qps": "load.request_rate",
    "isl": "workload.input_tokens",
    "input_len": "workload.input_tokens",
    "osl": "workload.output_tokens",
    "output_len": "workload.output_tokens",
    "max_tokens": "workload.output_tokens",
    "max_new_tokens": "workload.output_tokens",
    "prompts": "workload.path",
    "precision": "dtype",
    "repeats": "trials",
    "gpu": "gpus",
    "engine": "backend",
    "url": "openai.base_url",
    "base_url": "openai.base_url",
}
#: Values that go with a setting, without which it has no effect.
WITH: Mapping[str, Mapping[str, Any]] = {
    "load.concurrency": {"kind": "closed"},
    "load.request_rate": {"kind": "open"},
    "workload.path": {"kind": "file"},
}


@attrs.frozen
class Guess:
    """A setting by its dotted path, and what else its section needs."""

    path: str

    @property
    def beside(self) -> Mapping[str, Any]:
        """Other settings of the same section, such as `{"kind": "closed"}`."""
        return WITH.get(self.path, {})

    def surely(self, name: str) -> bool:
        """Whether this is the setting's own name, or a known word for it, rather than one that is spelt alike."""
        last = name.rpartition(".")[2]
        return last in WORDS or last == self.path.rpartition(".")[2]

    def flags(self, value: str = "…") -> str:
        """As flags: `--set load.kind=closed --set load.concurrency=…`."""
        section = self.path.partition(".")[0]
        kinds = [f"--set {section}.{name}={kind}" for name, kind in self.beside.items()]
        return " ".join([*kinds, f"--set {self.path}={value}"])

    def python(self) -> str:
        """As an argument: `load={"kind": "closed", "concurrency": …}`."""
        section, _, name = self.path.partition(".")
        if not name:
            return f"{section}=…"
        inside = [f'"{key}": "{value}"' for key, value in self.beside.items()]
        return f"{section}={{{', '.join([*inside, f'{chr(34)}{name}{chr(34)}: …'])}}}"


def in_python(hint: str) -> str:
    """A hint that names a setting by its dotted path, with the argument that sets it in Python."""
    found = re.fullmatch(r"did you mean '(\w+\.\w+)'\?", hint)
    return f"{hint} Write {Guess(found[1]).python()}" if found else hint


def meant(name: str, registry: Registry, backends: Iterable[str] | None = None) -> Guess | None:
    """The setting that a name most likely means; None where none is near.

    Args:
        name: as in Python (`batch_size`); a dotted path is looked up by its last step.
        backends: whose settings count as well; None takes those of all that are installed.
    """
    last = name.rpartition(".")[2]
    there = _paths(registry, registry.names("backend") if backends is None else backends)
    if last in WORDS:
        word = WORDS[last]
        return Guess(word) if word in there.values() else None
    near = last if last in there else nearest(last, there)
    return None if near is None else Guess(there[near])


def _paths(registry: Registry, backends: Iterable[str]) -> dict[str, str]:
    """Name to dotted path of each setting; of a name in several sections, the first of them."""
    found: dict[str, str] = {}
    for path in _all_paths(registry, backends):
        found.setdefault(path.rpartition(".")[2], path)
    found.pop("kind", None)
    return found


def _all_paths(registry: Registry, backends: Iterable[str]) -> Iterator[str]:
    fields = [field for field in settings(Experiment) if field.name not in ("options", "meter_options")]
    yield from (field.name for field in fields)
    for field in fields:
        for cls in (field.type, *typing.get_args(field.type)):
            if attrs.has(cls):
                yield from (f"{field.name}.{inner.name}" for inner in settings(cls))
    named: list[tuple[Kind, str, str]] = [("workload", name, "workload") for name in _workloads(registry)]
    named += [("backend", name, name) for name in backends]
    for kind, name, section in named:
        with contextlib.suppress(BrokenPlugin):  # asking for this plugin says so; here the others will do
            cls = config_class(registry, kind, name)
            yield from (f"{section}.{inner.name}" for inner in (settings(cls) if cls is not None else ()))


def _workloads(registry: Registry) -> list[str]:
    """The default kind first: its settings are meant where others have the same names."""
    return sorted(registry.names("workload"), key=lambda name: (name != "synthetic", name))
