"""Checksums of the files of a store, in a file that `sha256sum -c` reads too. They find damage and careless changes; a
file that anybody may write anew is no signature."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import IO, Literal

import attrs

from llem.errors import StoreError
from llem.foreign.files import LARGEST, regular
from llem.store.files import corrupt, machine_errors, read_text

__all__ = [
    "CHECKSUM",
    "JOURNAL",
    "MANIFEST",
    "Altered",
    "Hashed",
    "altered",
    "is_plain",
    "is_stored",
    "manifest_text",
    "refuse_links",
    "sha256_of",
    "stored_files",
    "walk",
]

#: Name of the file with the checksums, at the top of a store.
MANIFEST = "SHA256SUMS"
#: Name of the file in which a process says what it writes (`llem.store.journal`).
JOURNAL = "journal.sha256"
#: What llem writes into a store and reads again. Logs of workers are not among it: they hold what engines print.
STORED = (
    "*.json",
    "*.jsonl",
    "environments/*.json",
    "experiments/*/*.json",
    "experiments/*/*.gz",
    "workers/*/events.jsonl",
    JOURNAL,
    f"workers/*/{JOURNAL}",
)

#: Folders of a store.
FOLDERS = ("environments", "experiments", "workers")
#: Bytes of a part of a path at most.
LONGEST = 255

#: A line with the checksum of a file.
CHECKSUM = re.compile(r"([0-9a-f]{64}) [ *](.+)")
_CHUNK = 1 << 20


@attrs.frozen
class Altered:
    """A file that is not what its checksum says: by its path within the store, and the file that has the checksum."""

    file: str
    how: Literal["changed", "missing", "added", "a link"]
    by: str = MANIFEST

    def __str__(self) -> str:
        told = {
            "changed": f"changed: its checksum is not the one in {self.by}",
            "missing": f"missing: {self.by} names it",
            "added": f"added: {self.by} does not name it",
            "a link": "a link, which leads elsewhere",
        }
        return f"{self.file}: {told[self.how]}"


class Hashed:
    """A file that is being read, and the SHA-256 of what was read so far."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._hash = file, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        found = self._file.read(size)
        self._hash.update(found)
        return found

    def whole(self) -> str:
        """The digest of the whole file; reads what is left of it."""
        while self.read(_CHUNK):
            pass
        return self._hash.hexdigest()


def sha256_of(path: Path) -> str | None:
    """The digest of a file of a store; None where it has more bytes than any has. Raises StoreError, MachineError."""
    with machine_errors(path), regular(path) as file:
        return None if os.fstat(file.fileno()).st_size > LARGEST else Hashed(file).whole()


def is_plain(name: str) -> bool:
    """Whether a path lies below the folder it is relative to, and every system takes its name."""
    parts = PurePosixPath(name).parts
    odd = re.search(r'[\x00-\x1f\x7f\\:*?"<>|\ud800-\udfff]', name) is not None  # the last: of no UTF-8
    longest = max((len(part.encode(errors="surrogateescape")) for part in parts), default=0)
    return bool(parts) and not (odd or name.startswith("/") or ".." in parts or longest > LONGEST)


def walk(folder: Path) -> Iterator[tuple[str, bool]]:
    """Every file and every link by its path within the folder, and whether it is a link; nothing that is hidden."""
    for here, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted([*files, *folders]):
            path = Path(here, name)
            linked = path.is_symlink()
            if not name.startswith(".") and (linked or name not in folders):
                yield path.relative_to(folder).as_posix(), linked


def stored_files(folder: Path) -> tuple[list[str], list[str]]:
    """Files of a store by their paths in it: those that llem wrote and reads, and others; both sorted.

    Hidden files (locks, what was never finished) and the manifest are neither.

    Raises:
        StoreError: a link, a name that other systems do not take, or what is no file (store_unportable).
    """
    ours, others = [], []
    for name, linked in walk(folder):
        if linked:
            hint = "put the file in its place: a link leads elsewhere on another machine"
            raise StoreError(f"{folder / name} is a link", hint, "store_unportable")
        if name == MANIFEST:
            continue
        if not is_stored(name):
            others.append(name)
        elif not is_plain(name) or not (folder / name).is_file():
            hint = "a bundle holds regular files with names that every system takes"
            raise StoreError(f"{str(folder / name)!r} cannot be bundled", hint, "store_unportable")
        else:
            ours.append(name)
    return sorted(ours), sorted(others)


def refuse_links(folder: Path) -> None:
    """Raise StoreError (store_linked) for a link where llem would write: it would write wherever that leads."""
    for name, linked in walk(folder):
        if linked and (is_stored(name) or name.partition("/")[0] in FOLDERS):
            hint = "put what it leads to in its place: llem would write to where it leads"
            raise StoreError(f"{folder / name} is a link", hint, "store_linked")


def is_stored(name: str) -> bool:
    """Whether llem writes files of this name into a store, and reads them again."""
    depth = name.count("/")
    return any(pattern.count("/") == depth and fnmatchcase(name, pattern) for pattern in STORED)


def manifest_text(digests: Mapping[str, str]) -> str:
    """The manifest of these files: SHA-256 by path."""
    return "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items()))


def _read(path: Path) -> dict[str, str]:
    """Raises StoreError (store_corrupt) for a line that is none, or a path that is named twice or leads elsewhere."""
    found: dict[str, str] = {}
    for number, line in enumerate(read_text(path, LARGEST).splitlines(), 1):
        match = CHECKSUM.fullmatch(line)
        if match is None or not is_plain(match[2]) or match[2] in found:
            raise corrupt(path, f"line {number} is no checksum of a file in this folder")
        found[match[2]] = match[1]
    return found


def altered(folder: Path) -> tuple[list[Altered], int] | None:
    """What differs from the manifest, by path, and how many files it names; None without a manifest.

    Raises StoreError (store_corrupt): the manifest cannot be read.
    """
    if not os.path.lexists(folder / MANIFEST):
        return None
    named = _read(folder / MANIFEST)
    there = dict(walk(folder))
    there.pop(MANIFEST, None)
    return sorted(_differences(folder, named, there), key=lambda one: one.file), len(named)


def _differences(folder: Path, named: Mapping[str, str], there: Mapping[str, bool]) -> Iterable[Altered]:
    for name in named.keys() | there.keys():
        if there.get(name):
            yield Altered(name, "a link")
        elif name not in there:
            yield Altered(name, "missing")
        elif name not in named:
            yield Altered(name, "added")
        elif sha256_of(folder / name) != named[name]:
            yield Altered(name, "changed")
