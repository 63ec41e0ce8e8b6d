"""`llem doctor`: what this machine can measure and run, with a fix for each thing that is missing."""

from __future__ import annotations

import click

from llem.cli.terminal import echo

__all__ = ["doctor"]

COLOURS = {"ok": "green", "missing": "red", "warning": "yellow"}


@click.command(epilog="Example: llem doctor")
@click.option("--json", "as_json", is_flag=True, help="Print only JSON.")
def doctor(as_json: bool) -> None:
    """Check GPUs, energy counters, permissions, Docker, Slurm and plugins.

    For each missing thing, llem prints what to do. The exit code is always 0, because a machine without a GPU is no
    error.
    """
    import attrs

    from llem import __version__
    from llem.doctor import diagnose

    checks = diagnose()
    if as_json:
        import json

        echo(json.dumps({"llem": __version__, "checks": [attrs.asdict(check) for check in checks]}, indent=2))
        return
    width = max(len(check.name) for check in checks)
    for check in checks:
        lead, style = f"{check.status:7}", {"fg": COLOURS[check.status]}
        echo(f"  {check.name:{width}}  {check.detail}", lead=lead, style=style)
        if check.fix and check.status != "ok":
            echo(f"{'':7}  {'':{width}}  fix: {check.fix}")
