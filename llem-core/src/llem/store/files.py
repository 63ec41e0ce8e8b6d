"""Files, written whole or not at all, and read with a message that says where they are broken."""

from __future__ import annotations

import contextlib
import errno
import gzip
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from llem.errors import ConfigError, LlemError, MachineError, StoreError
from llem.foreign.files import DOCUMENT, LARGEST, Unread, read, size_text, unpacked
from llem.store.json_text import canonical, digest, parse, parse_at, parse_whole, to_text
from llem.store.names import NUMBER

__all__ = [
    "DIGEST",
    "canonical",
    "computed_from",
    "corrupt",
    "digest",
    "gzip_bytes",
    "json_bytes",
    "machine_errors",
    "make_folder",
    "parse",
    "parse_at",
    "parsed",
    "place",
    "read_bytes",
    "read_document",
    "read_gzip",
    "read_text",
    "stored_digest",
    "stored_version",
    "sync_folder",
    "to_text",
    "write",
    "write_json",
]

#: Key under which a JSON file carries the SHA-256 of everything else in it.
DIGEST = "digest"
#: Files that grow as a run goes on: nothing is measured again for them.
OWN = ("journal.sha256", "events.jsonl", "log.txt")


def corrupt(path: Path, what: str) -> StoreError:
    """The error for a file that is not what was written."""
    return StoreError(f"{path}: {what}", _mend(path), "store_corrupt")


def _mend(path: Path) -> str:
    if path.name == "result.json":
        return "remove it: `llem run --resume` computes it again from the trials"
    if path.name in OWN:
        return "what is in its place is not what llem wrote: put that file back, or remove what is there"
    if (trial := re.match(rf"trial-{NUMBER}(?=\.)", path.name)) is None:
        return "restore the file, or measure the experiment again"
    return f"restore the file, or remove {trial[0]}.json, which `llem run --resume` then measures again"


@contextlib.contextmanager
def computed_from(path: Path) -> Iterator[None]:
    """Numbers are computed from what lies there: what cannot be is a StoreError (store_corrupt) that names it.

    Raises MachineError where the memory does not suffice, which says nothing of what lies there.
    """
    try:
        yield
    except LlemError:
        raise
    except MemoryError as error:
        hint = "end other programs, or use a machine with more memory"
        raise MachineError(f"out of memory while numbers are computed from {path}", hint) from error
    except (ArithmeticError, RecursionError, ValueError) as error:
        raise _not_computable(path, error) from error
    except (AttributeError, LookupError, TypeError) as error:
        told = _not_computable(path, error)
        hint = f"{told.hint}. If no file there was changed, it is a bug of llem or of a plugin: report it"
        raise attrs.evolve(told, hint=hint) from error


def _not_computable(path: Path, error: Exception) -> StoreError:
    return corrupt(path, f"nothing can be computed from it ({type(error).__name__}: {error})")


