"""What is known before anything is written: the identity, and everything that would fail later."""

from __future__ import annotations

from pathlib import Path

import pytest

from llem.config.load import Layer, resolve
from llem.errors import ConfigError, MachineError, UnknownPlugin
from llem.plugins.registry import registry
from llem.study.preflight import plan_experiment


def planned(**settings):
    """The plan of an experiment with echo on the CPU."""
    layer = Layer("python", {"backend": "echo", "device": "cpu", **settings})
    return plan_experiment(resolve([layer], registry()), registry())


def test_a_plan_holds_what_is_stored() -> None:
    """Identity, resolved configuration, sources, model, and how often to measure."""
    plan = planned(trials=3, max_trials=7, restarts=2, model="shape:tiny", weights_seed=5)

    assert (plan.trials, plan.max_trials, plan.restarts) == (3, 7, 2)
    assert plan.document["id"] == plan.id
    assert plan.document["config"]["backend"] == "echo"
    assert plan.document["sources"]["trials"] == "python"
    assert plan.document["model"]["name"] == "shape:tiny"
    assert (plan.document["model"]["weights"], plan.document["model"]["seed"]) == ("random", 5)


def prompts(path: Path, *lines: str) -> dict:
    """A workload of a prompt file."""
    path.write_text("".join(f"{line}\n" for line in lines))
    return {"kind": "file", "path": str(path)}


def test_the_content_of_a_prompt_file_is_its_identity(tmp_path: Path) -> None:
    """The same prompts under another name are the same experiment; another prompt is another one."""
    one = planned(workload=prompts(tmp_path / "one.txt", "Why is the sky blue?"))
    moved = planned(workload=prompts(tmp_path / "moved.txt", "Why is the sky blue?"))
    other = planned(workload=prompts(tmp_path / "one.txt", "Why is the sea blue?"))

    assert one.id == moved.id
    assert one.id != other.id


def test_a_missing_prompt_file_is_named(tmp_path: Path) -> None:
    """With the path to the setting and the file's name."""
    gone = tmp_path / "gone.jsonl"
    with pytest.raises(ConfigError) as caught:
        planned(workload={"kind": "file", "path": str(gone)})

    assert str(gone) in str(caught.value)
    assert "workload.path" in str(caught.value)


def adapter(lab: dict, name: str | None):
    """The plan of an experiment whose backend loads an adapter."""
    return planned(**{**lab, "lab": {"adapter": name}})


def test_an_adapter_on_a_hub_need_not_be_a_file(lab) -> None:
    """Its name is its identity."""
    first, second = adapter(lab, "someone/adapter"), adapter(lab, "someone/another")

    assert len({first.id, second.id, adapter(lab, None).id}) == 3
    assert adapter(lab, "someone/adapter").id == first.id


def test_an_adapter_folder_is_known_by_its_files(lab, tmp_path: Path) -> None:
    """Names within the folder and contents count; where the folder lies does not."""
    for name in ("here", "there"):
        (tmp_path / name / "sub").mkdir(parents=True)
        (tmp_path / name / "sub" / "weights.bin").write_bytes(b"\0\1")
    here, there = adapter(lab, str(tmp_path / "here")), adapter(lab, str(tmp_path / "there"))
    (tmp_path / "there" / "sub" / "weights.bin").write_bytes(b"\0\2")
    changed = adapter(lab, str(tmp_path / "there"))
    (tmp_path / "here" / "sub" / "weights.bin").rename(tmp_path / "here" / "sub" / "other.bin")
    renamed = adapter(lab, str(tmp_path / "here"))

    assert here.id == there.id
    assert len({here.id, changed.id, renamed.id}) == 3


def test_named_meters_are_tried(lab) -> None:
    """One that opens is let go again; one that does not says why; one that is not installed is unknown."""
    assert planned(**{**lab, "meters": ["steady", "watch"]}).id == planned(**lab).id
    with pytest.raises(MachineError, match="no power meter answers on the serial line"):
        planned(**{**lab, "meters": ["absent"]})
    with pytest.raises(UnknownPlugin, match="unknown meter 'stedy'"):
        planned(**{**lab, "meters": ["stedy"]})
    with pytest.raises(MachineError, match="the experiment uses no GPU"):
        planned(**{**lab, "meters": ["nvml"]})
