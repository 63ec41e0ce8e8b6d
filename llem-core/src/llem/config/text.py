"""YAML text to plain values and back.

Scalars follow the core schema of YAML 1.2, as people expect today: `no` and `on` are texts, `1e-3` is a number, `12:30`
and `2024-01-01` are texts. PyYAML by itself follows YAML 1.1, where the first is false and the second a text.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Hashable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from llem.config.words import got
from llem.errors import ConfigError
from llem.foreign.files import Unread, read
from llem.foreign.values import finite, whole

__all__ = ["parse_assignment", "parse_mapping", "parse_yaml", "read_text", "read_yaml", "to_yaml"]

#: Bytes of a file at most: points that are listed by hand have a hundred each.
MOST_BYTES = 2**25
#: What is wanted where a path leads to no file.
FILE = "give the path of a YAML file"
#: Characters of a whole number in octal digits, the longest way to write one of 64 bits.
LONGEST_WHOLE = 24
_NULLS = ("", "~", "null", "Null", "NULL")


class _Loader(yaml.SafeLoader):
    """Safe (plain values only), YAML 1.2 scalars, no key twice, no structure that contains itself, whole characters."""

    def construct_scalar(self, node: Any) -> Any:
        value = super().construct_scalar(node)
        if isinstance(value, str) and not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:  # an escape can say it: "\\ud800"
                what = "half of a character (a lone surrogate)"
                raise yaml.constructor.ConstructorError(None, None, what, node.start_mark) from None
        return value

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        if not isinstance(node, yaml.MappingNode):  # a tag can say so of anything
            raise yaml.constructor.ConstructorError(None, None, "no section", node.start_mark)
        seen: dict[Hashable, yaml.Mark] = {}
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable) and key in seen:
                raise yaml.constructor.ConstructorError(
                    f"the first is in line {seen[key].line + 1}", None, f"key {key!r} stands twice", key_node.start_mark
                )
            if isinstance(key, Hashable):
                seen[key] = key_node.start_mark
        return super().construct_mapping(node, deep=deep)


def _bool(loader: _Loader, node: yaml.ScalarNode) -> bool:
    text = str(loader.construct_scalar(node)).lower()
    if text not in ("true", "false"):
        raise yaml.constructor.ConstructorError(None, None, "neither true nor false", node.start_mark)
    return text == "true"


def _int(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = str(loader.construct_scalar(node))
    with _told_at(node):
        short = text.startswith(("0o", "0x")) and len(text) <= LONGEST_WHOLE
        return whole(str(int(text, 0)) if short else text)


def _float(loader: _Loader, node: yaml.ScalarNode) -> float:
    text = str(loader.construct_scalar(node)).lower()
    if text.lstrip("+-") in (".inf", ".nan"):
        return float(text.replace(".", ""))
    with _told_at(node):
        return finite(text)


@contextlib.contextmanager
def _told_at(node: yaml.Node) -> Iterator[None]:
    """What is wrong with a number is told with its place."""
    try:
        yield
    except ValueError as error:
        what = f"{error}; write it in quotes if it is a text"
        raise yaml.constructor.ConstructorError(None, None, what, node.start_mark) from error


def _mapping(loader: _Loader, node: Any) -> dict[Hashable, Any]:
    return loader.construct_mapping(node, deep=True)


def _sequence(loader: _Loader, node: Any) -> list[Any]:
    return loader.construct_sequence(node, deep=True)


def _teach(loader: type[_Loader]) -> None:
    scalars = {
        "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
        "bool": (r"true|True|TRUE|false|False|FALSE", list("tTfF")),
        "int": (r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
        "float": (
            r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
            list("-+.0123456789"),
        ),
        "merge": (r"<<", ["<"]),
    }
    loader.yaml_implicit_resolvers = {}
    # of the tags that YAML has besides these (sets, dates, bytes), none is a value of a setting
    known = (*(f"tag:yaml.org,2002:{name}" for name in ("null", "str")), None)
    loader.yaml_constructors = {tag: yaml.SafeLoader.yaml_constructors[tag] for tag in known}
    for name, (pattern, first) in scalars.items():
        loader.add_implicit_resolver(f"tag:yaml.org,2002:{name}", re.compile(f"^(?:{pattern})$"), first)
    loader.add_constructor("tag:yaml.org,2002:bool", _bool)
    loader.add_constructor("tag:yaml.org,2002:int", _int)
    loader.add_constructor("tag:yaml.org,2002:float", _float)
    # PyYAML's own constructors fill a container after handing it out, so that one may contain itself; these do not.
    loader.add_constructor("tag:yaml.org,2002:map", _mapping)
    loader.add_constructor("tag:yaml.org,2002:seq", _sequence)


_teach(_Loader)


def parse_yaml(text: str, name: str = "text") -> Any:
    """The value that a YAML text holds. Raises ConfigError with `name:line:column`."""
    try:
        return yaml.load(text, _Loader)  # a subclass of SafeLoader: plain values only
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
        about = f" ({error.context})" if error.context else ""
        raise ConfigError(f"{where}: {error.problem}{about}", "correct the YAML there") from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError(f"{name}:{line}: a character that YAML does not allow: {error.reason}") from error
    except RecursionError as error:
        raise ConfigError(f"{name}: nested too deeply") from error


def read_text(path: str | Path) -> str:
    """A file's text (UTF-8). Raises ConfigError: no such file, unreadable, or not UTF-8."""
    try:
        return read(path, MOST_BYTES).decode("utf-8-sig")
    except Unread as error:
        hint = "save it as a YAML file and give its path: a pipe can be read once, and `--resume` reads a study again"
        raise ConfigError(f"{path} {error}", FILE if Path(path).is_dir() else hint) from error
    except FileNotFoundError as error:
        raise ConfigError(f"no such file: {path}", FILE) from error
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ConfigError(f"cannot read {path}: {reason}", "give the path of a YAML file that you may read") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8: {error.reason} at byte {error.start}", "save it as UTF-8") from error


