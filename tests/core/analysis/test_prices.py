"""Cost and carbon: amounts computed by hand, what is refused, and that they stand wherever a metric can."""

from __future__ import annotations

import pytest

import llem
from llem.analysis.collection import Results
from llem.analysis.prices import Prices, gpus_in, gpus_of, read_prices, require_prices
from llem.analysis.sides import read_side
from llem.errors import ConfigError, StoreError
from llem.findings import REASONS
from llem.metrics.catalogue import METRICS, PRICED, lower_is_better, metric_of
from llem.metrics.cost import PARTS
from llem.metrics.result import recompute
from llem.store.models import Quantity
from llem.store.store import Store

COST, EMITTED = "cost_per_million_output_tokens", "gco2e_per_million_output_tokens"
#: 3.60 an hour is 0.001 a second; 1.5 × 0.24 is 0.36 a kWh, which is 1e-7 a joule; 1.5 × 300 g is 1.25e-4 g a joule.
WHOLE = Prices(currency="EUR", gpu_hour=3.6, kwh=0.24, grid_g_per_kwh=300.0, pue=1.5)
#: Of trials of 10 s with 8 requests, 1,024 tokens in and 512 out, at 600 W: 51.2, 153.6 and 0.8 per second, and
#: 11.71875, 3.90625 and 750 J.
BY_HAND = {
    "cost_per_million_output_tokens": 19.53125 + 1.171875,
    "cost_per_million_tokens": 0.001 / 153.6 * 1e6 + 0.390625,
    "cost_per_request": 0.00125 + 7.5e-5,
    "gco2e_per_million_output_tokens": 1464.84375,
    "gco2e_per_request": 0.09375,
}


def quantity(value, half, unit="", **more):
    """A mean over five trials of one process."""
    low, high = (None, None) if half is None else (value - half, value + half)
    given = {"confidence": 0.95, "n": 5, "processes": 1, "covers": "within one process", "method": "student_t"}
    return Quantity(value, unit, low, high, **{**given, **more})


def parts(*, rate=50.0, rate_half=1.0, energy=10.0, energy_half=0.2, kind="measured"):
    """The two metrics that a million output tokens are priced by."""
    return {
        "output_tokens_per_s": quantity(rate, rate_half, "token/s"),
        "energy_per_output_token_j": quantity(energy, energy_half, "J", scope="gpu", kind=kind),
    }


# amounts


@pytest.mark.parametrize("name", PRICED)
def test_amounts_by_hand(store, name):
    """Of a Result, of an overview, and of each trial; the unit is the currency or grams."""
    results = Results.open(store, WHOLE)
    result = results["exp-one"].metrics[name]
    [row] = results.overviews((name,))
    watts = [600.0, 601.0, 599.0, 600.5, 599.5]
    time = 0.0 if name.startswith("gco2e") else BY_HAND[name] - _electricity(name)

    assert result.value == pytest.approx(BY_HAND[name], rel=1e-9)
    assert row.metrics == {name: result}
    assert result.unit == ("EUR" if name.startswith("cost") else "gCO2e")
    assert (result.scope, result.kind, result.n, result.processes) == ("gpu", "measured", 5, 1)
    expected = [time + _electricity(name) * watt / 600 for watt in watts]
    assert read_side(store, "exp-one", [name], WHOLE).values[name] == pytest.approx(expected, rel=1e-9)


def _electricity(name):
    return {
        "cost_per_million_output_tokens": 1.171875,
        "cost_per_million_tokens": 0.390625,
        "cost_per_request": 7.5e-5,
    }.get(name, BY_HAND[name])


