"""Bits per byte and perplexity of files, with likelihoods that are known by hand."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest

from llem.backends.base import Likelihood, Placement, Scored
from llem.backends.echo import OTHER, EchoBackend, EchoEngine, EchoOptions
from llem.config.models import Experiment
from llem.errors import ConfigError, ExperimentFailed
from llem.evaluators.base import Context, Score
from llem.evaluators.items import follows
from llem.evaluators.perplexity import PerplexityEvaluator, PerplexityOptions
from llem.evaluators.texts import PASSAGE, Text, passages
from llem.metrics.verify import verify
from llem.models.resolve import resolve_model
from llem.models.tokenizer import ByteTokenizer
from llem.plugins import Reference
from llem.store.evaluations import evaluations, read_items
from llem.store.store import Store
from llem.testing.conformance import EvaluatorConformance

MODEL = resolve_model("shape:tiny")


class WithBos(ByteTokenizer):
    """Bytes, and a token that begins a text."""

    @property
    def bos_token_id(self) -> int:
        return 256


class WithEos(ByteTokenizer):
    """Bytes, and a token that ends a text."""

    @property
    def eos_token_id(self) -> int:
        return 257


class Mute(WithBos):
    """A tokenizer that does not tell where its tokens begin."""

    def encode_starts(self, text: str) -> tuple[list[int], None]:
        return self.encode(text), None


class Recording(EchoEngine):
    """Each token has a probability of 1/4 if it is a capital letter, else of 1/2; what it is asked is kept."""

    def __init__(self, length: int | None = None) -> None:
        super().__init__(EchoOptions(), MODEL)
        self.length, self.calls = length, []

    def scored_length(self) -> int | None:
        return self.length

    def loglikelihood(self, requests: Sequence[Scored]) -> Sequence[Likelihood]:
        self.calls.append(list(requests))
        return [Likelihood(-sum(map(nats, one.continuation)), False) for one in requests]

    @property
    def asked(self) -> list[Scored]:
        return [one for call in self.calls for one in call]


def nats(token: int) -> float:
    """−ln P of a token by `Recording`."""
    return math.log(4) if ord("A") <= token <= ord("Z") else math.log(2)


def scored(path: Path, engine: Any, tokenizer: Any = None, told: Any = None, **settings: Any) -> Sequence[Score]:
    """The scores of one file."""
    evaluator = PerplexityEvaluator(PerplexityOptions(tasks=(str(path),), **settings))
    context = Context(str(path), Experiment(backend="echo"), MODEL, told or (lambda done, total: None), lambda: None)
    tokenizer = tokenizer or WithBos(512)
    evaluator.prepare(tokenizer, context)
    return evaluator.evaluate(engine, tokenizer, context)


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def lines(path: Path, *texts: str) -> Path:
    return written(path, "".join(json.dumps({"text": text}) + "\n" for text in texts))


def test_scores_are_those_of_a_computation_by_hand(tmp_path: Path) -> None:
    """`ABc` has 2 + 2 + 1 bits in 3 bytes; `äx` 3 bits in 3 bytes. Together 8 bits in 6 bytes, of 6 tokens."""
    per_byte, per_token = scored(lines(tmp_path / "t.jsonl", "ABc", "äx"), Recording())

    assert per_byte.value == pytest.approx(8 / 6)
    assert per_token.value == pytest.approx(2 ** (8 / 6))
    assert [item.value for item in per_byte.items] == pytest.approx([5 / 3, 1.0])
    assert [item.weight for item in per_byte.items] == [3.0, 3.0]
    assert [item.value for item in per_token.items] == pytest.approx([5 / 3 * math.log(2), math.log(2)])
    # weight · (value − R) is 3 · (5/3 − 4/3) = 1 and −1, so √(2/1 · 2) / 6
    assert per_byte.stderr == pytest.approx(1 / 3)
    assert per_token.stderr == pytest.approx(2 ** (8 / 6) * math.log(2) / 3)
    assert (per_byte.n, per_byte.aggregation, per_token.aggregation) == (2, "mean", "exp")
    assert not per_byte.higher_is_better
    assert not per_token.higher_is_better
    assert all(map(follows, (per_byte, per_token)))


def test_the_echo_is_scored_from_its_second_byte(tmp_path: Path) -> None:
    """Of `aaab` bytes alone: `aa` follows as the echo has it (1/2), `b` does not, and the first `a` is not scored."""
    engine = EchoBackend(None).load(Experiment(backend="echo"), MODEL, Placement("cpu"))
    per_byte, per_token = scored(written(tmp_path / "t.txt", "aaab"), engine, ByteTokenizer(512))
    bits = 2 * 1 - math.log2(OTHER)

    assert per_byte.value == pytest.approx(bits / 3)
    assert per_token.value == pytest.approx(2 ** (bits / 3))
    assert [item.weight for item in per_byte.items] == [3.0]
    assert per_byte.stderr is None


@pytest.mark.parametrize(("tokenizer", "first"), [(WithBos(512), 256), (WithEos(512), 257), (ByteTokenizer(512), 65)])
def test_what_the_first_token_follows(tmp_path: Path, tokenizer: Any, first: int) -> None:
    """The token that begins texts, else the one that ends them, else it is only context and its byte counts nowhere."""
    engine = Recording()
    per_byte, _ = scored(written(tmp_path / "t.txt", "ABC"), engine, tokenizer)

    assert [one.context for one in engine.asked] == [(first,)]
    assert per_byte.items[0].weight == (2 if first == 65 else 3)
    assert per_byte.value == pytest.approx(2.0)


@pytest.mark.parametrize(("length", "stride"), [(64, 16), (64, 63), (10, 1), (3, None), (2048, None), (50, 50 - 7)])
@pytest.mark.parametrize("tokenizer", [WithBos(512), ByteTokenizer(512)])
def test_each_token_is_predicted_once_from_enough(
    tmp_path: Path, length: int, stride: int | None, tokenizer: Any
) -> None:
    """In order, from what stands right before it: `max_length` − `stride` tokens at least, but where a text begins."""
    text = "".join(f"line {number} of Some text\n" for number in range(300))
    engine = Recording(length)
    scored(written(tmp_path / "t.txt", text), engine, tokenizer, max_length=length, stride=stride)
    whole = ([] if tokenizer.bos_token_id is None else [256]) + list(text.encode())
    at = 1
    for one in engine.asked:
        assert one.continuation == tuple(whole[at : at + len(one.continuation)])
        assert one.context == tuple(whole[max(at - len(one.context), 0) : at])
        assert len(one.context) + len(one.continuation) <= length
        assert len(one.continuation) <= (stride or length // 2)
        assert len(one.context) >= min(at, length - (stride or length // 2))
        at += len(one.continuation)

    assert at == len(whole)


def test_the_context_is_2048_tokens_or_as_many_as_the_engine_has(tmp_path: Path) -> None:
    """An engine with a longer context has no better score for it; a section may ask for more."""
    path = written(tmp_path / "t.txt", "Some words " * 1000)
    longest = {}  # half of the length follows, by the default stride
    for known, asked in ((None, None), (8192, None), (100, None), (8192, 4096)):
        engine = Recording(known)
        scored(path, engine, max_length=asked)
        longest[known, asked] = max(len(one.context) for one in engine.asked)

    assert longest == {(None, None): 1024, (8192, None): 1024, (100, None): 50, (8192, 4096): 2048}


def test_passages_are_of_the_text_whatever_the_tokens(tmp_path: Path) -> None:
    """They end with a line, else with a word, and have the same names and bytes for a tokenizer of another kind."""
    text = "word " * 900 + "\n" + "x" * 6000 + "\nend\n"
    path = written(tmp_path / "t.txt", text)
    per_byte, per_token = scored(path, Recording(), WithBos(512))
    ids = tuple(range(0, len(text), 7))
    other = list(passages(Text("n", text, ids, ids, begin=1)))

    assert [item.weight for item in per_byte.items] == [one.bytes for one in other]
    assert [item.id.partition("/")[2] for item in per_byte.items] == [one.id.partition("/")[2] for one in other]
    assert [item.id for item in per_byte.items] == [item.id for item in per_token.items]
    assert sum(one.bytes for one in other) == len(text)
    assert sum(one.tokens for one in other) == len(ids)
    assert [one.bytes for one in other] == [2050, 2451, 4096, 1909]
    assert all(one.bytes <= 2 * PASSAGE for one in other)


def test_passages_of_a_text_stand_for_themselves_and_those_of_documents_do_not(tmp_path: Path) -> None:
    """So that a single text has a standard error, and documents are what varies where there are several."""
    long = "Some words of a long document\n" * 200
    single, _ = scored(written(tmp_path / "t.txt", long), Recording())
    several, _ = scored(lines(tmp_path / "t.jsonl", long, "short"), Recording())

    assert {item.cluster for item in single.items} == {""}
    assert single.stderr is not None
    assert len(several.items) == 4
    assert [item.cluster for item in several.items] == [item.id.partition("/")[0] for item in several.items]
    assert len({item.cluster for item in several.items}) == 2


def test_documents_that_are_equal_are_told_apart(tmp_path: Path) -> None:
    """By their number, so that each item has a name of its own."""
    first, *_ = (item.id for item in scored(lines(tmp_path / "t.jsonl", "same"), Recording())[0].items)
    again = [item.id for item in scored(lines(tmp_path / "t.jsonl", "same", "same", "same"), Recording())[0].items]

    assert again == [first, first.replace("/", "~2/"), first.replace("/", "~3/")]


def test_a_limit_counts_documents_or_passages(tmp_path: Path) -> None:
    """Of a .jsonl its first lines; of a plain text its first passages."""
    documents, _ = scored(lines(tmp_path / "t.jsonl", "one", "two", "three"), Recording(), limit=2)
    text, _ = scored(written(tmp_path / "t.txt", "words\n" * 2000), Recording(), limit=3)

    assert [item.weight for item in documents.items] == [3.0, 3.0]
    assert [item.weight for item in text.items] == [2052.0] * 3


def test_a_tokenizer_that_tells_no_starts_has_an_item_for_each_document(tmp_path: Path) -> None:
    """The sum is the same. Without a token to begin with, its first token's bytes would not be known."""
    path = lines(tmp_path / "t.jsonl", "Words\n" * 1000, "more")
    told, untold = (scored(path, Recording(), tokenizer(512))[0] for tokenizer in (WithBos, Mute))

    assert (len(told.items), len(untold.items)) == (4, 2)
    assert untold.value == pytest.approx(told.value)
    assert untold.stderr == pytest.approx(told.stderr)
    with pytest.raises(ConfigError, match="does not tell where its tokens begin"):
        list(passages(Text("n", "ab", (1, 2), None, begin=None)))


