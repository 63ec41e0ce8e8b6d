"""Names of files and folders that carry a number, and the numbers in them.

A number is written in one way: decimal digits of ASCII without zeros before them. So no two files are the same trial.
It has nine digits at most, so that every one can be counted on from, and sent to a worker.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from llem.errors import StoreError

__all__ = [
    "BASELINE",
    "ENGINE",
    "LOG",
    "NUMBER",
    "OUTCOME",
    "PROCESS",
    "TRIAL",
    "WORKER",
    "following",
    "is_odd",
    "numbered",
]

#: Of a number in a name.
NUMBER = r"(?:0|[1-9][0-9]{0,8})"
_LARGEST = 999_999_999

#: Documents of an experiment; the number is the first group.
TRIAL = re.compile(rf"trial-({NUMBER})\.json")
ENGINE = re.compile(rf"engine-({NUMBER})\.json")
OUTCOME = re.compile(rf"outcome-({NUMBER})\.json")
BASELINE = re.compile(rf"baseline-({NUMBER})-(before|after)\.json")
#: A document of an engine process, of any of these kinds.
PROCESS = re.compile(rf"(?:engine|outcome|baseline)-({NUMBER})(?:-(before|after))?\.json")
#: The folder of a worker.
WORKER = re.compile(rf"({NUMBER})")
#: Logs of events, by their paths within the store.
LOG = re.compile(rf"(?:workers/{NUMBER}/)?events\.jsonl")

_ROWS = re.compile(
    rf"experiments/[^/]+/(?:trial-{NUMBER}(?:\.power|\.requests)|baseline-{NUMBER}-(?:before|after)\.power)\.csv\.gz"
)
_DOCUMENT = re.compile(
    "experiments/[^/]+/(?:" + "|".join(one.pattern for one in (TRIAL, ENGINE, OUTCOME, BASELINE)) + ")"
)
_OF_A_WORKER = re.compile(rf"workers/{NUMBER}(?:/.*)?", re.DOTALL)
#: What looks like any of them: whoever wrote it meant a number.
_LIKE = re.compile(r"experiments/[^/]+/(?:trial|engine|outcome|baseline)-[^/]*|workers/.*", re.DOTALL | re.IGNORECASE)


def is_odd(name: str) -> bool:
    """Whether a path within a store looks like one with a number, and is none: it is not read, and never counted."""
    known = (_DOCUMENT, _ROWS, _OF_A_WORKER)
    return _LIKE.fullmatch(name) is not None and not any(one.fullmatch(name) for one in known)


def numbered(folder: Path, pattern: re.Pattern[str]) -> dict[Path, int]:
    """What of a folder has a name of this pattern, and the number in it; by the numbers."""
    matched = ((path, pattern.fullmatch(path.name)) for path in folder.glob("*"))
    return dict(
        sorted(((path, int(match[1])) for path, match in matched if match), key=lambda one: (one[1], one[0].name))
    )


def following(taken: Iterable[int], where: str) -> int:
    """The least number above all that are taken. Raises StoreError (store_corrupt) where no name could carry it."""
    number = max(taken, default=-1) + 1
    if number > _LARGEST:
        hint = f"nobody counts as far: remove what has the number {_LARGEST}, or measure into another folder"
        raise StoreError(f"{where}: no number is left", hint, "store_corrupt")
    return number
