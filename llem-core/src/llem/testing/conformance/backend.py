"""What llem relies on in a backend and its engine."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator, Sequence

import attrs
import pytest

from llem.backends.base import Backend, Completion, Engine, Placement, Request
from llem.backends.contract import completion_breaches, overruled
from llem.backends.deployment import Deployment
from llem.backends.forms import architecture_breaches, effective_breaches, memory_breaches
from llem.config.models import Experiment, Sampling
from llem.errors import ConfigError, LlemError
from llem.experiment.contract import Idle
from llem.findings import FINDINGS, REASONS
from llem.models.spec import ModelSpec
from llem.models.tokenizer import Tokenizer, load_tokenizer, stops_at
from llem.plugins.reference import resolve
from llem.testing.conformance.engine import GREEDY, EngineUnderTest, kept
from llem.testing.conformance.plugin import PluginConformance
from llem.testing.conformance.told import expect, keep

__all__ = ["BackendConformance"]

#: Prompts for answers that hold text.
TEXTS = ("hello world", "Once upon a time", "1 2 3 4 5", "quality")


class BackendConformance(EngineUnderTest, PluginConformance):
    """Inherit, and return the backend's reference. Runs `shape:tiny` in float32 on the CPU unless fixtures differ."""

    def test_check_reports_findings(self, backend: Backend, experiment: Experiment, model: ModelSpec) -> None:
        """A configuration that runs has no finding of severity error, and each finding has a known code."""
        found = backend.check(experiment, model)
        assert all(finding.code in FINDINGS for finding in found)
        expect([finding for finding in found if finding.severity == "error"], [])

    def test_check_loads_nothing(self, backend: Backend, experiment: Experiment, model: ModelSpec) -> None:
        """Checking needs no weights: a model whose folder is gone is checked as well."""
        gone = attrs.evolve(model, source="folder", path="/nonexistent/model", weights="real")
        assert isinstance(list(backend.check(experiment, gone)), list)

    def test_canonical_is_taken_and_stays(self, backend: Backend, experiment: Experiment, model: ModelSpec) -> None:
        """What `canonical` gives is accepted as the experiment was, names the same model, and is canonical itself."""
        plain = backend.canonical(experiment)
        again = type(backend)(plain.options)
        refused = [found.message for found in again.check(plain, model) if found.severity == "error"]
        expect(refused, [found.message for found in backend.check(experiment, model) if found.severity == "error"])
        expect(
            (plain.model, plain.backend, plain.workload),
            (
                experiment.model,
                experiment.backend,
                experiment.workload,
            ),
        )
        expect(again.canonical(plain), plain)

    def test_holding_is_in_bits_and_whole_copies(
        self, backend: Backend, experiment: Experiment, model: ModelSpec
    ) -> None:
        """What is said of GPU memory before anything is loaded; a reason where nothing can be said."""
        held = backend.holding(experiment, model)
        assert all(bits is None or 0 <= bits <= 64 for bits in (held.weight_bits, held.cache_bits))
        assert held.copies >= 1
        assert held.unknown is None or held.unknown.strip()

    def test_deployment_is_told(self, experiment: Experiment, model: ModelSpec) -> None:
        """What launches a configuration without llem: words of a shell, a program of Python, and no random weights."""
        told = self.reference().deploy
        if told is None:
            pytest.skip("the reference has no deploy")
        found = resolve(told)(experiment, model)
        assert isinstance(found, Deployment)
        assert found.shell or found.python, "neither a command nor a program"
        assert shlex.split(found.shell or "true", comments=True)
        compile(found.python or "", "program", "exec")
        assert all(note.strip() for note in found.notes)
        if model.source == "shape":
            assert model.name not in f"{found.shell}{found.python}", "nobody can launch random weights by their name"

    def test_load_gives_an_engine(self, engine: Engine) -> None:
        """What `load` returns is an Engine."""
        assert isinstance(engine, Engine)

    def test_completions_come_in_order(self, engine: Engine, requests: Sequence[Request]) -> None:
        """Completions stand in the order of the requests, in whatever order the engine ran them."""
        backwards = list(reversed(requests))
        _generate(engine, backwards)

    def test_counts_are_exact(self, engine: Engine, requests: Sequence[Request]) -> None:
        """With ignore_eos each completion has its own request's number of tokens: no prompt, no padding, no less."""
        counts = [done.tokens for done in engine.generate(requests, GREEDY)]
        expect(counts, [request.output_tokens for request in requests])

    def test_batch_of_one(self, engine: Engine, requests: Sequence[Request]) -> None:
        """One request alone is a batch."""
        done = engine.generate(requests[:1], GREEDY)
        expect([each.tokens for each in done], [requests[0].output_tokens])

    def test_tokens_are_of_the_vocabulary(self, engine: Engine, requests: Sequence[Request], vocab_size: int) -> None:
        """Every token is an id of the model's: no padding marks, no tensors."""
        tokens = [token for done in _generate(engine, requests) for token in done.token_ids or ()]
        expect([token for token in tokens if token >= vocab_size], [], "ids beyond the vocabulary")

    def test_greedy_is_repeatable(self, engine: Engine, requests: Sequence[Request]) -> None:
        """Temperature 0 gives the same tokens twice."""
        expect(_tokens(engine.generate(requests, GREEDY)), _tokens(engine.generate(requests, GREEDY)))

    def test_batch_does_not_leak(self, engine: Engine, requests: Sequence[Request]) -> None:
        """A prompt's first token is the same alone and padded in a batch."""
        together = [_first(done) for done in engine.generate(requests, GREEDY)]
        alone = [_first(engine.generate([request], GREEDY)[0]) for request in requests]
        expect(together, alone)

    def test_end_of_sequence_may_stop(self, engine: Engine, requests: Sequence[Request]) -> None:
        """Without ignore_eos a completion may be shorter, never longer, and says why it ended."""
        found = engine.generate(requests, attrs.evolve(GREEDY, ignore_eos=False))
        for done, request in zip(found, requests, strict=True):
            assert done.tokens <= request.output_tokens
            full = done.tokens == request.output_tokens
            assert done.finish_reason in (("length", "stop") if full else ("stop",))

    def test_token_times(self, engine: Engine, requests: Sequence[Request]) -> None:
        """Times come when asked for and declared, one per token, in order and within the call; else there are none."""
        _generate(engine, requests)
        if self.reference().capabilities.get("token_times") != "supported":
            _refused_or_none(engine, requests)
            return
        found = _generate(engine, requests, token_times=True)
        expect([done.index for done in found if done.token_times_ns is None], [], "requests without times")

    def test_stop_texts(self, engine: Engine, model: ModelSpec) -> None:
        """Where `stop` is declared, an answer ends with the token that completes a stop text; other answers go on.

        An engine whose own tokenizer finds the texts may refuse them for a shape, which has none.
        """
        tokenizer, requests, free, own = self._said(engine, model, GREEDY)
        stop = next(text for text in own if text)
        _stops(engine, model, tokenizer, free, [attrs.evolve(one, stop=(stop,)) for one in requests], GREEDY)

    def test_stop_texts_are_each_requests_own(self, engine: Engine, model: ModelSpec) -> None:
        """Requests of one batch end at different texts, at none, and at the first of several."""
        tokenizer, requests, free, own = self._said(engine, model, GREEDY)
        asked = [
            attrs.evolve(one, stop=("\x07never said", text) if text else ())
            for one, text in zip(requests, own, strict=True)
        ]
        _stops(engine, model, tokenizer, free, asked, GREEDY)

    def test_stop_texts_beside_the_end_of_sequence(self, engine: Engine, model: ModelSpec) -> None:
        """Where the end of sequence may stop too, whichever comes first does."""
        sampling = attrs.evolve(GREEDY, ignore_eos=False)
        tokenizer, requests, free, own = self._said(engine, model, sampling)
        asked = [attrs.evolve(one, stop=(text,) if text else ()) for one, text in zip(requests, own, strict=True)]
        _stops(engine, model, tokenizer, free, asked, sampling)

    def _said(
        self, engine: Engine, model: ModelSpec, sampling: Sampling
    ) -> tuple[Tokenizer, Sequence[Request], Sequence[Completion], Sequence[str]]:
        """Requests, their answers without a stop text, and for each a text that it holds, or ""."""
        if self.reference().capabilities.get("stop") != "supported":
            pytest.skip("the backend declares no `stop`")
        tokenizer = load_tokenizer(model)
        requests = [Request(i, tuple(tokenizer.encode(text)), 24) for i, text in enumerate(TEXTS)]
        free = engine.generate(requests, sampling)
        own = [next(_texts(done, tokenizer), "") for done in free]
        if not any(own):
            pytest.skip("the engine's answers to these requests hold no text")
        return tokenizer, requests, free, own

    def test_what_it_lacks_is_said_in_words(self, backend: Backend, experiment: Experiment, engine: Engine) -> None:
        """Of each capability: None, or why this configuration or this engine lacks it."""
        for capability in (*self.reference().capabilities, "telepathy"):
            for why in (backend.lacks(experiment, capability), engine.lacks(capability)):
                assert why is None or (isinstance(why, str) and why.strip())

    def test_context_length(self, engine: Engine) -> None:
        """How long prompt and answer may be together is a number of tokens, or None; never 0."""
        length = engine.context_length()
        assert length is None or (type(length) is int and length > 0)

    def test_effective_config(self, engine: Engine) -> None:
        """What the engine runs with can be stored as it is, and names its dtype."""
        effective = engine.effective_config()
        keep(effective_breaches(effective))
        expect("dtype" in effective, True, "whether it names its dtype")

    def test_settings_are_in_effect(self, engine: Engine, experiment: Experiment) -> None:
        """Options, dtype and sampling are what was asked for, as far as the engine tells them by their own names."""
        expect([found.message for found in overruled(experiment, engine.effective_config())], [])

    def test_generate_leaves_no_work(self, engine: Engine, requests: Sequence[Request]) -> None:
        """When `generate` returns, neither this process, nor one that it began, nor the GPU goes on with it."""
        idle = Idle(time.sleep)
        before = time.monotonic()
        engine.generate(requests, GREEDY)
        expect([found.message for found in idle.left(time.monotonic() - before)], [])

    def test_generate_keeps_nothing(self, engine: Engine, requests: Sequence[Request]) -> None:
        """A call keeps neither objects nor memory: a study calls thousands of times, with one engine."""
        objects, size = kept(lambda: engine.generate(requests, GREEDY))
        expect(objects, 0, "objects that each call keeps")
        expect(size, 0, "bytes that each call keeps")

    def test_architecture(self, engine: Engine, vocab_size: int) -> None:
        """Sizes are unknown as a whole, or positive and consistent."""
        sizes = engine.architecture()
        keep(architecture_breaches(sizes))
        if sizes is None:
            return
        required = [field.name for field in attrs.fields(type(sizes)) if field.default is attrs.NOTHING]
        assert all(getattr(sizes, name) > 0 for name in required), sizes
        assert sizes.windows is not None, "windows is not told: () where every layer attends to the whole context"
        assert all(width > 0 and layers > 0 for width, layers in sizes.windows), sizes.windows
        assert sum(layers for _, layers in sizes.windows) <= sizes.layers
        assert sizes.read_bytes is None or 0 < sizes.read_bytes <= sizes.weight_bytes
        assert sizes.unfit is None or sizes.unfit in REASONS, f"unfit {sizes.unfit!r} is not in llem.findings.REASONS"
        assert sizes.projection <= sizes.active_parameters <= sizes.parameters
        expect(sizes.heads % sizes.kv_heads, 0)
        expect(sizes.vocab_size, vocab_size)

    def test_memory(self, engine: Engine, requests: Sequence[Request]) -> None:
        """Peak memory is a number of bytes, or None with a reason; never 0. It says what it covers."""
        engine.reset_memory()
        engine.generate(requests, GREEDY)
        keep(memory_breaches(engine.memory()))

    def test_close_twice(
        self, backend: Backend, experiment: Experiment, model: ModelSpec, placement: Placement
    ) -> None:
        """Closing twice does no harm: an error path may do it."""
        engine = backend.load(experiment, model, placement)
        engine.close()
        engine.close()