def test_limits_of_time_and_energy_are_added():
    """Those of the speed change places: 10 / 49 and 10 / 51 of a currency, and 1 ± 0.02 of it for the energy."""
    prices = Prices(gpu_hour=3.6e-2, kwh=0.36, pue=1.0)  # 1e-5 a second; 1e-7 a joule
    found = prices.quantity(COST, parts(), 1)

    assert found.value == pytest.approx(10 / 50 + 1)
    assert (found.low, found.high) == pytest.approx((10 / 51 + 0.98, 10 / 49 + 1.02))
    assert (found.method, found.n, found.covers, found.confidence) == ("added", 5, "within one process", 0.95)
    assert found.rests_on == "n = 5, one process"


def test_a_sum_never_has_less_scatter_than_its_interval_says(store):
    """The interval of the sum holds that of the sums of the trials."""
    side = read_side(store, "exp-one", [COST], WHOLE).values[COST]
    found = Results.open(store, WHOLE)["exp-one"].metrics[COST]
    centre = sum(side) / 5
    half = 2.7764451 * (sum((one - centre) ** 2 for one in side) / 4 / 5) ** 0.5

    assert found.low <= centre - half
    assert found.high >= centre + half


def test_where_one_part_alone_enters_its_interval_is_converted():
    """Emissions and the price of time keep method, limits and what these cover."""
    emitted = Prices(grid_g_per_kwh=360.0).quantity(EMITTED, parts(kind="modelled"), None)
    rented = Prices(gpu_hour=3.6, electricity_included=True).quantity(COST, parts(), 1)

    assert (emitted.value, emitted.low, emitted.high) == pytest.approx((1000.0, 980.0, 1020.0))
    assert (emitted.method, emitted.kind) == ("student_t", "modelled")
    assert (rented.value, rented.low, rented.high) == pytest.approx((20.0, 1000 / 51, 1000 / 49))
    assert (rented.method, rented.scope, rented.kind) == ("student_t", None, None)


def test_energy_counts_alone_where_an_hour_costs_nothing():
    """A price of 0 is a price, and None is none."""
    found = Prices(gpu_hour=0.0, kwh=0.36).quantity(COST, parts(), 4)

    assert (found.value, found.low, found.high) == pytest.approx((1.0, 0.98, 1.02))
    assert found.method == "student_t"


@pytest.mark.parametrize(("changed", "value"), [({"rate_half": 60.0}, 1.2), ({"energy_half": None}, 1.2)])
def test_without_an_interval_of_a_part_there_is_none_of_the_sum(changed, value):
    """A speed that may be 0 bounds no time."""
    found = Prices(gpu_hour=0.036, kwh=0.36).quantity(COST, parts(**changed), 1)

    assert found.value == pytest.approx(value)
    assert (found.low, found.high, found.confidence, found.covers) == (None, None, None, "")


def test_pue_multiplies_energy_and_not_time():
    """Twice the energy, the same GPU."""
    one, two = (Prices(gpu_hour=3.6, kwh=0.36, pue=pue).quantity(COST, parts(), 1).value for pue in (1.0, 2.0))

    assert (one, two) == pytest.approx((20 + 1, 20 + 2))


@pytest.mark.parametrize(
    ("given", "gpus", "value"),
    [
        ({"gpu_hour": 3.6}, 1, 20.0),
        ({"gpu_hour": 3.6}, 8, 160.0),
        ({"gpu_hour": 3.6, "machine_hour": 1.8}, 2, 50.0),
        ({"machine_hour": 1.8}, 0, 10.0),
        ({"gpu_hour": 3.6, "machine_hour": 1.8}, 0, 10.0),
    ],
)
def test_an_hour_is_of_all_gpus_and_the_machine(given, gpus, value):
    """The machine's price is added whole; one without GPUs costs that alone."""
    found = Prices(electricity_included=True, **given).quantity(COST, parts(), gpus)

    assert found.value == pytest.approx(value)


