"""Study files: what they may hold, what they include, and where each value of them stands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llem.config.layers import overlay, plain
from llem.config.study.file import Order, StudyFile, parse_study, read_study
from llem.errors import ConfigError, Problem


@pytest.fixture
def write(tmp_path: Path):
    """Write files by name into a folder; the path of the first."""

    def _write(**texts: str) -> Path:
        for name, text in texts.items():
            path = tmp_path / f"{name.replace('__', '/')}.yaml"
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        return tmp_path / f"{next(iter(texts))}.yaml"

    return _write


def base(study: StudyFile) -> Any:
    """The settings of every experiment."""
    tree: dict = {}
    for layer in study.base:
        overlay(tree, layer)
    return plain(tree)


def test_a_file_without_the_keys_of_a_study_is_one_experiment(write) -> None:
    """Its settings are the base, and it is named after the file."""
    study = read_study(write(mine="model: m\ntrials: 3\n"))

    assert (study.name, study.single, base(study)) == ("mine", True, {"model": "m", "trials": 3})
    assert [layer.source for layer in study.base] == ["file mine.yaml"]


def test_a_study_with_a_base_alone_is_one_experiment(write) -> None:
    """With the study's trials."""
    study = read_study(write(a="name: s\nbase: {model: m}\ntrials: 3\n"))

    assert (study.name, study.single, base(study)) == ("s", True, {"model": "m", "trials": 3})


def test_everything_that_varies_keeps_its_place(write) -> None:
    """Each axis, each group of a zip, each point and each exclusion knows where it stands."""
    text = """
axes: {dtype: [float16]}
zip: [{window_s: [1, 2], trials: [3, 4]}]
experiments: [{dtype: float32}]
exclude: [{dtype: float16}]
order: {kind: sequential, seed: 4}
"""
    study = read_study(write(a=text))

    assert not study.single
    assert study.axes["dtype"].where == "a.yaml: axes.dtype"
    assert [{key: one.where for key, one in group.items()} for group in study.zips] == [
        {"window_s": "a.yaml: zip[0].window_s", "trials": "a.yaml: zip[0].trials"}
    ]
    assert [one.where for one in study.experiments] == ["a.yaml: experiments[0]"]
    assert [one.where for one in study.exclude] == ["a.yaml: exclude[0]"]
    assert study.order == Order(kind="sequential", seed=4)
    assert study.texts == {"a.yaml": text}


def test_secrets_in_comments_are_not_kept(write, monkeypatch) -> None:
    """The text of a study is stored, and stores are handed on."""
    monkeypatch.setenv("HF_TOKEN", "envsecret99")
    text = "# OPENAI_API_KEY=abc, or sk-abcdefgh12345678; at the hub envsecret99\nmodel: m\n"
    study = read_study(write(a=text))

    assert study.texts == {"a.yaml": "# OPENAI_API_KEY=***, or ***; at the hub ***\nmodel: m\n"}


def test_included_files_lie_under_the_one_that_includes_them(write) -> None:
    """Settings and axes key by key, lists whole; later files over earlier ones; paths are relative to each file."""
    path = write(
        main="includes: [parts/one.yaml, parts/two.yaml]\nbase: {load: {batch_size: 8}}\naxes: {dtype: [float32]}\n",
        parts__one="includes: [deep.yaml]\nname: one\nbase: {model: one, sampling.seed: 1}\nexclude: [{dtype: a}]\n",
        parts__two="model: two\n",
        parts__deep="axes: {dtype: [float16], window_s: [1]}\n"
        "base: {model: deep, revision: r}\nexclude: [{dtype: b}]\n",
    )
    study = read_study(path)

    assert base(study) == {"model": "two", "revision": "r", "sampling": {"seed": 1}, "load": {"batch_size": 8}}
    assert [layer.source for layer in study.base] == [
        "file parts/deep.yaml",
        "file parts/one.yaml",
        "file parts/two.yaml",
        "file main.yaml",
    ]
    assert {path: (axis.value, axis.where) for path, axis in study.axes.items()} == {
        "dtype": (["float32"], "main.yaml: axes.dtype"),
        "window_s": ([1], "parts/deep.yaml: axes.window_s"),
    }
    assert [one.where for one in study.exclude] == ["parts/one.yaml: exclude[0]"]
    assert study.name == "one"


def test_a_base_may_be_the_name_of_a_file(write) -> None:
    """Its settings are the base."""
    study = read_study(write(main="base: common.yaml\naxes: {dtype: [float16]}\n", common="model: m\n"))

    assert base(study) == {"model": "m"}


