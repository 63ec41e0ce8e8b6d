"""What the processes that write a store say that they write: a line for each file, as `sha256sum` writes them.

The process that runs the study has `journal.sha256`, each worker its own in `workers/<n>/`. The hash and the name are
on the disk before the file is, and the line is ended when the file is in place. So a last line without an end is of a
process that was killed: its file is as the line says, or as it was before. A file that is written again has a line
again; the last one of a journal counts. Logs of events grow: a line is of what they begin with.

A journal finds what is changed, removed, added or exchanged. It is no signature: whoever can write a file can write its
line.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import attrs

from llem.errors import StoreError
from llem.foreign.files import LARGEST, growing, regular
from llem.store.files import json_bytes, machine_errors, make_folder, parsed, read_text, sync_folder, write
from llem.store.manifest import CHECKSUM, JOURNAL, Altered, is_plain, is_stored, sha256_of, walk
from llem.store.names import LOG, is_odd

__all__ = ["GONE", "JOURNALED", "Compared", "Journal", "compared", "is_journaled"]

#: Key of study.json, true where the store was made with journals.
JOURNALED = "journals"
#: In place of a hash: the file is removed.
GONE = "0" * 64
#: How the first line of each run begins in the log of the study.
BEGINNING = b'{"event": "study",'
#: Of the end of a journal that holds its last line for certain.
_TAIL = 1 << 16
_LINE_BYTES = 1 << 20


class Journal:
    """The journal of one process; its threads take turns."""

    def __init__(self, store: Path, worker: int | None = None) -> None:
        self._store, self._first = store, worker is None
        self._path = (store if worker is None else store / "workers" / str(worker)) / JOURNAL
        self._lock = threading.Lock()

    def write(self, path: Path, content: bytes, *, replace: bool = False, stage: Path | None = None) -> None:
        """Write a file of the store. Arguments and errors as of `llem.store.files.write`."""
        with self._line(path, hashlib.sha256(content).hexdigest()):
            write(path, content, replace=replace, stage=stage)

    def write_json(self, path: Path, data: Mapping[str, Any], *, replace: bool = False) -> None:
        """Write a document of the store, with its digest. Raises as `llem.store.files.write_json`."""
        self.write(path, json_bytes(path, data), replace=replace)

    def remove(self, path: Path) -> None:
        """Remove a file of the store, if it is there."""
        if path.exists():
            with self._line(path, GONE), machine_errors(path):
                path.unlink()

    @contextlib.contextmanager
    def _line(self, path: Path, sha256: str) -> Iterator[None]:
        """Say that a file is as this hash says after what is within."""
        with self._lock, contextlib.ExitStack() as held:
            with machine_errors(self._path):
                make_folder(self._path.parent)
                known = os.path.lexists(self._path)
                if not known and self._first and not is_journaled(self._store):  # an older llem began the store
                    write(self._path, b"".join(_lines(self._store, _stored(self._store))))  # whole, or not begun
                file = held.enter_context(growing(self._path))
                if not known:
                    sync_folder(self._path.parent)
                self._settle(file)
                file.write(f"{sha256}  {_name(self._store, path)}".encode())
                os.fsync(file.fileno())
            try:
                yield
            finally:
                with machine_errors(self._path):
                    self._settle(file)

    def seal_logs(self, *, workers: bool) -> None:
        """Take up the study's log of events as it is at the end of a run; and those of workers, if none is left."""
        logs = [name for name in _stored(self._store) if LOG.fullmatch(name) and (workers or "/" not in name)]
        for path in (self._store / name for name in logs):
            if (sha256 := _sha256(path)) is not None:
                with self._line(path, sha256):
                    pass

    def _settle(self, file: IO[bytes]) -> None:
        """End the last line if it is true, and remove it if it is not."""
        size = file.seek(0, os.SEEK_END)
        begin = file.seek(max(size - _TAIL, 0))
        tail = file.read()
        last = tail[tail.rfind(b"\n") + 1 :]
        if not last:
            return
        match = CHECKSUM.fullmatch(last.decode(errors="replace"))
        if match is not None and _sha256(self._store / match[2]) == match[1]:
            file.write(b"\n")
        else:
            file.truncate(begin + len(tail) - len(last))


def is_journaled(store: Path) -> bool:
    """Whether study.json says that the store has journals: an older llem wrote none, and else they were removed.

    Raises StoreError (store_corrupt): it cannot be read.
    """
    path = store / "study.json"
    return path.exists() and parsed(path, read_text(path)).get(JOURNALED) is True


def _name(store: Path, path: Path) -> str:
    return path.relative_to(store).as_posix()


