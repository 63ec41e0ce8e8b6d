"""What a workload implements: an endless, seeded sequence of requests; and their lengths. Draws of lengths use
`Random.random()` alone, the one method whose sequence Python promises to keep for a given seed.
"""

from __future__ import annotations

import math
import random
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, TypeAlias

import attrs

from llem.backends.base import Request
from llem.config.fields import at_least, option
from llem.errors import ConfigError, Problem
from llem.models.tokenizer import Tokenizer
from llem.workloads.arrivals import Timetable

__all__ = ["Length", "Lognormal", "Uniform", "Workload", "positive", "sample"]


class Workload(ABC):
    """A source of requests. Constructed with its own section, the tokenizer and the model's vocabulary size.

    The same section, tokenizer and indices give the same requests on every machine and engine.
    """

    kind: ClassVar[str]
    #: Enters the draw of random token ids and no length (`llem.backends.base.Engine.salt`); "" draws by the seed alone.
    salt: str = ""
    #: Of which random token ids are drawn; None: of all but the first few of the vocabulary.
    ids: range | None = None
    #: False where no text is read, so that no tokenizer need be loaded.
    needs_tokenizer: ClassVar[bool] = True

    def __init__(self, options: Any, tokenizer: Tokenizer | None, vocab_size: int) -> None:
        self.options = options
        self.tokenizer = tokenizer
        self.vocab_size = vocab_size

    @classmethod
    def check(cls, options: Any, load: Any) -> None:
        """Before anything is loaded: whether its own section goes with the section `load`.

        Raises ConfigError where it does not. The default refuses a replay where there is no `timetable`.
        """
        if load.kind == "replay" and cls.timetable is Workload.timetable:
            hint = "use {kind: trace}, or a load with a rate of its own"
            message = f"is 'replay', and requests of the workload {cls.kind!r} have no arrival times"
            raise ConfigError("there is nothing to replay", problems=(Problem("load.kind", message, hint),))

    def timetable(self) -> Timetable:
        """When request i arrives under a load of kind `replay`. Raises ConfigError where the times are not usable."""
        raise NotImplementedError(f"requests of the workload {self.kind!r} have no arrival times")

    @abstractmethod
    def requests(self, start: int, count: int) -> Sequence[Request]:
        """Requests `start` … `start + count - 1` of the sequence. Raises ConfigError for unusable input."""

    def describe(self) -> Mapping[str, Any]:
        """What to record beside the result: file hash, number of prompts, chat template; JSON values only."""
        return {}


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
    max: int = option(help="Longer draws become this long.", unit="tokens", validator=at_least(1))


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
