"""What llem relies on in what a meter gives. Held when meters are opened and after each window; the conformance suite
holds the same and more. Pure.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence

from llem.errors import Breach
from llem.meters.base import Domain

__all__ = ["domain_breaches", "joules_breach"]

PAGE = "docs/howto/write-a-meter.md"
NAME = re.compile(r"(?P<gpu>gpu:\S+)|(?P<cpu>cpu:\d+(?:\.\d+)?)|(?P<dram>dram:\d+(?:\.\d+)?)|(?P<node>node)")
#: More than this is no sensor that windows of some seconds can be measured with.
SETTLE_LIMIT_S = 30.0


def domain_breaches(domains: Sequence[Domain], gpu_uuids: Sequence[str]) -> Iterator[Breach]:
    """Of what one meter says it can read.

    Args:
        gpu_uuids: the GPUs that the meter was given.
    """
    names = [domain.name for domain in domains]
    if not names:
        yield _breach("a meter that opens has something to read", "no domain", "one at least, or a MachineError")
    for name in {one for one in names if names.count(one) > 1}:
        yield _breach("a domain is listed once", f"{name} {names.count(name)} times", "once")
    for domain in domains:
        yield from _domain_breaches(domain, [f"gpu:{uuid}" for uuid in gpu_uuids])


def _domain_breaches(domain: Domain, gpus: Sequence[str]) -> Iterator[Breach]:
    name, match = domain.name, NAME.fullmatch(str(domain.name))
    if match is None:
        yield _breach("domains are named by what they cover", repr(name), "gpu:<uuid>, cpu:<n>, dram:<n> or node")
        return
    if domain.scope != match.lastgroup:
        yield _breach("a domain has the scope of its name", f"{domain.scope!r} for {name}", repr(match.lastgroup))
    if domain.scope == "gpu" and name not in gpus:
        yield _breach("a meter reads the GPUs that it was given, and no others", name, ", ".join(gpus) or "none")
    if domain.kind not in ("measured", "modelled"):
        yield _breach("a domain is measured or modelled", f"{domain.kind!r} for {name}", "'measured' or 'modelled'")
    if not domain.instrument:
        yield _breach("a domain says where its figure comes from", f"nothing for {name}", "`instrument` in words")
    if (domain.period_s is None) != (domain.method == "window"):
        rule = "a domain that is read has a period, and one of a window meter has none"
        yield _breach(rule, f"{domain.period_s!r} for {name}", "None" if domain.method == "window" else "seconds")
    for what in ("delay_s", "average_s"):
        if not 0 <= (seconds := getattr(domain, what)) <= SETTLE_LIMIT_S:
            yield _breach(f"{what} is within a window", f"{seconds} s for {name}", f"0 to {SETTLE_LIMIT_S:g} s")
    if domain.coverage is not None and not 0 < domain.coverage <= 1:
        yield _breach("coverage is a share", f"{domain.coverage} for {name}", "above 0, to 1")


def joules_breach(domain: str, joules: object) -> Breach | None:
    """Of the energy of one window."""
    number = isinstance(joules, int | float) and not isinstance(joules, bool)
    if joules is None or (number and 0 < float(joules) < math.inf):  # type: ignore[arg-type]
        return None
    rule = "the energy of a window is above 0 J, or None where there is no reading"
    return _breach(rule, f"{joules!r} for {domain}", "joules, or None")


def _breach(rule: str, got: str, expected: str) -> Breach:
    return Breach(rule, got, expected, PAGE)
