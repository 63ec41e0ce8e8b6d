"""A store as one file to hand on: `.tar.gz` or `.zip`, with checksums; the same files give the same bytes.

Whoever unpacks one trusts nothing in it: members that are links or devices, or lie outside, are refused.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import re
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any

import attrs

from llem.errors import ConfigError, StoreError
from llem.store.files import corrupt, machine_errors, make_folder, place
from llem.store.manifest import MANIFEST, Hashed, altered, is_plain, manifest_text, stored_files
from llem.store.store import Store

__all__ = ["ENDINGS", "Bundle", "bundle", "is_bundle", "unpacked"]

#: How names of bundles end.
ENDINGS = (".tar.gz", ".zip")
#: A bundle of more than this, unpacked, is refused: a few kilobytes can unpack to fill any disk.
MOST_BYTES = 64 * 2**30
MOST_FILES = 1_000_000

_CHUNK = 1 << 20
#: What damaged archives raise.
_BROKEN = (
    tarfile.TarError,
    zipfile.BadZipFile,
    gzip.BadGzipFile,
    EOFError,
    zlib.error,
    NotImplementedError,
    UnicodeError,
)


@attrs.frozen
class Bundle:
    """A bundle that was written.

    Attributes:
        path: the file.
        files: number of files in it, without the manifest.
        left_out: files of the folder that are not in it, because llem did not write them or they are logs.
        sha256: of the whole file, to be published beside it.
    """

    path: Path
    files: int
    left_out: tuple[str, ...]
    sha256: str


def is_bundle(path: Path) -> bool:
    """Whether a path is a file with the name of a bundle."""
    return path.name.lower().endswith(ENDINGS) and path.is_file()


def bundle(store: Store | str | Path, out: str | Path | None = None) -> Bundle:
    """Write the files of a result folder, with their checksums, into one file.

    Args:
        store: or its folder.
        out: ends with `.tar.gz` or `.zip`. Default: `<name of the folder>.tar.gz` in the current folder.

    Raises:
        ConfigError: another ending, or a path within the store.
        StoreError: there is no store; a study runs there (store_busy); `out` is there already (store_exists); the
            folder holds a link (store_unportable), or is an unpacked bundle that was changed (store_changed).
        MachineError: the file cannot be written.
    """
    opened = store if isinstance(store, Store) else Store.open(store)
    folder = opened.path.resolve()
    path = Path(f"{folder.name or 'store'}.tar.gz") if out is None else Path(out)
    _refuse(opened, folder, path)
    ours, others = stored_files(folder)
    root = re.sub(r"[^\w.-]+", "-", str(opened.study().get("name", ""))).strip(".-") or "store"
    with machine_errors(path):
        make_folder(path.absolute().parent)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.absolute().parent)
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as raw:
                _pack(raw, folder, ours, root, tar=not path.name.lower().endswith(".zip"))
                raw.flush()
                os.fsync(raw.fileno())
            temporary.chmod(0o644)
            with temporary.open("rb") as file:
                digest = Hashed(file).whole()
            place(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    return Bundle(path, len(ours), tuple(others), digest)


def _refuse(store: Store, folder: Path, path: Path) -> None:
    if not path.name.lower().endswith(ENDINGS):
        raise ConfigError(f"{path}: a bundle ends with {' or '.join(ENDINGS)}", "name such a file with `-o`")
    if path.absolute().parent.resolve().is_relative_to(folder):
        raise ConfigError(f"{path} lies in the folder that it would hold", "name a file outside of it with `-o`")
    if path.exists():
        hint = "name another file with `-o`, or remove this one"
        raise StoreError(f"{path} is there already and is never overwritten", hint, "store_exists")
    if store.busy():
        raise StoreError(f"`llem run` works in {store.path}", "bundle it when the study has ended", "store_busy")
    found = altered(folder)
    if found is not None and found[0]:
        what = f"{store.path} was unpacked from a bundle and has changed since: {found[0][0]}"
        hint = f"`llem verify` lists all changes; remove {MANIFEST} if they are yours, and bundle it again"
        raise StoreError(what, hint, "store_changed")


def _pack(raw: IO[bytes], folder: Path, names: list[str], root: str, *, tar: bool) -> None:
    """Write the archive: the files in their order, the manifest last, for it has the checksums of what was written."""
    digests: dict[str, str] = {}
    with _tar(raw) if tar else _zip(raw) as add:
        for name in names:
            with (folder / name).open("rb") as file:
                source = Hashed(file)
                add(f"{root}/{name}", os.fstat(file.fileno()).st_size, source)
                digests[name] = source.whole()
        content = manifest_text(digests).encode()
        add(f"{root}/{MANIFEST}", len(content), Hashed(io.BytesIO(content)))


Add = Callable[[str, int, Hashed], None]


@contextlib.contextmanager
def _tar(raw: IO[bytes]) -> Iterator[Add]:
    """Without times, owners and the name of the file, which would differ from day to day and machine to machine."""
    with gzip.GzipFile("", "wb", 6, raw, mtime=0) as packed, tarfile.open(fileobj=packed, mode="w") as archive:

        def add(name: str, size: int, source: Hashed) -> None:
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = size, 0o644
            archive.addfile(entry, source)

        yield add


@contextlib.contextmanager
def _zip(raw: IO[bytes]) -> Iterator[Add]:
    with zipfile.ZipFile(raw, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:

        def add(name: str, size: int, source: Hashed) -> None:
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.compress_type, entry.create_system = zipfile.ZIP_DEFLATED, 3
            entry.external_attr, entry.file_size = 0o644 << 16, size
            with archive.open(entry, "w") as into:
                while chunk := source.read(_CHUNK):
                    into.write(chunk)

        yield add


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
        yield found[0]


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
    with machine_errors(path):
        raw = path.open("rb")
    with raw:
        if path.name.lower().endswith(".zip"):
            with zipfile.ZipFile(raw) as packed:
                yield (_of_zip(packed, one) for one in packed.infolist())
        else:
            with tarfile.open(fileobj=raw, mode="r:gz") as archive:
                yield (_of_tar(archive, one) for one in archive)


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
    left, seen = MOST_BYTES, set[str]()
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
            why = "is there twice" if seen_before else f"is beyond {MOST_BYTES / 2**30:.0f} GiB or {MOST_FILES:,} files"
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
