"""What `llem verify` finds of stored scores and their items."""

from __future__ import annotations

import gzip
import hashlib
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest

from llem.errors import StoreError
from llem.evaluators.base import Item, Score
from llem.evaluators.items import score_of
from llem.metrics.result import recompute
from llem.metrics.verify import verify
from llem.store.evaluations import Evaluation, evaluations, read_items, write_evaluation
from llem.store.files import DIGEST, write_json
from llem.store.models import SCHEMA_VERSION
from llem.store.store import Store

SECTION = {"evaluator": "exam", "tasks": ["sums", "texts"], "limit": None, "force": False}


def sums(*values: float) -> Score:
    return score_of("sums", "acc", [Item(f"item {n}", value, f"answer {n}") for n, value in enumerate(values)])


def texts(*values: float) -> Score:
    items = [Item(f"text {n}", value, weight=n + 1.0, cluster="d") for n, value in enumerate(values)]
    return score_of("texts", "perplexity", items, aggregation="exp", higher_is_better=False)


def evaluated(store: Store, name: str, *scores: Score) -> None:
    for score in scores:
        write_evaluation(store, name, Evaluation("exam", score.task, {"limit": None}, 0, (score,), 1.5, (), {}))


@pytest.fixture
def scored(tmp_path: Path, make: Any) -> Store:
    """Two experiments with two tasks each."""
    made = Store.create(tmp_path / "out", {"name": "scored"})
    for name, (one, other) in {"exp-one": ((1, 0, 1), (0.5, 1.5)), "exp-two": ((1, 1, 0), (0.5, 1.0))}.items():
        make.fill(made, name, per_process=2, power=1.0 if name == "exp-one" else 1.1)
        path = made.folder(name) / "experiment.json"
        edit(path, lambda data: data["config"].update(quality=SECTION))
        evaluated(made, name, sums(*one), texts(*other))
        made.write_result(recompute(made, name), replace=True)
    return made


def edit(path: Path, change: Callable[[Any], Any]) -> None:
    """Change a document, with a digest that fits."""
    data = json.loads(path.read_text())
    data.pop(DIGEST)
    change(data)
    write_json(path, data, replace=True)


def files(store: Store, name: str, task: str) -> tuple[Path, Path]:
    """The document of a task, and its rows."""
    [found] = [one for one in evaluations(store, name) if one.task == task]
    path = store.folder(name) / f"quality-{found.key}.json"
    return path, path.with_suffix(".items.jsonl.gz")


def rewrite(path: Path, change: Callable[[list[Any]], list[Any]]) -> None:
    rows = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
    path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in change(rows)).encode()))


def told(store: Store) -> set[str]:
    """Paths of the differences in documents of scores."""
    return {one.path for one in verify(store) if "/quality-" in one.file}


def test_scores_as_written_verify(scored: Store) -> None:
    """With items of both kinds of aggregation; the result has a score for each task."""
    result = scored.read_result("exp-one")

    assert verify(scored) == []
    assert result is not None
    assert result.metrics["quality.sums"].value == pytest.approx(2 / 3)
    assert result.metrics["quality.texts"].better == "lower"


@pytest.mark.parametrize(
    ("task", "change", "paths"),
    [
        ("sums", lambda rows: [{**rows[0], "value": 0.0}, *rows[1:]], {"scores[0].value"}),
        ("texts", lambda rows: [{**rows[0], "weight": 3.0}, *rows[1:]], {"scores[0].value"}),
        ("texts", lambda rows: [{**row, "value": 800.0} for row in rows], {"scores[0].value"}),
        ("sums", lambda rows: [rows[0], {**rows[1], "id": "item 0"}, rows[2]], {"scores[0].items: different names"}),
        ("sums", lambda rows: rows[:2], {"scores[0].n", "scores[0].value"}),
        ("sums", lambda rows: [], set()),
        ("sums", lambda rows: [{**rows[0], "response": "another"}, *rows[1:]], set()),
    ],
)
def test_changed_items_are_found(scored: Store, task: str, change: Any, paths: set[str]) -> None:
    """By what they make, and any change at all by the hash of their rows."""
    rewrite(files(scored, "exp-one", task)[1], change)

    assert told(scored) == {*paths, "items_sha256"}


