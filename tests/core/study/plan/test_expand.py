"""A study to its experiments: what is left out, for which reason, and whose mistake it is."""

from __future__ import annotations

import gc
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llem.config.arrival import ClosedLoad, OfflineLoad
from llem.config.layers import Layer
from llem.config.study.file import read_study
from llem.errors import BrokenPlugin, ConfigError, UnknownPlugin
from llem.findings import finding
from llem.plugins.registry import registry
from llem.study.plan.expand import expand
from llem.study.plan.study import Study, study_document

Make = Callable[..., Study]
ECHO = {"backend": "echo", "device": "cpu"}


def told(error: pytest.ExceptionInfo[ConfigError]) -> list[str]:
    """The problems of an error, as a user reads them."""
    return [str(problem) for problem in error.value.problems]


def shown(study: Study) -> list[dict]:
    """What the experiments set, in running order."""
    return [dict(one.point.values) for one in study.experiments]


def test_each_point_is_resolved_on_top_of_the_base(study: Make) -> None:
    """Values of the point lie over the base, flags over both; each says where it came from."""
    made = study(
        base={**ECHO, "load": {"batch_size": 2}, "sampling.seed": 1},
        overrides={"window_s": 3},
        axes={"load.batch_size": [4, 8], "window_s": [1]},
        order={"kind": "sequential"},
    )
    [one, other] = made.experiments

    assert (one.experiment.load.batch_size, other.experiment.load.batch_size) == (4, 8)
    assert (one.experiment.sampling.seed, one.experiment.window_s) == (1, 3.0)
    told_sources = {path: one.sources[path] for path in ("load.batch_size", "sampling.seed", "window_s")}
    assert told_sources == {
        "load.batch_size": "point of the study",
        "sampling.seed": "python",
        "window_s": "flag --set",
    }
    assert made.axes == ("load.batch_size", "window_s")


def test_cycles_of_objects_are_looked_for_again_afterwards(study: Make) -> None:
    """While points are resolved they are not; after a refusal they are, and it stays off where it was."""
    study(base=ECHO, axes={"window_s": [1, 2]})
    with pytest.raises(ConfigError):
        study(base=ECHO, axes={"window_s": ["long", "longer"]})
    assert gc.isenabled()
    gc.disable()
    try:
        study(base=ECHO, axes={"window_s": [1, 2]})
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_an_invalid_value_costs_its_points_and_is_told_at_its_place(study: Make) -> None:
    """File, axis and index; the other points run."""
    made = study(axes={"load.batch_size": [1, "x", 0], "dtype": ["float16", "float32"]})

    assert (made.declared, len(made.experiments), len(made.invalid)) == (6, 2, 4)
    assert {str(problem) for one in made.invalid for problem in one.problems} == {
        "python: axes.load.batch_size[1]: must be an integer, got the text 'x'",
        "python: axes.load.batch_size[2]: must be at least 1, got 0",
    }


def test_limits_of_latencies_cost_the_points_with_an_offline_load(study: Make) -> None:
    """There they would judge nothing; the points that serve have them."""
    made = study(
        base={**ECHO, "slo": {"ttft_s": 1}}, axes={"load": [{"kind": "offline"}, {"kind": "closed", "concurrency": 2}]}
    )
    [invalid] = made.invalid

    assert shown(made) == [{"load": {"kind": "closed", "concurrency": 2}}]
    assert str(invalid.problems[0]).startswith("python: base.slo: limits the latencies of a serving load")


def test_the_place_of_a_wrong_value_names_the_file(tmp_path: Path) -> None:
    """Of the study and of what it includes, also for a fault in the base that some points mend."""
    (tmp_path / "common.yaml").write_text("base: {backend: echo, device: cpu, load: {batch_size: 1.5}}\n")
    (tmp_path / "study.yaml").write_text(
        "includes: [common.yaml]\n"
        "axes: {dtype: [float16, float61]}\n"
        "experiments: [{load.batch_size: 3}, {load.batch_size: 3, trails: 2}]\n"
    )
    made = expand(read_study(tmp_path / "study.yaml"), registry())
    reasons = [[str(problem) for problem in one.problems] for one in made.invalid]

    assert reasons[0] == ["common.yaml: base.load.batch_size: must be an integer, got the number 1.5"]
    assert any("study.yaml: axes.dtype[1]: must be one of" in reason for reason in reasons[1])
    assert reasons[2] == ["study.yaml: experiments[1].trails: unknown field (did you mean 'trials'?)"]
    assert shown(made) == [{"load.batch_size": 3}]


