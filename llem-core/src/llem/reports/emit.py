"""A stored configuration as something to use: a study that measures it again, or commands that launch it."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from llem.backends.deployment import Deployment
from llem.config.load import stored_experiment
from llem.config.text import to_yaml
from llem.errors import LlemError, StoreError
from llem.foreign.shown import visible
from llem.models.spec import ModelSpec
from llem.plugins.reference import resolve
from llem.plugins.registry import Registry
from llem.plugins.registry import registry as installed
from llem.store.store import Store
from llem.study.plan.again import Again, measured_again
from llem.study.plan.expand import load

__all__ = ["command_text", "deployment", "study_yaml"]

#: Characters of a line of comments.
WIDTH = 118


def study_yaml(
    store: Store, experiment_ids: Sequence[str], processes: int | None = None, *, plugins: Registry | None = None
) -> str:
    """A study file that measures stored experiments again.

    It holds what somebody set and what differs from the defaults. `llem plan` of it gives the same ids; where it does
    not, as after a file has changed, a comment says so.

    Args:
        experiment_ids: whole ids, or what they begin with.
        processes: engine processes of each, with as many trials as each had; None leaves both as they were.
        plugins: None takes those that are installed.

    Raises:
        StoreError: no such experiment.
        LlemError: a plugin of an experiment is not installed.
    """
    plugins = plugins or installed()
    ids = [store.find(one) for one in experiment_ids]
    again = measured_again(store, ids, plugins, processes=processes)
    name = store.study().get("name")
    about = f"experiment {ids[0]}" if len(ids) == 1 else f"experiments {', '.join(ids)}"
    told = [
        f"Measures {about} again{f', of the study {name!r}' if name else ''}.",
        *(f"Note: {note}." for note in (*again.notes, *_other_ids(again, ids, plugins))),
    ]
    return "".join(f"{line}\n" for one in told for line in _comment(one)) + "\n" + to_yaml(again.document, {})


def _other_ids(again: Again, ids: Sequence[str], plugins: Registry) -> Iterator[str]:
    """Why the file is not what was measured, where that is so."""
    try:
        planned = {one.id for one in load(again.document, (), plugins).experiments}
    except LlemError as error:
        yield f"it cannot be planned here: {' '.join(str(error).split())}"
        return
    if planned != set(ids):
        gone, new = sorted(set(ids) - planned), sorted(planned - set(ids))
        yield (
            f"it gives {', '.join(new)} in place of {', '.join(gone)}: the model, a file or what the user "
            "configuration says of GPUs is not as it was"
        )


def deployment(store: Store, experiment_id: str, *, plugins: Registry | None = None) -> Deployment:
    """How to launch a stored configuration without llem. Needs no engine.

    Args:
        experiment_id: a whole id, or what it begins with.
        plugins: None takes those that are installed.

    Raises:
        StoreError: no such experiment, or (no_deployment) its backend does not say how.
        LlemError: a plugin of the experiment is not installed.
    """
    plugins = plugins or installed()
    document = store.read_experiment(store.find(experiment_id))
    experiment = stored_experiment(document, plugins)
    told = plugins.reference("backend", experiment.backend).deploy
    if told is None:
        what = f"the backend {experiment.backend!r} does not say how to launch a configuration without llem"
        raise StoreError(what, "`--emit yaml` writes a study that measures it again", "no_deployment")
    found: Deployment = resolve(told)(experiment, _model(document["model"]))
    return found


def _model(stored: Mapping[str, Any]) -> ModelSpec:
    """The model of experiment.json, without its sizes."""
    name, source = stored["name"], stored["source"]
    path = name if source == "folder" else None
    return ModelSpec(
        name, source, stored["weights"], stored["fingerprint"], path, stored.get("revision"), seed=stored.get("seed", 0)
    )


def command_text(found: Deployment, title: str = "") -> str:
    """A deployment as one text: notes as comments, the shell's commands, and the program in Python."""
    blocks = []
    head = [line for one in ([title] if title else []) for line in _comment(one)]
    head += [line for note in found.notes for line in _comment(note, "# - ")]
    if head:
        blocks.append("\n".join(head))
    if found.shell is not None:
        blocks.append(found.shell.strip("\n"))
    if found.python is not None:
        blocks.append(f"# in Python\n{found.python.strip()}")
    return "\n\n".join(blocks) + "\n"


def _comment(text: str, mark: str = "# ") -> list[str]:
    return textwrap.wrap(
        visible(text),
        WIDTH,
        initial_indent=mark,
        subsequent_indent="#" + " " * (len(mark) - 1),
        break_long_words=False,
        break_on_hyphens=False,
    )
