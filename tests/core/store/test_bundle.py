"""Bundles: what is in them, that their bytes do not depend on the day, and that nobody's archive is trusted."""

from __future__ import annotations

import io
import os
import shutil
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

import llem
from llem.errors import ConfigError, StoreError
from llem.protocol.lines import stored_events
from llem.store import files
from llem.store.bundle import bundle
from llem.store.journal import compared
from llem.store.manifest import JOURNAL, MANIFEST, altered
from llem.store.store import Store
from llem.store.unbundle import MOST_BYTES, unpacked


@pytest.fixture
def store(grid_store) -> Store:
    """Two results, with what else lies in a folder: locks, logs, a file of the user's."""
    made = grid_store({"dtype": ["float16", "bfloat16"]}, lambda _: 1.0)
    (made.path / "events.jsonl").write_text('{"kind": "study"}\n')
    (made.path / ".owner").touch()
    worker = made.worker_dir(0)
    (worker / "log.txt").write_text("HF_TOKEN=hf_abcdefgh\n")
    (worker / "events.jsonl").write_text("{}\n")
    (made.path / "notes.txt").write_text("mine")
    return made


@pytest.fixture(params=[".tar.gz", ".zip"])
def ending(request) -> str:
    return request.param


def _names(path: Path) -> list[str]:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    with tarfile.open(path) as archive:
        return archive.getnames()


def test_a_bundle_holds_what_llem_stored_and_nothing_else(store, tmp_path, ending):
    """No lock, no log, no file of the user's; the manifest is last."""
    made = llem.bundle(store.path, tmp_path / f"b{ending}")
    names = _names(made.path)

    assert names[-1] == f"grid/{MANIFEST}"
    assert sorted(name.removeprefix("grid/") for name in names[:-1]) == sorted(
        [
            "events.jsonl",
            "journal.sha256",
            "study.json",
            "workers/0/events.jsonl",
            *(f"experiments/{one}/{part}.json" for one in store.result_ids() for part in ("experiment", "result")),
        ]
    )
    assert made.files == len(names) - 1
    assert made.left_out == ("notes.txt", "workers/0/log.txt")


def test_unpacked_it_is_the_same_store(store, tmp_path, ending):
    """Every file has the bytes that it had, and its checksum."""
    made = bundle(store, tmp_path / f"b{ending}")
    with unpacked(made.path) as inside:
        assert altered(inside) == ([], made.files)
        assert Store.open(inside).study() == store.study()
        for name in ("events.jsonl", f"experiments/{store.result_ids()[0]}/result.json"):
            assert (inside / name).read_bytes() == (store.path / name).read_bytes()
    assert not inside.exists()


def test_the_same_results_give_the_same_bytes(store, tmp_path, ending):
    """Whatever the times, the modes and the owner of the files, and wherever the folder lies."""
    first = bundle(store, tmp_path / f"a{ending}")
    elsewhere = tmp_path / "elsewhere" / "other-name"
    shutil.copytree(store.path, elsewhere)
    for path in elsewhere.rglob("*.json"):
        os.utime(path, (1_000_000_000, 1_000_000_000))
        path.chmod(0o600)
    second = bundle(elsewhere, tmp_path / f"b{ending}")

    assert second.path.read_bytes() == first.path.read_bytes()
    assert second.sha256 == first.sha256


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_link_is_refused(store, tmp_path, kind):
    """It would lead out of the folder, here or on another machine."""
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "x.json").write_text("{}")
    at = store.path / "experiments" / ("linked" if kind == "folder" else "x.json")
    at.symlink_to(secret if kind == "folder" else secret / "x.json")
    with pytest.raises(StoreError, match="is a link") as caught:
        bundle(store, tmp_path / "b.zip")

    assert caught.value.code == "store_unportable"
    assert not (tmp_path / "b.zip").exists()


def test_a_bundle_is_never_written_over_or_within(store, tmp_path):
    """A file that is there stays; a bundle within the folder would be in the next one; other endings are no bundles."""
    there = tmp_path / "b.zip"
    there.write_text("mine")
    with pytest.raises(StoreError, match="is there already"):
        bundle(store, there)
    assert there.read_text() == "mine"
    with pytest.raises(ConfigError, match="lies in the folder"):
        bundle(store, store.path / "b.zip")
    with pytest.raises(ConfigError, match=r"a bundle ends with \.tar\.gz or \.zip"):
        bundle(store, tmp_path / "b.rar")


def test_a_folder_in_use_is_refused(store, tmp_path):
    """Its files change."""
    lock = store.owner_lock()
    lock.take()
    try:
        with pytest.raises(StoreError, match="`llem run` works in") as caught:
            bundle(store, tmp_path / "b.zip")
    finally:
        lock.let_go()
    assert caught.value.code == "store_busy"