@pytest.mark.parametrize(
    "answer", ["a\u2028b\u0085c\x0cd\r\n", "half \ud83d of a pair", "\x1b[2J", "e\u0301 👩‍👩‍👧 \u202e"]
)
def test_answers_of_any_characters_are_stored(scored: Store, answer: str) -> None:
    """Those that end lines for some readers, and those without UTF-8, as a server may send them."""
    evaluated(scored, "exp-one", score_of("new", "acc", [Item("one", 1.0, answer, cluster=answer)]))
    [found] = [read_items(scored, "exp-one", one) for one in evaluations(scored, "exp-one") if one.task == "new"]

    assert found.scores[0].items == (Item("one", 1.0, answer, cluster=answer),)
    assert told(scored) == set()


@pytest.mark.parametrize(
    ("score", "why"),
    [
        (Score("sums", "acc", math.nan, None, 1), "sums acc is nan"),
        (Score("sums", "acc", 0.5, -0.1, 1), "standard error"),
        (Score("sums", "acc", 0.5, None, 0), "of 0 items"),
        (Score("sums", "acc", 0.5, None, 1, True, (Item("a", math.inf),)), "the value inf"),
        (Score("sums", "acc", 0.5, None, 1, True, (Item("a", 0.5, weight=0.0),)), "the weight 0.0"),
        (Score("sums", "acc", 0.5, None, 2, True, (Item("a", 0.5), Item("a", 0.5))), "one name"),
    ],
)
def test_what_is_no_score_is_not_stored(scored: Store, score: Score, why: str) -> None:
    """It is the evaluator's mistake, which the message says; what was stored stays."""
    before = evaluations(scored, "exp-one")
    with pytest.raises(StoreError, match=why):
        evaluated(scored, "exp-one", score)

    assert evaluations(scored, "exp-one") == before


def test_a_document_that_cannot_be_is_refused(scored: Store) -> None:
    """A table would show a negative half-width."""
    edit(files(scored, "exp-one", "sums")[0], lambda data: data["scores"][0].update(stderr=-1.0))

    assert any("standard error" in one.what for one in verify(scored))


def test_items_whose_hash_was_made_to_fit_are_found_by_the_score(scored: Store) -> None:
    """A hash that fits does not make an altered item right."""
    document, rows = files(scored, "exp-one", "sums")
    rewrite(rows, lambda found: [found[0], {**found[1], "value": 1.0}, found[2]])
    edit(
        document, lambda data: data.update(items_sha256=hashlib.sha256(gzip.decompress(rows.read_bytes())).hexdigest())
    )

    assert told(scored) == {"scores[0].value"}


@pytest.mark.parametrize(
    ("first", "second"),
    [(("exp-one", "sums"), ("exp-two", "sums")), (("exp-one", "sums"), ("exp-one", "texts"))],
    ids=["of experiments", "of tasks"],
)
def test_exchanged_items_are_found(scored: Store, tmp_path: Path, first: Any, second: Any) -> None:
    """In both places, although 2 of 3 are right in either experiment."""
    one, other = files(scored, *first)[1], files(scored, *second)[1]
    shutil.move(one, tmp_path / "kept")
    shutil.move(other, one)
    shutil.move(tmp_path / "kept", other)

    found = {difference.file for difference in verify(scored) if difference.path == "items_sha256"}
    assert len(found) == 2


