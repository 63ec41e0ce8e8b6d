"""`llem plugins`: what is installed, what it needs, and what is broken and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from llem.cli.root import verbose_option
from llem.cli.terminal import echo

if TYPE_CHECKING:
    from llem.plugins.registry import Registry

__all__ = ["plugins"]


@click.command(epilog="Example: llem plugins --json")
@click.option("--json", "as_json", is_flag=True, help="Print only JSON.")
@verbose_option
def plugins(as_json: bool, verbose: bool) -> None:
    """List installed plugins by kind, and the broken ones with their cause."""
    from llem.plugins.registry import registry

    report = _report(registry())
    if as_json:
        import json

        echo(json.dumps(report, indent=2))
        return
    for kind in dict.fromkeys(row["kind"] for row in report["plugins"]):
        rows = [row for row in report["plugins"] if row["kind"] == kind]
        _print_kind(kind, rows)
    _print_broken(report["broken"], verbose)


def _report(known: Registry) -> dict[str, Any]:
    from llem.plugins.registry import KINDS

    rows = []
    for kind in KINDS:
        for reference, plugin in known.entries(kind):
            missing = reference.missing()
            rows.append(
                {
                    "kind": kind,
                    "name": reference.name,
                    "distribution": plugin.distribution,
                    "version": plugin.version,
                    "summary": reference.summary,
                    "status": reference.status,
                    "capabilities": dict(reference.capabilities),
                    "requires": list(reference.requires),
                    "missing": list(missing),
                    "fix": (reference.install or f"pip install {' '.join(missing)}") if missing else "",
                }
            )
    broken = [
        {
            "name": failure.name,
            "distribution": failure.distribution,
            "version": failure.version,
            "module": failure.module,
            "stage": failure.stage,
            "error": failure.error,
            "traceback": failure.trace,
        }
        for failure in known.examine()
    ]
    return {"plugins": rows, "broken": broken, "commands": sorted(known.commands())}


def _print_kind(kind: str, rows: list[dict[str, Any]]) -> None:
    echo(lead=f"{kind}s", style={"bold": True})
    name_width = max(len(row["name"]) for row in rows)
    origin_width = max(len(f"{row['distribution']} {row['version']}") for row in rows)
    for row in rows:
        origin = f"{row['distribution']} {row['version']}"
        echo(f"  {row['name']:{name_width}}  {origin:{origin_width}}  {row['summary']}".rstrip())
        for line in _remarks(row):
            echo(f"  {'':{name_width}}  {line}")
    echo()


def _remarks(row: dict[str, Any]) -> list[str]:
    lines = []
    if row["missing"]:
        lines.append(f"needs {', '.join(row['missing'])}: {row['fix']}")
    if row["status"]:
        lines.append(f"status: {row['status']}")
    by_support: dict[str, list[str]] = {}
    for name, support in row["capabilities"].items():
        by_support.setdefault(support, []).append(name)
    lines.extend(f"{support}: {', '.join(names)}" for support, names in sorted(by_support.items()))
    return lines


def _print_broken(broken: list[dict[str, Any]], verbose: bool) -> None:
    if not broken:
        return
    echo(lead="broken", style={"bold": True})
    for row in broken:
        echo(f"  {row['name']}  {row['distribution']} {row['version']}  failed at {row['stage']}: {row['error']}")
        if verbose and row["traceback"]:
            echo("".join(f"    {line}\n" for line in row["traceback"].splitlines()), nl=False)
    if not verbose:
        echo("  `llem plugins -v` shows the tracebacks; reinstall or remove these packages")
