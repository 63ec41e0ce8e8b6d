"""Finding and reason codes: what is documented is produced somewhere, and what is produced is documented."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from llem.findings import FINDINGS, REASONS

REPOSITORY = Path(__file__).parents[2]
#: Not where codes are told to the reader, or made up for tests.
APART = ("findings.py", "reports", "testing")
TREES = [
    ast.parse(path.read_text(encoding="utf-8"))
    for path in sorted(REPOSITORY.glob("llem-*/src/**/*.py"))
    if not set(path.parts) & set(APART)
]


def _called(node: ast.AST) -> str:
    function = node.func if isinstance(node, ast.Call) else None
    return getattr(function, "id", getattr(function, "attr", ""))


def _texts(node: ast.AST) -> Iterator[str]:
    """Texts below a node, but for those of errors that are raised and those that something is compared with."""
    if isinstance(node, ast.Compare) or _called(node).endswith("Error"):
        return
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    for child in ast.iter_child_nodes(node):
        yield from _texts(child)


def _findings() -> set[str]:
    """Texts in each function that makes a finding, and in each table that a module of such functions has."""
    found: set[str] = set()
    for tree in TREES:
        makers = [
            node
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef) and any(_called(inner) == "finding" for inner in ast.walk(node))
        ]
        tables = [node for node in tree.body if isinstance(node, (ast.Assign, ast.AnnAssign))] if makers else []
        found.update(text for node in (*makers, *tables) for text in _texts(node))
    return found


PRODUCED = _findings()
SAID = {text for tree in TREES for text in _texts(tree)}


@pytest.mark.parametrize("code", sorted(FINDINGS))
def test_a_documented_finding_is_made_somewhere(code: str) -> None:
    """In a function that makes findings."""
    assert code in PRODUCED


@pytest.mark.parametrize("code", sorted(REASONS))
def test_a_documented_reason_is_given_somewhere(code: str) -> None:
    """Other than as the code of an error that ends an experiment."""
    assert code in SAID


def test_what_is_made_is_documented() -> None:
    """Each code that a call of `finding`, `absent` or a `reason=` names is in its catalogue."""
    findings, reasons = set(), set()
    for node in (node for tree in TREES for node in ast.walk(tree) if isinstance(node, ast.Call)):
        named = [keyword.value for keyword in node.keywords if keyword.arg in ("reason", "memory_reason")]
        if _called(node) == "finding":
            findings.update(_texts(node.args[0]))
        elif _called(node) == "absent":
            named.append(node.args[1])
        reasons.update(text for value in named for text in _texts(value))

    assert len(findings) > 20
    assert len(reasons) > 8
    assert findings <= FINDINGS.keys()
    assert reasons <= REASONS.keys()
