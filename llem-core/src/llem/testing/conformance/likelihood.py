"""What llem relies on in an engine that scores given text."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from llem.backends.base import Engine, Likelihood, Request, Scored
from llem.errors import ConfigError
from llem.testing.conformance.engine import GREEDY, EngineUnderTest
from llem.testing.conformance.told import expect

__all__ = ["LikelihoodConformance"]

#: Output tokens of the greedy continuations.
TOKENS = 4
#: Texts of one call, and tokens of a long one where the engine tells no limit.
MANY, LONG = 300, 600
#: Above this number of tokens a text of the full length takes too long to score.
LONGEST = 8192


class LikelihoodConformance(EngineUnderTest):
    """Inherit beside `BackendConformance` where the backend declares the capability `loglikelihood`.

    Attributes:
        tolerance: absolute, in nats, by which two computations of one likelihood may differ.
    """

    tolerance: float = 1e-3

    @pytest.fixture(scope="class")
    @classmethod
    def continued(cls, engine: Engine, requests: Sequence[Request]) -> Sequence[Scored]:
        """Contexts with the continuation that greedy decoding gives them."""
        asked = [Request(request.index, request.token_ids, TOKENS) for request in requests]
        found = [engine.generate([request], GREEDY)[0].token_ids for request in asked]
        if any(token_ids is None for token_ids in found):
            pytest.skip("the engine tells the number of tokens only")
        return [Scored(request.token_ids, ids or ()) for request, ids in zip(asked, found, strict=True)]

    def test_likelihood_is_declared(self) -> None:
        """An evaluator that needs likelihoods is refused before anything is loaded unless they are `supported`."""
        expect(self.reference().capabilities.get("loglikelihood"), "supported")

    def test_the_engine_lacks_none(self, engine: Engine) -> None:
        """The engine under test says that it has likelihoods; one that says it lacks them is never asked."""
        expect(engine.lacks("loglikelihood"), None)

    def test_likelihoods_are_of_probabilities(self, engine: Engine, continued: Sequence[Scored]) -> None:
        """Each is a finite logarithm not above 0, of natural base, with a plain bool beside it."""
        for found in engine.loglikelihood(continued):
            assert math.isfinite(found.logprob)
            assert found.logprob <= self.tolerance
            expect(type(found.greedy), bool)

    def test_likelihoods_come_in_order(self, engine: Engine, continued: Sequence[Scored]) -> None:
        """They stand in the order of the requests, and a request's does not depend on what is scored with it."""
        together = engine.loglikelihood(continued)
        backwards = engine.loglikelihood(list(reversed(continued)))
        alone = [engine.loglikelihood([one])[0] for one in continued]
        assert self._close(together, alone)
        assert self._close(list(reversed(backwards)), alone)

    def test_likelihood_sums_over_the_continuation(self, engine: Engine, continued: Sequence[Scored]) -> None:
        """log P(ab | c) = log P(a | c) + log P(b | ca): no token is left out, none of the context counted."""
        for one in continued:
            first, rest = one.context, one.continuation  # a as long as the context, so that an echo obeys the rule too
            whole = Scored(one.context, (*first, *rest))
            parts = [Scored(one.context, first), Scored((*one.context, *first), rest)]
            [total] = engine.loglikelihood([whole])
            expect(
                total.logprob,
                pytest.approx(
                    sum(part.logprob for part in engine.loglikelihood(parts)),
                    abs=self.tolerance * len(whole.continuation),
                ),
            )

    def test_greedy_is_what_generate_gives(self, engine: Engine, continued: Sequence[Scored], vocab_size: int) -> None:
        """What greedy decoding generates is marked greedy, and nothing else is."""
        other = [
            Scored(one.context, (*one.continuation[:-1], (one.continuation[-1] + 1) % vocab_size)) for one in continued
        ]
        expect([found.greedy for found in engine.loglikelihood(continued)], [True] * len(continued))
        expect([found.greedy for found in engine.loglikelihood(other)], [False] * len(continued))

    def test_greedy_token_is_the_likeliest(self, engine: Engine, continued: Sequence[Scored], vocab_size: int) -> None:
        """No other token has a higher likelihood than the one that greedy decoding takes."""
        for one in continued:
            best = one.continuation[0]
            others = [(best + step) % vocab_size for step in (1, 7, vocab_size // 2)]
            scored = engine.loglikelihood([Scored(one.context, (token,)) for token in (best, *others)])
            assert all(scored[0].logprob >= found.logprob - self.tolerance for found in scored[1:])

    def test_choices_of_one_context(self, engine: Engine, continued: Sequence[Scored], vocab_size: int) -> None:
        """Single tokens and longer continuations of one context, scored together: each as it is alone."""
        context = continued[0].context
        tokens = [(continued[0].continuation[0] + step) % vocab_size for step in range(6)]
        choices = [Scored(context, (token,)) for token in tokens]
        mixed = [*choices, continued[0], continued[1], *(Scored(context, (tokens[0], token)) for token in tokens)]
        together = engine.loglikelihood(mixed)
        assert self._close(together, [engine.loglikelihood([one])[0] for one in mixed])
        assert sum(math.exp(found.logprob) for found in together[: len(choices)]) <= 1 + self.tolerance

    def test_many_at_once(self, engine: Engine, vocab_size: int) -> None:
        """Some hundred texts of one call are scored as in small ones."""
        asked = [
            Scored(
                tuple((7 * i + j) % vocab_size for j in range(1 + i % 5)),
                tuple((3 * i + 5 * j) % vocab_size for j in range(1 + i % 3)),
            )
            for i in range(MANY)
        ]
        together = engine.loglikelihood(asked)
        apart = [found for start in range(0, MANY, 50) for found in engine.loglikelihood(asked[start : start + 50])]
        assert self._close(together, apart)

    def test_a_long_text_is_scored_whole(self, engine: Engine, vocab_size: int) -> None:
        """Nothing of a text is cut off, up to the length that the engine tells; it refuses one token more."""
        most = engine.scored_length()
        if most is not None and most > LONGEST:
            pytest.skip(f"a text of {most} tokens takes too long")
        text = tuple((11 * place + place // 7) % vocab_size for place in range(most or LONG))
        middle = len(text) // 2
        parts = [Scored(text[:1], text[1:middle]), Scored(text[:middle], text[middle:])]
        [whole] = engine.loglikelihood([Scored(text[:1], text[1:])])
        expect(
            whole.logprob,
            pytest.approx(sum(part.logprob for part in engine.loglikelihood(parts)), abs=self.tolerance * len(text)),
        )
        if most is not None:
            with pytest.raises(ConfigError):
                engine.loglikelihood([Scored(text[:1], (*text[1:], 0))])

    def test_nothing_is_certain(self, engine: Engine, continued: Sequence[Scored]) -> None:
        """No requests give no likelihoods; an empty continuation has the probability 1."""
        expect(list(engine.loglikelihood([])), [])
        [found, other] = engine.loglikelihood([Scored(continued[0].context, ()), continued[0]])
        expect((found.logprob, found.greedy), (0.0, True))
        assert other.greedy

    def test_scoring_and_generating_are_apart(
        self, engine: Engine, requests: Sequence[Request], continued: Sequence[Scored]
    ) -> None:
        """A batch between them changes no likelihoods, and scoring between them changes no batch."""
        before, first = engine.loglikelihood(continued), engine.generate(requests, GREEDY)
        after, second = engine.loglikelihood(continued), engine.generate(requests, GREEDY)
        assert self._close(before, after)
        expect([done.token_ids for done in first], [done.token_ids for done in second])

    def _close(self, one: Sequence[Likelihood], other: Sequence[Likelihood]) -> bool:
        return [found.greedy for found in one] == [found.greedy for found in other] and all(
            abs(a.logprob - b.logprob) <= self.tolerance for a, b in zip(one, other, strict=True)
        )