@pytest.mark.parametrize(
    ("parts", "problem"),
    [
        (
            {"base": {**ECHO, "load.batch_sise": 3}, "axes": {"dtype": ["float16", "float32"]}},
            "python: base.load.batch_sise: unknown field (did you mean 'batch_size'?)",
        ),
        (
            {"axes": {"load.batch_sise": [1, 2], "dtype": ["float16"]}, "experiments": [{}]},
            "python: axes.load.batch_sise: unknown field (did you mean 'batch_size'?)",  # once, not for each value
        ),
        (
            {"trials": 0, "axes": {"dtype": ["float16", "float32"]}},
            "python: trials: must be between 1 and 100000, got 0",
        ),
        (
            {"axes": {"dtype": ["float16", "float32"]}, "overrides": {"window_s": "long"}},
            "flag --set: window_s: must be a number, got the text 'long'",
        ),
        (
            {"axes": {"backend": {"echo": {"echo.tokenseconds": [1]}}}, "experiments": [{}]},
            "python: axes.backend.echo.echo.tokenseconds[0]: unknown field (did you mean 'token_seconds'?)",
        ),
    ],
)
def test_what_is_wrong_wherever_it_is_used_is_the_studys_mistake(study: Make, parts: dict, problem: str) -> None:
    """A shared setting, or a whole axis: nothing runs, though other points would be well."""
    with pytest.raises(ConfigError) as caught:
        study(**parts)

    assert caught.value.message == "invalid study 'llem'"
    assert [told(caught)[0].startswith(problem), len(told(caught))] == [True, 1]


def test_what_is_wrong_within_each_value_of_an_axis_is_told_of_each(study: Make) -> None:
    """Its place is not the axis."""
    with pytest.raises(ConfigError) as caught:
        study(axes={"load": [{"batchsize": 1}, {"batchsize": 1}]})

    assert told(caught) == [
        "python: axes.load[0].batchsize: unknown field (did you mean 'batch_size'?)",
        "python: axes.load[1].batchsize: unknown field (did you mean 'batch_size'?)",
    ]


def test_a_study_of_which_no_point_runs_is_an_error(study: Make, lab, monkeypatch) -> None:
    """The commonest reasons come first, each with the number of its points."""
    import llem_lab

    def refuse(self, experiment, model):
        message = "lab.after: too late" if experiment.load.batch_size > 1 else "too small"
        return [finding("backend_check", message, parameter="lab.after" if "late" in message else "lab")]

    monkeypatch.setattr(llem_lab.LabBackend, "check", refuse)
    with pytest.raises(ConfigError) as caught:
        study(base={**lab, "lab": {"after": 3}}, axes={"load.batch_size": [1, 2, 3]})

    assert caught.value.message == "no point of 'llem' can run"
    assert told(caught) == ["lab.after: too late [2 points]", "lab: too small [1 point]"]


def test_what_a_backend_refuses_is_left_out_with_its_words(study: Make, lab, monkeypatch) -> None:
    """A refusal is told at the axis that sets the parameter it names, and never makes the study an error by itself."""
    import llem_lab

    def refuse(self, experiment, model):
        late = self.options.after > 1
        return [finding("backend_check", "lab.after: too late", parameter="lab.after")] if late else []

    monkeypatch.setattr(llem_lab.LabBackend, "check", refuse)
    made = study(base=lab, axes={"lab.after": [0, 2], "dtype": ["float16", "float32"]})

    assert len(made.experiments) == 2
    assert [str(one.problems[0]) for one in made.invalid] == ["python: axes.lab.after[1]: too late"] * 2


def test_a_model_that_is_not_there_is_a_reason_like_any(study: Make) -> None:
    """At the axis of models, with what a model may be."""
    made = study(axes={"model": ["shape:tiny", "shape:tinny"]})

    [invalid] = made.invalid
    assert str(invalid.problems[0]).startswith("python: axes.model[1]: unknown shape 'tinny' (did you mean shape:tiny?")


def test_a_plugin_that_is_not_installed_ends_the_study(study: Make) -> None:
    """Half of a comparison must not go missing because of a missing package."""
    with pytest.raises(UnknownPlugin, match=r"^python: axes.backend\[1\]: unknown backend 'ecko'"):
        study(axes={"backend": ["echo", "ecko"]})
    with pytest.raises(UnknownPlugin, match=r"^python: axes.backend.ecko: unknown backend 'ecko'"):
        study(axes={"backend": {"echo": {}, "ecko": {}}})
    with pytest.raises(UnknownPlugin, match=r"^unknown backend 'ecko'"):
        study({"backend": "ecko"}, axes={"load.batch_size": [1, 2]})


