"""Which way a score is better travels with the stored result, to everything that ranks or judges."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import attrs
import pytest

from llem.analysis.collection import Results
from llem.errors import StoreError
from llem.metrics.catalogue import lower_is_better
from llem.store.convert import dump, load
from llem.store.models import Quantity
from llem.store.store import Store

AXES = {"load.batch_size": [1, 8, 64], "dtype": ["float16", "bfloat16"]}
NAME, ENERGY = "quality.wikitext", "energy_per_output_token_j"


@pytest.fixture
def scored(grid_store: Any) -> Any:
    """`scored(value, better)`: a store whose results have a score; `better` may be a function of the point too."""

    def make(better: Any, score: Any = "bits", half: float = 0.001) -> Store:
        store = grid_store(
            AXES, lambda point: (1 + 2 * (point["dtype"] == "bfloat16")) * 100.0 / point["load.batch_size"]
        )
        for name, point in store.study()["points"].items():
            values = point["values"]
            value = 1.0 + 0.5 * (values["dtype"] == "bfloat16") + values["load.batch_size"] / 1000
            told = {
                "better": better(values) if callable(better) else better,
                "score": score(values) if callable(score) else score,
            }
            one = Quantity(value, "", value - half, value + half, 0.95, 100, covers="items", method="items", **told)
            result = store.read_result(name)
            store.write_result(attrs.evolve(result, metrics={**result.metrics, NAME: one}), replace=True)
        return store

    return make


@pytest.mark.parametrize(("better", "dtype", "size"), [("lower", "float16", 1), ("higher", "bfloat16", 64)])
def test_the_best_score_is_the_lowest_where_less_is_better(scored: Any, better: str, dtype: str, size: int) -> None:
    """And its ties come in that order."""
    store = scored(better, half=0.2)
    points = store.study()["points"]
    results = Results.open(store)

    assert points[results.best(NAME).id]["values"] == {"load.batch_size": size, "dtype": dtype}
    ties = [results[name].metrics[NAME].value for name in results.ties(NAME)]
    assert len(ties) == 2
    assert ties == sorted(ties, reverse=better == "higher")


@pytest.mark.parametrize(
    ("better", "front"),
    [
        ("lower", [(64, "float16"), (8, "float16"), (1, "float16")]),
        ("higher", [(64, "float16"), (64, "bfloat16")]),
    ],
)
def test_a_front_takes_the_direction_of_the_score(scored: Any, better: str, front: Any) -> None:
    """Energy falls with the size, and the value rises with it; bfloat16 takes three times the energy for 0.5 more."""
    store = scored(better)
    found = [store.study()["points"][name]["values"] for name in Results.open(store).pareto(ENERGY, NAME)]

    assert [(point["load.batch_size"], point["dtype"]) for point in found] == front


@pytest.mark.parametrize(("better", "verdict"), [("lower", "worse"), ("higher", "better"), ("", "better")])
def test_the_verdict_of_an_axis_takes_it_too(scored: Any, better: str, verdict: str) -> None:
    """bfloat16 has 1.5 for 1.0. Where a result does not say, as one of an earlier version, more is better."""
    [effect] = Results.open(scored(better)).by_axis("dtype", [NAME])

    assert effect.ratio == pytest.approx(1.49, abs=0.02)
    assert effect.verdict == verdict


@pytest.mark.parametrize(
    ("better", "score"),
    [
        (lambda point: "lower" if point["load.batch_size"] == 1 else "higher", "bits"),
        ("higher", lambda point: "acc" if point["load.batch_size"] == 1 else "acc_norm"),
    ],
    ids=["directions", "scores"],
)
def test_results_that_disagree_are_refused(scored: Any, better: Any, score: Any) -> None:
    """They hold different scores under one name: nothing is ranked or judged among them."""
    results = Results.open(scored(better, score))
    for ask in (
        lambda: results.best(NAME),
        lambda: results.ties(NAME),
        lambda: results.pareto(ENERGY, NAME),
        lambda: results.pareto(NAME, ENERGY),
        lambda: results.by_axis("dtype", [NAME]),
        lambda: results.by_pair("dtype", [NAME]),
    ):
        with pytest.raises(StoreError, match=f"{NAME} is not the same score in all results") as caught:
            ask()
        assert caught.value.code == "scores_differ"
    assert results.best(ENERGY).valid


def test_the_command_line_refuses_them_too(scored: Any, run_llem: Any) -> None:
    """With both scores, and status 2."""
    store = scored(lambda point: "lower" if point["dtype"] == "float16" else "higher")
    done = run_llem("show", store.path, "--by", "dtype", "--metric", NAME)

    assert done.exit_code == 2
    assert "bits (higher is better) and bits (lower is better)" in done.stderr


def test_what_says_nothing_goes_with_what_does() -> None:
    """A result of an earlier version, or one that lacks the score."""
    silent, low = Quantity(1.0, ""), Quantity(1.0, "", better="lower", score="bits")

    assert lower_is_better(NAME, [silent, None, low])
    assert not lower_is_better(NAME, [silent, None])
    assert not lower_is_better(NAME)


def test_a_direction_is_written_only_where_there_is_one(scored: Any) -> None:
    """So that results do not grow by it, and documents without it are read."""
    plain, told = Quantity(1.0, "J"), Quantity(1.0, "", better="lower", score="bits")

    assert not {"better", "score"} & set(dump(plain))
    assert dump(told)["better"] == "lower"
    assert [load(dump(one), Quantity, "x") for one in (plain, told)] == [plain, told]
    store = scored("lower")
    [name, *_] = store.experiment_ids()
    metrics = json.loads((store.folder(name) / "result.json").read_text())["metrics"]
    assert [key for key, one in metrics.items() if "better" in one] == [NAME]


def test_tables_have_the_direction(scored: Any, run_llem: Any) -> None:
    """In a column beside the score, and of no other metric."""
    store = scored("lower")
    rows = list(csv.DictReader(io.StringIO(run_llem("export", store.path).stdout)))

    assert {(row[f"{NAME}_score"], row[f"{NAME}_better"]) for row in rows} == {("bits", "lower")}
    assert [column for column in rows[0] if column.endswith(("_better", "_score"))] == [
        f"{NAME}_score",
        f"{NAME}_better",
    ]


def test_energies_of_evaluations_keep_their_basis(grid_store: Any) -> None:
    """What they cover is a column; they are of one evaluation each, so nothing is ranked by them."""
    store = grid_store({"dtype": ["float16", "bfloat16"]}, lambda point: 1.0)
    for name, kind in zip(store.experiment_ids(), ("measured", "modelled"), strict=True):
        result = store.read_result(name)
        one = Quantity(0.5, "1/J", scope="cpu", kind=kind)
        metrics = {**result.metrics, "quality_per_joule.sums": one}
        store.write_result(attrs.evolve(result, metrics=metrics), replace=True)
    results = Results.open(store)

    assert results.columns()["quality_per_joule.sums_kind"] == ["modelled", "measured"]
    with pytest.raises(StoreError) as caught:
        results.best("quality_per_joule.sums")
    assert caught.value.code == "no_direction"
    assert "one evaluation" in caught.value.message
