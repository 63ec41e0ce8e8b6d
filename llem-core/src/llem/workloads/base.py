"""What a workload implements: an endless, seeded sequence of requests."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from llem.backends.base import Request
from llem.errors import ConfigError, Problem
from llem.models.tokenizer import Tokenizer
from llem.workloads.arrivals import Timetable

__all__ = ["Workload"]


class Workload(ABC):
    """A source of requests. Constructed with its own section, the tokenizer and the model's vocabulary size.

    The same section, tokenizer and indices give the same requests on every machine and engine.
    """

    kind: ClassVar[str]
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
