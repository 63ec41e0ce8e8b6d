"""A number has one name in a store: what only looks like one is told, and never read or counted."""

from __future__ import annotations

from typing import Any

import pytest

from llem.errors import StoreError
from llem.metrics.verify import verify
from llem.store.names import following, is_odd
from llem.store.store import Store

ODD = "llem writes no such name"


def told_odd(store: Store) -> list[str]:
    return [one.file for one in verify(store) if one.what.startswith(ODD)]


@pytest.mark.parametrize("number", ["01", "\u0661", "+1", "1_0", "1 ", "1000000000"])
def test_a_trial_has_one_name(store: Store, number: str) -> None:
    """A copy under another spelling of its number is no further trial."""
    folder, before = store.folder("exp-one"), store.trials("exp-one")
    for ending in (".json", ".power.csv.gz", ".requests.csv.gz"):
        (folder / f"trial-{number}{ending}").write_bytes((folder / f"trial-1{ending}").read_bytes())

    assert store.trials("exp-one") == before
    assert told_odd(store) == [
        f"experiments/exp-one/trial-{number}{ending}" for ending in (".json", ".power.csv.gz", ".requests.csv.gz")
    ]


@pytest.mark.parametrize("name", ["engine-00.json", "outcome-٠.json", "baseline-00-before.json", "Trial-0.json"])
def test_so_has_an_engine_process(store: Store, name: str) -> None:
    """Of any kind of document."""
    (store.folder("exp-one") / name).write_text("{}")

    assert store.next_process("exp-one") == 1
    assert told_odd(store) == [f"experiments/exp-one/{name}"]


@pytest.mark.parametrize("name", ["9" * 10, "9" * 250, "007", "٣", "²"])
def test_a_folder_that_is_no_worker_gives_no_number(store: Store, name: str) -> None:
    """The next worker is sent a number that it can read."""
    (store.path / "workers" / name).mkdir(parents=True)

    assert store.next_worker() == 0
    assert told_odd(store) == [f"workers/{name}"]


def test_no_number_is_given_that_has_no_name(store: Store) -> None:
    """The last one that has is told."""
    store.worker_dir(999_999_999)
    with pytest.raises(StoreError, match="no number is left"):
        store.next_worker()
    assert following([], "here") == 0


def test_what_llem_writes_is_not_odd(store: Store, make: Any) -> None:
    """Nor is what others put beside it."""
    assert [name for path in store.path.rglob("*") if is_odd(name := path.relative_to(store.path).as_posix())] == []
    assert not is_odd("experiments/x/notes-1.txt")
    assert not is_odd("trial-01.json")
