"""All results of a folder together: reading, tables, the best, and what no other one beats."""

from __future__ import annotations

import attrs
import pytest

import llem
from llem.analysis.collection import Results
from llem.analysis.overview import overview_of, overviews, state_of
from llem.analysis.ranking import rankable
from llem.errors import StoreError
from llem.findings import finding
from llem.metrics.catalogue import METRICS, lower_is_better
from llem.metrics.quantity import absent
from llem.store.models import SCHEMA_VERSION
from llem.store.store import Store

METRIC = "energy_per_output_token_j"
AXES = {"load.batch_size": [1, 8], "dtype": ["float16", "bfloat16"]}


def _energy(point):
    return 10.0 / point["load.batch_size"] + (point["dtype"] == "float16")


def test_results_come_in_the_order_of_the_study_and_only_those_that_ended(grid_store):
    """Running order first; an experiment without a result is not among them."""
    store = grid_store(AXES, lambda point: None if point == {"load.batch_size": 8, "dtype": "float16"} else 1.0)
    results = Results.open(store)

    assert [name[:2] for name in results] == ["03", "01", "00"]
    assert len(results) == 3
    assert "02" + "0" * 14 not in results
    with pytest.raises(KeyError):
        results["02" + "0" * 14]


def test_results_are_the_stored_ones(grid_store):
    """Read one by one, they equal what the store reads, and compare as a mapping does."""
    store = grid_store(AXES, _energy)
    results = llem.load_results(store.path)

    assert isinstance(results, llem.Results)
    assert dict(results) == {name: store.read_result(name) for name in store.experiment_ids()}
    assert results == dict(results)
    assert repr(results).startswith("<4 results in ")


def test_the_same_questions_are_refused_from_python_as_from_the_command_line(grid_store):
    """An experiment against itself, and a metric that there is not or that has no better direction."""
    results = Results.open(grid_store(AXES, _energy))
    first = next(iter(results))

    with pytest.raises(StoreError, match=f"A and B are the same experiment, {first}") as caught:
        results.compare(first, first[:4])
    assert caught.value.exit_code == 2
    for name, code in (("energy_per_tokn_j", "metric_unknown"), ("request_rate", "no_direction")):
        with pytest.raises(StoreError) as caught:
            results.by_axis("dtype", [name])
        assert caught.value.code == code


def test_only_valid_experiments_say_how_processes_vary(tmp_path, make):
    """An interrupted one with processes that differ is no source: of the two that are compared nothing is measured."""
    store = Store.create(tmp_path / "study", {"experiments": ["exp-one", "exp-two", "exp-bad"]})
    for name, processes in (("exp-one", 1), ("exp-two", 1), ("exp-bad", 3)):
        make.fill(store, name, processes=processes)
    results = Results.open(store)
    measured = results.compare("exp-one", "exp-two", [METRIC])[0]
    bad = store.read_result("exp-bad")
    store.write_result(attrs.evolve(bad, outcome="interrupted", valid=False, publishable=False), replace=True)

    assert measured.between == "measured"
    assert results.compare("exp-one", "exp-two", [METRIC])[0].between == "assumed"
    assert results.compare("exp-one", "exp-bad", [METRIC])[0].between == "measured"


def test_an_overview_is_the_result_in_short(grid_store):
    """From the file as from the Result, for all metrics and for some."""
    codes = (finding("short_window", "a"), finding("short_window", "b"), finding("single_trial", "c"))
    store = grid_store(AXES, lambda point: {"energy": 1.0, "findings": codes, "valid": False})
    [first, *_] = ids = store.experiment_ids()
    result = store.read_result(first)

    assert [one.id for one in overviews(store, ids)] == list(ids)
    for metrics in (None, ("output_tokens_per_s", "there is none")):
        [read] = overviews(store, [first], metrics)
        assert read == overview_of(result, metrics)
    assert read.codes == ("short_window", "single_trial")
    assert list(read.metrics) == ["output_tokens_per_s"]
    assert state_of(read) == "done (not valid)"


def test_a_damaged_result_is_named(grid_store):
    """What is JSON and no result is left out, and its file is named."""
    store = grid_store(AXES, _energy)
    first, *others = store.experiment_ids()
    (store.folder(first) / "result.json").write_text(f'{{"schema_version": {SCHEMA_VERSION}, "id": "{first}"}}')
    results = Results.open(store)

    assert {row.id for row in results.overviews()} == set(others)
    assert list(results.damaged) == [first]
    assert "result.json: `outcome` is missing" in str(results.damaged[first])


