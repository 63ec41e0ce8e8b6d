"""A stored experiment, written as a study, is that experiment again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from llem.config.study.file import parse_study
from llem.config.text import parse_yaml
from llem.errors import StoreError
from llem.plugins.registry import registry
from llem.reports.emit import deployment, study_yaml
from llem.store.store import Store
from llem.study.plan.again import measured_again
from llem.study.plan.expand import expand, load
from llem.study.plan.study import Study, study_document

ECHO = {"backend": "echo", "device": "cpu"}
OPENAI = {
    "backend": "openai",
    "device": "cpu",
    "dtype": "auto",
    "openai": {"served_model": "m", "extra_body": {"a.b": {"c": [1, None]}}},
}
CONFIGS: dict[str, dict[str, Any]] = {
    "defaults": ECHO,
    "nothing is measured": {**ECHO, "meters": [], "baseline": {"seconds": 0}},
    "meter with a section": {**ECHO, "meters": ["rapl", "nvml"]},
    "preset": {**ECHO, "preset": "quick", "trials": 4},
    "preset, and a value of it changed": {**ECHO, "preset": "publication", "warmup": {"seconds": 3}},
    "closed": {**ECHO, "load": {"kind": "closed", "concurrency": 8}, "slo": {"ttft_s": 0.5}},
    "open": {**ECHO, "load": {"kind": "open", "request_rate": 12.5}},
    "share of capacity": {**ECHO, "load": {"kind": "open", "capacity_share": 0.7, "probe_seconds": 5}},
    "a given default": {**ECHO, "dtype": "bfloat16", "load": {"batch_size": 1}},
    "lengths": {**ECHO, "workload": {"input_tokens": {"kind": "uniform", "low": 4, "high": 9}, "output_tokens": 8}},
    "sampling": {**ECHO, "sampling": {"temperature": 0.7, "top_p": 0.9, "ignore_eos": False}},
    "pytorch": {
        "backend": "pytorch",
        "device": "cpu",
        "pytorch": {
            "attn_implementation": "eager",
            "torch_compile": True,
            "extra_generation": {"renormalize_logits": True},
        },
        "processes": 3,
        "trials": 6,
    },
    "vllm": {
        "backend": "vllm",
        "gpus": 2,
        "vllm": {
            "tensor_parallel_size": 2,
            "max_num_seqs": 64,
            "extra": {"max_logprobs": 7},
            "cudagraph_capture_sizes": [1, 2],
        },
        "load": {"kind": "closed", "concurrency": 4},
    },
    "openai": OPENAI,
    "quality": {**ECHO, "quality": {"evaluator": "perplexity", "tasks": ["texts.txt"], "force": True}},
    "texts of a file": {**ECHO, "workload": {"kind": "file", "path": "texts.txt"}},
}


@pytest.fixture
def folder(isolated_llem: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a file of texts."""
    where: Path = isolated_llem.folder
    (where / "texts.txt").write_text("one prompt of words\nanother prompt\n")
    return where


@pytest.fixture
def stored(folder: Path) -> Callable[..., tuple[Store, Study]]:
    """A store of a study whose experiments have begun: `stored(study, layers)`."""

    def make(document: Mapping[str, Any], trials: int = 0) -> tuple[Store, Study]:
        study = load(document, (), registry(), unmet=True)
        store = Store.create(folder / "measured", study_document(study))
        for one in study.experiments:
            store.write_experiment(one.id, one.document())
            for number in range(trials):
                (store.folder(one.id) / f"trial-{number}.json").write_text("{}")
        return store, study

    return make


def planned(text: str) -> Study:
    """What `llem plan` makes of a file."""
    return load(dict(parse_yaml(text)), (), registry(), unmet=True)


