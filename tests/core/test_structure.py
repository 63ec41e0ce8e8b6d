"""The shape of the source: imports run one way, modules stay small, the command line stays light."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import llem

SOURCE = Path(llem.__file__).parent
REPOSITORY = Path(__file__).parents[2]

#: Each may import what stands before it.
ORDER = (
    "errors",
    "foreign",
    "display",
    "findings",
    "plugins",
    "config",
    "models",
    "devices",
    "backends",
    "meters",
    "workloads",
    "evaluators",
    "store",
    "protocol",
    "metrics",
    "analysis",
    "experiment",
    "launchers",
    "study",
    "reports",
    "progress",
    "doctor",
    "api",
    "cli",
    "testing",
)

MODULES = sorted(path for path in SOURCE.rglob("*.py"))
NAMES = [str(path.relative_to(SOURCE)) for path in MODULES]
#: Modules of more than 300 lines; keep it empty if you can.
LONG: set[str] = set()
#: Modules of less than 50 lines with one importer, and why they are no part of it.
SMALL = {
    "__main__.py": "Python runs it by its name, for `python -m llem`",
    "cli/bundle.py": "one file per command",
    "cli/doctor.py": "one file per command",
    "experiment/told_rows.py": "told.py would be too long",
    "study/run/numbers.py": "supervisor.py would be too long",
    "study/run/patience.py": "supervisor.py would be too long",
}
HEAVY = ("torch", "transformers", "numpy", "scipy", "pandas", "rich", "pynvml", "yaml", "structlog", "zeus")


def _part(path: Path) -> str:
    """The name in ORDER that a file belongs to."""
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def _imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Every `llem` import that can run, wherever it stands; what is under TYPE_CHECKING never runs."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == "llem":
            yield from ((node.lineno, f"llem.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, node.module or ""
        yield from _imports(node)


@pytest.mark.parametrize("path", MODULES, ids=NAMES)
def test_imports_run_one_way(path):
    """No module imports one that stands after it in the order; the order names every part there is."""
    part = _part(path)
    if part in ("__init__", "__main__"):
        return
    if part == "builtin":
        allowed = {"plugins"}
    else:
        assert part in ORDER, f"{part} has no place in the order"
        allowed = set(ORDER[: ORDER.index(part) + 1])
    wrong = []
    for line, name in _imports(ast.parse(path.read_text(encoding="utf-8"))):
        top, _, rest = name.partition(".")
        if top != "llem" or rest in ("", "__version__", "builtin"):
            continue
        if rest.split(".")[0] not in allowed:
            wrong.append(f"{path.name}:{line} imports {name}")

    assert wrong == []


@pytest.mark.parametrize("path", MODULES, ids=NAMES)
def test_imports_are_absolute(path):
    """Imports name the module in full, so that the order above sees them."""
    relative = [n.lineno for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.ImportFrom) and n.level]

    assert relative == []


@pytest.mark.parametrize("path", MODULES, ids=NAMES)
def test_public_modules_say_what_they_export(path):
    """Each module with public functions or classes has `__all__`, and each name in it exists there."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    kinds = (ast.FunctionDef, ast.ClassDef, ast.AsyncFunctionDef)
    public = {node.name for node in tree.body if isinstance(node, kinds) and not node.name.startswith("_")}
    exported = [
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    ]
    if path.name == "builtin.py":
        return  # its names are hooks, read by pluggy
    if not public:
        return

    assert exported, f"{path.name} defines {', '.join(sorted(public))} and has no __all__"
    text = path.read_text(encoding="utf-8")
    assert [name for name in exported[0] if not re.search(rf"\b{re.escape(name)}\b", text.split("__all__", 1)[1])] == []


@pytest.mark.parametrize("path", MODULES, ids=NAMES)
def test_modules_have_a_docstring(path):
    """Each module says what it is for."""
    text = path.read_text(encoding="utf-8")

    assert not text.strip() or ast.get_docstring(ast.parse(text))


def test_modules_stay_small():
    """None is longer than 600 lines, and those beyond 300 are listed, each with a reason in its review."""
    lines = {str(path.relative_to(SOURCE)): path.read_text(encoding="utf-8").count("\n") for path in MODULES}

    assert {name for name, count in lines.items() if count > 300} == LONG
    assert [name for name, count in lines.items() if count > 600] == []


def _importers(module: str) -> set[Path]:
    """Files of all packages that import a module, or name something of it in a reference."""
    pattern = re.compile(rf"\b{re.escape(module)}(?: import |:|\n)")
    return {path for path in REPOSITORY.glob("llem-*/src/**/*.py") if pattern.search(path.read_text(encoding="utf-8"))}


def test_small_modules_have_a_reason():
    """A module under 50 lines that one other module imports stands in it, unless the list says why not."""
    small = set()
    for path, name in zip(MODULES, NAMES, strict=True):
        module = "llem." + name.removesuffix(".py").replace(os.sep, ".")
        if path.name != "__init__.py" and path.read_text(encoding="utf-8").count("\n") < 50:
            small |= {name} if len(_importers(module)) < 2 else set()

    assert small == set(SMALL)


#: Parts that read files which somebody else may have written.
READERS = ("analysis", "config", "evaluators", "models", "protocol", "store", "study", "workloads")


