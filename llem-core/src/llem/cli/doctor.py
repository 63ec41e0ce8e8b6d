"""`llem doctor`: what this machine can measure and run, with a fix for each thing that is missing."""

from __future__ import annotations

import click

__all__ = ["doctor"]

COLOURS = {"ok": "green", "missing": "red", "warning": "yellow"}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON alone.")
def doctor(as_json: bool) -> None:
    """Look at GPUs, energy counters, permissions, Docker, Slurm and plugins.

    Each thing that is missing comes with what to do about it. Ends with 0 whatever it finds: a machine without a GPU
    is not an error.
    """
    import attrs

    from llem import __version__
    from llem.doctor import diagnose

    checks = diagnose()
    if as_json:
        import json

        click.echo(json.dumps({"llem": __version__, "checks": [attrs.asdict(check) for check in checks]}, indent=2))
        return
    width = max(len(check.name) for check in checks)
    for check in checks:
        status = click.style(f"{check.status:7}", fg=COLOURS[check.status])
        click.echo(f"{status}  {check.name:{width}}  {check.detail}")
        if check.fix and check.status != "ok":
            click.echo(f"{'':7}  {'':{width}}  fix: {check.fix}")
