"""Decoding from prompts that were computed before gives the tokens that a whole batch gives after its first."""

from __future__ import annotations

import pytest

from llem.backends.base import Placement, Request
from llem.config.models import Sampling
from llem_pytorch.backend import PyTorchBackend

GREEDY = Sampling()


@pytest.fixture
def engine(experiment, tiny):
    made = experiment()
    loaded = PyTorchBackend(made.options).load(made, tiny(), Placement("cpu"))
    yield loaded
    loaded.close()


@pytest.mark.parametrize("lengths", [(6, 6), (3, 9)])
def test_tokens_are_those_of_generate(engine, lengths):
    """Also of prompts of several lengths, which are padded; and however often it decodes."""
    requests = [Request(n, tuple(range(5 + n, 5 + n + length)), 8) for n, length in enumerate(lengths)]
    whole = [one.token_ids for one in engine.generate(requests, GREEDY)]
    decode = engine.prefilled(requests, GREEDY)

    for _ in range(3):
        found = decode()
        assert [one.index for one in found] == [0, 1]
        assert [one.token_ids for one in found] == [tokens[1:] for tokens in whole]


def test_answers_of_several_lengths(engine):
    """Each is cut to what it asked for, less the first token."""
    requests = [Request(0, (5, 6, 7), 4), Request(1, (8, 9, 10), 1)]
    found = engine.prefilled(requests, GREEDY)()
    whole = engine.generate(requests, GREEDY)
    assert [one.token_ids for one in found] == [one.token_ids[1:] for one in whole]
    assert [len(one.token_ids) for one in found] == [3, 0]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({}, None),
        ({"num_beams": 1, "use_cache": True}, None),
        ({"cache_implementation": "static"}, "cache_implementation"),
        ({"num_beams": 2}, "num_beams"),
        ({"use_cache": False}, "use_cache"),
        ({"prompt_lookup_num_tokens": 3}, "prompt_lookup_num_tokens"),
    ],
)
def test_settings_that_exclude_it(experiment, options, named):
    """They are named, before anything is loaded."""
    made = experiment(options, phases="segregated")
    told = PyTorchBackend(made.options).lacks(made, "prefilled")
    assert told is None if named is None else f"`pytorch.{named}`" in told
