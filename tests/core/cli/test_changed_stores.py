"""Stores that somebody changed: `llem verify` finds it, and every command ends with a message.

`benchmarks/fuzz_stores.py` changes thousands of them at random.
"""

from __future__ import annotations

import gzip
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from llem.store.files import DIGEST, to_text, write_json
from llem.store.journal import JOURNALED

pytestmark = [pytest.mark.process, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def fuzz(benchmark_script: Callable[[str], ModuleType]) -> ModuleType:
    """The script as a module."""
    return benchmark_script("fuzz_stores")


@pytest.fixture(scope="module")
def bases(fuzz: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """Both stores of the script, with its plugin installed."""
    folder = tmp_path_factory.mktemp("stores")
    with fuzz.lab(folder):
        yield fuzz.measured(folder)


def test_what_is_changed_at_random_is_found(fuzz: ModuleType, bases: dict[str, Any], tmp_path: Path) -> None:
    """Every change of meaning; no command ends with a traceback or takes long."""
    rows, wrong = fuzz.rounds(list(bases.values()), 60, 7, tmp_path, others=1)

    assert wrong == []
    assert set(rows) == set(fuzz.MUTATIONS)
    assert sum(row.meaning for row in rows.values()) > 40


def test_a_store_of_an_older_llem_ends_no_command_badly(
    fuzz: ModuleType, bases: dict[str, Any], tmp_path: Path
) -> None:
    """Not all that is changed is found, because it has no journals; no command ends with a traceback, or hides more."""
    rows, wrong = fuzz.rounds([fuzz.older(tmp_path / "older")], 36, 5, tmp_path, others=1)

    assert wrong == []
    assert sum(row.found for row in rows.values()) > 20


def test_who_writes_the_journal_anew_is_not_found_by_it(
    fuzz: ModuleType, bases: dict[str, Any], tmp_path: Path
) -> None:
    """As the documentation says: a text that nothing is computed from, its digest and its line in the journal."""
    base, store = bases["offline"], tmp_path / "out"
    shutil.copytree(base.path, store)
    name = "study.json"
    fuzz.rewrite(store / name, lambda data: data.update(name="another"))
    assert fuzz.on(base, store, fuzz.VERIFY).code == 1
    (store / name).write_text(to_text(json.loads((store / name).read_text())))
    fuzz.fit_journals(store, name)

    assert fuzz.on(base, store, fuzz.VERIFY).code == 0


def rows(path: Path, pattern: str, replacement: str) -> None:
    """Change compressed rows, and compress them again."""
    text = gzip.decompress(path.read_bytes()).decode()
    changed = re.sub(pattern, replacement, text, count=1)
    assert changed != text
    path.write_bytes(gzip.compress(changed.encode()))


def exchanged(store: Path, one: Path, other: Path) -> None:
    one.rename(store / "aside")
    other.rename(one)
    (store / "aside").rename(other)


def without_trial(store: Path, one: Path, other: Path) -> None:
    for path in (*one.glob("trial-1.*"), one / "result.json"):
        path.unlink()


def renamed_environment(store: Path, one: Path, other: Path) -> None:
    [path] = store.glob("environments/*.json")
    path.rename(path.with_name(f"{'0' * 16}.json"))


#: What was done to a store, given its folder and those of two experiments.
CHANGES: dict[str, Callable[[Path, Path, Path], Any]] = {
    "experiments exchanged": exchanged,
    "experiment under another id": lambda store, one, other: shutil.copytree(one, one.with_name("0" * 16)),
    "experiment renamed": lambda store, one, other: one.rename(one.with_name("0" * 16)),
    "experiment deleted": lambda store, one, other: shutil.rmtree(one),
    "trial deleted with its result": without_trial,
    "result deleted": lambda store, one, other: (one / "result.json").unlink(),
    "environments deleted": lambda store, one, other: shutil.rmtree(store / "environments"),
    "environment renamed": renamed_environment,
    "nan in a trace": lambda store, one, other: rows(one / "trial-0.power.csv.gz", r"[^,\n]+\n$", "nan\n"),
    "1e999 in a trace": lambda store, one, other: rows(one / "trial-0.power.csv.gz", r"[^,\n]+\n$", "1e999\n"),
    "time of a request": lambda store, one, other: rows(
        one / "trial-0.requests.csv.gz", r"\n(\d+,\d+,\d+,\d+,\d+,)(\d+)(\d{9}),", r"\n\g<1>\g<2>000000000,"
    ),
}


def as_an_older_llem_wrote_it(store: Path) -> None:
    """Without journals, and without the word that there are some."""
    for path in (*store.glob("journal.sha256"), *store.glob("workers/*/journal.sha256")):
        path.unlink()
    study = json.loads((store / "study.json").read_text())
    kept = {key: value for key, value in study.items() if key not in (DIGEST, JOURNALED)}
    write_json(store / "study.json", kept, replace=True)


@pytest.mark.parametrize("journals", [True, False], ids=["journals", "older"])
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("kind", ["offline", "serving"])
def test_each_way_is_found(
    fuzz: ModuleType, bases: dict[str, Any], tmp_path: Path, kind: str, change: str, journals: bool
) -> None:
    """With journals and, by places, logs and numbers, also in a store that has none."""
    base, store = bases[kind], tmp_path / "out"
    shutil.copytree(base.path, store)
    if not journals:
        as_an_older_llem_wrote_it(store)
    assert fuzz.on(base, store, fuzz.VERIFY).code == 0
    CHANGES[change](store, *(store / "experiments" / name for name in base.ids))

    done = fuzz.on(base, store, fuzz.VERIFY)
    assert (done.code, done.err) == (1, "")
    for words in fuzz.STATING:
        assert fuzz.on(base, store, words).code in (0, 1, 2)


def test_exchanged_experiments_are_not_compared(fuzz: ModuleType, bases: dict[str, Any], tmp_path: Path) -> None:
    """A ratio would be upside down."""
    base, store = bases["offline"], tmp_path / "out"
    shutil.copytree(base.path, store)
    exchanged(store, *(store / "experiments" / name for name in base.ids))
    done = fuzz.on(base, store, ("compare", "STORE", "A", "B", "--json"))

    assert (done.code, done.out) == (2, "")
    assert "lies in the place of" in done.err


#: In the place of a result.
POISONS = ["[" * 5000, '{"schema_version": 5, "id": 1e999}', "\x00", "{}"]
#: What stands for `*`: commands read no metrics that they do not show.
READ = ("energy_per_output_token_j", "output_tokens_per_s")
#: Values in the place of what a result says, by its path: a number for a text, half of a character, and others.
TYPES: list[tuple[str, Any]] = [
    ("config.dtype", 7),
    ("config.model", "\ud800"),
    ("config.load", [3]),
    ("config.load.kind", None),
    ("metrics.*.value", "1"),
    ("metrics.*.n", True),
    ("findings.0.code", {"a": 1}),
]


def poisoned(path: Path, poison: str | tuple[str, Any]) -> None:
    """Write a result that cannot be read."""
    if isinstance(poison, str):
        path.write_text(poison)
        return
    keys, value = poison
    document = json.loads(path.read_text())
    for name in READ:
        *above, last = [int(key) if key.isdecimal() else key for key in keys.replace("*", name).split(".")]
        inner = document
        for key in above:
            inner = inner[key]
        inner[last] = value
    path.write_text(json.dumps(document, sort_keys=True, indent=2) + "\n")


@pytest.mark.parametrize(
    "words",
    [
        ("show", "STORE"),
        ("show", "STORE", "--json"),
        ("export", "STORE"),
        ("show", "STORE", "--quality"),
        ("export", "STORE", "--format", "leaderboard"),
        ("export", "STORE", "--format", "eee", "-o", "STORE-eee"),
        ("export", "STORE", "--format", "hf", "-o", "STORE-hf"),
        ("recommend", "STORE", "--maximise", "speed"),
        ("report", "STORE", "-o", "STORE.html"),
    ],
)
@pytest.mark.parametrize("poison", [*POISONS, *TYPES], ids=lambda poison: str(poison)[:20])
def test_one_unreadable_result_hides_no_other(
    fuzz: ModuleType, bases: dict[str, Any], tmp_path: Path, words: tuple[str, ...], poison: str | tuple[str, Any]
) -> None:
    """The others are told of; a warning, or the page, names the one that is left out."""
    base, store = bases["offline"], tmp_path / "out"
    shutil.copytree(base.path, store)
    poisoned(store / "experiments" / base.ids[0] / "result.json", poison)
    done = fuzz.on(base, store, words)

    told = done.out + done.err + (store.with_name("out.html").read_text() if words[0] == "report" else "")
    told += "".join(path.read_text() for path in store.parent.glob("out-*/**/*") if path.is_file())
    assert (done.code, "Traceback" in done.err) == (0, False), done.err
    assert all(name[:8] in told for name in base.ids)
    assert "result.json" in told


@pytest.mark.parametrize("poison", POISONS[2:])
def test_verify_names_what_is_poisoned_alone(
    fuzz: ModuleType, bases: dict[str, Any], tmp_path: Path, poison: str
) -> None:
    """And nothing of the other experiment."""
    base, store = bases["serving"], tmp_path / "out"
    shutil.copytree(base.path, store)
    poisoned(store / "experiments" / base.ids[0] / "result.json", poison)
    done = fuzz.on(base, store, fuzz.VERIFY)

    assert (done.code, done.err) == (1, "")
    assert f"experiments/{base.ids[0]}/result.json" in done.out
    assert f"{base.ids[1]}/" not in done.out


def test_a_study_goes_on_around_poison(fuzz: ModuleType, bases: dict[str, Any], tmp_path: Path) -> None:
    """It is shown and verified; the other experiment is measured; `run` ends with what is wrong and what to do, which
    then works."""
    base, store = bases["offline"], tmp_path / "out"
    shutil.copytree(base.path, store)
    one, other = (store / "experiments" / name for name in base.ids)
    trial = json.loads((one / "trial-0.json").read_text())
    (one / "trial-0.json").write_text(json.dumps({**trial, "output_tokens": 10**30}))
    for path in (*other.glob("trial-1.*"), other / "result.json"):
        path.unlink()
    shown = fuzz.on(base, store, ("show", "STORE"))
    assert shown.code == 0
    assert all(name[:8] in shown.out for name in base.ids)
    verified = fuzz.on(base, store, fuzz.VERIFY)
    assert (verified.code, verified.err) == (1, "")
    for file in ("trial-1.json: missing", "result.json: missing"):
        assert f"experiments/{base.ids[1]}/{file}" in verified.out
    assert f"experiments/{base.ids[0]}/trial-0.json: changed" in verified.out
    words = ("run", str(base.study), "-o", "STORE", "--resume", "--launcher", "inline", "-q")
    done = fuzz.on(base, store, words, fuzz.MEASURING_S)

    assert done.code == 2
    assert "trial-0.json" in done.err
    assert (other / "trial-1.json").exists()
    assert json.loads((other / "result.json").read_text())["outcome"] == "done"

    (one / "trial-0.json").unlink()
    assert fuzz.on(base, store, words, fuzz.MEASURING_S).code in (0, 1)
    assert fuzz.on(base, store, fuzz.VERIFY).code == 0


def test_an_order_that_is_none_is_a_message(fuzz: ModuleType, bases: dict[str, Any], tmp_path: Path) -> None:
    """Whether trials took turns at random decides how they are compared."""
    base, store = bases["offline"], tmp_path / "out"
    shutil.copytree(base.path, store)
    fuzz.rewrite(store / "study.json", lambda data: data.update(order=-1e300))
    for words in fuzz.STATING:
        done = fuzz.on(base, store, words)
        assert done.code == 2
        assert "`order` must be" in done.err


@pytest.mark.parametrize("poison", ["", "[]", '{"schema_version": 5, "order": 3}'])
def test_a_study_that_cannot_be_read_hides_nothing_from_verify(
    fuzz: ModuleType, bases: dict[str, Any], tmp_path: Path, poison: str
) -> None:
    """It is named, and so is what else is changed."""
    base, store = bases["offline"], tmp_path / "out"
    shutil.copytree(base.path, store)
    (store / "study.json").write_text(poison)
    (store / "experiments" / base.ids[1] / "trial-0.json").unlink()
    done = fuzz.on(base, store, fuzz.VERIFY)

    assert (done.code, done.err) == (1, "")
    assert "study.json: changed" in done.out
    assert f"experiments/{base.ids[1]}/trial-0.json: missing" in done.out
    assert "trials recomputed" in done.out