@pytest.mark.parametrize(
    ("given", "gpus", "reason"),
    [
        ({"grid_g_per_kwh": 1.0}, 1, "no_price"),
        ({"kwh": 0.3}, 1, "no_price"),
        ({"gpu_hour": 2.5}, 1, "no_price"),
        ({"gpu_hour": 2.5, "kwh": 0.3}, 0, "no_price"),
        ({"machine_hour": 2.5, "kwh": 0.3}, 1, "no_price"),
        ({"gpu_hour": 2.5, "kwh": 0.3}, None, "gpus_unknown"),
    ],
)
def test_what_was_not_given_is_a_reason_and_not_0(given, gpus, reason):
    """Of a result and of its trials alike."""
    found = Prices(**given).quantity(COST, parts(), gpus)

    assert (found.value, found.reason, found.unit) == (None, reason, "USD")


def test_a_grid_that_was_not_given_is_a_reason():
    """Emissions are None, whatever prices there are."""
    found = Prices(gpu_hour=2.5, kwh=0.3).quantity(EMITTED, parts(), 1)

    assert (found.value, found.reason, found.scope) == (None, "no_grid", "gpu")


def test_a_missing_part_says_why():
    """Energy that no meter read; a window without a token."""
    dark = {**parts(), "energy_per_output_token_j": Quantity(None, "J", reason="no_meter")}
    idle = {**parts(), "output_tokens_per_s": quantity(0.0, 0.0)}

    assert Prices(grid_g_per_kwh=1.0).quantity(EMITTED, dark, 1).reason == "no_meter"
    assert Prices(gpu_hour=1.0, kwh=1.0).quantity(COST, dark, 1).reason == "no_meter"
    assert Prices(gpu_hour=1.0, kwh=1.0).quantity(COST, idle, 1).reason == "no_completions"
    rented = Prices(gpu_hour=3.6, electricity_included=True).quantity(COST, dark, 1)
    assert (rented.value, rented.reason) == (pytest.approx(20.0), None)


def test_modelled_energy_without_a_gpu(tmp_path, make):
    """The machine's hour counts, and emissions are as modelled as the energy, 525 J of processor and memory."""
    store = Store.create(tmp_path / "cpu", {"name": "cpu"})
    store.write_experiment("exp-one", make.experiment_document())
    store.write_engine("exp-one", make.engine_document(cuda=False, domains=()))
    t0, t1 = make.window(0)
    requests = make.request_rows(0, t0, t1)
    extra = (make.modelled("cpu:0", 425.0, "cpu"), make.modelled("dram", 100.0, "dram"))
    store.write_trial(make.make_trial(0, (), requests, t0, t1, domains=(), extra=extra, health={}), (), requests)
    store.write_outcome("exp-one", make.outcome_document())
    store.write_result(recompute(store, "exp-one"))
    found = Results.open(store, Prices(machine_hour=3.6, kwh=0.36, grid_g_per_kwh=360.0))["exp-one"].metrics

    assert found[COST].value == pytest.approx(19.53125 + 525 / 512 * 0.1)
    assert found[EMITTED].value == pytest.approx(525 / 512 * 100)
    assert {(found[name].scope, found[name].kind) for name in (COST, EMITTED)} == {("cpu+dram", "modelled")}
    assert Results.open(store, WHOLE)["exp-one"].metrics[COST].reason == "no_price"


# numbers of GPUs


def test_gpus_are_counted_from_the_engine_documents(store, make):
    """Each process on one; on two; on none; and where processes differ or nothing is told, that is not known."""
    two = make.engine_document(1, device={"device": "cuda", "gpus": ["a", "b"], "names": [None, None]})

    assert gpus_of(make.engine_document()) == 1
    assert gpus_of(two) == 2
    assert gpus_of(make.engine_document(cuda=False)) == 0
    assert gpus_of({"device": {"device": "cuda", "gpus": []}}) is None
    assert gpus_of({}) is None
    assert gpus_in(store, "exp-one") == 1
    store.write_engine("exp-one", two)
    assert gpus_in(store, "exp-one") is None
    assert Results.open(store, WHOLE)["exp-one"].metrics[COST].reason == "gpus_unknown"