def test_what_stands_in_another_backends_section_is_told(study: Make, lab) -> None:
    """It sets nothing; where it does for some of its points, it is as it should be."""
    nested = study(axes={"backend": {"echo": {"lab.limit": [1]}, "lab": {"lab.after": [0]}}})
    by_hand = study(experiments=[{"backend": "lab", "echo.token_seconds": 0.1}, {"backend": "echo"}])
    crossed = study(axes={"backend": ["echo", "lab"], "lab.limit": [1, 2]})

    sets_nothing = "is in the section of a backend that none of its points has, and sets nothing"
    assert nested.notes == (f"python: axes.backend.echo.lab.limit {sets_nothing}",)
    assert by_hand.notes == (f"python: experiments[0].echo.token_seconds {sets_nothing}",)
    assert crossed.notes == ()


# sections of backends


def test_a_shared_section_is_for_its_own_backends_points(study: Make, lab) -> None:
    """Points of other backends are not invalid because of it, and those of its backend have it."""
    base = {**lab, "echo": {"token_seconds": 0.5}, "lab": {"after": 7}}
    made = study(base=base, axes={"backend": ["echo", "lab"]}, order={"kind": "sequential"})
    echo, lab_one = (entry.experiment for entry in made.experiments)

    assert made.invalid == ()
    assert echo.options.token_seconds == 0.5
    assert lab_one.options.after == 7


@pytest.mark.parametrize(
    ("section", "problem"),
    [
        ({"afterr": 7}, "python: base.lab.afterr: unknown field (did you mean 'after'?)"),
        ({"after": "late"}, "python: base.lab.after: must be an integer, got the text 'late'"),
        (3, "python: base.lab: must be a section, got the number 3"),
    ],
)
def test_a_shared_section_is_checked_though_no_point_uses_it(study: Make, lab, section: object, problem: str) -> None:
    """An unknown field or a wrong type in it is the study's mistake."""
    with pytest.raises(ConfigError) as caught:
        study(base={**lab, "backend": "echo", "lab": section}, axes={"dtype": ["float16", "float32"]})

    assert told(caught) == [problem]


def test_a_section_of_no_points_backend_is_noted(study: Make, lab) -> None:
    """It changes nothing, which nobody means."""
    made = study(base={**lab, "backend": "echo", "lab": {"after": 1}}, axes={"dtype": ["float16", "float32"]})

    assert made.notes == ("no point uses the section 'lab'",)


def test_the_section_of_a_plugin_that_is_not_installed_is_told(study: Make) -> None:
    """It cannot be checked, so it is refused."""
    with pytest.raises(ConfigError) as caught:
        study(base={**ECHO, "slurm": {"a": 1}}, axes={"dtype": ["float16", "float32"]})

    assert told(caught) == [
        "python: base.slurm: is the section of a plugin that is not installed (remove it, or pip install llem-slurm)"
    ]


def test_a_meters_section_is_shared_too(study: Make, lab) -> None:
    """Where the meter is used."""
    base = {**lab, "meters": ["steady"], "steady": {"watts": 80.0}}
    made = study(base=base, axes={"dtype": ["float16", "float32"]})

    assert [one.experiment.meter_options["steady"].watts for one in made.experiments] == [80.0, 80.0]


def test_an_axis_of_one_backend_does_not_multiply_the_others(study: Make, lab) -> None:
    """Its values are dropped where they do not belong; the points that are then the same are merged."""
    made = study(base=lab, axes={"lab.after": [1, 2], "backend": ["echo", "lab"]}, order={"kind": "sequential"})

    assert shown(made) == [
        {"backend": "echo"},
        {"lab.after": 1, "backend": "lab"},
        {"lab.after": 2, "backend": "lab"},
    ]
    assert [dict(one.point.values) for one in made.merged] == [{"backend": "echo"}]


