"""Stores and bundles from others: files that are none, bombs, names with commands, and few files that may be open."""

from __future__ import annotations

import gzip
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from llem.cli import cli
from llem.cli.completion import prepare
from llem.store.files import DIGEST, write_json

SET = "meters=[] window_s=0.2 warmup.seconds=0 baseline.seconds=0 workload.output_tokens=8 echo.token_seconds=0.001"
RUN = ("run", "-b", "echo", "--preset=quick", *(f"--set={one}" for one in ("device=cpu", *SET.split())), "-o", "out")
HOSTILE = "a\x1b[2J\x1b]0;owned\x07\x9b31m\u202eb\x7f"
COMMANDS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]")
COLOURS = re.compile(r"\x1b\[[0-9;]*m")

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of one experiment; only to copy."""
    folder = tmp_path_factory.mktemp("made")
    arguments = [*RUN[:-1], str(folder / "out"), "--launcher=inline"]
    assert CliRunner().invoke(cli, arguments).exit_code == 0
    return folder / "out"


@pytest.fixture
def store(made: Path, isolated_llem: Any) -> Path:
    """A copy of it, in the working folder."""
    return Path(shutil.copytree(made, isolated_llem.folder / "out"))


def ask(*words: str) -> Result:
    """A command as on a terminal with colours: click takes commands out of a text without them."""
    return CliRunner().invoke(cli, list(words), env={"COLUMNS": "120", "NO_COLOR": ""}, color=True)


def _changed(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    document = json.loads(path.read_text())
    change(document)
    document.pop(DIGEST, None)
    write_json(path, document, replace=True)


FILES = (
    "study.json",
    "events.jsonl",
    "experiments/*/experiment.json",
    "experiments/*/result.json",
    "experiments/*/trial-0.json",
    "experiments/*/trial-0.power.csv.gz",
    "experiments/*/trial-0.requests.csv.gz",
)
ASKED = (("show", "out"), ("show", "out", "--json"), ("verify", "out"), ("show", "out", "--time"), ("bundle", "out"))


@pytest.mark.parametrize("kind", ["pipe", "device", "enormous"])
@pytest.mark.parametrize("name", FILES)
def test_a_file_of_a_store_that_is_none_is_told(store: Path, name: str, kind: str) -> None:
    """A pipe that nobody writes to, a device without an end, 1 TB without content: no wait, no bug, and it is named."""
    [path] = store.glob(name)
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.touch()
        os.truncate(path, 2**40)
    ended = {words: ask(*words) for words in ASKED}

    assert {words: one.exit_code for words, one in ended.items() if one.exit_code not in (0, 1, 2)} == {}
    assert "Traceback" not in "".join(one.stderr for one in ended.values())
    assert any(path.name in one.output and one.exit_code for one in ended.values())


def test_a_bomb_in_a_store_is_not_unpacked(store: Path) -> None:
    """A megabyte that unpacks to 1 GiB is told, and its bytes are never in memory."""
    [path] = store.glob("experiments/*/trial-0.requests.csv.gz")
    with gzip.open(path, "wb", compresslevel=1) as file:
        for _ in range(1024):
            file.write(bytes(2**20))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    done = ask("verify", "out")

    assert done.exit_code == 1
    assert str(path.relative_to(store)) in done.output
    assert "damaged: it does not begin with index,batch," in done.output
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 1024  # KiB


@pytest.mark.parametrize("name", ["SHA256SUMS", "experiments/{}/.lease-0"])
@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("nowhere"), Path.touch])
def test_what_is_in_the_place_of_checksums_or_a_lease_is_told(store: Path, name: str, make: Callable[..., Any]) -> None:
    """And hides nothing else; it ends with 1."""
    [path] = store.glob("experiments/*/trial-0.json")
    path.write_text("{")
    name = name.format(path.parent.name)
    make(store / name)
    done = ask("verify", "out")

    assert done.exit_code == 1
    assert f"{path.relative_to(store)}: changed" in done.output
    assert name in done.output


def test_errors_of_a_bundle_name_the_bundle(store: Path, isolated_llem: Any) -> None:
    """And not the folder in which it was unpacked for a moment."""
    [path] = store.glob("experiments/*/trial-0.json")
    path.write_text("{")
    with tarfile.open("b.tar.gz", "w:gz") as archive:
        archive.add("out")
    done = ask("verify", "b.tar.gz")

    assert done.exit_code == 1
    assert f"{path.relative_to(store)}: not JSON" in done.output
    assert "llem-bundle-" not in done.output


def test_a_description_of_a_member_that_unpacks_to_a_gigabyte(isolated_llem: Any) -> None:
    """What stands before a member in an archive is read whole by Python's reader, so the archive itself is bounded."""
    entry = tarfile.TarInfo("x")
    entry.type, entry.size = tarfile.XHDTYPE, 2**30
    with gzip.open("b.tar.gz", "wb", compresslevel=1) as file:
        file.write(entry.tobuf(tarfile.USTAR_FORMAT))
        for _ in range(1024):
            file.write(bytes(2**20))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    done = ask("verify", "b.tar.gz")

    assert done.exit_code == 2
    assert "error: b.tar.gz: no whole archive" in COLOURS.sub("", done.stderr)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300 * 1024  # KiB


