"""Results by position and by the beginning of an id, one-line reprs, numbers, and misspelt names."""

from __future__ import annotations

import copy
import pickle

import attrs
import pytest

import llem
from llem.analysis.collection import Results
from llem.errors import StoreError, UnknownName, one_of
from llem.store.convert import dump, load
from llem.store.models import Quantity, Result

METRIC = "energy_per_output_token_j"
BASIS = {"scope": "gpu", "kind": "measured"}
AXES = {"load.batch_size": [1, 8, 64]}
FIRST, SECOND, THIRD = ("02" + "0" * 14, "01" + "0" * 14, "00" + "0" * 14)


def _energy(point):
    return {"energy": 8.0 / point["load.batch_size"], "basis": BASIS}


@pytest.fixture
def results(grid_store):
    return Results.open(grid_store(AXES, _energy))


def test_results_are_found_by_position_and_by_the_beginning_of_an_id(results):
    """Positions are those of the study's order; a slice keeps the class, the store and the study."""
    assert list(results) == [FIRST, SECOND, THIRD]
    assert [results[n].id for n in (0, 2, -1, -3)] == [FIRST, THIRD, THIRD, FIRST]
    assert results["01"] == results[SECOND] == results[1]
    part = results[1:]
    assert isinstance(part, Results)
    assert list(part) == [SECOND, THIRD]
    assert part.study is results.study
    assert (FIRST in part, SECOND in part) == (False, True)
    assert list(results[::-1]) == [THIRD, SECOND, FIRST]
    assert list(results) == [FIRST, SECOND, THIRD]


def test_what_is_not_there_is_answered_as_a_mapping_and_a_sequence_do(results):
    """An IndexError; a KeyError that is a StoreError too, with what would be right. `get` and `in` stay a mapping's."""
    for place in (3, -4):
        with pytest.raises(IndexError, match=f"no result number {place}: there are 3"):
            results[place]
    with pytest.raises(KeyError) as caught:
        results["03" + "0" * 14]
    assert isinstance(caught.value, StoreError)
    assert (caught.value.code, caught.value.exit_code) == ("id_unknown", 2)
    assert "did you mean" in caught.value.hint
    assert "no experiment '0300000000000000' among <3 results in " in str(caught.value)
    with pytest.raises(UnknownName, match="'0' begins 3 ids: 02") as caught:
        results["0"]
    assert caught.value.code == "id_ambiguous"
    assert results.get("zz") is None
    assert "01" not in results


def test_an_id_is_suggested_and_long_lists_are_cut():
    """A slip in a prefix is answered with a prefix; of very many ids the first are told."""
    known = [f"{n:04x}{'0' * 12}" for n in range(4096, 4196)]

    assert one_of(known, "1001", "here") == known[1]
    assert one_of([*known, "10"], "10", "here") == "10"
    with pytest.raises(UnknownName, match="and 88 more"):
        one_of(known, "10", "here")
    with pytest.raises(UnknownName) as caught:
        one_of(["c1f347c7cd48b957", "5f04f500d628d495"], "c1f346", "here")
    assert caught.value.hint == "did you mean c1f347?"
    with pytest.raises(UnknownName, match="known: none"):
        one_of([], "a", "here")


def test_a_misspelt_metric_is_answered_with_the_nearest(results):
    """By both ways of asking; what else a dict does is as it was."""
    result = results[0]

    assert result[METRIC] is result.metrics[METRIC]
    for ask in (result.metrics.__getitem__, result.__getitem__):
        with pytest.raises(KeyError) as caught:
            ask("energy_per_output_tokn_j")
        assert caught.value.code == "metric_unknown"
        assert caught.value.hint == f"did you mean {METRIC}?"
    with pytest.raises(UnknownName, match="there are energy_per_output_token_j, output_tokens_per_s, ttft_s"):
        result["watts"]
    assert result.metrics.get("watts") is None
    assert "watts" not in result.metrics
    assert dict(result.metrics) == result.metrics
    with pytest.raises(TypeError, match="not iterable"):
        iter(result)