def _stored(store: Path) -> list[str]:
    """The files of a store that llem writes and reads; journals, links and what only looks like one left out."""
    found = (name for name, linked in walk(store) if not linked and is_stored(name) and not name.endswith(JOURNAL))
    return [name for name in found if not is_odd(name)]


def _lines(store: Path, names: Iterable[str]) -> Iterator[bytes]:
    known = ((name, _sha256(store / name)) for name in names)
    return (f"{sha256}  {name}\n".encode() for name, sha256 in known if sha256 is not None)


def _sha256(path: Path) -> str | None:
    """Of a file, as `sha256_of`; `GONE` where there is none."""
    return sha256_of(path) if os.path.isfile(path) else GONE  # also of a name that no file can have


@attrs.frozen
class Compared:
    """The files of a store against its journals.

    Attributes:
        altered: what is not as a journal says, by path.
        files: how many files the journals name.
        open_logs: logs with lines that no journal has taken up: the run was killed, or goes on.
    """

    altered: tuple[Altered, ...]
    files: int
    open_logs: tuple[str, ...]


@attrs.define
class _Named:
    """What the journals say of one file: the hashes that it may have, and which journal names it."""

    hashes: set[str]
    by: str


def compared(folder: Path) -> Compared | None:
    """What differs from the journals; None where there are none, because an older llem wrote the store."""
    first = folder / JOURNAL
    others = sorted(folder.glob(f"workers/*/{JOURNAL}"))
    if not (others or os.path.lexists(first)):
        return None
    named, altered = _read(folder, [first, *others])
    there = {name: linked for name, linked in walk(folder) if is_stored(name) and not name.endswith(JOURNAL)}
    open_logs = []
    for name, known in named.items():
        if there.get(name):
            altered.append(Altered(name, "a link"))
        elif name not in there:
            if GONE not in known.hashes:
                altered.append(Altered(name, "missing", known.by))
        elif LOG.fullmatch(name):
            went_on = _went_on(folder / name, known.hashes)
            if went_on is None:
                altered.append(Altered(name, "changed", known.by))
            elif went_on:
                open_logs.append(name)
        elif _sha256(folder / name) not in known.hashes - {GONE}:  # a folder is no file, so it is gone
            altered.append(Altered(name, "changed", known.by))
    unnamed = sorted(there.keys() - named.keys())
    ended = "events.jsonl" in named and "events.jsonl" not in open_logs  # else the run was killed, or goes on
    open_logs += [name for name in unnamed if LOG.fullmatch(name) and not ended]
    altered += [Altered(name, "added", JOURNAL) for name in unnamed if name not in open_logs]
    return Compared(tuple(sorted(altered, key=lambda one: one.file)), len(named), tuple(sorted(open_logs)))


def _read(folder: Path, journals: Iterable[Path]) -> tuple[Mapping[str, _Named], list[Altered]]:
    """What the journals name, and those of them that cannot be read."""
    named: dict[str, _Named] = {}
    altered = []
    for path in journals:
        by = _name(folder, path)
        if path.is_symlink() or not path.is_file():
            altered.append(Altered(by, "a link" if path.is_symlink() else "missing", "each store"))
            continue
        try:
            found = _hashes(read_text(path, LARGEST))
        except (StoreError, ValueError):
            altered.append(Altered(by, "changed", "any journal"))
            continue
        for name, hashes in found.items():
            named.setdefault(name, _Named(set(), by)).hashes |= hashes
    return named, altered


def _hashes(text: str) -> dict[str, set[str]]:
    """The hashes that each file may have by one journal. Raises ValueError for a line that is none."""
    *lines, last = text.split("\n")
    found: dict[str, set[str]] = {}
    for line in lines:
        match = CHECKSUM.fullmatch(line)
        if match is None or not is_plain(match[2]):
            raise ValueError(line)
        found[match[2]] = {match[1]}
    if (match := CHECKSUM.fullmatch(last)) is not None:  # the process was killed while it wrote this file
        found.setdefault(match[2], {GONE}).add(match[1])
    return found


def _went_on(path: Path, hashes: set[str]) -> bool | None:
    """Whether a log has lines of another run after what it begins with by its hash; None where it is not so.

    A log of a worker has no such lines: it was taken up when the worker was gone.
    """
    if not path.is_file() or path.stat().st_size > LARGEST:
        return None
    found, last = hashlib.sha256(), b""
    rest = b"" if found.hexdigest() in hashes else None  # a worker that was killed before it said anything
    with machine_errors(path), regular(path) as file:
        while line := file.readline(_LINE_BYTES):
            found.update(line)
            if found.copy().hexdigest() in hashes:
                last, rest = line, b""
            else:
                rest = rest or line if rest is not None else None
    if not rest:
        return None if rest is None else False
    return True if path.parent.parent.name != "workers" and rest.startswith(BEGINNING) and rest != last else None
