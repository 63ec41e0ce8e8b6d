"""Names of transformers' parameters: of the installed version where there is one, else of the version named in
`parameters.json`.

They are read off the library's source without importing it, which takes seconds. `python -m llem_pytorch.inventory`
writes the file anew from what is installed.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from llem.backends.coverage import Inventory

__all__ = ["OWNERS", "bundled", "installed", "known"]

FILE = Path(__file__).with_name("parameters.json")


@functools.cache
def known() -> Inventory:
    """The installed transformers', else the bundled one."""
    return installed() or bundled()


@functools.cache
def bundled() -> Inventory:
    """As stored with this package."""
    return Inventory.read(FILE)


def installed() -> Inventory | None:
    """As the source of the installed transformers has it; None where it is not installed."""
    spec = importlib.util.find_spec("transformers")
    if spec is None or spec.origin is None:
        return None
    root = Path(spec.origin).parent
    fields = {}
    for owner, (places, read) in OWNERS.items():
        found = (name for file, path in places for name in read(_node(root / file, path)))
        fields[owner] = tuple(dict.fromkeys(name for name in found if not name.startswith("_")))
    return Inventory(_version(root), fields)


def _node(path: Path, names: str) -> ast.AST:
    """The class or function behind a dotted path within a file."""
    node: ast.AST = ast.parse(path.read_text(encoding="utf-8"))
    for name in names.split("."):
        inner = (child for child in ast.iter_child_nodes(node) if getattr(child, "name", None) == name)
        found = next(inner, None)
        if found is None:
            raise RuntimeError(f"{path.name} has no {names}, of which this package reads the parameters")
        node = found
    return node


def _annotated(node: ast.AST) -> Iterator[str]:
    """Fields of a dataclass."""
    assert isinstance(node, ast.ClassDef)
    for line in node.body:
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
            yield line.target.id


def _arguments(node: ast.AST) -> Iterator[str]:
    """Arguments of a function, and what it takes out of its `kwargs`: by pop, by a loop of pops, or by a test."""
    assert isinstance(node, ast.FunctionDef)
    for argument in (*node.args.args, *node.args.kwonlyargs):
        if argument.arg not in ("self", "cls"):
            yield argument.arg
    for inner in ast.walk(node):
        if isinstance(inner, ast.Call) and ast.unparse(inner.func) == "kwargs.pop":
            yield from _texts(inner.args[:1])
        elif isinstance(inner, ast.Compare) and ast.unparse(inner.comparators[0]) == "kwargs":
            yield from _texts([inner.left])
        elif isinstance(inner, ast.For) and isinstance(inner.iter, ast.List) and "kwargs.pop" in ast.unparse(inner):
            yield from _texts(inner.iter.elts)


def _texts(nodes: list[ast.expr]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def _version(root: Path) -> str:
    tree = ast.parse((root / "__init__.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__version__":
            return str(ast.literal_eval(node.value))
    return "unknown"


#: Owner to where its parameters are named (file, dotted path), and how they are read there.
OWNERS: Mapping[str, tuple[tuple[tuple[str, str], ...], Callable[[ast.AST], Iterator[str]]]] = {
    "GenerationConfig": ((("generation/configuration_utils.py", "GenerationConfig.__init__"),), _arguments),
    "CompileConfig": ((("generation/configuration_utils.py", "CompileConfig"),), _annotated),
    "BitsAndBytesConfig": ((("utils/quantization_config.py", "BitsAndBytesConfig.__init__"),), _arguments),
    "from_pretrained": (
        (
            ("modeling_utils.py", "PreTrainedModel.from_pretrained"),
            ("models/auto/auto_factory.py", "_BaseAutoModelClass.from_pretrained"),
        ),
        _arguments,
    ),
}


def main() -> None:
    """Write `parameters.json` from the installed transformers."""
    found = installed()
    if found is None:
        raise SystemExit("transformers is not installed")
    found.write(FILE)


if __name__ == "__main__":
    main()