@pytest.mark.parametrize(
    ("ask", "near"),
    [
        (lambda results: results.recomend, "recommend"),
        (lambda results: results[0].metrix, "metrics"),
        (lambda results: results[0].finding, "findings"),
        (lambda results: results[0][METRIC].unti, "unit"),
        (lambda results: results.recommend().probabilty, "probability"),
    ],
)
def test_a_misspelt_attribute_is_answered_with_the_nearest(results, ask, near):
    with pytest.raises(AttributeError, match=f"; did you mean '{near}'\\?$"):
        ask(results)


def test_what_is_far_from_any_attribute_has_no_suggestion(results):
    """And a private name, which libraries look for, costs no search."""
    for name in ("zzzzzz", "_ipython_canary_method_should_not_exist_"):
        with pytest.raises(AttributeError, match=f"no attribute '{name}'$"):
            getattr(results[0], name)


def test_results_are_copied_stored_and_sent_as_before(results):
    """Quantities by name are a dict to everything that reads one."""
    result = results[0]

    assert pickle.loads(pickle.dumps(result)) == copy.deepcopy(result) == result
    assert load(dump(result), Result, "here") == result
    assert attrs.evolve(result, trials=6).metrics == result.metrics


def test_a_quantity_is_a_number_where_it_has_one():
    """`float` is the value; of None the reason is told, and nothing is 0."""
    assert float(Quantity(2, "J")) == 2.0
    assert isinstance(float(Quantity(2, "J")), float)
    with pytest.raises(TypeError, match="None \\(no_meter\\)"):
        float(Quantity(None, "J", reason="no_meter"))


@pytest.mark.parametrize(
    ("quantity", "told"),
    [
        (Quantity(0.0123, "J", 0.0119, 0.0127, 0.95, 5, 1, "within one process", "student_t", **BASIS),
         "0.0123 J ± 0.0004 (95 %, n = 5, one process), gpu, measured"),
        (Quantity(14511.7, "token/s", 9211.7, 19811.7, 0.95, 3, 1, "within one process", "student_t"),
         "14,510 token/s ± 5,300 (95 %, n = 3, one process)"),
        (Quantity(123456789.0, "B", n=5, method="exact"), "123,500,000 B (exact)"),
        (Quantity(1.5e12, "FLOP", n=5, method="exact"), "1.5e+12 FLOP (exact)"),
        (Quantity(None, "J", reason="no_meter"), "none (no_meter)"),
    ],
)  # fmt: skip
def test_a_quantity_in_a_line(quantity, told):
    """Thousands are no powers of ten."""
    assert str(quantity) == told
    assert repr(quantity) == f"<Quantity {told}>"


def test_reprs_are_one_line_each(results):
    """With the headline, its kind and scope, and whether it may be relied on."""
    assert repr(results).startswith("<3 results in ")
    assert repr(results[0]) == (
        "<Result 02000000: done, valid; pytorch; "
        "energy_per_output_token_j 0.125 J ± 0.0013 (95 %, n = 5, one process), gpu, measured>"
    )
    bad = attrs.evolve(results[0], outcome="oom", valid=False, metrics={}, config={"model": "evil\x1b[2J\nname"})
    assert repr(bad) == "<Result 02000000: oom, not valid; 'evil\\x1b[2J\\nname'>"
    choice = results.recommend()
    told = repr(choice)
    assert told.startswith("<Recommendation: take 02000000, P > 0.99, energy_per_output_token_j: 0.12")
    assert told.endswith(", gpu, measured>")
    assert "\n" not in told
    none = results.recommend(slo="output_tokens_per_s>1000")
    assert repr(none).startswith("<Recommendation: no configuration keeps all limits")
    assert "\n" not in repr(none)


def test_a_recommendation_says_why_of_each(grid_store):
    """Of those that are ranked, and of those that are not."""
    store = grid_store(AXES, lambda point: {**_energy(point), "valid": point["load.batch_size"] != 8})
    choice = llem.load_results(store.path).recommend()

    assert set(choice.why) == {FIRST, SECOND, THIRD}
    assert "not valid" in choice.why[SECOND]
    assert choice.results[choice.best].id == FIRST
    assert str(choice.basis) == "gpu, measured"
