"""Settings of the launchers that run the worker in a container. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import attrs

from llem.config.fields import option

__all__ = ["ApptainerOptions", "DockerOptions"]


@attrs.frozen(kw_only=True)
class DockerOptions:
    """How workers run in Docker containers."""

    image: Mapping[str, str] = option(
        factory=dict,
        help="Image of each backend, by the backend's name. The default is `llem-BACKEND:VERSION`. llem never pulls an "
        "image.",
    )
    network: Literal["none", "bridge", "host"] = option(
        "none", help="`none` gives the container no network. Models then come from this machine's Hugging Face cache."
    )
    shm_size: str | None = option(
        "8g", help="Size of /dev/shm, which an engine on several GPUs needs. Null is Docker's 64 MB."
    )
    mounts: tuple[str, ...] = option(
        (), help="Further folders and files that the worker may read, seen at the same path."
    )
    env: Mapping[str, str | None] = option(
        factory=dict,
        help="Variables in the container; null passes on the value that `llem` itself has. Results hold their names.",
    )
    user: str | None = option(
        None, help="`uid:gid` of the worker. Null takes the user who runs `llem`, who then owns the results."
    )


@attrs.frozen(kw_only=True)
class ApptainerOptions:
    """How workers run in Apptainer containers."""

    image: Mapping[str, str] = option(factory=dict, help="Image file (.sif) of each backend, by the backend's name.")
    network: Literal["none", "host"] = option(
        "host", help="`none` gives the container no network, if the system allows network namespaces."
    )
    mounts: tuple[str, ...] = option(
        (), help="Further folders and files that the worker may read, seen at the same path."
    )
    env: Mapping[str, str | None] = option(
        factory=dict,
        help="Variables in the container; null passes on the value that `llem` itself has. Results hold their names.",
    )