@contextlib.contextmanager
def machine_errors(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals into errors that say what to do, and ours of what is no file of a store."""
    try:
        yield
    except Unread as error:
        raise StoreError(f"{path} {error}", _mend(path), "store_corrupt") from error
    except OSError as error:
        raise _refusal(path, error) from error


def _refusal(path: Path, error: OSError) -> LlemError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        hint = "free some space and go on with `--resume`; what was stored before is intact"
        return MachineError(f"no space left to write {path}", hint, "disk_full")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return MachineError(f"no permission for {path}", "choose a folder that you may write, with `-o`", "permission")
    if isinstance(error, FileExistsError):
        return StoreError(f"{path} is there already and is never overwritten", "write to a new folder", "store_exists")
    if isinstance(error, FileNotFoundError):
        return StoreError(f"{path} is missing", _mend(path), "store_corrupt")
    if error.errno == errno.ELOOP:  # of what is opened without following links
        hint = "put the file itself in the place of the link, or give another path"
        return StoreError(f"{path} is a link, which leads elsewhere", hint, "store_corrupt")
    if isinstance(error, IsADirectoryError):
        hint = f"give another path, or remove {path} if nothing in it is needed"
        return StoreError(f"{path} is a folder, where llem writes a file", hint, "store_corrupt")
    if error.errno == errno.ENAMETOOLONG:
        return ConfigError(f"the name is too long for a file: {path}", "give a name of at most 255 bytes")
    reason = (error.strerror or str(error)).lower()
    return MachineError(f"{path}: {reason}", "see what the operating system reports", "machine")


def make_folder(path: Path) -> None:
    """Make a folder and those it is in. Raises MachineError where a file, or nothing at all, stands in the way."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, FileNotFoundError, NotADirectoryError) as error:
        at = f": {error.filename}" if error.filename not in (None, str(path)) else ""
        what = f"cannot make the folder {path}: {(error.strerror or str(error)).lower()}{at}"
        raise MachineError(what, "choose a folder that can be made, with `-o`") from error


def write(path: Path, content: bytes, *, replace: bool = False, stage: Path | None = None) -> None:
    """Write a file atomically: it is there whole or not at all, also when the machine stops in between. Before it gets
    its name it is in `stage`, a folder of that file system, or in its own.

    Raises StoreError (store_exists) when it is there and `replace` is False; MachineError for a full disk or a missing
    permission, with nothing left behind.
    """
    with machine_errors(path):
        make_folder(path.parent)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=stage or path.parent)
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.chmod(0o644)
            (os.replace if replace else place)(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        sync_folder(path.parent)


def place(temporary: Path, path: Path) -> None:
    """Give the file its name unless the name is taken, in one step where the file system has hard links."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:
        if path.exists():
            raise FileExistsError(errno.EEXIST, "file exists", str(path)) from None
        os.replace(temporary, path)


def sync_folder(folder: Path) -> None:
    """Have the names in a folder outlast a failure of the machine."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems cannot sync a folder
            raise
    finally:
        os.close(handle)


def json_bytes(path: Path, data: Mapping[str, Any]) -> bytes:
    """A document with its digest as it is stored. Raises StoreError for NaN and infinity, naming the file."""
    try:
        return to_text({**data, DIGEST: digest(data)}).encode()
    except ValueError as error:
        raise StoreError(f"{path}: {error}", "a value that was not measured is null, with a reason", "store") from error


def write_json(path: Path, data: Mapping[str, Any], *, replace: bool = False) -> None:
    """Write a document with its digest. Raises as `json_bytes` and `write`."""
    write(path, json_bytes(path, data), replace=replace)


def read_text(path: Path, most: int = DOCUMENT) -> str:
    """The text of a document as it lies there. Raises StoreError (store_corrupt), MachineError."""
    try:
        return read_bytes(path, most).decode()
    except UnicodeDecodeError as error:
        raise corrupt(path, f"not JSON: {error}") from error


def read_bytes(path: Path, most: int = DOCUMENT) -> bytes:
    """The content of a file of a store. Raises StoreError (store_corrupt) where it is no regular file, or too large.

    Args:
        most: bytes at most; `LARGEST` for what has lines for each file or event of a whole store.
    """
    with machine_errors(path):
        return read(path, most)


def parsed(path: Path, text: str) -> dict[str, Any]:
    """What the text of a document says. Raises StoreError (store_corrupt) with the position."""
    try:
        data = parse_whole(text)
    except ValueError as error:
        raise corrupt(path, f"not JSON: {error}") from error
    if not isinstance(data, dict):
        raise corrupt(path, "not a JSON object")
    return data


def read_document(path: Path) -> tuple[str, dict[str, Any]]:
    """The text as it lies there, and what it says. Raises as `read_text` and `parsed`."""
    text = read_text(path)
    return text, parsed(path, text)


def stored_digest(path: Path) -> tuple[Any, str]:
    """The digest a document carries, and the one its content has now.

    A changed last digit of a number can leave the number as it was: then the text is not the one that was written, and
    what is given in place of the digest says so.
    """
    text, data = read_document(path)
    try:
        written = text == to_text(data)
        stored = data.pop(DIGEST, None)
        return stored, digest(data) if written else "of a text that was changed without changing its values"
    except ValueError as error:
        raise corrupt(path, str(error)) from error


def stored_version(path: Path) -> int:
    """The schema version that a document was written in. Raises StoreError (store_corrupt) where it says none."""
    version = read_document(path)[1].get("schema_version")
    if not isinstance(version, int):
        raise corrupt(path, "schema_version is missing or not a number")
    return version


def gzip_bytes(content: bytes) -> bytes:
    """What `read_gzip` reads. Raises StoreError for more than that reads."""
    if len(content) > LARGEST:
        what = f"{size_text(len(content))} of rows: no more than {size_text(LARGEST)} can be stored in a file"
        raise StoreError(what, "use a shorter `window_s`", "store")
    return gzip.compress(content, compresslevel=6, mtime=0)  # no time stamp, so equal rows give equal bytes


def read_gzip(path: Path, begin: str = "") -> str:
    """Text of a compressed file. Raises StoreError when it is damaged (its own checksum), too large or missing, or does
    not begin so.
    """
    with machine_errors(path):
        raw = unpacked(read(path, LARGEST), begin=begin.encode())
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise corrupt(path, f"damaged: {error}") from error