def test_what_was_changed_after_unpacking_is_not_bundled_as_if_it_were_not(store, tmp_path):
    """Until its checksums are removed on purpose."""
    with unpacked(bundle(store, tmp_path / "a.zip").path) as inside:
        bundle(inside, tmp_path / "b.zip")
        (inside / "events.jsonl").write_text("other\n")
        with pytest.raises(StoreError, match=r"events\.jsonl: changed") as caught:
            bundle(inside, tmp_path / "c.zip")
        (inside / MANIFEST).unlink()
        bundle(inside, tmp_path / "c.zip")

    assert caught.value.code == "store_changed"
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_what_lists_a_whole_store_may_be_larger_than_a_document(store, tmp_path, monkeypatch):
    """Checksums, journals and events have lines for each of its files, and are read as far as any file is."""
    with unpacked(bundle(store, tmp_path / "a.tar.gz").path) as inside:
        for reader in (files.read_text, files.read_bytes):
            monkeypatch.setattr(reader, "__defaults__", (1,))
        with pytest.raises(StoreError, match="has more than"):
            files.read_text(inside / "study.json")
        assert altered(inside) == ([], 8)
        assert [one.file for one in compared(inside).altered if one.file == JOURNAL] == []
        (tmp_path / "events.jsonl").write_text('{"event": "trial"}\n')  # of an older llem: no time
        assert stored_events(tmp_path / "events.jsonl") == ()


# what is unpacked


def _tar(path, *members):
    with tarfile.open(path, "w:gz") as archive:
        for name, content, kind, target in members:
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname, entry.size = kind, target, len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


GOOD = ("x/study.json", b"{}", tarfile.REGTYPE, "")


@pytest.mark.parametrize(
    ("member", "why"),
    [
        (("../evil.json", b"", tarfile.REGTYPE, ""), "lies outside"),
        (("x/../../evil.json", b"", tarfile.REGTYPE, ""), "lies outside"),
        (("/tmp/evil.json", b"", tarfile.REGTYPE, ""), "lies outside"),
        (("C:\\evil.json", b"", tarfile.REGTYPE, ""), "lies outside"),
        (("x/\x1b[2J.json", b"", tarfile.REGTYPE, ""), "lies outside"),
        ((f"x/{'a' * 300}.json", b"", tarfile.REGTYPE, ""), "lies outside"),
        (("x/link", b"", tarfile.SYMTYPE, "/etc/passwd"), "is a link"),
        (("x/link", b"", tarfile.LNKTYPE, "x/study.json"), "is a link"),
        (("x/null", b"", tarfile.CHRTYPE, ""), "is a device"),
        (("x/fifo", b"", tarfile.FIFOTYPE, ""), "is a device"),
        (("x/study.json", b"{}", tarfile.REGTYPE, ""), "is there twice"),
        (("x/./study.json", b"{}", tarfile.REGTYPE, ""), "is there twice"),
        (("x", b"", tarfile.REGTYPE, ""), "is a file and a folder"),
    ],
)
def test_members_that_no_bundle_has_are_refused(tmp_path, member, why):
    """And nothing is written outside of the temporary folder."""
    path = _tar(tmp_path / "b.tar.gz", GOOD, member)
    with pytest.raises(StoreError, match=why) as caught, unpacked(path):
        pass

    assert caught.value.code == "bundle_unsafe"
    assert [one.name for one in tmp_path.iterdir()] == ["b.tar.gz"]


def test_links_and_paths_of_a_zip_are_refused(tmp_path):
    """As of the other archive."""
    for name, mode, why in (("x/link", stat.S_IFLNK | 0o777, "is a link"), ("../evil", 0o644, "lies outside")):
        path = tmp_path / "b.zip"
        with zipfile.ZipFile(path, "w") as archive:
            entry = zipfile.ZipInfo(name)
            entry.external_attr = mode << 16
            archive.writestr(entry, "/etc/passwd")
        with pytest.raises(StoreError, match=why), unpacked(path):
            pass


def test_an_archive_that_would_fill_the_disk_is_refused(tmp_path, monkeypatch):
    """By the size that it declares, before that is written."""
    monkeypatch.setattr("llem.store.unbundle.MOST_BYTES", 10)
    assert MOST_BYTES > 10
    path = _tar(tmp_path / "b.tar.gz", GOOD, ("x/a.json", bytes(9), tarfile.REGTYPE, ""))
    with pytest.raises(StoreError, match="is beyond") as caught, unpacked(path):
        pass

    assert caught.value.code == "bundle_unsafe"


@pytest.mark.parametrize("damage", ["cut", "flipped", "text", "empty"])
def test_a_damaged_archive_is_told(store, tmp_path, ending, damage):
    """As damaged, with the name of the file."""
    path = bundle(store, tmp_path / f"b{ending}").path
    whole = path.read_bytes()
    middle = len(whole) // 2
    broken = {
        "cut": whole[:middle],
        "flipped": whole[:middle] + bytes([whole[middle] ^ 255, whole[middle + 1] ^ 255]) + whole[middle + 2 :],
        "text": b"no archive",
        "empty": b"",
    }
    path.write_bytes(broken[damage])
    with pytest.raises(StoreError) as caught, unpacked(path) as inside:
        assert altered(inside) == ([], 8)

    assert caught.value.code == "store_corrupt"
    assert caught.value.message.startswith(str(path))


@pytest.mark.parametrize(
    "line",
    ["x", f"{'0' * 64}  ../../etc/passwd", f"{'0' * 64}  /etc/passwd", f"{'0' * 64}  a\n{'0' * 64}  a", "0  a"],
)
def test_a_manifest_that_is_none_is_told(store, line):
    """A path that leads elsewhere is not read."""
    (store.path / MANIFEST).write_text(f"{line}\n")
    with pytest.raises(StoreError, match="is no checksum of a file in this folder"):
        altered(store.path)