@pytest.mark.parametrize("path", MODULES, ids=NAMES)
def test_files_of_others_are_read_in_one_place(path):
    """`llem.foreign` reads them: regular files alone, and bounded. What a package brings itself is no such file."""
    if _part(path) not in READERS:
        return
    text = path.read_text(encoding="utf-8")
    pattern = r"\.read_bytes\(\)|\.read_text\(|\.open\(\"rb?\"\)|json\.load\(|gzip\.(?:decompress|open)\("
    found = [line.strip() for line in text.splitlines() if re.search(pattern, line) and "resources" not in line]

    assert found == []


@pytest.mark.parametrize("path", MODULES, ids=NAMES)
def test_text_leaves_to_a_terminal_in_one_place(path):
    """`llem.cli.terminal.echo`, which takes commands out of it; the export of a table asks first where it goes."""
    if _part(path) != "cli" or path.name in ("terminal.py", "export.py"):
        return

    assert re.findall(r"click\.s?echo\(|\bprint\(", path.read_text(encoding="utf-8")) == []


def test_no_module_is_named_after_nothing():
    """Modules are named after what they hold; these names hold anything."""
    vague = {"utils", "util", "common", "core", "infra", "manager", "helper", "helpers", "handler", "misc"}

    assert [name for name in NAMES if vague & set(name.removesuffix(".py").split(os.sep))] == []


@pytest.mark.process
def test_help_imports_nothing_heavy():
    """`llem --help` loads no torch, numpy, scipy, rich or pynvml, plugins included."""
    program = (
        "import sys\n"
        "from llem.cli import cli\n"
        "code = 0\n"
        "try:\n"
        "    cli(['--help'])\n"
        "except SystemExit as end:\n"
        "    code = end.code\n"
        f"print('HEAVY', code, sorted(set(sys.modules) & set({HEAVY!r})))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)

    assert done.stdout.splitlines()[-1] == "HEAVY 0 []"


@pytest.mark.process
def test_import_of_the_package_imports_nothing_else_of_it():
    """`import llem` loads no other module of llem: every plugin's hooks import it."""
    program = "import sys, llem; print(sorted(m for m in sys.modules if m.startswith('llem.')))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)

    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", llem.__all__)
def test_public_names_resolve(name):
    """Each name the package promises is there, is listed by dir(), and is the same object each time."""
    assert name in dir(llem)
    assert getattr(llem, name) is getattr(llem, name)


def test_unknown_public_name_is_an_attribute_error():
    """A name that is not promised raises AttributeError as from any module."""
    with pytest.raises(AttributeError, match="no attribute 'runn'"):
        _ = llem.runn


def _texts() -> list[Path]:
    kinds = {".py", ".md", ".toml", ".yml", ".yaml", ".txt", ".cfg", ".json", ".jsonl", ".sh"}
    skip = {".git", ".nox", ".venv", "dist", "site", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis"}
    found = []
    for folder, folders, files in os.walk(REPOSITORY):
        folders[:] = [name for name in folders if name not in skip and not name.startswith("llem-results")]
        found += [Path(folder, name) for name in files if Path(name).suffix in kinds or name == "run"]
    return [path for path in found if path != Path(__file__)]


def test_files_name_no_machine_and_no_index():
    """No file holds a developer's absolute path or the host of a package index; those belong in pip's configuration."""
    hosts = r"pypi\.org|pythonhosted\.org|download\.pytorch\.org|anaconda\.org"
    paths = r"(?<![\w.$}~-])/(?:root|work|home/\w+|Users/\w+)/"
    pattern = re.compile(f"{hosts}|{paths}")
    wrong = [
        f"{path.relative_to(REPOSITORY)}: {found.group()}"
        for path in _texts()
        if (found := pattern.search(path.read_text(encoding="utf-8", errors="replace")))
    ]

    assert wrong == []


def test_versions_agree():
    """The version that the code says is the version that the package metadata says."""
    text = (REPOSITORY / "llem-core" / "pyproject.toml").read_text(encoding="utf-8")

    assert f'version = "{llem.__version__}"' in text


@pytest.mark.parametrize("package", sorted(path.parent.name for path in REPOSITORY.glob("llem-*/pyproject.toml")))
def test_each_package_has_what_a_package_needs(package):
    """README, changelog that speaks of the present version, licence, and a bounded range of llem-core."""
    folder = REPOSITORY / package
    project = (folder / "pyproject.toml").read_text(encoding="utf-8")
    version = re.search(r'^version = "(.+)"$', project, re.M)

    assert version is not None
    changes = (folder / "CHANGELOG.md").read_text(encoding="utf-8")
    heading = re.search(r"^## \[?([^\]\s]+)", changes, re.M)
    assert heading is not None
    assert changes.partition("## ")[0] == (REPOSITORY / "llem-core" / "CHANGELOG.md").read_text().partition("## ")[0]
    released = re.search(rf"^## \[?{re.escape(version.group(1))}\b", changes, re.M)
    assert released or f"version {version.group(1)}" in changes.partition("### ")[0], "what is unreleased has a number"
    assert heading.group(1) in ("Unreleased", version.group(1))
    assert (folder / "README.md").is_file()
    assert (folder / "LICENSE").is_file()
    if package != "llem-core":
        assert re.search(r'"llem-core(\[\w+\])?>=[\d.]+,<[\d.]+"', project), "llem-core must be a bounded range"