def test_each_trial_counts_the_gpus_it_ran_on(tmp_path, make):
    """Two engine processes on one GPU and on two."""
    store = Store.create(tmp_path / "out", {"name": "two"})
    make.fill(store, processes=2, per_process=2)
    device = {"device": "cuda", "gpus": [make.GPU[4:], "b"], "names": ["NVIDIA H200"] * 2}
    store.write_engine("exp-one", make.engine_document(1, device=device), replace=True)
    prices = Prices(gpu_hour=3.6, electricity_included=True)

    assert read_side(store, "exp-one", [COST], prices).values[COST] == pytest.approx([19.53125] * 2 + [39.0625] * 2)


# the inputs


def test_inputs_are_read_from_a_file(tmp_path):
    """Every field; whole numbers are numbers."""
    path = tmp_path / "prices.yaml"
    path.write_text("currency: EUR\ngpu_hour: 3.6\nkwh: 0.24\ngrid_g_per_kwh: 300\npue: 1.5\n")

    assert read_prices(path) == WHOLE
    assert str(WHOLE) == "3.6 EUR per GPU-hour, 0.24 EUR per kWh, 300 gCO2e per kWh, PUE 1.5"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("gpu_hours: 2", "did you mean 'gpu_hour'?"),
        ("gpu_hour: -1", "gpu_hour: must be at least 0, got -1"),
        ("kwh: .nan", "kwh"),
        ("kwh: .inf", "kwh"),
        ("pue: 0.9", "pue: must be at least 1, got 0.9"),
        ("pue: null", "pue: must be a number"),
        ("kwh: '0.3'", "without quotes"),
        ("currency: ''", "currency: must be a name such as EUR"),
        ("currency: two words", "currency: must be a name such as EUR"),
        ("electricity_included: true\nkwh: 0.3\ngpu_hour: 1", "count it again"),
        ("- 1", "not a mapping"),
        ("", "is empty"),
    ],
)
def test_wrong_inputs_are_refused(tmp_path, text, told):
    """With the file's name and what would be right; nothing is taken for 0."""
    path = tmp_path / "prices.yaml"
    path.write_text(text + "\n")
    with pytest.raises(ConfigError) as caught:
        read_prices(path)

    assert told in str(caught.value)
    assert "prices.yaml" in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_missing_file_is_told(tmp_path):
    """As every file of the user's."""
    with pytest.raises(ConfigError, match="no such file"):
        read_prices(tmp_path / "none.yaml")


@pytest.mark.parametrize("given", [{"gpu_hour": -1.0}, {"pue": float("nan")}, {"kwh": float("inf")}, {"pue": 0.0}])
def test_wrong_inputs_in_python_are_refused(given):
    """By the class itself."""
    with pytest.raises(ValueError, match="must be"):
        Prices(**given)


# they are never stored, and stand where other metrics stand


def test_no_result_stores_them(store):
    """Computed again, a Result has those of the catalogue and no others."""
    assert set(recompute(store, "exp-one").metrics) == set(METRICS)
    assert not set(PRICED) & set(METRICS)
    assert set(PRICED) <= set(Results.open(store, WHOLE)["exp-one"].metrics)
    assert not set(PRICED) & set(store.read_result("exp-one").metrics)


@pytest.mark.parametrize("name", PRICED)
def test_rows_are_rows_of_the_catalogue(name):
    """Less is better; their parts are metrics that single trials have."""
    assert lower_is_better(name)
    assert metric_of(name).name == name
    assert metric_of(name).group == "cost"
    assert metric_of(name).doc.endswith(".")
    assert {PARTS[name].rate, PARTS[name].energy} <= set(METRICS)


def test_a_misspelt_name_finds_them():
    """As it finds every other metric."""
    with pytest.raises(StoreError, match="did you mean 'cost_per_request'"):
        metric_of("cost_per_requests")