@pytest.mark.parametrize(
    "words",
    [
        ("show", "out"),
        ("show", "out", "--json"),
        ("show", "out", "--all"),
        ("export", "out", "-o", "t.csv"),
        ("recommend", "out"),
        ("verify", "out"),
        ("report", "out", "-o", "r.html"),
        ("bundle", "out"),
    ],
)
def test_names_in_a_store_command_no_terminal(store: Path, words: tuple[str, ...]) -> None:
    """Of the study, the model, an error and a finding."""
    _changed(store / "study.json", lambda study: study.update(name=HOSTILE))
    for path in store.glob("experiments/*/*.json"):
        if path.name in ("experiment.json", "result.json"):
            _changed(path, lambda document: document["config"].update(model=HOSTILE))
        if path.name == "result.json":
            _changed(path, lambda result: (result.update(error=HOSTILE), result["findings"][0].update(message=HOSTILE)))
    done = ask(*words)

    # nothing is recommended of a fake, and what was changed differs
    assert done.exit_code == {"recommend": 2, "verify": 1}.get(words[0], 0), done.stderr
    assert COMMANDS.search(COLOURS.sub("", done.stdout + done.stderr)) is None
    if "--json" in words:
        assert json.loads(done.stdout)["config"]["model"] == HOSTILE
    if words[0] == "report":
        assert COMMANDS.search(Path("r.html").read_text()) is None


TYPED = [("show", "out", "a", HOSTILE), (HOSTILE,), ("run", f"--{HOSTILE}"), ("show", HOSTILE)]


@pytest.mark.parametrize("words", TYPED)
def test_words_that_were_typed_command_no_terminal(isolated_llem: Any, words: tuple[str, ...]) -> None:
    """Neither in what llem says of them, nor in what click says."""
    done = ask(*words)

    assert done.exit_code == 2
    assert COMMANDS.search(COLOURS.sub("", done.stderr)) is None


def test_completion_of_a_folder_that_holds_a_pipe(isolated_llem: Any) -> None:
    """It offers nothing, and does not wait."""
    os.mkfifo("study.json")
    show: Any = cli.commands["show"]
    context = click.Context(show, info_name="show")
    context.params["folder"] = "."
    [axis] = [one for one in show.params if one.name == "axis"]
    prepare(cli)

    assert axis.shell_complete(context, "") == []


@pytest.mark.process
@pytest.mark.parametrize("files", [6, 8, 10])
def test_few_files_that_may_be_open_are_the_machines_fault(isolated_llem: Any, files: int) -> None:
    """Exit 3, with what to raise."""
    done = subprocess.run(
        [sys.executable, "-m", "llem", *RUN],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (files, files)),
    )

    assert done.returncode == 3, done.stderr
    assert "too many open files" in done.stderr
    assert "Traceback" not in done.stderr