def test_columns_have_axes_outcome_codes_and_metrics(grid_store):
    """One row per experiment, None where there is no number; an axis of mixed values becomes text."""
    axes = {"dtype": ["float16", None], "load": [{"kind": "offline"}, 3], "window_s": [1, 2.5]}
    store = grid_store(axes, lambda point: {"energy": None, "findings": (finding("single_trial", "c"),)})
    columns = Results.open(store).columns()

    assert list(columns)[:9] == [
        "id", "dtype", "load", "window_s", "outcome", "trials", "valid", "publishable", "findings",
    ]  # fmt: skip
    assert {len(column) for column in columns.values()} == {8}
    assert columns["dtype"] == [None, None, None, None, "float16", "float16", "float16", "float16"]
    assert columns["load"] == ["3", "3", '{"kind": "offline"}', '{"kind": "offline"}'] * 2
    assert columns["window_s"] == [2.5, 1.0] * 4
    assert columns["findings"][0] == ["single_trial"]
    assert columns["energy_per_output_token_j"] == [None] * 8
    assert columns["output_tokens_per_s_low"] == [99.0] * 8
    assert columns["output_tokens_per_s_n"] == [5] * 8


def test_a_metric_that_only_later_results_have_is_none_before(grid_store):
    """Columns stay of one length whichever result has which metric."""
    store = grid_store(AXES, _energy)
    names = list(Results.open(store))
    for name in names[1:3]:
        result = store.read_result(name)
        more = {**result.metrics, "mfu": attrs.evolve(result.metrics["ttft_s"], value=0.5, reason=None)}
        store.write_result(attrs.evolve(result, metrics=more), replace=True)

    columns = Results.open(store).columns()
    assert columns["mfu"] == [None, 0.5, 0.5, None]


def test_frame_is_a_polars_frame_of_the_columns(grid_store):
    """Numbers are numbers also where the first are missing; codes are a list."""
    polars = pytest.importorskip("polars")
    store = grid_store(AXES, lambda point: {"energy": None if point["dtype"] == "bfloat16" else 2.0})
    results = Results.open(store)
    frame = results.frame(everything=True)

    assert frame.columns == list(results.columns(everything=True))
    assert frame["energy_per_output_token_j"].to_list() == [None, 2.0, None, 2.0]
    assert frame["energy_per_output_token_j"].dtype == polars.Float64
    assert frame["ttft_s"].dtype == polars.Float64
    assert frame["load.batch_size"].dtype == polars.Int64
    assert frame["findings"].dtype.base_type() == polars.List
    assert frame.filter(polars.col("dtype") == "float16").height == 2


def test_to_pandas_is_the_same_table(grid_store):
    """For those whose tools want pandas."""
    pytest.importorskip("pandas")
    results = Results.open(grid_store(AXES, _energy))

    assert list(results.to_pandas().columns) == list(results.columns())


def test_best_is_the_valid_result_with_the_best_value(grid_store):
    """The least energy, the highest speed; what is not valid is never the best."""

    def given(point):
        bad = point == {"load.batch_size": 8, "dtype": "bfloat16"}
        return {"energy": _energy(point), "speed": point["load.batch_size"] * 10.0, "valid": not bad}

    results = Results.open(grid_store(AXES, given))
    assert results.best("energy_per_output_token_j").id[:2] == "02"
    assert results.best("output_tokens_per_s").id[:2] == "02"
    with pytest.raises(StoreError, match="no valid result has ttft_s"):
        results.best("ttft_s")
    with pytest.raises(StoreError, match="neither less nor more is better"):
        results.best("request_rate")


@pytest.mark.parametrize(("reason", "speed"), [("no_meter", True), ("no_request_file", False)])
def test_another_metric_is_named_only_where_results_have_it(grid_store, reason, speed):
    """A metered command without requests has no speed either."""
    name = "energy_per_output_token_j"
    store = grid_store(AXES, lambda _: {"energy": 1.0, "speed": 10.0})
    rows = [
        attrs.evolve(row, metrics={name: absent("J/token", reason)})
        for row in overviews(store, store.experiment_ids(), [name])
    ]

    with pytest.raises(StoreError, match=f"no valid result has {name}") as caught:
        rankable(rows, [name])
    assert ("such as `output_tokens_per_s`" in caught.value.hint) == speed
    assert ("--maximise output_tokens_per_s" in caught.value.hint) == speed  # an option, not a name alone