ASKS = {
    "best": lambda results: results.best(COST),
    "ties": lambda results: results.ties(COST),
    "pareto": lambda results: results.pareto(COST, "output_tokens_per_s"),
    "by_axis": lambda results: results.by_axis("dtype", [COST]),
    "by_pair": lambda results: results.by_pair("dtype", [COST]),
    "compare": lambda results: results.compare("00", "01", [COST]),
    "overviews": lambda results: results.overviews([COST]),
    "metric_of": lambda results: results.metric_of(COST),
}


@pytest.fixture
def priced_grid(grid_store, make):
    """Two dtypes on two batches; bfloat16 takes half the energy and is as fast."""

    def energy(point):
        return {"energy": 4.0 if point["dtype"] == "float16" else 2.0, "basis": {"scope": "gpu", "kind": "measured"}}

    made = grid_store({"dtype": ["float16", "bfloat16"], "load.batch_size": [1, 8]}, energy)
    for name in made.result_ids():
        made.write_engine(name, make.engine_document())
    return made


@pytest.mark.parametrize("ask", ASKS.values(), ids=ASKS)
def test_without_prices_they_are_refused_with_the_option(priced_grid, ask):
    """Wherever a metric may be named."""
    with pytest.raises(StoreError) as caught:
        ask(Results.open(priced_grid))

    assert caught.value.code == "no_prices"
    assert "--prices FILE" in caught.value.hint


@pytest.mark.parametrize(
    ("given", "name", "missing"),
    [
        ({"gpu_hour": 1.0}, COST, "kwh"),
        ({"kwh": 1.0}, COST, "gpu_hour or machine_hour"),
        ({"gpu_hour": 1.0, "kwh": 1.0}, EMITTED, "grid_g_per_kwh"),
    ],
)
def test_a_missing_input_is_named_where_its_metric_is_asked_for(priced_grid, given, name, missing):
    """Rather than that no result has it."""
    with pytest.raises(StoreError, match=missing) as caught:
        Results.open(priced_grid, Prices(**given)).best(name)

    assert caught.value.code == "no_prices"


def test_a_cost_that_no_result_has_says_why(priced_grid):
    """A machine's price says nothing of what its GPUs cost."""
    with pytest.raises(StoreError, match=f"no valid result has {COST}") as caught:
        Results.open(priced_grid, Prices(machine_hour=1.0, kwh=1.0)).best(COST)

    assert "`gpu_hour`" in caught.value.hint


def test_the_best_and_the_front_are_ranked_by_cost(priced_grid):
    """Of equally fast ones, the one with less energy; results that a question gives keep their prices."""
    results = Results.open(priced_grid).with_prices(WHOLE)
    best, front = results.best(COST), results.pareto(COST, "output_tokens_per_s")

    assert best.config == results[best.id].config
    assert best.metrics[COST].value == pytest.approx(0.001 / 100 * 1e6 + 2e-7 * 1e6)
    assert front.prices == results.ties(COST).prices == WHOLE
    assert all(COST in one.metrics for one in front.values())
    assert Results.open(priced_grid).prices is None


def test_effects_of_an_axis(priced_grid):
    """Emissions fall by half, the cost by what electricity is of it; p-values of other metrics stay as they were."""
    plain = {(one.metric, one.value): one for one in Results.open(priced_grid).by_axis("dtype")}
    found = {(one.metric, one.value): one for one in Results.open(priced_grid, WHOLE).by_axis("dtype")}

    assert found[EMITTED, "bfloat16"].ratio == pytest.approx(0.5)
    assert found[COST, "bfloat16"].ratio == pytest.approx(10.2 / 10.4)
    assert [str(one) for one in found[COST, "bfloat16"].bases] == ["gpu, measured"]
    assert {key: one for key, one in found.items() if key in plain} == plain


