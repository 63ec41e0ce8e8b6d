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
from llem.config.models import Sampling
from llem.errors import ConfigError, Problem
from llem.findings import Finding, finding
from llem.models.tokenizer import Tokenizer
from llem.workloads.arrivals import Timetable

__all__ = [
    "BLOCK",
    "TOO_LONG_HELP",
    "Length",
    "Lognormal",
    "TooLong",
    "Uniform",
    "Workload",
    "greatest",
    "place_of",
    "positive",
    "sample",
    "too_long",
    "without_too_long",
]

#: What is done with a prompt that is too long for the engine.
TooLong: TypeAlias = Literal["refuse", "skip"]
TOO_LONG_HELP = (
    "What to do with a prompt that, with the longest output it may get, has more tokens than the engine's context: end "
    "with an error that names its row, or leave it out (finding `prompts_skipped`)."
)
#: Rows that a finding names.
NAMED = 3


#: Trials of a serving load begin at multiples of this index.
BLOCK = 1_000_000
#: Multiples of it, less whole numbers, lie as far from one another as they can (of the golden section).
GOLDEN = (math.sqrt(5) - 1) / 2


def place_of(index: int, count: int, block: int = BLOCK) -> int:
    """Which of `count` prompts in turn request `index` has, from 0 on.

    Each block begins elsewhere among the prompts, so that trials do not all measure the same first ones.
    """
    number, within = divmod(index, block)
    return (within + int(number * GOLDEN % 1 * count)) % count


class Workload(ABC):
    """A source of requests. Constructed with its own section, the tokenizer and the model's vocabulary size.

    The same section, tokenizer, salt and indices give the same requests on every machine and engine. The tokenizer is
    None where it is not needed, and where the engine takes text and nobody here knows how it makes tokens of it.
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

        Raises ConfigError where it does not, and for a file that cannot be read. The default refuses a replay where
        there is no `timetable`.
        """
        if load.kind == "replay" and cls.timetable is Workload.timetable:
            hint = "use {kind: trace}, or a load with a rate of its own"
            message = f"is 'replay', and requests of the workload {cls.kind!r} have no arrival times"
            raise ConfigError("there is nothing to replay", problems=(Problem("load.kind", message, hint),))

    def timetable(self) -> Timetable:
        """When request i arrives under a load of kind `replay`. Raises ConfigError where the times are not usable."""
        raise NotImplementedError(f"requests of the workload {self.kind!r} have no arrival times")

    def prepare(self, sampling: Sampling, context_length: int | None) -> Sequence[Finding]:
        """Once, when the engine is loaded and before the first request: hold the prompts against what it takes.

        Args:
            sampling: of the experiment.
            context_length: tokens that a prompt and its answer may have together (`Engine.context_length`); None
                where it is not known, and nothing is held against it.

        Returns what is doubtful. Raises ConfigError: a prompt is too long. The default checks nothing.
        """
        return ()

    @property
    def distinct(self) -> int | None:
        """How many different prompts the sequence has before they come again; None where they never do."""
        return None

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


def greatest(length: Length) -> int:
    """The longest that a draw can be."""
    if isinstance(length, int):
        return length
    return length.high if isinstance(length, Uniform) else length.max


def too_long(place: str, given: int, asked: int, context_length: int) -> str | None:
    """What is wrong with a prompt of so many tokens and so many to generate; None where they fit."""
    if given + asked <= context_length:
        return None
    whole = f"{given} tokens of the prompt and {asked} to generate"
    return f"{place}: {whole} are more than the {context_length} that the engine takes"


def without_too_long(wrong: Sequence[tuple[str, str]], count: int, choice: TooLong, hint: str) -> Sequence[Finding]:
    """The finding on prompts that are left out as too long.

    Args:
        wrong: the place and the message of each of them.
        count: of all prompts.
        hint: what else would make them fit.

    Raises ConfigError: there are some and they are to be refused, or nothing is left.
    """
    if not wrong:
        return ()
    if choice == "refuse" or len(wrong) == count:
        more = f"; {len(wrong)} of {count} rows are too long" if len(wrong) > 1 else ""
        hint = hint if len(wrong) == count else f"leave such rows out with `workload.too_long: skip`, or {hint}"
        raise ConfigError(wrong[0][1] + more, hint, code="prompts_too_long")
    named = [place for place, _ in wrong[:NAMED]]
    message = f"{len(wrong)} of {count} prompts are too long for the engine and left out: {', '.join(named)}"
    message += " …" * (len(wrong) > NAMED)
    return (finding("prompts_skipped", message, skipped=len(wrong), of=count, rows=named, why="too_long"),)


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
