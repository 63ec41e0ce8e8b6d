"""`llem init`: a study file for what is installed here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from llem.cli.terminal import echo

if TYPE_CHECKING:
    from llem.study.plan.study import Study

__all__ = ["init"]


@click.command(epilog="Example: llem init batch-size -m shape:qwen2.5-0.5b")
@click.argument("template", required=False)
@click.option("-o", "--out", metavar="FILE", help="File to write. It must not exist.  [default: TEMPLATE.yaml]")
@click.option("-m", "--model", help="Hugging Face id, folder or shape:NAME.  [default: a shape that fits this machine]")
@click.option("-b", "--backend", help="Backend.  [default: as for `llem run`]")
@click.option("--list", "listed", is_flag=True, help="List the templates.")
def init(template: str | None, out: str | None, model: str | None, backend: str | None, listed: bool) -> None:
    """Write a study file with a comment on each line, for the backends, GPUs and meters that are here.

    TEMPLATE is a question: batch-size, engine, quantisation or load-slo. Without it, llem writes a first study. llem
    never overwrites a file, and writes none that `llem plan` would refuse.
    """
    from llem.config.load import COMMAND
    from llem.config.text import parse_yaml
    from llem.config.user import load_user_config
    from llem.errors import ConfigError, nearest
    from llem.plugins.registry import registry
    from llem.store.files import write
    from llem.study.plan.expand import load
    from llem.study.start.here import look_here
    from llem.study.start.templates import TEMPLATES, needs_stream, recommended_limit, study_text

    if listed:
        for name, question in TEMPLATES.items():
            echo(f"{name:12}  {question}")
        return
    name = next(iter(TEMPLATES)) if template is None else template
    if name not in TEMPLATES:
        near = nearest(name, TEMPLATES)
        hint = f"did you mean {near!r}? " if near else ""
        raise ConfigError(f"no template {name!r}", f"{hint}`llem init --list` lists them: {', '.join(TEMPLATES)}")
    known = registry()
    if backend is not None:
        known.reference("backend", backend)  # raises for one that is not installed
    if backend == COMMAND:
        raise ConfigError("the backend command runs no model", "measure a command with `llem meter -- COMMAND`")
    file = Path(out or f"{name}.yaml")
    if file.exists():
        raise ConfigError(f"{file} is there already, and llem overwrites no file", "name another with `-o FILE`")
    here = look_here(known, load_user_config().backend, model)
    taken = backend or here.backend(streams=needs_stream(name))
    text = study_text(name, here, model, taken)
    study = load(parse_yaml(text, str(file)), (), known)
    write(file, text.encode())
    _tell(file, TEMPLATES[name], study, recommended_limit(name, here, taken))


def _tell(file: Path, question: str, study: Study, limit: str | None) -> None:
    """What was written, and what to do with it."""
    import shlex

    backends = ", ".join(dict.fromkeys(one.experiment.backend for one in study.experiments))
    one, count = study.experiments[0].experiment, len(study.experiments)
    many = f"{count} experiment" + ("" if count == 1 else "s")
    echo(f"wrote {file} ({question}): {many}, {one.model} on {backends}")
    if backends == "echo":
        echo("note: no engine is installed, or echo was asked for: echo is a fake, its figures mean nothing", err=True)
    name, folder = shlex.quote(str(file)), shlex.quote(file.stem)
    echo("next:")
    echo(f"  llem plan {name}")
    echo(f"  llem run {name} --preset quick -o {folder}-try  # minutes, to see that it works")
    echo(f"  llem run {name} -o {folder}")
    answer = f"  llem recommend {folder}" + (f" --slo {shlex.quote(limit)}" if limit else "")
    echo(answer if count > 1 else f"  llem show {folder}")
