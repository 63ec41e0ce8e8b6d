"""Links in a store: refused where llem would write to where they lead."""

from __future__ import annotations

from pathlib import Path

import pytest

from llem.errors import StoreError
from llem.store.manifest import refuse_links


def linked(folder: Path, name: str) -> Path:
    """A link of that name, to somewhere else."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to("/nowhere")
    return path


@pytest.mark.parametrize(
    "name",
    [
        "study.json",
        "events.jsonl",
        "journal.sha256",
        "workers",
        "workers/0",
        "workers/0/log.txt",
        "environments/x.json",
        "experiments/one",
        "experiments/one/trial-0.json",
        "experiments/one/notes.txt",
    ],
)
def test_a_link_is_refused_where_llem_writes(tmp_path: Path, name: str) -> None:
    """By its path, with what to do."""
    path = linked(tmp_path, name)
    with pytest.raises(StoreError) as caught:
        refuse_links(tmp_path)
    assert (caught.value.code, caught.value.message) == ("store_linked", f"{path} is a link")


@pytest.mark.parametrize("name", ["notes.txt", "data", "data/study.json", "workers.old/0"])
def test_a_link_of_the_users_stays(tmp_path: Path, name: str) -> None:
    """It lies where llem writes nothing."""
    linked(tmp_path, name)
    refuse_links(tmp_path)
