"""Names of vLLM's parameters: of the installed version where there is one, else of the version named in
`parameters.json`.

They are read off vLLM's source without importing it, which takes seconds. `python -m llem_vllm.inventory` writes the
file anew from what is installed.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
from pathlib import Path

from llem.backends.coverage import Inventory

__all__ = ["CLASSES", "bundled", "installed", "known"]

FILE = Path(__file__).with_name("parameters.json")
#: Class to the file, below vLLM's package, that defines it.
CLASSES = {
    "EngineArgs": "engine/arg_utils.py",
    "SamplingParams": "sampling_params.py",
    "CompilationConfig": "config/compilation.py",
    "SpeculativeConfig": "config/speculative.py",
}


@functools.cache
def known() -> Inventory:
    """The installed vLLM's, else the bundled one."""
    return installed() or bundled()


def bundled() -> Inventory:
    """As stored with this package."""
    return Inventory.read(FILE)


def installed() -> Inventory | None:
    """As the source of the installed vLLM has it; None where it is not installed."""
    spec = importlib.util.find_spec("vllm")
    if spec is None or spec.origin is None:
        return None
    root = Path(spec.origin).parent
    if not all((root / file).is_file() for file in CLASSES.values()):
        return None
    return Inventory(_version(root), {name: _fields(root / file, name) for name, file in CLASSES.items()})


def _fields(path: Path, name: str) -> tuple[str, ...]:
    """Annotated names of a class body that a caller may set."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    bodies = [node.body for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name == name]
    return tuple(
        line.target.id
        for line in (bodies[0] if bodies else [])
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name) and _is_setting(line)
    )


def _is_setting(line: ast.AnnAssign) -> bool:
    assert isinstance(line.target, ast.Name)
    hidden = line.target.id.startswith("_") or "ClassVar" in ast.unparse(line.annotation)
    return not hidden and "init=False" not in ("" if line.value is None else ast.unparse(line.value))


def _version(root: Path) -> str:
    """vLLM's own version: the distribution's name differs between its builds."""
    path = root / "_version.py"
    tree = ast.parse(path.read_text(encoding="utf-8")) if path.is_file() else ast.Module([], [])
    for node in tree.body:
        names = (
            [target.id for target in node.targets if isinstance(target, ast.Name)]
            if isinstance(node, ast.Assign)
            else []
        )
        if isinstance(node, ast.Assign) and "__version__" in names and isinstance(node.value, ast.Constant):
            return str(node.value.value)
    return "unknown"


def main() -> None:
    """Write `parameters.json` from the installed vLLM."""
    found = installed()
    if found is None:
        raise SystemExit("vllm is not installed")
    found.write(FILE)


if __name__ == "__main__":
    main()
