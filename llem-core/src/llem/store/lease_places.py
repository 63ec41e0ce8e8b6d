"""The folders of leases (`llem.store.lease`): which are some, and how they are taken out of their place and removed.

A place is a real folder, and so is that of its holder, whose name is a token. Whatever else lies there is told, and
neither followed nor removed.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import stat
from pathlib import Path

from llem.errors import StoreError

__all__ = ["ASIDE", "PLACE", "TOKEN", "check_empty", "folders", "no_lease", "remove", "set_aside", "take_away"]

#: Names of a holder's folder, of the place of a lease, and of what is made ready beside it or was taken out of it.
TOKEN, PLACE, ASIDE = (re.compile(name) for name in (r"[0-9a-f]{16}", r"\.lease-\w+", r"\.lease-\w+\.[0-9a-f]{16}"))


def take_away(place: Path, experiment: Path) -> None:
    """Take a folder out of its place, so that who writes by it finds none. Without effect where it was let go."""
    with contextlib.suppress(OSError):  # it was let go meanwhile
        remove(set_aside(place, experiment), place.parent)


def set_aside(place: Path, experiment: Path) -> Path:
    """Where a holder's folder now is, for nobody to find. Raises OSError for all but one of several."""
    os.rename(place, gone := experiment / f".lease-gone.{secrets.token_hex(8)}")
    return gone


def remove(gone: Path, place: Path) -> None:
    """Remove what was set aside, and the place that it was in unless somebody has come into it."""
    shutil.rmtree(gone, ignore_errors=True)  # removes links, and follows none
    with contextlib.suppress(OSError):
        if PLACE.fullmatch(place.name):
            place.rmdir()


def folders(folder: Path, names: re.Pattern[str]) -> list[Path]:
    """Real folders with such names in a folder; none where there is no folder."""
    try:
        with os.scandir(folder) as found:
            return [Path(one.path) for one in found if names.fullmatch(one.name) and one.is_dir(follow_symlinks=False)]
    except (FileNotFoundError, NotADirectoryError):
        return []


def check_empty(where: Path) -> None:
    """Raise StoreError (store_corrupt) where something lies in the place of a lease that is no holder's folder."""
    with contextlib.suppress(FileNotFoundError):  # it was let go, or taken away, meanwhile
        for path in where.iterdir():
            if not TOKEN.fullmatch(path.name) or not stat.S_ISDIR(path.lstat().st_mode):
                raise no_lease(path)


def no_lease(path: Path) -> StoreError:
    """The error for what lies where a lease would."""
    hint = "look what it is and remove it, then go on with `--resume`"
    return StoreError(f"{path} is in the place of a lease, and is none", hint, "store_corrupt")
