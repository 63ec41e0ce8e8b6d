"""What is wrong with what a plugin gives, in words, with what would be right. Nothing of an engine is imported."""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import FunctionType
from typing import get_args

from llem.plugins.names import CAPABILITIES, NAME_RULE, is_name
from llem.plugins.reference import NAME, Reference, Support
from llem.plugins.specs import Hooks

# llem.errors is imported where something is wrong: `llem --help` reads hooks and need not wait for attrs.

__all__ = ["capability_fault", "hook_fault", "reference_fault", "target_fault"]

#: Attributes of a reference that are `"module:name"`, or None.
TARGETS = ("target", "config", "parameters", "deploy", "start", "defaults", "found")
TARGET = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


def hook_fault(module: object) -> str | None:
    """What keeps llem from calling a plugin's hooks; None where nothing does."""
    known = {name for name in vars(Hooks) if name.startswith(f"{NAME}_")}
    given = {name: getattr(module, name, None) for name in dir(module)}
    marked = {name: options for name, one in given.items() if (options := getattr(one, f"{NAME}_impl", None))}
    hooks = {options["specname"] or name for name, options in marked.items()}
    if unknown := sorted(hooks - known):
        told = ", ".join(f"{name}{_near(name, known)}" for name in unknown)
        return f"unknown hook {told}; known: {', '.join(sorted(known))}"
    for name in given.keys() - marked:
        if name in known and callable(given[name]):
            return f"{name} has no `@hookimpl` above it, so llem never calls it (from llem.plugins import hookimpl)"
        if (
            name.startswith(f"{NAME}_")
            and _is_own(given[name], module)
            and (near := _near(name, known, closeness=0.85))
        ):
            return f"{name} is no hook, and has no `@hookimpl` above it{near}"
    return None if marked else f"implements no hook; known: {', '.join(sorted(known))}"


def _is_own(one: object, module: object) -> bool:
    """Whether it is a function that the module itself defines."""
    return isinstance(one, FunctionType) and one.__module__ == getattr(module, "__name__", None)


def _near(name: str, known: Iterable[str], closeness: float = 0.6) -> str:
    from llem.errors import nearest

    near = nearest(name, known, closeness)
    return f" (did you mean {near}?)" if near else ""


def reference_fault(reference: Reference) -> str | None:
    """What is wrong with a reference as it is written; None where nothing is."""
    if not is_name(reference.name):
        return f"{reference.name!r} is no name: {NAME_RULE}"
    for place in TARGETS:
        told = getattr(reference, place)
        if told is not None and not (isinstance(told, str) and TARGET.fullmatch(told)):
            return f'{place} of {reference.name!r} is {told!r}, and must be "module:name"{_with_colon(told)}'
    for name, support in reference.capabilities.items():
        if (unknown := capability_fault(name)) is not None:
            return unknown
        if support not in get_args(Support):
            return f"capability {name!r} is {support!r}, and must be one of {', '.join(get_args(Support))}"
    return None


def _with_colon(told: object) -> str:
    text = str(told)
    module, _, name = text.replace(":", ".").rpartition(".")
    right = f"{module}:{name}"
    return f" (did you mean {right}?)" if TARGET.fullmatch(right) else ""


def capability_fault(name: str) -> str | None:
    """What is wrong with the name of a capability; None for one that there is."""
    if name in CAPABILITIES:
        return None
    return f"unknown capability {name!r}{_near(str(name), CAPABILITIES)}; known: {', '.join(CAPABILITIES)}"


def target_fault(reference: Reference) -> str | None:
    """What a reference points to and is not there; None where all is, or nobody can say without importing it."""
    told = {place: getattr(reference, place) for place in TARGETS}
    return next((why for place, one in told.items() if one and (why := _not_there(place, one))), None)


def _not_there(place: str, target: str) -> str | None:
    module, _, name = target.partition(":")
    try:
        found = importlib.util.find_spec(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            return None  # something else is missing, which its import will tell
        found = None
    if found is None:
        package = module.rpartition(".")[0]
        return f"{place} {target!r}: there is no module {module}{_near(module, _siblings(package))}"
    names = None if found.origin is None else _names(Path(found.origin))
    if names is None or name in names:
        return None
    return f"{place} {target!r}: {module} has no {name}{_near(name, names)}"


def _siblings(package: str) -> Iterator[str]:
    import pkgutil

    try:
        found = importlib.util.find_spec(package) if package else None
    except ModuleNotFoundError:
        return
    for one in pkgutil.iter_modules(found.submodule_search_locations if found else None):
        yield f"{package}.{one.name}".lstrip(".")


def _names(source: Path) -> frozenset[str] | None:
    """Names that a module's source gives itself; None where the source alone does not tell."""
    if source.suffix != ".py":
        return None
    try:
        tree = ast.parse(source.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return None
    names = set(_given(tree))
    return None if names & {"*", "__getattr__"} else frozenset(names)


def _given(tree: ast.AST) -> Iterator[str]:
    """Whatever could become a name of the module: more than there is, never less."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name
        elif isinstance(node, ast.alias):
            yield node.asname or node.name.partition(".")[0]
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
