"""What llem relies on in a workload."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from llem.config.arrival import OfflineLoad, ReplayLoad
from llem.config.models import Sampling
from llem.errors import ConfigError
from llem.models.resolve import resolve_model
from llem.models.spec import vocabulary_of
from llem.models.tokenizer import Tokenizer, load_tokenizer
from llem.testing.conformance.plugin import PluginConformance
from llem.testing.conformance.told import expect, keep
from llem.workloads.base import BLOCK, Workload
from llem.workloads.contract import request_breaches, workload_breaches

__all__ = ["WorkloadConformance"]

MODEL = "shape:tiny"


class WorkloadConformance(PluginConformance):
    """Inherit, and return the workload's reference; give its section in the fixture `options` where it has no default.

    Prompts are for the vocabulary and the tokenizer of `shape:tiny` unless fixtures differ.
    """

    @pytest.fixture(scope="class")
    @classmethod
    def tokenizer(cls) -> Tokenizer | None:
        """The model's tokenizer; None for a workload that reads no text."""
        return load_tokenizer(resolve_model(MODEL)) if cls().reference().load().needs_tokenizer else None

    @pytest.fixture(scope="class")
    @classmethod
    def vocab_size(cls) -> int:
        """Token ids run from 0 to this number, exclusive."""
        return vocabulary_of(resolve_model(MODEL))

    @pytest.fixture(scope="class")
    @classmethod
    def make(cls, options: Any, tokenizer: Tokenizer | None, vocab_size: int) -> Callable[[], Workload]:
        """A new workload, prepared as before a run."""
        target = cls().reference().load()

        def made() -> Workload:
            workload: Workload = target(options, tokenizer, vocab_size)
            workload.prepare(Sampling(), None)
            return workload

        return made

    def test_section_names_the_workload(self, options: Any) -> None:
        """The section has the field `kind`, by which users choose the workload."""
        expect(getattr(options, "kind", None), self.reference().name)

    def test_requests_are_those_asked_for(self, make: Callable[[], Workload]) -> None:
        """As many as asked for, each with its index, a prompt of plain token ids, and a token to make at least."""
        workload = make()
        for start, count in ((0, 5), (3, 1), (BLOCK, 2), (7 * BLOCK + 11, 3)):
            keep(request_breaches(workload.requests(start, count), start, count))

    def test_requests_hang_on_settings_and_index_alone(self, make: Callable[[], Workload]) -> None:
        """The same again, in other portions, in another order, and of another object: engines get the same prompts."""
        keep(workload_breaches(make()))
        first, again = make(), make()
        apart = [one for index in (4, 3, 2, 1, 0) for one in again.requests(index, 1)]
        expect(list(reversed(apart)), list(first.requests(0, 5)))

    def test_tokens_are_of_the_vocabulary(self, make: Callable[[], Workload], vocab_size: int) -> None:
        """No prompt has an id that the model does not know."""
        ids = {token for one in make().requests(0, 20) for token in one.token_ids}
        expect(sorted(token for token in ids if token >= vocab_size), [], f"ids beyond {vocab_size}")

    def test_a_salt_changes_no_length(self, make: Callable[[], Workload]) -> None:
        """An engine that served others before gets other ids of the same lengths."""
        plain, salted = make(), make()
        salted.salt = "another"
        lengths = [[(len(one.token_ids), one.output_tokens) for one in each.requests(0, 8)] for each in (plain, salted)]
        expect(lengths[1], lengths[0])

    def test_distinct_prompts_are_counted(self, make: Callable[[], Workload]) -> None:
        """How many prompts there are before they come again: a number above 0, or None where they never do."""
        distinct = make().distinct
        expect(distinct is None or (type(distinct) is int and distinct > 0), True, f"distinct is {distinct!r}")

    def test_loads_are_taken_or_refused(self, make: Callable[[], Workload], options: Any) -> None:
        """A batch is taken. A replay has arrival times, or is refused before anything is loaded."""
        target = self.reference().load()
        target.check(options, OfflineLoad())
        try:
            target.check(options, ReplayLoad())
        except ConfigError:
            return
        times = [make().timetable().time_s(index) for index in range(5)]
        expect(times, sorted(times), "arrival times")

    def test_description_can_be_stored(self, make: Callable[[], Workload]) -> None:
        """JSON values only."""
        told = dict(make().describe())
        expect(json.loads(json.dumps(told, allow_nan=False)), told)
