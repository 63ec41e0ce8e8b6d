"""What a process holds of the experiments of a store, and which lease it writes a file by."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from llem.errors import MachineError, StoreError
from llem.store.journal import Journal
from llem.store.lease import Claim, Holder, Lease
from llem.store.leases import QUALITY, Leases


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An experiment's."""
    path = tmp_path / "experiments" / "abc"
    path.mkdir(parents=True)
    return path


def taken(folder: Path, part: str, worker: int = 0) -> Lease:
    """The lease of a part, from whoever has it."""
    claim = Claim(folder, part, Holder.here(worker), silence_s=0.0)
    lease = claim.attempt() or claim.attempt()
    assert lease is not None
    claim.close()
    return lease


@pytest.mark.parametrize(("kept", "lost"), [("0", QUALITY), (QUALITY, "0")])
def test_each_part_is_written_by_its_own_lease(folder: Path, kept: str, lost: str) -> None:
    """What another worker has taken over is not written by the lease of another part, nor kept from that."""
    leases = Leases(Journal(folder.parents[1]))
    for part in ("0", QUALITY):
        leases.add("abc", part, taken(folder, part))
    taken(folder, lost, worker=1)
    with pytest.raises(StoreError) as caught:
        leases.write(folder / "lost", b"", part=lost)
    assert caught.value.code == "lease_lost"
    leases.write(folder / "kept", b"", part=kept)
    assert sorted(path.name for path in folder.glob("[!.]*")) == ["kept"]


def test_a_full_disk_is_no_lost_lease(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The refusal of the system is told while the lease is held."""
    leases = Leases(Journal(folder.parents[1]))
    leases.add("abc", "0", taken(folder, "0"))

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(MachineError) as caught:
        leases.write(folder / "a", b"", part="0")
    assert caught.value.code == "disk_full"