@pytest.mark.parametrize(
    "damage",
    [
        Path.unlink,
        lambda path: path.write_bytes(path.read_bytes()[:20]),
        lambda path: rewrite(path, lambda rows: [{**row, "weight": 0.0} for row in rows]),
        lambda path: rewrite(path, lambda rows: [{**rows[0], "weight": -1.0}, *rows[1:]]),
        lambda path: rewrite(path, lambda rows: [{**rows[0], "value": "inf"}, *rows[1:]]),
        lambda path: rewrite(path, lambda rows: [{**rows[0], "score": -1}, *rows[1:]]),
        lambda path: rewrite(path, lambda rows: [[1, 2], *rows[1:]]),
    ],
    ids=["missing", "cut", "no weight", "negative weight", "no number", "of no score", "no object"],
)
def test_items_that_cannot_be_are_a_difference(scored: Store, damage: Any, run_llem: Any) -> None:
    """And not the end of the verification: what else is there is compared."""
    rows = files(scored, "exp-one", "sums")[1]
    damage(rows)
    edit(scored.folder("exp-two") / "result.json", lambda data: data.update(trials=6))
    done = run_llem("verify", scored.path)

    assert done.exit_code == 1
    assert "Traceback" not in done.stderr
    assert "items: stored 'the rows of its items', recomputed" in done.stdout
    assert rows.name in done.stdout
    assert "exp-two/result.json: trials" in done.stdout


def test_a_row_that_is_no_item_is_a_difference(scored: Store) -> None:
    """With its line."""
    rows = files(scored, "exp-one", "sums")[1]
    rewrite(rows, lambda found: [found[0], {"score": 0}, found[2]])
    [found] = [one for one in verify(scored) if one.path == "items"]

    assert "line 2: KeyError: 'value'" in found.recomputed


def test_a_changed_score_is_found(scored: Store) -> None:
    """In its document by its items, and in the result."""
    edit(files(scored, "exp-one", "sums")[0], lambda data: data["scores"][0].update(value=0.9))

    assert {one.path for one in verify(scored)} >= {"scores[0].value", "metrics.quality.sums.value"}


@pytest.mark.parametrize(("factor", "same"), [(1 + 1e-10, True), (1 + 1e-8, False)])
def test_an_evaluator_may_add_up_in_its_own_way(scored: Store, factor: float, same: bool) -> None:
    """A score within 1e-9 of what its items make is theirs."""

    def change(data: Any) -> None:
        data["scores"][0]["value"] *= factor

    edit(files(scored, "exp-one", "texts")[0], change)

    assert (told(scored) == set()) is same


def test_a_result_of_an_earlier_version_has_the_scores_alone(scored: Store) -> None:
    """That it lacks time and energy of the evaluations, and which way is better, is no difference; another score is."""

    def older(data: Any) -> None:
        data.update(schema_version=3, findings=[])
        data["metrics"] = {k: v for k, v in data["metrics"].items() if "." not in k or k.startswith("quality.")}
        for name in ("quality.sums", "quality.texts"):
            del data["metrics"][name]["better"], data["metrics"][name]["score"]

    edit(scored.folder("exp-one") / "result.json", older)
    assert verify(scored) == []
    edit(scored.folder("exp-one") / "result.json", lambda data: data["metrics"]["quality.sums"].update(value=1.0))
    assert [one.path for one in verify(scored)] == ["metrics.quality.sums.value"]


def test_scores_of_an_earlier_version_have_no_hash(scored: Store) -> None:
    """Nor weights and clusters: they verify as they are."""
    [found] = [one for one in evaluations(scored, "exp-one") if one.task == "sums"]
    document, rows = files(scored, "exp-one", "sums")
    edit(document, lambda data: data.pop("items_sha256"))
    rewrite(rows, lambda listed: [{k: v for k, v in row.items() if k not in ("weight", "cluster")} for row in listed])

    assert verify(scored) == []
    assert found.schema_version == SCHEMA_VERSION
    items = read_items(scored, "exp-one", attrs.evolve(found, items_sha256="")).scores[0].items
    assert {(item.weight, item.cluster) for item in items} == {(1.0, "")}


def test_documents_of_two_tasks_that_are_exchanged_are_damage(scored: Store) -> None:
    """Each file is named by what it holds; the wrong task's scores are never given out."""
    one, other = sorted(scored.folder("exp-one").glob("quality-*.json"))
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)

    assert any("it holds the scores of" in one.what for one in verify(scored))
