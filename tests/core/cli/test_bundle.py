"""`llem bundle`, and `llem verify` of what it wrote."""

from __future__ import annotations

import hashlib
import shutil
import subprocess

import pytest


@pytest.fixture
def study(h200, tmp_path):
    """A real study of a GPU, to be changed."""
    shutil.copytree(h200 / "store", tmp_path / "out")
    return tmp_path / "out"


def test_a_stranger_verifies_a_bundle(run_llem, study, isolated_llem):
    """The file alone: checksums first, then every number from its raw rows."""
    done = run_llem("bundle", study)
    file = isolated_llem.folder / "out.tar.gz"
    digest = hashlib.sha256(file.read_bytes()).hexdigest()

    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout == f"out.tar.gz: 89 files\nSHA-256 {digest}\n"
    shutil.rmtree(study)
    checked = run_llem("verify", file)
    assert (checked.exit_code, checked.stderr) == (0, "")
    first, second, older, last = checked.stdout.splitlines()
    assert first == "89 checksums compared, identical"
    assert second.startswith("no journal: an older llem wrote this")
    assert older.startswith("30 documents were written by an older llem (schema version 4).")
    assert last == "6 experiments, 15 trials recomputed, identical in what is compared"


def test_changed_missing_and_added_files_are_named(run_llem, study, isolated_llem):
    """Also where no stored number differs."""
    run_llem("bundle", study, "-o", "b.tar.gz")
    shutil.unpack_archive("b.tar.gz", "unpacked", filter="data")
    [folder] = (isolated_llem.folder / "unpacked").iterdir()
    (folder / "events.jsonl").write_text("{}\n")
    [environment] = (folder / "environments").iterdir()
    environment.unlink()
    (folder / "experiments" / "new.json").write_text("{}")
    (folder / "experiments" / "link").symlink_to("/etc")
    done = run_llem("verify", folder)

    assert done.exit_code == 1
    told = done.stdout.splitlines()
    assert told[:5] == [
        f"environments/{environment.name}: missing: SHA256SUMS names it",
        "events.jsonl: changed: its checksum is not the one in SHA256SUMS",
        "experiments/link: a link, which leads elsewhere",
        "experiments/new.json: added: SHA256SUMS does not name it",
        "89 checksums compared, 4 files differ",
    ]
    assert told[6].startswith("30 documents were written by an older llem")
    assert all(line.startswith(f"environments/{environment.name}: missing: experiments/") for line in told[7:-1])
    assert told[-1] == "6 experiments, 15 trials recomputed, 5 differences"


def test_a_file_that_is_missing_is_named_before_it_is_missed(run_llem, study, isolated_llem):
    """The numbers cannot be computed again then, which is an error."""
    run_llem("bundle", study, "-o", "b.tar.gz")
    shutil.unpack_archive("b.tar.gz", "unpacked", filter="data")
    [folder] = (isolated_llem.folder / "unpacked").iterdir()
    (folder / "study.json").unlink()
    done = run_llem("verify", folder)

    assert done.exit_code == 2
    assert "study.json: missing: SHA256SUMS names it\n" in done.stdout
    assert "holds no study.json" in done.stderr


def test_a_bundle_without_checksums_is_verified_as_far_as_can_be(run_llem, study, isolated_llem):
    """And says that nothing vouches for its files."""
    shutil.make_archive("plain", "gztar", study.parent, "out")
    done = run_llem("verify", "plain.tar.gz")

    assert done.exit_code == 0
    assert done.stdout.startswith("the bundle has no SHA256SUMS")
    assert done.stdout.endswith("15 trials recomputed, identical in what is compared\n")


def test_what_is_left_out_is_said(run_llem, study):
    """By name, on standard error."""
    (study / "notes.txt").write_text("mine")
    done = run_llem("bundle", study, "-o", "b.zip")

    assert done.exit_code == 0
    assert "leaves them out: notes.txt\n" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("bundle", "nowhere"), 2, "there is no folder nowhere"),
        (("bundle", "{study}", "-o", "b.rar"), 2, "a bundle ends with .tar.gz or .zip"),
        (("verify", "nowhere.tar.gz"), 2, "there is no folder nowhere.tar.gz"),
    ],
)
def test_a_mistake_is_one_error(run_llem, study, arguments, code, message):
    """With what would be right."""
    done = run_llem(*(one.format(study=study) for one in arguments))

    assert (done.exit_code, done.stdout) == (code, "")
    assert message in done.stderr


@pytest.mark.process
@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="needs the program sha256sum")
def test_checksums_can_be_compared_without_llem(run_llem, study, isolated_llem):
    """By a program that every Linux has."""
    run_llem("bundle", study, "-o", "b.tar.gz")
    shutil.unpack_archive("b.tar.gz", "unpacked", filter="data")
    [folder] = (isolated_llem.folder / "unpacked").iterdir()
    done = subprocess.run(["sha256sum", "-c", "--strict", "--quiet", "SHA256SUMS"], cwd=folder, capture_output=True)

    assert (done.returncode, done.stdout) == (0, b"")