def test_much_text_is_asked_in_calls_that_can_be_stopped(tmp_path: Path) -> None:
    """Of 16,384 tokens or so, with progress between them up to the last item."""
    told: list[tuple[int, int]] = []
    engine = Recording()
    text, _ = scored(written(tmp_path / "t.txt", "Some words\n" * 8000), engine, told=lambda *at: told.append(at))
    tokens = [sum(len(one.context) + len(one.continuation) for one in call) for call in engine.calls]

    assert len(tokens) > 5
    assert max(tokens) <= 2**14
    assert told[0] == (0, text.n)
    assert told[-1] == (text.n, text.n)
    assert told == sorted(set(told))


def test_a_file_is_described(tmp_path: Path) -> None:
    """By its hash, and by what was scored of it and how."""
    path = written(tmp_path / "t.txt", "Some text")
    evaluator = PerplexityEvaluator(PerplexityOptions(tasks=(str(path),), max_length=100))
    context = Context(str(path), Experiment(backend="echo"), MODEL, lambda done, total: None, lambda: None)
    evaluator.prepare(ByteTokenizer(512), context)
    evaluator.evaluate(Recording(), ByteTokenizer(512), context)

    assert evaluator.describe() == {
        "sha256": "4c2e9e6da31a64c70623619c449a040968cdbea85945bf384fa30ed2d5d24fa3",
        "documents": 1,
        "bytes": 8,
        "tokens": 8,
        "max_length": 100,
        "stride": 50,
        "first_token_follows": "nothing: it is not scored",
        "passage_characters": 2048,
    }


