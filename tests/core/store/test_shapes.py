"""What readers take for granted of a document: what is of another type is refused, and named."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llem.analysis.overview import overviews
from llem.config.converter import unstructure
from llem.config.models import ClosedLoad, CommandLoad, Experiment, OpenLoad, ReplayLoad
from llem.errors import StoreError
from llem.metrics.result import recompute
from llem.store.files import to_text
from llem.store.manifest import is_plain
from llem.store.shapes import RESULT, Maybe, fault
from llem.store.store import Store

#: One of each type of JSON, and half of a character.
VALUES = (7, 0.5, "x", True, None, [3], {"a": 1}, "\ud800")
#: What is each plugin's own, or evidence of any kind.
FREE = ("effective", "evidence", "options", "workload", "quality")


def places(value: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path to every value; of metrics, to those of the first two, and nothing below what is free."""
    keys = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in list(keys)[: 2 if above == ("metrics",) else None]:
        yield (*above, key)
        if key not in FREE:
            yield from places(value[key], (*above, key))


def others(old: Any) -> Iterator[Any]:
    """Values that are of no type that could stand in the place of this one."""
    for new in VALUES:
        if type(new) is type(old) and new != "\ud800":
            continue
        if isinstance(new, int) and isinstance(old, float) and not isinstance(new, bool):  # 7 is a number, too
            continue
        if old is None or (new is None and not isinstance(old, (bool, list))):  # many values may be missing
            continue
        yield new


def refusal(store: Store) -> str:
    """The code of the error with which the result is refused; empty where it is read."""
    try:
        store.read_any_result("exp-one")
    except StoreError as error:
        return error.code if "result.json: " in error.message else error.message
    return ""


@pytest.fixture
def path(store: Store) -> Path:
    """A stored result whose configuration has every setting."""
    document = store.read_experiment("exp-one")
    whole = {
        **unstructure(Experiment(backend="pytorch")),
        **document["config"],
        "preset": "quick",
        "load": unstructure(ClosedLoad()),
    }
    store.write_experiment("exp-one", {**document, "config": whole}, replace=True)
    store.write_result(recompute(store, "exp-one"), replace=True)
    return store.folder("exp-one") / "result.json"


def test_every_value_of_another_type_is_refused(store: Store, path: Path) -> None:
    """Of a result, by whoever reads all of it: one message that names the file, before anything is made of it."""
    whole = json.loads(path.read_text())
    assert store.read_any_result("exp-one") is not None
    tried = 0
    for place in places(whole):
        if place[0] in ("digest", "schema_version"):
            continue
        document = copy.deepcopy(whole)
        above: Any = document
        for key in place[:-1]:
            above = above[key]
        for new in others(above[place[-1]]):
            above[place[-1]] = new
            path.write_text(json.dumps(document))
            assert refusal(store) == "store_corrupt", (place, new)
            tried += 1
    assert tried > 500


@pytest.mark.parametrize("new", ["x", True, None, [3], {"a": 1}])
@pytest.mark.parametrize(
    "place",
    [
        ("trials",),
        ("metrics",),
        ("metrics", "energy_j"),
        ("metrics", "energy_j", "n"),
        ("findings", 0, "code"),
        ("config", "load", "concurrency"),
    ],
)
def test_a_listing_refuses_what_it_would_show(store: Store, path: Path, place: tuple[Any, ...], new: Any) -> None:
    """It reads a few parts of each result, and these as strictly."""
    document = json.loads(path.read_text())
    above: Any = document
    for key in place[:-1]:
        above = above[key]
    if type(above[place[-1]]) is type(new):
        return
    assert len(list(overviews(store, ["exp-one"], ("energy_j",)))) == 1
    above[place[-1]] = new
    path.write_text(to_text(document))
    with pytest.raises(StoreError, match=r"result\.json: ") as caught:
        list(overviews(store, ["exp-one"], ("energy_j",)))
    assert caught.value.code == "store_corrupt"


def test_a_listing_refuses_halves_of_characters(store: Store, path: Path) -> None:
    """They have no UTF-8, and end whoever prints them."""
    document = json.loads(path.read_text())
    text = to_text({**document, "config": {**document["config"], "dtype": "half"}})
    path.write_text(text.replace('"half"', '"\\ud800"'))
    with pytest.raises(StoreError, match="not JSON"):
        list(overviews(store, ["exp-one"], ("energy_j",)))


LOADS = [ClosedLoad(), OpenLoad(request_rate=2.0), OpenLoad(request_rate="max"), ReplayLoad(), CommandLoad(argv=("a",))]


@pytest.mark.parametrize("load", LOADS, ids=lambda load: load.kind)
def test_what_llem_writes_has_the_shape(load: Any) -> None:
    """The settings of every kind of load; and those of an older llem, which lack some."""
    config = unstructure(Experiment(backend="echo", load=load, gpus=("GPU-1", 0), meters=("nvml",)))
    assert fault({"config": config}, RESULT) is None
    assert fault({"config": {"backend": "echo", "load": {"kind": load.kind}}}, RESULT) is None


@pytest.mark.parametrize("load", LOADS, ids=lambda load: load.kind)
def test_every_setting_of_a_load_is_held_to_its_type(load: Any) -> None:
    """Whichever kind of load has it."""
    for key in unstructure(load):
        found = fault({"config": {"backend": "echo", "load": {"kind": load.kind, key: [[]]}}}, RESULT)
        assert found is not None, key
        assert found.startswith(f"`config.load.{key}")


def test_a_section_of_quality_names_its_tasks() -> None:
    """Whoever looks for scores takes that for granted."""
    assert fault({"config": {"quality": {"evaluator": "exam", "tasks": ["sums"]}}}, RESULT) is None
    assert fault({"config": {"quality": {"evaluator": "exam"}}}, RESULT) == "`config.quality.tasks` is missing"


def test_what_is_no_file_is_damage_of_its_experiment(store: Store, path: Path) -> None:
    """A folder, or a link in a ring, is no fault of the machine: others are read without it."""
    path.unlink()
    path.mkdir()
    ring = store.folder("exp-one") / "trial-0.json"
    ring.unlink()
    ring.symlink_to(ring.name)
    for read, told in ((store.read_any_result, "is a folder"), (store.trials, "is no regular file")):
        with pytest.raises(StoreError, match=told) as caught:
            read("exp-one")
        assert caught.value.code == "store_corrupt"


def test_a_name_of_no_utf8_cannot_be_bundled() -> None:
    """Nor be written into a list of checksums."""
    assert is_plain("experiments/a/engine-0.json")
    assert not is_plain("experiments/a/\udcff.json")


@pytest.mark.parametrize(
    ("value", "shape", "told"),
    [
        (True, int, "`a` must be an integer, got true"),
        (False, int | float, "`a` must be an integer or a number, got false"),
        (True, bool, None),
        (True, object, None),
        ([1, True], [int], "`a[1]` must be an integer, got true"),
        (1, bool, "`a` must be true or false, got the number 1"),
        (None, Maybe(str), None),
        (None, Maybe(str, null=False), "`a` must be text, got null"),
    ],
)
def test_true_and_false_are_no_numbers(value: Any, shape: Any, told: str | None) -> None:
    """Python would count with them."""
    assert fault({"a": value}, {"a": shape}) == told
    assert fault({}, {"a": Maybe(shape)}) is None
