"""What is known before anything is written: the identity, and everything that would fail later."""

from __future__ import annotations

from pathlib import Path

import pytest

import llem
from llem.errors import ConfigError, MachineError, UnknownPlugin
from llem.launchers.process import ProcessLauncher
from llem.plugins.registry import registry
from llem.study.plan.expand import load
from llem.study.run.preflight import check_study


@pytest.fixture
def plan(planned):
    """The plan of an experiment with echo on the CPU."""
    return lambda **settings: planned(**{"backend": "echo", "device": "cpu", **settings})


def test_a_plan_holds_what_is_stored(plan) -> None:
    """Identity, resolved configuration, sources, model, and how often to measure."""
    made = plan(trials=3, max_trials=7, processes=2, model="shape:tiny", weights_seed=5)

    document = made.document()
    assert (made.experiment.trials, made.experiment.max_trials, made.experiment.processes) == (3, 7, 2)
    assert document["id"] == made.id
    assert document["config"]["backend"] == "echo"
    assert document["sources"]["trials"] == "python"
    assert document["model"]["name"] == "shape:tiny"
    assert (document["model"]["weights"], document["model"]["seed"]) == ("random", 5)


def prompts(path: Path, *lines: str) -> dict:
    """A workload of a prompt file."""
    path.write_text("".join(f"{line}\n" for line in lines))
    return {"kind": "file", "path": str(path)}


def test_the_content_of_a_prompt_file_is_its_identity(plan, tmp_path: Path) -> None:
    """The same prompts under another name are the same experiment; another prompt is another one."""
    one = plan(workload=prompts(tmp_path / "one.txt", "Why is the sky blue?"))
    moved = plan(workload=prompts(tmp_path / "moved.txt", "Why is the sky blue?"))
    other = plan(workload=prompts(tmp_path / "one.txt", "Why is the sea blue?"))

    assert one.id == moved.id
    assert one.id != other.id


def test_a_missing_prompt_file_is_named(plan, tmp_path: Path) -> None:
    """With the path to the setting and the file's name."""
    gone = tmp_path / "gone.jsonl"
    with pytest.raises(ConfigError) as caught:
        plan(workload={"kind": "file", "path": str(gone)})

    assert str(gone) in str(caught.value)
    assert "workload.path" in str(caught.value)


def adapter(plan, lab: dict, name: str | None):
    """The plan of an experiment whose backend loads an adapter."""
    return plan(**{**lab, "lab": {"adapter": name}})


def test_an_adapter_on_a_hub_need_not_be_a_file(plan, lab) -> None:
    """Its name is its identity."""
    first, second = adapter(plan, lab, "someone/adapter"), adapter(plan, lab, "someone/another")

    assert len({first.id, second.id, adapter(plan, lab, None).id}) == 3
    assert adapter(plan, lab, "someone/adapter").id == first.id


def test_an_adapter_folder_is_known_by_its_files(plan, lab, tmp_path: Path) -> None:
    """Names within the folder and contents count; where the folder lies does not."""
    for name in ("here", "there"):
        (tmp_path / name / "sub").mkdir(parents=True)
        (tmp_path / name / "sub" / "weights.bin").write_bytes(b"\0\1")
    here, there = adapter(plan, lab, str(tmp_path / "here")), adapter(plan, lab, str(tmp_path / "there"))
    (tmp_path / "there" / "sub" / "weights.bin").write_bytes(b"\0\2")
    changed = adapter(plan, lab, str(tmp_path / "there"))
    (tmp_path / "here" / "sub" / "weights.bin").rename(tmp_path / "here" / "sub" / "other.bin")
    renamed = adapter(plan, lab, str(tmp_path / "here"))

    assert here.id == there.id
    assert len({here.id, changed.id, renamed.id}) == 3


def test_named_meters_are_tried(plan, lab) -> None:
    """One that opens is let go again; one that does not says why; one that is not installed is unknown."""
    assert plan(**{**lab, "meters": ["steady", "watch"]}).id == plan(**lab).id
    with pytest.raises(MachineError, match="no power meter answers on the serial line"):
        plan(**{**lab, "meters": ["absent"]})
    with pytest.raises(UnknownPlugin, match="unknown meter 'stedy'"):
        plan(**{**lab, "meters": ["stedy"]})
    with pytest.raises(MachineError, match="the experiment uses no GPU"):
        plan(**{**lab, "meters": ["nvml"]})


def test_what_the_launcher_finds_wrong_leaves_nothing_behind(short, tmp_path: Path, monkeypatch) -> None:
    """The folder of the results is not made for a study whose workers could not be launched."""
    monkeypatch.setenv("PATH", str(tmp_path))
    study = {"base": short, "axes": {"echo.token_seconds": [0.001, 0.002]}}
    with pytest.raises(MachineError, match="docker is not installed"):
        llem.run_study(study, tmp_path / "study", launcher="docker")
    with pytest.raises(MachineError, match="apptainer is not installed"):
        llem.run(out=tmp_path / "one", launcher="apptainer", **short)

    assert not list(tmp_path.iterdir())


def test_the_launcher_is_asked_once_about_all_experiments(short) -> None:
    """Whatever a study needs of it is found before the first worker."""
    asked: list[list[float]] = []

    class Asked(ProcessLauncher):
        def check(self, experiments) -> None:
            asked.append([one.options.token_seconds for one in experiments])

    study = load({"base": short, "axes": {"echo.token_seconds": [0.001, 0.002]}}, (), registry())
    check_study(study, registry(), Asked())

    assert [sorted(one) for one in asked] == [[0.001, 0.002]]


def test_a_pause_for_gpus_to_cool_needs_gpus() -> None:
    """Told before an engine is loaded and warmed up for each experiment."""
    base = {"backend": "echo", "device": "cpu"}
    study = load({"base": base, "axes": {"load.batch_size": [1, 2]}, "order": {"gap_until_c": 2}}, (), registry())
    with pytest.raises(MachineError, match="gap_until_c") as caught:
        check_study(study, registry(), ProcessLauncher())

    assert "order.gap_s" in caught.value.hint
