"""How many tokens: a fixed number, or a distribution.

Draws use `Random.random()` alone, the one method whose sequence Python promises to keep for a given seed.
"""

from __future__ import annotations

import math
import random
from typing import Any, Literal, TypeAlias

import attrs

from llem.config.fields import at_least, option

__all__ = ["Length", "Lognormal", "Uniform", "positive", "sample"]


def _not_below_low(instance: Any, attribute: Any, value: int) -> None:
    if value < instance.low:
        raise ValueError(f"must not be below low ({instance.low}), got {value}")


@attrs.frozen(kw_only=True)
class Uniform:
    """Every length from `low` to `high` equally likely, both included."""

    kind: Literal["uniform"] = option("uniform", help="Equally likely lengths.")
    low: int = option(help="Shortest length.", unit="tokens", validator=at_least(1))
    high: int = option(help="Longest length.", unit="tokens", validator=_not_below_low)


@attrs.frozen(kw_only=True)
class Lognormal:
    """Lengths whose logarithm is normally distributed, as lengths of real prompts and answers roughly are.

    Draws are rounded, then held within 1 and `max`; what `max` cuts off makes the mean of the draws somewhat smaller
    than `mean`.
    """

    kind: Literal["lognormal"] = option("lognormal", help="Log-normally distributed lengths.")
    mean: float = option(help="Mean of the distribution before `max`.", unit="tokens", validator=at_least(1))
    sigma: float = option(help="Standard deviation of the natural logarithm of the length.", validator=at_least(0))
    max: int = option(help="Greatest length; longer draws are cut to it.", unit="tokens", validator=at_least(1))


Length: TypeAlias = int | Uniform | Lognormal


def positive(_: Any, attribute: Any, value: Length) -> None:
    """Validator of a `Length`: a fixed number must be at least 1."""
    if isinstance(value, int) and value < 1:
        raise ValueError(f"must be at least 1, got {value}")


def sample(length: Length, rng: random.Random) -> int:
    """One length in tokens, at least 1.

    Log-normal by Box and Muller: with u, v uniform, z = sqrt(-2 ln u) cos(2 pi v) is standard normal, and
    exp(mu + sigma z) has the mean exp(mu + sigma^2 / 2), which fixes mu.
    """
    if isinstance(length, int):
        return length
    if isinstance(length, Uniform):
        return length.low + int(rng.random() * (length.high - length.low + 1))
    u, v = 1.0 - rng.random(), rng.random()  # u within (0, 1], so that its logarithm exists
    z = math.sqrt(-2.0 * math.log(u)) * math.cos(2.0 * math.pi * v)
    exponent = math.log(length.mean) - length.sigma**2 / 2 + length.sigma * z
    if exponent >= math.log(length.max):  # compared before exp, which overflows for a large sigma
        return length.max
    return max(1, round(math.exp(exponent)))
