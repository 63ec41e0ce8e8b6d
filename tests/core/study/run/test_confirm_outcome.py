"""What comes of a confirmation, from stores made by hand: costs at the prices that were stated, results not valid."""

from __future__ import annotations

import pytest

from llem.analysis.decision import Estimated
from llem.analysis.limits import Limit
from llem.analysis.prices import Prices
from llem.analysis.statement import Statement
from llem.errors import ConfigError
from llem.metrics.metric import Basis
from llem.study.run.confirm import outcome, read_statement, refuse_other, write_statement

COST = "cost_per_million_output_tokens"
PRICES = Prices(currency="EUR", gpu_hour=2.0, kwh=0.3, pue=1.5)
ANY = Estimated(1.0, 0.0, 1e9)


@pytest.fixture
def store(store):
    """With the environment that its engines name."""
    host = {"cpu": None, "threads": 2, "memory_bytes": 8_000_000_000}
    made = store.path / "environments" / f"{store.write_environment({'host': host})}.json"
    (made.parent / "abc.json").write_bytes(made.read_bytes())
    return store


def statement(name="exp-one", metric=COST, prices=PRICES, **more):
    given = {"basis": Basis("gpu", "measured"), "prices": prices, **more}
    return Statement(metric, "EUR", True, 1, (name,), (ANY,), **given)


def test_a_cost_is_measured_again_at_the_stated_prices(store):
    """By hand, of the result: 2 EUR an hour over the tokens of an hour, and the electricity of a token."""
    metrics = store.read_result("exp-one").metrics
    rate, energy = metrics["output_tokens_per_s"].value, metrics["energy_per_output_token_j"].value
    euros = (2.0 / 3600 / rate + energy / 3.6e6 * 1.5 * 0.3) * 1e6
    limits = (Limit(f"{COST}<1", COST, True, 1.0), Limit(f"{COST}<1000", COST, True, 1000.0))

    found = outcome(store, statement(limits=limits))
    assert found.configurations[0].measured == pytest.approx(euros)
    assert found.limits[0].found == pytest.approx(euros)
    assert [one.kept for one in found.limits] == [False, True]


def test_the_prices_are_stored_with_the_statement(store, tmp_path):
    """A confirmation that goes on at other prices is another one."""
    from llem.store.store import Store

    empty = Store.create(tmp_path / "again", {"name": "again"})
    write_statement(empty, statement())
    before = read_statement(empty.path)
    assert before == statement()
    with pytest.raises(ConfigError, match="prices"):
        refuse_other(empty.path, before, statement(prices=Prices(currency="EUR", gpu_hour=3.0, kwh=0.3)))


def test_a_result_that_is_not_valid_confirms_nothing(make, store):
    """More watts than the board can take: its figures are inside of everything, and mean nothing."""
    make.fill(store, "hot", power=1.5)
    found = outcome(store, statement("hot", "power_w", None))

    assert found.confirmed is None
    assert found.configurations[0].measured is None
    assert "not valid: energy_suspect" in found.configurations[0].why