def parse_mapping(
    text: str, name: str, *, may_be_empty: bool = False, such_as: str = "model: shape:tiny"
) -> Mapping[str, Any]:
    """The mapping that a YAML text holds. Raises ConfigError as `parse_yaml`, and where it is no mapping.

    Args:
        such_as: a line of such a mapping, for the hint.
    """
    value = parse_yaml(text, name)
    if value is None and may_be_empty:
        return {}
    if not isinstance(value, Mapping):
        what = "is empty" if value is None else f"holds {got(value)}"
        raise ConfigError(f"{name} {what}, not a mapping", f"write lines such as `{such_as}`")
    return value


def read_yaml(path: str | Path, *, may_be_empty: bool = False) -> Mapping[str, Any]:
    """The mapping in a YAML file (UTF-8).

    Raises:
        ConfigError: no such file, unreadable, not UTF-8, wrong syntax (with line and column), a key that stands twice,
            or no mapping.
    """
    return parse_mapping(read_text(path), str(path), may_be_empty=may_be_empty)


def parse_assignment(text: str) -> tuple[str, Any]:
    """`"load.batch_size=8"` to `("load.batch_size", 8)`; the value is YAML, so `[0, 1]` and `{kind: file}` work too.

    Raises:
        ConfigError: no `=`, no path or an empty part in it, no value, or a value that is not YAML.
    """
    path, equals, value_text = text.partition("=")
    path = path.strip()
    if not equals or not all(path.split(".")):
        raise ConfigError(f"cannot understand the setting {text!r}", "write PATH=VALUE, such as load.batch_size=8")
    value = parse_yaml(value_text, f"--set {path}")
    if value is None and value_text.strip() not in _NULLS[1:]:  # nothing, or a comment
        raise ConfigError(f"the setting {path!r} has no value", "write null for none, or '' for an empty text")
    return path, value


def to_yaml(document: Mapping[str, Any], comments: Mapping[str, str]) -> str:
    """YAML that `read_yaml` reads back, each leaf followed by the comment that its dotted path has in `comments`.

    Sections of a list stand in a line each, without comments.
    """
    return "".join(f"{line}\n" for line in _lines(document, comments, ()))


def _lines(document: Mapping[str, Any], comments: Mapping[str, str], above: tuple[str, ...]) -> Iterator[str]:
    indent = "  " * len(above)
    for key, value in document.items():
        steps = (*above, key)
        if isinstance(value, Mapping) and value:
            yield f"{indent}{_scalar(key)}:"
            yield from _lines(value, comments, steps)
        elif isinstance(value, (list, tuple)) and value and all(isinstance(entry, Mapping) for entry in value):
            yield f"{indent}{_scalar(key)}:"
            yield from (f"{indent}  - {_flow(entry)}" for entry in value)
        else:
            comment = comments.get(".".join(steps))
            yield f"{indent}{_scalar(key)}: {_flow(value)}" + (f"  # {comment}" if comment else "")


def _flow(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_scalar(key)}: {_flow(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_flow(inner) for inner in value) + "]"
    return _scalar(value) if isinstance(value, str) else json.dumps(value)


def _scalar(text: str) -> str:
    """Without quotes where it is a simple word that YAML reads as the same text."""
    simple = re.fullmatch(r"(\./)?[A-Za-z0-9_/][A-Za-z0-9_./:-]*", text) and not text.endswith(":")
    if simple and parse_yaml(f"[{text}]") == [text]:
        return text
    return yaml.safe_dump(text, default_style='"', allow_unicode=True, width=float("inf")).rstrip("\n")