def _generate(engine: Engine, requests: Sequence[Request], *, token_times: bool = False) -> Sequence[Completion]:
    """A batch that keeps the rules which llem holds while it measures."""
    before = time.monotonic_ns()
    found = engine.generate(requests, GREEDY, token_times=token_times)
    after = time.monotonic_ns()
    keep(completion_breaches(requests, found, asked_times=token_times, start_ns=before, end_ns=after))
    return found


def _texts(done: Completion, tokenizer: Tokenizer) -> Iterator[str]:
    """Texts that single tokens of an answer stand for, its last token left out."""
    for token in (done.token_ids or ())[:-1]:
        text = tokenizer.decode([token], strict=False)
        if text.strip() and "\ufffd" not in text:
            yield text


def _stops(
    engine: Engine,
    model: ModelSpec,
    tokenizer: Tokenizer,
    free: Sequence[Completion],
    asked: Sequence[Request],
    sampling: Sampling,
) -> None:
    """Each answer is what it is without stop texts, up to the token that completes one."""
    try:
        found = engine.generate(asked, sampling)
    except ConfigError:
        expect(model.source, "shape", "stop texts are declared, and refused for a model that has text")
        return
    for request, done, whole in zip(asked, found, free, strict=True):
        end = stops_at(whole.token_ids or (), request.stop, tokenizer)
        expect(done.token_ids, (whole.token_ids or ())[:end])
        expect(done.finish_reason, whole.finish_reason if end is None else "stop")


def _tokens(found: Sequence[Completion]) -> list[tuple[int, ...] | None]:
    return [done.token_ids for done in found]


def _first(done: Completion) -> int | None:
    return done.token_ids[0] if done.token_ids else None


def _refused_or_none(engine: Engine, requests: Sequence[Request]) -> None:
    """Token times that are not declared are refused with an llem error, or left out; never made up."""
    try:
        found = engine.generate(requests, GREEDY, token_times=True)
    except LlemError:
        return
    assert all(done.token_times_ns is None for done in found), "token times come undeclared: declare `token_times`"