@pytest.mark.parametrize(
    "config",
    [pytest.param(one, id=name, marks=pytest.mark.backends(one["backend"])) for name, one in CONFIGS.items()],
)
def test_one_experiment_is_the_same_again(stored, folder: Path, config: Mapping[str, Any]) -> None:
    """The file gives the same id, the same configuration, and says where it is from."""
    store, study = stored(config)
    [before] = study.experiments
    text = study_yaml(store, [before.id[:6]])
    [after] = planned(text).experiments

    assert after.id == before.id
    was, now = before.document()["config"], after.document()["config"]
    if "path" in was["workload"]:
        was["workload"]["path"] = str(folder / was["workload"]["path"])
    if was["quality"]:
        was["quality"]["tasks"] = [str(folder / "texts.txt")]
    assert now == was
    assert text.startswith(f"# Measures experiment {before.id} again, of the study 'llem'.\n")
    assert "Note" not in text


def test_only_what_was_asked_for_is_written(stored) -> None:
    """Defaults and the preset's values are left out, and a given value stands also where it is the default."""
    store, study = stored({**ECHO, "preset": "quick", "dtype": "bfloat16", "load": {"batch_size": 4}})
    again = measured_again(store, [study.experiments[0].id], registry())

    assert again.document == {
        "model": "shape:tiny",
        "backend": "echo",
        "dtype": "bfloat16",
        "device": "cpu",
        "load": {"batch_size": 4},
        "preset": "quick",
    }


def test_a_default_that_has_changed_is_written(stored) -> None:
    """What was the default then and is another one now stands in the file."""
    store, study = stored(ECHO)
    [one] = study.experiments
    document = one.document()
    document["config"]["window_s"] = 7.0  # as an earlier version's default
    store.write_experiment(one.id, document, replace=True)

    assert measured_again(store, [one.id], registry()).document["window_s"] == 7.0


def test_files_are_found_from_any_folder(stored, folder: Path, tmp_path_factory, monkeypatch) -> None:
    """A relative path becomes absolute; one that is not there stays, with a note."""
    store, study = stored({**ECHO, "workload": {"kind": "file", "path": "texts.txt"}})
    name = study.experiments[0].id
    text = study_yaml(store, [name])
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    monkeypatch.chdir(elsewhere)

    assert [one.id for one in planned(text).experiments] == [name]
    assert str(folder / "texts.txt") in text
    lost = study_yaml(store, [name])
    assert f"# Note: workload.path names texts.txt, which is not there from {elsewhere}." in lost
    assert "# Note: it cannot be planned here:" in lost


def test_a_file_that_has_changed_is_another_experiment(stored, folder: Path) -> None:
    """The header says that the file no longer gives what was measured."""
    store, study = stored({**ECHO, "workload": {"kind": "file", "path": "texts.txt"}})
    name = study.experiments[0].id
    (folder / "texts.txt").write_text("other words\n")

    assert f"in place of {name}" in study_yaml(store, [name]).replace("\n#", "")


def test_several_experiments_share_a_base(stored) -> None:
    """What they have in common stands in `base`, the rest in `experiments`, also where it is the default."""
    axes = {"load.batch_size": [1, 8], "dtype": ["float32", "bfloat16"], "sampling.top_k": [None, 5]}
    store, study = stored({"name": "mine", "base": {**ECHO, "trials": 4}, "axes": axes, "order": {"gap_s": 2.0}})
    ids = [one.id for one in study.experiments]
    document = measured_again(store, ids, registry()).document
    text = study_yaml(store, ids)

    assert document["name"] == "mine"
    assert document["base"] == {"model": "shape:tiny", "backend": "echo", "device": "cpu", "trials": 4}
    assert document["experiments"][0].keys() == {"dtype", "load.batch_size", "sampling.top_k"}
    assert document["order"] == {"gap_s": 2.0}
    assert {one.id for one in planned(text).experiments} == set(ids)
    assert "\nexperiments:\n  - {" in text
    one = measured_again(store, ids[:1], registry()).document
    assert set(one) == {"name", "base", "order"}
    assert [found.id for found in planned(study_yaml(store, ids[:1])).experiments] == ids[:1]


@pytest.mark.backends("pytorch", "openai")
def test_backends_with_sections_of_their_own(stored) -> None:
    """Settings of one backend's section stand at its experiments alone."""
    points = [
        {"backend": "echo", "echo.token_seconds": 0.5},
        {"backend": "pytorch", "pytorch.num_threads": 1, "load": {"kind": "offline", "batch_size": 3}},
        OPENAI,
    ]
    store, study = stored({"base": {"device": "cpu"}, "experiments": points})
    ids = [one.id for one in study.experiments]

    assert {one.id for one in planned(study_yaml(store, ids)).experiments} == set(ids)