def refusal(content: bytes | None, tmp_path: Path, name: str = "t.txt", **settings: Any) -> tuple[str, str]:
    """The problem that `check` tells, with the folder left out."""
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    options = PerplexityOptions(tasks=(str(path),), **settings)
    with pytest.raises(ConfigError) as caught:
        PerplexityEvaluator(options).check(Experiment(backend="echo"), MODEL)
    [problem] = caught.value.problems
    return problem.path, problem.message.replace(f"{tmp_path}/", "")


@pytest.mark.parametrize(
    ("content", "name", "settings", "message"),
    [
        (None, "t.txt", {}, "t.txt cannot be read: No such file or directory"),
        (b"", "t.txt", {}, "t.txt holds no text"),
        (b" \n\n", "t.txt", {}, "t.txt holds no text"),
        (b"", "t.jsonl", {}, "t.jsonl holds no text"),
        (b"good\nb\xff\xfed\n", "t.txt", {}, "t.txt:2: not UTF-8 (invalid start byte)"),
        (b'{"text": "a"}\n{"txt": "b"}', "t.jsonl", {}, "t.jsonl:2: no field 'text'; fields here: txt"),
        (b'{"text": "a"}', "t.jsonl", {"field": "body"}, "t.jsonl:1: no field 'body'; fields here: text"),
        (b'{"text": "\\ud800"}', "t.jsonl", {}, "t.jsonl has half of a character (a lone surrogate)"),
        (b"{", "t.ndjson", {}, "t.ndjson:1: not JSON"),
    ],
)
def test_a_file_that_cannot_be_scored_is_refused_in_the_plan(
    tmp_path: Path, content: bytes | None, name: str, settings: Any, message: str
) -> None:
    """With the setting that names it, and the line."""
    path, told = refusal(content, tmp_path, name, **settings)

    assert path == "quality.tasks[0]"
    assert told.startswith(message)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    """It cannot be read as one."""
    (tmp_path / "t").mkdir()

    assert refusal(None, tmp_path, "t")[1] == "t is a folder"