def test_pareto_is_a_smaller_collection(grid_store):
    """Best x first; invalid results and those without a value are left out; the rest can be asked further."""

    def given(point):
        if point["load.batch_size"] == 8:
            return {"energy": 1.0, "speed": 50.0} if point["dtype"] == "float16" else {"energy": 1.1, "speed": 40.0}
        return {"energy": 2.0, "speed": 90.0, "valid": point["dtype"] == "bfloat16"}

    front = Results.open(grid_store(AXES, given)).pareto("energy_per_output_token_j", "output_tokens_per_s")
    assert [name[:2] for name in front] == ["02", "01"]
    assert front.best("output_tokens_per_s").id[:2] == "01"
    assert max(front.dominated.values()) < 0.01


def test_ties_of_the_best_are_told(grid_store):
    """0.5 % worse, at ± 1 % within one process each, is not separated; 10 % worse is."""
    values = iter([1.0, 1.005, 1.1, 1.2])
    results = Results.open(grid_store(AXES, lambda _: next(values)))

    assert results.best("energy_per_output_token_j").id[:2] == "00"
    assert [name[:2] for name in results.ties("energy_per_output_token_j")] == ["01"]


def test_fakes_are_never_ranked(grid_store):
    """Not the best, not on the front, whatever their figures; a study of fakes alone says so."""

    def given(point):
        fake = point["dtype"] == "float16"
        return {"energy": 0.1 if fake else 1.0, "config": {"backend": "echo"} if fake else {}}

    results = Results.open(grid_store(AXES, given))
    assert results.best("energy_per_output_token_j").id[:2] == "01"
    assert [name[:2] for name in results.ties("energy_per_output_token_j")] == ["03"]
    assert {name[:2] for name in results.pareto("energy_per_output_token_j", "output_tokens_per_s")} == {"01", "03"}


@pytest.mark.parametrize("ask", ["best", "ties", "pareto"])
def test_a_study_of_fakes_ranks_nothing(grid_store, ask):
    """With a message that says why."""
    results = Results.open(grid_store(AXES, lambda _: {"energy": 1.0, "config": {"backend": "echo"}}))
    arguments = ["energy_per_output_token_j", *(["output_tokens_per_s"] if ask == "pareto" else [])]

    with pytest.raises(StoreError, match="all results are of echo, a fake") as caught:
        getattr(results, ask)(*arguments)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("ask", ["best", "pareto"])
def test_energies_of_different_kinds_are_never_ranked(grid_store, ask):
    """Both are named; speeds are ranked all the same."""
    bases = {1: {"scope": "gpu", "kind": "measured"}, 8: {"scope": "cpu+dram", "kind": "modelled"}}
    results = Results.open(grid_store(AXES, lambda point: {"energy": 1.0, "basis": bases[point["load.batch_size"]]}))
    arguments = ["energy_per_output_token_j", *(["output_tokens_per_s"] if ask == "pareto" else [])]

    with pytest.raises(StoreError, match=r"cpu\+dram, modelled; gpu, measured") as caught:
        getattr(results, ask)(*arguments)
    assert caught.value.code == "energies_differ"
    assert results.best("output_tokens_per_s").valid


@pytest.mark.parametrize(
    "name", ["ttft_p99_s", "itl_chunk_p50_s", "e2el_p95_s", *(n for n, one in METRICS.items() if one.lower_is_better)]
)
def test_less_is_better_of_energies_and_times(name):
    """Percentiles of times too."""
    assert lower_is_better(name)


@pytest.mark.parametrize("name", ["quality.arc_easy", "goodput_requests_per_s", "mfu", "output_tokens_per_s"])
def test_more_is_better_of_speeds_shares_and_quality(name):
    """And of what a service achieves."""
    assert not lower_is_better(name)


@pytest.mark.parametrize(
    ("name", "code", "says"),
    [
        ("request_rate", "no_direction", "neither less nor more is better"),
        ("energy_per_tokn_j", "metric_unknown", "did you mean 'energy_per_token_j'?"),
        ("ttft_p98_s", "metric_unknown", "there is no metric 'ttft_p98_s'"),
        ("foo", "metric_unknown", "`llem show DIR --json`"),
    ],
)
def test_a_metric_that_there_is_not_is_told_apart_from_one_without_direction(name, code, says):
    """One is a slip of the keyboard, the other a question without an answer."""
    with pytest.raises(StoreError) as caught:
        lower_is_better(name)

    assert caught.value.code == code
    assert says in str(caught.value)


def test_compare_takes_the_beginning_of_ids(store, make):
    """As `llem compare`, from the trials."""
    make.fill(store, "exp-two")
    found = Results.open(store).compare("exp-o", "exp-t")

    assert {one.ratio.value for one in found} == {1.0}
