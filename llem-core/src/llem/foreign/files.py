"""Files that somebody else may have written: regular files alone, and no more of them than is asked for.

A named pipe, a device or a socket in the place of a file would keep llem waiting, or fill the memory. So would a few
bytes that unpack to many.
"""

from __future__ import annotations

import contextlib
import errno
import gzip
import io
import os
import stat
import zlib
from collections.abc import Iterator
from pathlib import Path

__all__ = ["DOCUMENT", "LARGEST", "Unread", "end_of", "growing", "read", "regular", "size_text", "unpacked"]

#: Bytes of a document at most: that of a study of 100,000 points has 30 MB.
DOCUMENT = 2**28
#: Bytes of any file at most: the published sets of conversations have under 700 MB.
LARGEST = 2**30
#: Bytes of a log's end that are looked at.
LOG = 2**20
#: What is unpacked is so many times as large at most, beyond the first bytes: rows that are alike are packed 150 times.
RATIO, FREE = 256, 2**26
#: No bytes of gzip unpack to more than so many times as many.
_DENSEST = 1032

_PIECE = 1 << 20
#: What opening answers where a link (in a ring, or where none is followed) or a socket is in the place of a file, or
#: where no file can have the name.
_NO_FILE = (errno.ELOOP, errno.ENXIO, errno.ENAMETOOLONG)
#: To open what may be no regular file: nothing waits, and no terminal becomes this process's own.
_CAREFUL = os.O_NONBLOCK | os.O_NOCTTY


class Unread(Exception):
    """Why a file is not read, in words that follow its name."""


@contextlib.contextmanager
def regular(path: str | Path) -> Iterator[io.BufferedReader]:
    """A regular file, opened to be read. Raises Unread for what is none, OSError for what the system refuses.

    A named pipe opens at once, and is refused, instead of keeping us waiting for who writes to it.
    """
    with _opened(path, os.O_RDONLY) as handle, open(handle, "rb", closefd=False) as file:
        yield file


@contextlib.contextmanager
def growing(path: str | Path) -> Iterator[io.FileIO]:
    """A regular file, opened to be read and appended to; made where there is none. Raises as `regular`.

    A link is not followed: what it leads to is not ours to write.
    """
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW
    with _opened(path, flags) as handle, open(handle, "ab+", buffering=0, closefd=False) as file:
        os.set_blocking(handle, True)  # a child may have it as its output
        yield file


@contextlib.contextmanager
def _opened(path: str | Path, flags: int) -> Iterator[int]:
    try:
        handle = os.open(path, flags | _CAREFUL, 0o666)
    except OSError as error:
        if error.errno in _NO_FILE:
            raise Unread(f"is no regular file: {os.strerror(error.errno).lower()}") from error
        raise
    try:
        mode = os.fstat(handle).st_mode
        if not stat.S_ISREG(mode):
            raise Unread("is a folder" if stat.S_ISDIR(mode) else "is no regular file")
        yield handle
    finally:
        os.close(handle)


def read(path: str | Path, most: int = DOCUMENT) -> bytes:
    """The content of a regular file. Raises Unread for what is none or has more bytes, OSError as `regular`."""
    with regular(path) as file:
        if os.fstat(file.fileno()).st_size > most:
            raise Unread(f"has more than {size_text(most)}")
        return _all(file, most)


def end_of(path: str | Path, most: int = LOG, since: int = 0) -> str:
    """Text of the last bytes of a log, of those from `since` on; empty where no regular file that may be read is there,
    for it goes into a message about something else.
    """
    try:
        with regular(path) as file:
            file.seek(max(os.fstat(file.fileno()).st_size - most, since))
            return file.read(most).decode(errors="replace")
    except (OSError, Unread):
        return ""


def unpacked(content: bytes, most: int = LARGEST, begin: bytes = b"") -> bytes:
    """What gzip has packed. Raises Unread where it is damaged, does not begin so, or has more bytes than is allowed;
    none is kept then.
    """
    most = min(most, FREE + RATIO * len(content))
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as packed:
            if packed.read(len(begin)) != begin:
                raise Unread(f"is damaged: it does not begin with {begin.decode()}")
        if len(content) * _DENSEST > most:
            _count(content, most)
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise Unread(f"is damaged: {error}") from error


def _count(content: bytes, most: int) -> None:
    with gzip.GzipFile(fileobj=io.BytesIO(content)) as packed:
        while piece := packed.read(_PIECE):
            most -= len(piece)
            if most < 0:
                raise Unread("unpacks to more than is read of such a file")


def _all(file: io.BufferedIOBase, most: int) -> bytes:
    """What is left of a file; it may grow while it is read. Raises Unread where that is more."""
    pieces, left = [], most
    while piece := file.read(_PIECE):
        pieces.append(piece)
        left -= len(piece)
        if left < 0:
            raise Unread(f"has more than {size_text(most)}")
    return b"".join(pieces)


def size_text(size: int) -> str:
    """`256 MiB`."""
    return f"{size / 2**30:g} GiB" if size >= 2**30 else f"{size / 2**20:,.0f} MiB"
