"""Which container a worker runs in, as told by the launcher that started it: an image cannot see its own digest."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from llem.errors import MachineError

__all__ = ["VARIABLE", "Container", "told_container"]

#: Environment variable by which a launcher tells the worker its container, as JSON.
VARIABLE = "LLEM_CONTAINER"


@attrs.frozen
class Container:
    """What of a container changes what is measured in it.

    Attributes:
        runtime: "docker" or "apptainer", with its version.
        image: as the configuration names it.
        digest: `sha256:…` of the image's content on this machine; this, not the name, is what ran.
        repo_digests: under which digests registries know the image; none for one that was built here.
        network: how it is connected.
        env: names of the variables that the configuration sets in it; no values, which may be secrets.
    """

    runtime: str
    image: str
    digest: str
    repo_digests: Sequence[str] = ()
    network: str | None = None
    env: Sequence[str] = ()

    def told(self) -> str:
        """The value of the variable."""
        return json.dumps(attrs.asdict(self), sort_keys=True)


def told_container(environ: Mapping[str, str] = os.environ) -> dict[str, Any] | None:
    """What the launcher told; None where it started no container. Raises MachineError for what no launcher wrote."""
    text = environ.get(VARIABLE)
    if text is None:
        return None
    try:
        return attrs.asdict(Container(**json.loads(text)))
    except (ValueError, TypeError) as error:
        raise MachineError(f"the variable {VARIABLE} holds no container: {error}", f"unset {VARIABLE}") from error
