"""A store that lost any key of any document is told to be damaged, or read without it; never with a traceback."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

RUN = (
    *("run", "-b", "echo", "--preset=quick", "--set=device=cpu", "--set=window_s=0.2", "--set=warmup.seconds=0"),
    *("--set=baseline.seconds=0.2", "--set=baseline.discard_seconds=0", "--set=workload.output_tokens=8"),
    *("--set=echo.token_seconds=0.001", "--set=meters=[steady]", "-o", "out", "--launcher=inline"),
)
#: Which documents a command reads in the store of an experiment that is done.
READS = {
    ("show", "out"): ("study", "result"),
    ("verify", "out"): ("baseline", "engine", "experiment", "outcome", "result", "trial"),
    (*RUN, "--resume"): ("study", "experiment", "outcome", "result", "trial"),
}
#: Sections whose entries are all of one kind, in which the first two stand for all.
ALIKE = ("metrics", "sources")


def paths(value: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path to every key of a document; of entries that are alike, to some."""
    if isinstance(value, dict):
        for key in list(value)[: 2 if above and above[-1] in ALIKE else None]:
            yield (*above, key)
            yield from paths(value[key], (*above, key))
    elif isinstance(value, list) and value:
        yield from paths(value[0], (*above, 0))


def without(document: Any, path: tuple[Any, ...]) -> Any:
    """A copy that lacks what stands at a path."""
    made = copy.deepcopy(document)
    inner = made
    for step in path[:-1]:
        inner = inner[step]
    del inner[path[-1]]
    return made


@pytest.fixture
def store(run_llem, isolated_llem, lab) -> Path:
    """The results of one experiment with energies and baselines."""
    assert run_llem(*RUN).exit_code == 0
    return isolated_llem.folder / "out"


def kept(store: Path) -> Callable[[], None]:
    """What brings the store back to what it is now."""
    copied = store.with_name("kept")
    shutil.copytree(store, copied)

    def back() -> None:
        shutil.rmtree(store)
        shutil.copytree(copied, store)

    return back


@pytest.mark.process
@pytest.mark.timeout(600)  # some 700 commands
def test_a_missing_key_is_a_message(store: Path, run_llem) -> None:
    """Each key of each document that a command reads, one at a time; where it fails it names the document, or what of
    the configuration is not as it was."""
    back, tried = kept(store), 0
    for command, names in READS.items():
        for file in sorted(file for name in names for file in store.rglob(f"{name}*.json")):
            whole = json.loads(file.read_text(encoding="utf-8"))
            for path in paths(whole):
                file.write_text(json.dumps(without(whole, path)), encoding="utf-8")
                done = run_llem(*command)
                about = f"{command[0]}, {file.name} without {path}: {done.stderr}"
                assert done.exit_code in (0, 1, 2), about
                assert "Traceback" not in done.stderr, about
                assert done.exit_code != 2 or file.name in done.stderr or "not the study of out" in done.stderr, about
                back()
                tried += 1
    assert tried > 300


@pytest.mark.usefixtures("own_signals")
@pytest.mark.parametrize("text", ["", "[]", "{}", '{"store": 3}', "\xff"])
def test_a_malformed_order_is_a_message(run_llem, isolated_llem, text: str) -> None:
    """What a launcher wrote, and somebody damaged."""
    order = isolated_llem.folder / "order.json"
    order.write_text(text, encoding="latin-1")
    done = run_llem("worker", order)

    assert done.exit_code == 2
    assert f"{order}: not " in done.stderr
    assert "Traceback" not in done.stderr
