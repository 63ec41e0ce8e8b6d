"""What an experiment on a server has where nobody says otherwise, and what is found of a server that runs."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import pairwise
from typing import Any

import attrs
import psutil

from llem.errors import LlemError, MachineError
from llem.models.resolve import SERVED, resolve_model
from llem.models.spec import ModelSpec
from llem_openai.address import Address, elsewhere
from llem_openai.config import OpenAIOptions, argv
from llem_openai.locality import GpuProcesses, family, gpu_processes, listeners
from llem_openai.server import Site, key_of

__all__ = ["commanded", "computing", "defaults", "found", "known"]

#: Options by which servers take the model (vLLM, SGLang, TGI), and what comes before it otherwise (`vllm serve MODEL`).
MODEL_OPTIONS = ("--model", "--model-path", "--model-id")
SERVE = "serve"


def defaults(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """The server decides on number formats and serves one client; one that runs is not restarted.

    One client that waits for its answers is the smallest load that streams: its times are those of a server that does
    nothing else, and no queue is in them. An offline batch would have no times of tokens.
    """
    own = _own(settings)
    found: dict[str, Any] = {"dtype": "auto", "load": {"kind": "closed", "concurrency": 1}}
    command, name = own.get("command"), own.get("served_model")
    if not command:
        found["processes"] = 1
    shown = commanded(_words(command))
    found["model"] = shown or (f"{SERVED}:{name}" if isinstance(name, str) and name else SERVED)
    return found


def found(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """The model that a running server names, and the device on which its processes compute.

    Nothing where the server is still to be started, or where the address is refused later anyway.

    Raises:
        MachineError: no answer comes, or it is not ready.
        ConfigError: it serves several models, or wants a key.
    """
    own = _own(settings)
    url = own.get("base_url", OpenAIOptions().base_url)
    if own.get("command") or not isinstance(url, str):
        return {}
    try:
        address = Address.of(url)
    except ValueError:
        return {}
    if elsewhere(address.host) is not None:
        return {}
    site = Site(address.root, address.base, key_of(own.get("api_key_env")))
    site.require()
    there: dict[str, Any] = {}
    if "model" not in settings and not own.get("served_model"):
        there["model"] = f"{SERVED}:{site.model(None)['id']}"
    if "device" not in settings and "gpus" not in settings:
        there |= _device(address.port)
    return there


def _own(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    section = settings.get("openai")
    return section if isinstance(section, Mapping) else {}


def _words(command: Any) -> tuple[str, ...]:
    """The command's arguments; none of what is no command, which its own check reports."""
    try:
        return tuple(map(str, argv(command)))
    except (ValueError, TypeError):
        return ()


def commanded(words: Sequence[str]) -> str | None:
    """The model that a server's command names, if it is a folder with a model or may be an id of the Hub."""
    named = _named(words)
    if named is None:
        return None
    try:
        return named if resolve_model(named).source in ("folder", "hub") else None
    except LlemError:  # a single file, as llama.cpp takes it
        return None


def _named(words: Sequence[str]) -> str | None:
    for word, after in pairwise((*words, "")):
        option, equals, value = word.partition("=")
        if option in MODEL_OPTIONS and (equals or after):
            return value if equals else after
        if word == SERVE and after and not after.startswith("-"):
            return after
    return None


def known(options: OpenAIOptions, model: ModelSpec) -> ModelSpec:
    """The model with weights "unknown", unless the command that starts the server names this very model."""
    words = argv(options.command)
    shown = _named(words)
    if shown is None or not (shown == model.name or (model.path and os.path.realpath(shown) == model.path)):
        return attrs.evolve(model, weights="unknown")
    random = "--load-format=dummy" in words or ("--load-format", "dummy") in pairwise(words)
    return attrs.evolve(model, weights="random") if random else model


def _device(port: int) -> Mapping[str, Any]:
    """`gpus` or `device` of the server that listens on a port; nothing where that cannot be told."""
    gpus = gpu_processes()
    if not gpus:
        return {}
    try:
        server = family(listeners(port))
    except MachineError:  # told when the engine is loaded
        return {}
    return computing(gpus, server, psutil.pid_exists)


def computing(gpus: GpuProcesses, server: Collection[int], exists: Callable[[int], bool]) -> Mapping[str, Any]:
    """The setting of the GPUs on which a server's processes compute; the CPU where all that compute are others. Pure.

    Nothing where a process computes that does not exist here: NVML shows the host's ids, and this is a container.

    Args:
        exists: whether there is a process of this id.
    """
    used = [uuid for uuid, pids in gpus.items() if set(server) & set(pids)]
    if used:
        return {"gpus": used}
    everyone = {pid for pids in gpus.values() for pid in pids}
    return {"device": "cpu"} if all(map(exists, everyone)) else {}