def test_costs_of_energies_of_two_kinds_are_not_compared(grid_store, make):
    """Unless the energy is not in them."""

    def energy(point):
        return {"energy": 4.0, "basis": {"scope": "gpu", "kind": point["dtype"]}}

    made = grid_store({"dtype": ["measured", "modelled"]}, energy)
    for name in made.result_ids():
        made.write_engine(name, make.engine_document())

    with pytest.raises(StoreError) as caught:
        Results.open(made, WHOLE).best(COST)
    assert caught.value.code == "energies_differ"
    rented = Results.open(made, Prices(gpu_hour=3.6, electricity_included=True))
    assert rented.best(COST).metrics[COST].value == pytest.approx(10.0)


def test_two_experiments_are_compared_by_cost(store, make):
    """From their trials, in the currency; by default a million output tokens, in money and in emissions."""
    make.fill(store, "two")
    by_name = {one.metric: one for one in Results.open(store, WHOLE).compare("exp", "two")}
    [rented] = Results.open(store, Prices(gpu_hour=3.6, electricity_included=True)).compare("exp", "two", [COST])

    assert by_name[COST].unit == "EUR"
    assert by_name[COST].a == pytest.approx(20.703125)
    assert by_name[EMITTED].unit == "gCO2e"
    assert "cost_per_request" not in by_name
    assert str(by_name[COST].basis) == "gpu, measured"
    assert rented.basis is None
    assert rented.a == pytest.approx(19.53125)


def test_a_side_says_why_it_lacks_a_cost(store):
    """In the words of the reason."""
    side = read_side(store, "exp-one", [COST, EMITTED], Prices(gpu_hour=2.5))

    assert side.values == {}
    assert side.lacking[COST] == REASONS["no_price"].rstrip(".")
    assert side.lacking[EMITTED] == "The carbon intensity of the grid was not given"


def test_columns_have_amounts_and_inputs(store):
    """Each amount like any metric; each input that was given, and the number of GPUs."""
    columns = Results.open(store, WHOLE).columns()
    plain = Results.open(store).columns()

    assert columns[COST] == pytest.approx([20.703125])
    assert columns[f"{COST}_kind"] == ["measured"]
    assert {name: column for name, column in columns.items() if name.startswith("prices_")} == {
        "prices_gpus": [1], "prices_currency": ["EUR"], "prices_gpu_hour": [3.6], "prices_kwh": [0.24],
        "prices_grid_g_per_kwh": [300.0], "prices_pue": [1.5], "prices_electricity_included": [False],
    }  # fmt: skip
    assert {name: column for name, column in columns.items() if name in plain} == plain
    assert not [name for name in plain if name.startswith(("cost", "gco2e", "prices"))]


def test_amounts_without_inputs_have_no_column(store):
    """Nobody who gives prices alone looks for emissions; `everything` has them, with the reason."""
    prices = Prices(gpu_hour=2.5, kwh=0.3)

    assert not [name for name in Results.open(store, prices).columns() if name.startswith("gco2e")]
    assert Results.open(store, prices).columns(everything=True)["gco2e_per_request_reason"] == ["no_grid"]


def test_results_are_loaded_with_prices(store, tmp_path):
    """Of the class, or of a file."""
    path = tmp_path / "prices.yaml"
    path.write_text("gpu_hour: 3.6\nelectricity_included: true\n")

    assert llem.load_results(store.path, path)["exp-one"].metrics[COST].value == pytest.approx(19.53125)
    given = llem.load_results(store.path, prices=llem.Prices(grid_g_per_kwh=300.0, pue=1.5))
    assert given["exp-one"].metrics[EMITTED].value == pytest.approx(1464.84375)
    assert llem.read_prices(path) == llem.Prices(gpu_hour=3.6, electricity_included=True)


def test_an_unknown_metric_is_no_matter_of_prices():
    """The catalogue says so."""
    require_prices(["energy_per_output_token_j"], None)
    with pytest.raises(StoreError, match="no metric 'cost_per_smile'"):
        lower_is_better("cost_per_smile")