def test_the_reference_is_the_reference_again(stored) -> None:
    """With several experiments it keeps its processes as the reference; alone it has them as its own."""
    axes = {"load.batch_size": [1, 8], "dtype": ["float32", "bfloat16"]}
    asked = {"load.batch_size": 8, "dtype": "float32", "processes": 4}
    store, study = stored({"base": ECHO, "axes": axes, "reference": asked})
    ids = [one.id for one in study.experiments]
    again = planned(study_yaml(store, ids))
    alone = measured_again(store, [str(study.reference)], registry()).document

    assert again.reference == study.reference
    assert {one.id: one.experiment.processes for one in again.experiments} == {
        name: 4 if name == study.reference else 1 for name in ids
    }
    assert alone["processes"] == 4
    assert (
        "reference" not in measured_again(store, [name for name in ids if name != study.reference], registry()).document
    )


@pytest.mark.parametrize(
    ("before", "stored_trials", "processes", "trials"), [(1, 5, 3, 15), (2, 8, 3, 12), (2, 5, 1, 3)]
)
def test_other_processes_have_as_many_trials_each(
    stored, before: int, stored_trials: int, processes: int, trials: int
) -> None:
    """Five trials of one process are fifteen of three; an odd one out counts for every process."""
    store, study = stored({**ECHO, "processes": before}, trials=stored_trials)
    name = study.experiments[0].id
    [again] = planned(study_yaml(store, [name], processes)).experiments

    assert again.id == name
    assert (again.experiment.processes, again.experiment.trials, again.experiment.max_trials) == (
        processes,
        trials,
        trials,
    )


def test_quality_may_be_left_out(stored) -> None:
    quality = {"evaluator": "perplexity", "tasks": ["texts.txt"], "force": True}
    store, study = stored({**ECHO, "quality": quality})
    name = study.experiments[0].id

    assert "quality" not in measured_again(store, [name], registry(), quality=False).document
    assert "quality" in measured_again(store, [name], registry()).document


@pytest.mark.parametrize("ids", [[], ["a", "a"]])
def test_each_is_named_once(stored, ids: Sequence[str]) -> None:
    store, study = stored(ECHO)
    with pytest.raises(StoreError, match="named once"):
        measured_again(store, ids and [study.experiments[0].id] * len(ids), registry())


def test_an_unknown_id_is_refused(stored) -> None:
    store, _ = stored(ECHO)
    with pytest.raises(StoreError, match="no experiment 'zzz'"):
        study_yaml(store, ["zzz"])


def test_a_backend_that_tells_no_commands_is_refused(stored) -> None:
    """`echo` only plays at inference."""
    store, study = stored(ECHO)
    with pytest.raises(StoreError, match="'echo' does not say how") as refused:
        deployment(store, study.experiments[0].id)
    assert refused.value.code == "no_deployment"


@pytest.mark.parametrize(
    ("name", "word"),
    [
        pytest.param("vllm", "vllm serve YOUR_MODEL", marks=pytest.mark.backends("vllm")),
        pytest.param("pytorch", "AutoModelForCausalLM", marks=pytest.mark.backends("pytorch")),
        pytest.param("openai", "curl ", marks=pytest.mark.backends("openai")),
    ],
)
def test_commands_come_from_the_stored_configuration(stored, name: str, word: str) -> None:
    """Of each backend, without its engine."""
    store, study = stored(CONFIGS[name])
    found = deployment(store, study.experiments[0].id[:8])

    assert word in (found.shell or "") + (found.python or "")
    if name == "vllm":
        assert "--max-num-seqs 64" in found.shell
        assert "--max-logprobs 7" in found.shell


def test_parse_study_takes_the_document(stored) -> None:
    """The mapping itself is a study, as a run takes it."""
    store, study = stored({"base": ECHO, "axes": {"load.batch_size": [1, 2]}})
    again = measured_again(store, [one.id for one in study.experiments], registry())

    assert len(expand(parse_study(again.document), registry()).experiments) == 2