def test_a_file_may_be_included_twice_but_not_by_itself(write) -> None:
    """Two ways to one file are fine; a ring is named."""
    fine = write(
        main="includes: [a.yaml, b.yaml]\n", a="includes: [c.yaml]\n", b="includes: [c.yaml]\n", c="model: m\n"
    )
    assert base(read_study(fine)) == {"model": "m"}

    ring = write(main="includes: [a.yaml]\n", a="includes: [main.yaml]\n")
    with pytest.raises(ConfigError, match=r"main.yaml includes itself: main.yaml → a.yaml → main.yaml"):
        read_study(ring)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("includes: [gone.yaml]\n", "includes[0]: no file gone.yaml (a path relative to a.yaml)"),
        ("includes: gone.yaml\n", "includes: must be a list of files, got the text 'gone.yaml' (write [FILE])"),
        ("includes: [3]\n", "includes[0]: must be the name of a file, got the number 3 (a path relative to a.yaml)"),
        ("base: gone.yaml\n", "base: no file gone.yaml (a path relative to a.yaml)"),
        ("name: s\naxs: {}\n", "axs: unknown field of a study (did you mean 'axes'?)"),
        ("base: {}\nmodel: m\n", "model: unknown field of a study (settings of the experiment go under `base`)"),
        ("base: 3\n", "base: must be a section or the name of a file, got the number 3"),
        ("name: 3\n", "name: must be text, got the number 3"),
        ("base: {trials: 1}\ntrials: 2\n", "trials: stands both here and under `base` (keep one of the two)"),
        ("base: {}\nquality: {}\n", "quality: unknown field of a study (settings of the experiment go under `base`)"),
        ("axes: [1]\n", "axes: must be a section of paths with their values, got a list (such as {load.batch_size: "),
        ("axes: {load..x: [1]}\n", "axes.load..x: is no path to a setting (write a path such as load.batch_size)"),
        ("zip: 3\n", "zip: must be a section of paths with their values, got the number 3 "),
        ("experiments: {dtype: float16}\n", "experiments: must be a list of sections, got a section (begin each with "),
        ("exclude: [float16]\n", "exclude[0]: must be a section of paths with their values, got the text 'float16'"),
        ("exclude: [{}]\n", "exclude[0]: is empty, and so would leave out every point (remove it)"),
        (
            "order: {kind: random}\n",
            "order.kind: must be one of 'blocks', 'sequential', 'reverse', 'williams', got the text 'random'",
        ),
        ("order: 3\n", "order: must be a section, got the number 3"),
    ],
)
def test_what_no_study_has_is_refused_at_its_path(write, text: str, problem: str) -> None:
    """One problem, with the file in the message."""
    with pytest.raises(ConfigError) as caught:
        read_study(write(a=text))

    assert caught.value.message == "invalid study in file a.yaml"
    [told] = [str(one) for one in caught.value.problems]
    assert told.startswith(problem)


def test_where_a_value_stands(write) -> None:
    """A setting under `base`, `trials` beside it, a setting of a plain file, and one of a flag."""
    study = read_study(write(a="includes: [b.yaml]\nbase: {}\ntrials: 3\n", b="model: m\n"))
    places = {
        Problem("load.batch_size", "", source="file a.yaml"): "a.yaml: base.load.batch_size",
        Problem("trials", "", source="file a.yaml"): "a.yaml: trials",
        Problem("model", "", source="file b.yaml"): "b.yaml: model",
        Problem("dtype", "", source="flag --set"): "flag --set: dtype",
    }

    assert {problem: study.where(problem) for problem in places} == places


def test_a_mapping_is_a_study_too() -> None:
    """With its own source, and the text that a file would have."""
    study = parse_study({"base": {"model": "m"}, "axes": {"dtype": ["float16"]}})

    assert study.axes["dtype"].where == "python: axes.dtype"
    assert study.texts == {"python": "base:\n  model: m\naxes:\n  dtype: [float16]\n"}


@pytest.mark.parametrize(
    ("reference", "problem"),
    [
        ("first", "reference: must be a section of paths with the values of one point, got the text 'first' "
         "(such as {load.batch_size: 32})"),
        ({}, "reference: names no point (such as {load.batch_size: 32})"),
        ({"processes": 4}, "reference: names no point (such as {load.batch_size: 32})"),
        ({"dtype": "float16", "processes": 2},
         "reference.processes: must be a whole number of engine processes, 3 at least, got the number 2"),
        ({"dtype": "float16", "processes": True},
         "reference.processes: must be a whole number of engine processes, 3 at least, got true"),
    ],
)  # fmt: skip
def test_a_reference_is_the_values_of_a_point(reference, problem) -> None:
    """Anything else is refused with what would be right."""
    with pytest.raises(ConfigError) as caught:
        parse_study({"axes": {"dtype": ["float16"]}, "reference": reference})

    assert [str(one) for one in caught.value.problems] == [problem]


def test_the_last_file_says_the_reference(write) -> None:
    """It knows where it stands; null takes away that of an included file."""
    shared = "axes: {dtype: [float16, bfloat16]}\nreference: {dtype: float16}\n"
    included = read_study(write(a="includes: [b.yaml]\nname: s\n", b=shared)).reference
    taken = read_study(write(a="includes: [b.yaml]\nreference: null\n", b=shared)).reference

    assert included is not None
    assert (included.value, included.where) == ({"dtype": "float16"}, "b.yaml: reference")
    assert taken is None
