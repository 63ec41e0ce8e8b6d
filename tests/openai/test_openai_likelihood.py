"""Likelihoods from a server that echoes log probabilities, and what is said of one that does not."""

from __future__ import annotations

import math

import attrs
import pytest

from llem.backends.base import Likelihood, Scored
from llem.config.models import Quality, Sampling
from llem.errors import ConfigError, ExperimentFailed
from llem_openai.backend import OpenAIBackend
from llem_openai.failures import RequestFailed
from llem_openai.scoring import _likelihood

pytestmark = pytest.mark.process

QUALITY = Quality(evaluator="any", tasks=("one",))
OTHER = math.log(0.5 / 511)


def test_likelihoods(load, running, requests_of):
    """What the server tells of the continuation's tokens is summed, that of the context and the answer left out."""
    server = running()
    engine = load({"base_url": server.url, "return_token_ids": True, "extra_body": {"priority": 3}}, quality=QUALITY)
    assert engine.lacks("loglikelihood") is None
    [request] = requests_of((9, 3))
    best = engine.generate([request], Sampling())[0].token_ids
    wrong = (*best[:-1], (best[-1] + 1) % 512)
    found = engine.loglikelihood([Scored(request.token_ids, best), Scored(request.token_ids, wrong)])
    assert [one.logprob for one in found] == pytest.approx([3 * math.log(0.5), 2 * math.log(0.5) + OTHER])
    assert [one.greedy for one in found] == [True, False]
    sent = server.last()["body"]
    assert (sent["echo"], sent["logprobs"], sent["max_tokens"], sent["priority"]) == (True, 1, 1, 3)
    assert "ignore_eos" not in sent


def test_many_at_once_are_bounded(load, running):
    """A server has no more than a fixed number of texts at once, and each gets its own likelihood."""
    server = running("--delay", "0.01")
    engine = load({"base_url": server.url})
    asked = [Scored((place, 7), (1, 2)) for place in range(300)]
    assert len(engine.loglikelihood(asked)) == 300
    assert server.log()["most_in_flight"] <= 128


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        (("--echo", "ignored"), "tells 0 log probabilities"),
        (("--echo", "no-top"), "likeliest token"),
        (("--refuse", "echo"), "unknown field echo"),
    ],
)
def test_a_server_that_does_not_echo(load, running, flags, why):
    """It is loaded, and says why it lacks likelihoods; one that is asked all the same refuses in the same words."""
    engine = load({"base_url": running(*flags).url}, quality=QUALITY)
    assert why in engine.lacks("loglikelihood")
    assert engine.lacks("stop") is None
    with pytest.raises(ConfigError, match="gives no likelihoods"):
        engine.loglikelihood([Scored((1,), (2,))])


def test_nobody_is_asked_without_quality(load, running):
    """An experiment without quality sends no request for likelihoods."""
    server = running()
    load({"base_url": server.url})
    assert not any("echo" in one["body"] for one in server.log()["received"])


@pytest.mark.parametrize(
    ("options", "why"), [({"endpoint": "chat"}, "endpoint: completions"), ({"prompt": "text"}, "openai.prompt")]
)
def test_what_the_settings_exclude(experiment, options, why):
    """Before anything is started: chat and text have no likelihoods of token ids."""
    asked = experiment(options, quality=QUALITY)
    backend = OpenAIBackend(asked.options)
    assert why in backend.lacks(asked, "loglikelihood")
    assert backend.lacks(asked, "stop") is None
    plain = attrs.evolve(asked, options=type(asked.options)())
    assert OpenAIBackend(plain.options).lacks(plain, "loglikelihood") is None


@pytest.mark.parametrize("options", [{}, {"endpoint": "chat"}])
def test_text_of_an_answer(load, running, requests_of, options):
    """Without token ids the answer is there as text; with them there is none, as the ids say it."""
    server = running()
    [done] = load({"base_url": server.url, **options}).generate(requests_of((4, 3)), Sampling())
    assert (done.token_ids, done.text) == (None, "w w w ")
    [known] = load({"base_url": server.url, "return_token_ids": True}).generate(requests_of((4, 3)), Sampling())
    assert known.text is None


GOOD = {"token_logprobs": [None, -1.0], "top_logprobs": [None, {"w": -1.0}]}


def told(**changes):
    """An answer with these log probabilities of two tokens."""
    return {"choices": [{"logprobs": {**GOOD, **changes}}]}


def test_a_likelihood_of_an_answer():
    """What the changes below start from."""
    assert _likelihood(Scored((1,), (2,)), told()) == Likelihood(-1.0, greedy=True)


ODD = (math.nan, math.inf, -math.inf, 10**30, -(10**30), -1e300, True, False, "-1", None, [], {}, 0.5)


@pytest.mark.parametrize(
    "answer",
    [
        *({"choices": odd} for odd in ({}, {"0": 1}, [1], "x", 1, [[]], [{"logprobs": 1}], [{"logprobs": [1]}])),
        *(told(token_logprobs=odd) for odd in (1, "xx", {}, [None, 1], [])),
        *(told(token_logprobs=[None, odd]) for odd in ODD),
        *(told(top_logprobs=odd) for odd in (1, "xx", {}, [None, 1], [None, [1]], [None, {}])),
        *(told(top_logprobs=[None, {"w": -1.0, "x": odd}]) for odd in ODD),
    ],
    ids=repr,
)
def test_what_is_no_log_probability_is_a_message(answer):
    """Neither a number computed with it nor an error of Python."""
    with pytest.raises((ExperimentFailed, RequestFailed)) as failed:
        _likelihood(Scored((1,), (2,)), answer)
    assert len(failed.value.message) < 400
