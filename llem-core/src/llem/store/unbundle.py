"""The store in a bundle (`llem.store.bundle`) that somebody else may have made. Nothing in it is trusted.

Members that are links or devices, or lie outside, are refused, and so is what unpacks to far more than it has.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import stat
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any, Self

import attrs

from llem.errors import LlemError, StoreError
from llem.foreign.files import regular, size_text
from llem.store.files import corrupt, machine_errors, make_folder
from llem.store.manifest import MANIFEST, is_plain

__all__ = ["unpacked"]

#: A bundle of more than this, unpacked, is refused: a few kilobytes can unpack to fill any disk.
MOST_BYTES = 64 * 2**30
#: A study of 100,000 points has 2.4 million.
MOST_FILES = 4_000_000
#: A bundle unpacks to so many times its size at most, beyond the first bytes. Rows that are alike are packed twice, the
#: second time 40 times.
RATIO, FREE = 200, 2**24
#: Bytes of what describes a member at most, which is read whole; names have 255.
MOST_TOLD = 2**20
DESCRIBING = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)

_CHUNK = 1 << 20
#: What damaged archives raise.
_BROKEN = (
    tarfile.TarError,
    zipfile.BadZipFile,
    gzip.BadGzipFile,
    EOFError,
    zlib.error,
    NotImplementedError,
    OverflowError,
    ValueError,
    struct.error,
)


@contextlib.contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """The store in a bundle, unpacked into a temporary folder that is removed afterwards.

    Raises:
        StoreError: it is no archive, is damaged or holds no store (store_corrupt), or has members that a bundle never
            has (bundle_unsafe).
    """
    with tempfile.TemporaryDirectory(prefix="llem-bundle-") as name:
        folder = Path(name)
        try:
            with _members(path) as members:
                _extract(path, members, folder)
        except _BROKEN as error:
            raise corrupt(path, f"no whole archive ({type(error).__name__}: {error})") from error
        found = [one for one in (folder, *sorted(folder.iterdir())) if _is_store(one)]
        if len(found) != 1:
            raise corrupt(path, "holds no study.json" if not found else "holds more than one store")
        with _named_after(path, found[0]):
            yield found[0]


@contextlib.contextmanager
def _named_after(path: Path, folder: Path) -> Iterator[None]:
    """Errors name the bundle, and not the folder in which it lies unpacked for a moment."""
    try:
        yield
    except LlemError as error:
        told = (error.message, error.hint)
        message, hint = (text.replace(f"{folder}/", f"{path}: ").replace(str(folder), str(path)) for text in told)
        raise attrs.evolve(error, message=message, hint=hint) from error


def _is_store(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("study.json", MANIFEST))


@attrs.frozen
class _Member:
    """Of an archive: its name, its size unpacked, what it is, and how it is opened."""

    name: str
    size: int
    kind: str
    open: Callable[[], IO[bytes] | None]


@contextlib.contextmanager
def _members(path: Path) -> Iterator[Iterator[_Member]]:
    with contextlib.ExitStack() as held:
        with machine_errors(path):
            raw = held.enter_context(regular(path))
        if path.name.lower().endswith(".zip"):
            with zipfile.ZipFile(raw) as zipped:
                yield (_of_zip(zipped, one) for one in zipped.infolist())
        else:
            packed = held.enter_context(gzip.GzipFile(fileobj=raw))
            source: Any = _Bounded(packed, FREE + RATIO * path.stat().st_size)
            with tarfile.open(fileobj=source, mode="r|", tarinfo=_Entry) as archive:
                yield (_of_tar(archive, one) for one in archive)


def _most(path: Path) -> int:
    return min(MOST_BYTES, FREE + RATIO * path.stat().st_size)


class _Entry(tarfile.TarInfo):
    """A member, or what describes the one that follows."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """Raises TarError for a description that is too large."""
        found = super().frombuf(buf, encoding, errors)
        if found.type in DESCRIBING and found.size > MOST_TOLD:
            raise tarfile.ReadError("what describes a member is far larger than any")
        return found


class _Bounded:
    """An archive as it is unpacked."""

    def __init__(self, file: io.BufferedIOBase, most: int) -> None:
        self._file, self._left = file, most

    def read(self, size: int) -> bytes:
        found = self._file.read(size)
        self._left -= len(found)
        if self._left < 0:
            raise tarfile.ReadError("it unpacks to far more than it has")
        return found


def _of_tar(archive: tarfile.TarFile, entry: tarfile.TarInfo) -> _Member:
    kind = "file" if entry.isreg() else "folder" if entry.isdir() else "a link" if _links(entry) else "a device"
    return _Member(entry.name, entry.size, kind, lambda: archive.extractfile(entry))


def _links(entry: tarfile.TarInfo) -> bool:
    return entry.issym() or entry.islnk()


def _of_zip(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> _Member:
    mode = stat.S_IFMT(entry.external_attr >> 16)
    known = {0: "file", stat.S_IFREG: "file", stat.S_IFDIR: "folder", stat.S_IFLNK: "a link"}
    kind = "folder" if entry.is_dir() else "encrypted" if entry.flag_bits & 1 else known.get(mode, "a device")
    return _Member(entry.filename, entry.file_size, kind, lambda: archive.open(entry))


def _extract(path: Path, members: Iterator[_Member], folder: Path) -> None:
    left, seen = _most(path), set[str]()
    for member in members:
        if not is_plain(member.name):
            raise _unsafe(path, member.name, "lies outside of the bundle, or has a name that not every system takes")
        if member.kind == "folder":
            continue
        if member.kind != "file":
            raise _unsafe(path, member.name, f"is {member.kind}")
        target = PurePosixPath(member.name).as_posix()
        seen_before, left = target in seen, left - member.size
        seen.add(target)
        if seen_before or left < 0 or len(seen) > MOST_FILES:
            why = "is there twice" if seen_before else f"is beyond {size_text(_most(path))} or {MOST_FILES:,} files"
            raise _unsafe(path, member.name, why)
        if (folder / target).exists():
            raise _unsafe(path, member.name, "is a file and a folder")
        _copy(member, folder / target)


def _copy(member: _Member, target: Path) -> None:
    make_folder(target.parent)
    source: Any = member.open()
    with source, target.open("xb") as into:
        while chunk := source.read(_CHUNK):
            into.write(chunk)


def _unsafe(path: Path, name: str, why: str) -> StoreError:
    hint = "`llem bundle` wrote no such file; ask whoever gave it to you, and unpack nothing of it"
    return StoreError(f"{path}: {name!r} {why}", hint, "bundle_unsafe")