def test_loads_of_several_kinds_are_one_axis(study: Make, lab) -> None:
    """Each kind with its own settings; the base's load gives way where the kind is another."""
    base = {**lab, "load": {"kind": "offline", "batch_size": 32}}
    made = study(
        base=base,
        axes={"load.kind": {"offline": {"load.batch_size": [1, 2]}, "closed": {"load.concurrency": [4]}}},
        order={"kind": "sequential"},
        experiments=[{"load": {"kind": "closed", "concurrency": 5}}],
    )
    loads = [entry.experiment.load for entry in made.experiments]

    assert loads == [
        OfflineLoad(batch_size=1),
        OfflineLoad(batch_size=2),
        ClosedLoad(concurrency=4),
        ClosedLoad(concurrency=5),
    ]


# exclude


@pytest.mark.parametrize(
    ("entry", "left"),
    [
        ({"dtype": "float16"}, 3),
        ({"dtype": "float16", "load.batch_size": 1}, 5),
        ({"load": {"batch_size": 1}}, 4),
        ({"load.batch_size": [1, 2]}, 2),
        ({"load.batch_size": 1.0}, 4),
        ({"load.batch_size": 7}, 6),
        ({"backend": "echo", "load.batch_size": 3}, 4),
    ],
)
def test_points_that_match_all_of_an_entry_are_left_out(study: Make, entry: dict, left: int) -> None:
    """On settings of axes and of the base alike; a list matches each of its values; 1.0 is 1."""
    made = study(axes={"dtype": ["float16", "float32"], "load.batch_size": [1, 2, 3]}, exclude=[entry])

    assert len(made.experiments) == left
    assert len(made.excluded) == 6 - left
    assert made.notes == (("python: exclude[0] matches no point",) if left == 6 else ())


def test_an_excluded_point_is_not_looked_at(study: Make) -> None:
    """It may be invalid; the entry that left it out is named."""
    made = study(axes={"load.batch_size": [1, 0]}, exclude=[{"load.batch_size": 7}, {"load.batch_size": 0}])

    assert made.invalid == ()
    assert [one.by for one in made.excluded] == ["python: exclude[1]"]


@pytest.mark.parametrize(
    ("entry", "problems"),
    [
        (
            {"when": {"backend": "echo"}, "reason": "x"},
            ["when: unknown setting (name settings, such as backend or load.batch_size)", "reason: unknown setting"],
        ),
        ({"load.batchsize": 1}, ["load.batchsize: unknown setting (did you mean 'batch_size'?)"]),
        ({"load": {"batchsize": 1}}, ["load.batchsize: unknown setting (did you mean 'batch_size'?)"]),
        ({"token_seconds": 1}, ["token_seconds: unknown setting (did you mean 'echo.token_seconds'?)"]),
        ({"batch_size.x": 1}, ["batch_size: unknown setting"]),
        ({"dtype.x": 1}, ["dtype.x: unknown setting"]),
        ({"load.batch_size": "1"}, ["load.batch_size: must be an integer, got the text '1'"]),
        ({"load.batch_size": True}, ["load.batch_size: must be an integer, got true"]),
        ({"load.batch_size": 1.5}, ["load.batch_size: must be an integer, got the number 1.5"]),
        ({"load.batch_size": [1, None]}, ["load.batch_size: must be an integer, got null"]),
        ({"load.kind": "offlin"}, ["load.kind: must be"]),
        ({"echo": 3}, ["echo: must be a section, got the number 3"]),
        ({"vlm.max_num_seqs": 8}, ["vlm: unknown setting"]),
    ],
)
def test_an_exclusion_that_can_match_nothing_is_refused(study: Make, entry: dict, problems: list[str]) -> None:
    """What is no setting of anything, or no value of it, at its first wrong step and with what was meant."""
    with pytest.raises(ConfigError) as caught:
        study(axes={"load.batch_size": [1, 2]}, exclude=[{"load.batch_size": 2}, entry])

    assert len(told(caught)) == len(problems)
    for said, expected in zip(told(caught), problems, strict=True):
        assert said.startswith(f"python: exclude[1].{expected}")


@pytest.mark.parametrize(
    "entry",
    [
        {"load.concurrency": 3},
        {"load.kind": ["closed", "open"]},
        {"workload.path": "a.txt"},
        {"gpus": 2},
        {"gpus": [0, 1]},
        {"steady.watts": 1},
        {"load": {"batch_size": 7}},
        {"revision": None},
    ],
)
@pytest.mark.usefixtures("lab")
def test_an_exclusion_of_what_this_study_does_not_set_is_a_note(study: Make, entry: dict) -> None:
    """It may be of another kind of load, of another workload or of a meter: settings that there are."""
    assert study(axes={"load.batch_size": [1, 2]}, exclude=[entry]).notes == ("python: exclude[0] matches no point",)