def test_a_stride_leaves_some_context(tmp_path: Path) -> None:
    """It is refused in the plan where both are given, and else once the engine tells its length."""
    told = refusal(b"text", tmp_path, max_length=8, stride=8)
    assert told == ("quality.stride", "is 8, which leaves no context within 8 tokens")
    for settings, problem in (
        ({"stride": 64}, "quality.stride: is 64, which leaves no context within 64 tokens"),
        ({"max_length": 65}, "quality.max_length: is 65, and the engine scores texts of 64 tokens at most"),
    ):
        with pytest.raises(ConfigError) as caught:
            scored(tmp_path / "t.txt", Recording(64), **settings)
        assert [str(one).partition(" (")[0] for one in caught.value.problems] == [problem]


def test_a_text_of_one_byte_has_nothing_to_predict(tmp_path: Path) -> None:
    """For a tokenizer without a token to begin with."""
    with pytest.raises(ConfigError) as caught:
        scored(written(tmp_path / "t.txt", "x"), Recording(), ByteTokenizer(512))

    assert "no token to predict" in str(caught.value.problems[0])


def test_a_probability_of_zero_is_a_failure(tmp_path: Path) -> None:
    """It has no logarithm, and would be no score."""

    class Sure(Recording):
        def loglikelihood(self, requests: Sequence[Scored]) -> Sequence[Likelihood]:
            return [Likelihood(-math.inf, False) for _ in requests]

    with pytest.raises(ExperimentFailed, match="log probability -inf"):
        scored(written(tmp_path / "t.txt", "text"), Sure())


def test_a_file_that_changes_is_read_anew(tmp_path: Path) -> None:
    """Although what a plan has checked is kept."""
    path = written(tmp_path / "t.txt", "AB")
    before = scored(path, Recording())[0].value
    written(path, "abc")

    assert (before, scored(path, Recording())[0].value) == (2.0, 1.0)


@pytest.mark.process
def test_a_study_scores_a_file(run_llem, isolated_llem: Any, short: dict[str, Any]) -> None:
    """By the engine that was measured; the store verifies, and the terminal shows which way is better."""
    folder = isolated_llem.folder
    written(folder / "wiki.txt", "Some words of a text\n" * 300)
    base = {**short, "trials": 1, "quality": {"evaluator": "perplexity", "tasks": ["wiki.txt"], "force": True}}
    written(folder / "study.yaml", json.dumps({"base": base}))
    done = run_llem("run", "study.yaml", "-o", folder / "out")
    store = Store.open(folder / "out")
    [name] = store.experiment_ids()
    [found] = evaluations(store, name)
    result = store.read_result(name)

    assert done.exit_code == 0, done.stderr
    assert result is not None
    assert result.metrics["quality.wiki.txt"].better == "lower"
    assert result.metrics["quality.wiki.txt"].n == len(read_items(store, name, found).scores[0].items) == 4
    assert result.metrics["quality.wiki.txt"].covers == "items"
    assert result.metrics["quality.wiki.txt"].score == "bits_per_byte"
    assert "quality.wiki.txt.token_perplexity" in result.metrics
    assert "quality_per_joule.wiki.txt" not in result.metrics
    assert verify(store) == []
    shown = run_llem("show", folder / "out", name).stdout
    [line] = [one for one in shown.splitlines() if one.startswith("quality: wiki.txt ")]
    assert line.rstrip().endswith("bits_per_byte · 4 items · lower is better")


@pytest.mark.process
class TestConformance(EvaluatorConformance):
    """Of a text and of documents."""

    @classmethod
    def reference(cls) -> Reference:
        from llem.builtin import llem_evaluators

        [found] = llem_evaluators()
        return found

    @pytest.fixture(scope="class")
    @classmethod
    def options(cls, tmp_path_factory: pytest.TempPathFactory) -> PerplexityOptions:
        folder = tmp_path_factory.mktemp("texts")
        tasks = (
            written(folder / "t.txt", "Some words of a text\n" * 300),
            lines(folder / "t.jsonl", "one", "two words", "Three words\n" * 400),
        )
        return PerplexityOptions(tasks=tuple(map(str, tasks)), force=True)

    @pytest.fixture(scope="class")
    @classmethod
    def experiment(cls, options: PerplexityOptions) -> Experiment:
        return attrs.evolve(Experiment(backend="echo"), quality=options)
