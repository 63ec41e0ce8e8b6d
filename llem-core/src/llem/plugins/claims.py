"""Who gives which name. Two that give one are an error for both: no order of names decides what is measured."""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Mapping
from typing import TypeAlias, TypeVar

from llem.plugins.names import BUILTIN, COMMANDS, CORE, KNOWN_NAMES, KNOWN_PACKAGES, SETTINGS, Claim, canonical

__all__ = ["LoadFailure", "Offer", "Plugin", "claimed"]

T = TypeVar("T")


class Plugin:
    """One entry point that loaded: its name, distribution and version."""

    __slots__ = ("distribution", "module", "name", "version")

    def __init__(self, name: str, module: str, distribution: str, version: str) -> None:
        self.name, self.module, self.distribution, self.version = name, module, distribution, version

    @property
    def key(self) -> str:
        """Tells it from every other: names of entry points are each distribution's own."""
        return f"{self.name} ({self.distribution})"


class LoadFailure(Plugin):
    """What of one entry point cannot be used: at which stage (import, register, hooks, call) that showed, and why.

    Attributes:
        claim: the kind and name that cannot be used for it; None where it is not about one of them.
    """

    __slots__ = ("claim", "error", "stage", "trace")

    def __init__(
        self, plugin: Plugin, stage: str, error: BaseException | str, claim: tuple[Claim, str] | None = None
    ) -> None:
        super().__init__(plugin.name, plugin.module, plugin.distribution, plugin.version)
        self.stage, self.claim = stage, claim
        self.error = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
        self.trace = "" if isinstance(error, str) else "".join(traceback.format_exception(error))


#: A name, what is given under it, and by whom.
Offer: TypeAlias = tuple[str, T, Plugin]


def claimed(kind: Claim, offers: Iterable[Offer[T]]) -> tuple[dict[str, tuple[T, Plugin]], list[LoadFailure]]:
    """What is given under names that are claimed once, and a failure for each claim besides.

    A name of the core's, or of one of our packages, is theirs whoever else claims it, and whether or not the package is
    installed. Pure.
    """
    offers, failures = list(offers), list[LoadFailure]()
    claims: dict[str, list[tuple[T, Plugin]]] = {}
    owners = {**_owners(kind), **{name: CORE for name, _, plugin in offers if plugin.module == BUILTIN}}
    for name, given, plugin in offers:
        owner = owners.get(name, plugin.distribution)
        if canonical(plugin.distribution) == canonical(owner):
            claims.setdefault(name, []).append((given, plugin))
        else:
            other = f"{canonical(plugin.distribution).removeprefix('llem-')}-{name}"
            problem = f"the name {name!r} of a {kind} belongs to {owner} (choose another one, such as {other!r})"
            failures.append(LoadFailure(plugin, "register", problem, (kind, name)))
    for name, those in claims.items():
        if len(those) > 1:
            givers = " and ".join(f"{one.distribution} (entry point {one.name!r})" for _, one in those)
            problem = f"{kind} {name!r} is given by {givers}, so neither is used"
            failures += [LoadFailure(one, "register", problem, (kind, name)) for _, one in those]
    return {name: those[0] for name, those in claims.items() if len(those) == 1}, failures


def _owners(kind: Claim) -> Mapping[str, str]:
    if kind == "command":
        return dict.fromkeys(COMMANDS, CORE)
    settings = dict.fromkeys(SETTINGS, CORE) if kind in ("backend", "meter") else {}
    return {**settings, **{name: KNOWN_PACKAGES[name] for name in KNOWN_NAMES.get(kind, ())}}
