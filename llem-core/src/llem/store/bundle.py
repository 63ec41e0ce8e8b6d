"""A store as one file to hand on: `.tar.gz` or `.zip`, with checksums; the same files give the same bytes.

`llem.store.unbundle` reads one that others made.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import re
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import attrs

from llem.errors import ConfigError, StoreError
from llem.foreign.files import LARGEST, regular, size_text
from llem.store.files import machine_errors, make_folder, place
from llem.store.manifest import MANIFEST, Hashed, altered, manifest_text, stored_files
from llem.store.store import Store

__all__ = ["ENDINGS", "Bundle", "bundle", "is_bundle"]

#: How names of bundles end.
ENDINGS = (".tar.gz", ".zip")

_CHUNK = 1 << 20


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
            with regular(temporary) as file:
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
            with regular(folder / name) as file:
                if os.fstat(file.fileno()).st_size > LARGEST:
                    what = f"{folder / name} has more than {size_text(LARGEST)}"
                    raise StoreError(what, "llem writes no such file: take it out", "store_unportable")
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
