"""What the server tells of itself, and how it was started. No secrets, whatever it tells."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Mapping
from itertools import islice
from typing import Any

import psutil

from llem.foreign.secrets import is_secret, redacted
from llem_openai.server import Site

__all__ = ["command_lines", "scalars", "server_facts"]

#: Where servers tell what they run with: vLLM, SGLang, llama.cpp, TGI.
PAGES = ("version", "get_server_info", "server_info", "props", "info")
#: Time for all of them: a server may hang at each.
PAGES_S = 10.0
#: Characters of a name or a text, and how many of a page's figures are kept.
LONGEST, MOST = 300, 500


def server_facts(site: Site) -> dict[str, Any]:
    """Name by its header, and the single figures and words of its own pages, as far as they come in time."""
    found: dict[str, Any] = {}
    end = time.monotonic() + PAGES_S
    for page in PAGES:
        if (left := end - time.monotonic()) <= 0:
            break
        response = site.get(f"{site.root}/{page}", left)
        if response is None or response.status != 200:
            continue
        if response.server:
            found["server"] = response.server
        try:
            told = response.json()
        except ValueError:  # a page for people
            continue
        if isinstance(told, Mapping):
            found[page] = scalars(told)
    return found


def scalars(told: Mapping[str, Any]) -> dict[str, Any]:
    """What is no structure, no essay and no secret, under names that are none either; the first of very many."""
    named = ((str(name), value) for name, value in told.items())
    fit = ((name, value) for name, value in named if len(name) <= LONGEST and _plain(value) and not is_secret(name))
    return dict(islice(fit, MOST))


def _plain(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)  # no JSON value otherwise, though servers write it
    if isinstance(value, str):
        return len(value) <= LONGEST
    return value is None or isinstance(value, (bool, int))


def command_lines(pids: Collection[int]) -> list[list[str]]:
    """How the processes were started, as far as it may be read."""
    found = []
    for pid in sorted(pids):
        try:
            found.append(list(redacted(psutil.Process(pid).cmdline())))
        except psutil.Error:  # ended meanwhile, or another user's
            continue
    return found