def test_an_exclusion_where_nothing_varies_is_a_note(study: Make) -> None:
    """One experiment is not left out of itself; a typo is told all the same."""
    assert study(exclude=[{"dtype": "float16"}]).notes == ("`exclude` leaves nothing out: this is one experiment",)
    with pytest.raises(ConfigError, match="exclude"):
        study(exclude=[{"dtyp": "float16"}])


@pytest.mark.parametrize(
    ("parts", "problem"),
    [
        ({"axes": {"dtype": ["float32"], "lab.chunkk": [1, 2]}}, "axes.lab.chunkk: unknown setting (did you mean"),
        ({"axes": {"dtype": ["float32"], "lab.chunk": [1, "2"]}}, "axes.lab.chunk[1]: must be an integer, got"),
        ({"zip": {"dtype": ["float32"], "lab.chunkk": [1]}}, "zip.lab.chunkk: unknown setting"),
        ({"axes": {"dtype": {"float32": {"lab.chunkk": [1]}}}}, "axes.dtype.float32.lab.chunkk: unknown setting"),
        ({"experiments": [{"lab": {"chunkk": 1}}]}, "experiments[0].lab.chunkk: unknown setting"),
        ({"axes": {"dtype": ["float32", "float16"], "window_s": [1, 2]}, "exclude": [{"dtype": "float16"}],
          "experiments": [{"dtype": "float16", "windoww": 1}]}, "experiments[0].windoww: unknown setting"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("lab")
def test_what_no_point_uses_is_checked_all_the_same(study: Make, parts: dict, problem: str) -> None:
    """Points on echo drop the section of lab, and an excluded point is not looked at: a typo would go unseen."""
    with pytest.raises(ConfigError) as caught:
        study(**parts)

    [said] = told(caught)
    assert said.startswith(f"python: {problem}")


@pytest.mark.usefixtures("lab")
def test_what_no_point_uses_and_is_right_is_accepted(study: Make) -> None:
    """A study whose axes are of several backends may be run on one of them."""
    made = study(axes={"backend": ["echo"], "lab.chunk": [1, 2]}, overrides={"backend": "echo"})

    assert len(made.experiments) == 1


def test_to_leave_out_everything_is_an_error(study: Make) -> None:
    """There is nothing to run."""
    with pytest.raises(ConfigError, match="nothing to run: `exclude` leaves out all 2 points"):
        study(axes={"dtype": ["float16", "float32"]}, exclude=[{"backend": "echo"}])


# identity and order


def test_points_that_are_the_same_experiment_are_merged(study: Make) -> None:
    """What does not change execution, and the same value twice; the first of them runs."""
    made = study(axes={"trials": [3, 4], "load.batch_size": [1, 1, 2]}, order={"kind": "sequential"})

    assert shown(made) == [{"trials": 3, "load.batch_size": 1}, {"trials": 3, "load.batch_size": 2}]
    assert [one.into.point.number for one in made.merged] == [0, 0, 0, 2]


SIZES = st.lists(st.integers(1, 50), min_size=1, max_size=3, unique=True)
AXES = {
    "load.batch_size": SIZES,
    "sampling.seed": SIZES,
    "dtype": st.lists(st.sampled_from(["float16", "float32", "bfloat16"]), min_size=1, max_size=3, unique=True),
    "weights_seed": SIZES,
}


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.fixed_dictionaries({}, optional=AXES).filter(bool), st.randoms(), st.integers())
def test_the_order_of_axes_changes_no_id_and_no_running_order(study: Make, axes: dict, random, seed: int) -> None:
    """Nor does the order of their values; other seeds change the running order alone."""
    shuffled = {path: random.sample(axes[path], len(axes[path])) for path in random.sample(list(axes), len(axes))}
    one, other = (study(axes=each, order={"seed": seed}) for each in (axes, shuffled))
    ids = [entry.id for entry in one.experiments]

    assert [entry.id for entry in other.experiments] == ids
    assert {entry.id for entry in study(axes=axes, order={"seed": seed + 1}).experiments} == set(ids)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.fixed_dictionaries(AXES), st.data())
def test_declared_less_excluded_is_what_runs(study: Make, axes: dict, data) -> None:
    """Without invalid points and repetitions: the product, less the points that match."""
    path = data.draw(st.sampled_from(list(axes)))
    value = data.draw(st.sampled_from(axes[path]))
    combinations = [dict(zip(axes, row, strict=True)) for row in itertools.product(*axes.values())]
    expected = [one for one in combinations if one[path] != value]
    if not expected:
        return
    made = study(axes=axes, exclude=[{path: value}], order={"kind": "sequential"})

    assert sorted(map(str, shown(made))) == sorted(map(str, expected))  # those that share an engine run together
    assert made.declared == len(combinations)


def test_the_random_order_is_that_of_the_seed(study: Make) -> None:
    """It is not the file's, differs by seed, and a further point leaves the order of the others as it was."""
    sizes = list(range(1, 31))

    def order(sizes: list[int], seed: int) -> list[int]:
        made = study(axes={"load.batch_size": sizes}, order={"kind": "blocks", "seed": seed})
        return [values["load.batch_size"] for values in shown(made)]

    first = order(sizes, 1)
    assert sorted(first) == sizes
    assert first not in (sizes, order(sizes, 2))
    assert [size for size in order([*sizes, 99], 1) if size != 99] == first


# what is stored


def test_the_document_holds_all_that_was_asked_and_left_out(study: Make) -> None:
    """As JSON values, whatever a point tried to set."""
    import json

    made = study(
        axes={"load.batch_size": [1, float("nan"), 3, 3.0], "sampling.top_p": [None]},
        exclude=[{"load.batch_size": 3}],
        overrides={"window_s": 2},
        order={"seed": 9},
    )
    document = json.loads(json.dumps(study_document(made), allow_nan=False))
    [only] = made.experiments

    assert document["experiments"] == [only.id]
    assert document["points"] == {only.id: {"number": 0, "values": {"load.batch_size": 1, "sampling.top_p": None}}}
    assert document["declared"] == 4
    assert [one["by"] for one in document["excluded"]] == ["python: exclude[0]"] * 2
    assert document["invalid"][0]["values"]["load.batch_size"] == "nan"
    assert document["invalid"][0]["reasons"] == [
        "python: axes.load.batch_size[1]: must be an integer, got the number nan"
    ]
    assert (document["order"]["kind"], document["order"]["seed"]) == ("blocks", 9)
    assert document["overrides"] == [{"source": "flag --set", "values": {"window_s": 2}}]
    assert list(document["texts"]) == ["python"]


def test_a_setting_is_no_secret_by_its_name(study: Make, lab) -> None:
    """One of a plugin is stored as it is given; a name within a setting that takes any is hidden, and so is a form."""

    @attrs.frozen
    class Options:
        stop_token: str = "</s>"
        extra: Any = attrs.field(factory=dict)

    [one] = study().experiments
    backend = attrs.evolve(one.experiment, options=Options(), meter_options={"steady": Options()})
    given = {
        "echo.stop_token": "</s>",
        "echo": {"extra": {"token": "abc", "list": ["hf_abcdefghijkl", "a"]}},
        "steady": {"stop_token": "hf_abcdefghijkl"},
        "other.token": "abc",
        "seed": 1,
    }
    layers = (Layer("flag --set", given),)
    made = attrs.evolve(study(), experiments=(attrs.evolve(one, experiment=backend),), overrides=layers)

    assert study_document(made)["overrides"][0]["values"] == {
        "echo.stop_token": "</s>",
        "echo": {"extra": {"token": "***", "list": ["***", "a"]}},
        "steady": {"stop_token": "***"},
        "other.token": "***",
        "seed": 1,
    }


def test_a_study_can_be_planned_without_its_engine_and_not_prepared(study: Make, lab, monkeypatch) -> None:
    """The plan says what is missing; a run says it as an error, before anything is written."""
    from llem.errors import MachineError
    from llem.plugins.reference import Reference

    monkeypatch.setattr(Reference, "missing", lambda self: ("warp",) if self.name == "lab" else ())
    made = study(base=lab, axes={"dtype": ["float16", "float32"]})

    assert made.notes == ("backend 'lab' needs warp, which is not installed here",)
    with pytest.raises(MachineError, match="backend 'lab' needs warp"):
        expand(made.file, registry(), unmet=False)


def test_a_backend_that_does_not_import_ends_the_study(study: Make, lab, monkeypatch) -> None:
    """It is broken, and no point of it can be judged."""
    from llem.plugins.reference import Reference

    def fail(self):
        raise ImportError("libwarp.so.1")

    monkeypatch.setattr(Reference, "load", fail)
    with pytest.raises(BrokenPlugin, match=r"libwarp\.so\.1"):
        study(base=lab, axes={"dtype": ["float16", "float32"]})
