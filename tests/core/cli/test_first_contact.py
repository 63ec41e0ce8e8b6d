"""The first things that people type: each is understood, or its error names what would be right."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

import llem
from llem.cli.settings import flag_layers
from llem.config.layers import Layer, overlay, plain
from llem.devices.load import HostLoad
from llem.store.store import Store

SHORT = (
    "--preset=quick",
    "--set=window_s=0.2",
    "--set=warmup.seconds=0",
    "--set=baseline.seconds=0",
    "--output-tokens=8",
)


@pytest.fixture
def planned(run_llem):
    """The configuration that a plan's one experiment has, and what was told."""

    def plan(*arguments: str) -> str:
        done = run_llem("plan", "-b", "echo", *arguments)
        assert done.exit_code == 0, done.stderr
        return done.stdout

    return plan


@pytest.mark.parametrize(
    ("short", "settings"),
    [
        (["--batch-size", "8"], ["load.batch_size=8"]),
        (["--concurrency", "8"], ["load.kind=closed", "load.concurrency=8"]),
        (["--rate", "4"], ["load.kind=open", "load.request_rate=4"]),
        (["--dtype", "float16"], ["dtype=float16"]),
        (["--input-tokens", "7", "--output-tokens", "9"], ["workload.input_tokens=7", "workload.output_tokens=9"]),
    ],
)
def test_short_options_are_settings(planned, short: list[str], settings: list[str]) -> None:
    """The same experiment, by its id, as with `--set`; and another than without."""
    assert planned(*short) == planned(*(f"--set={one}" for one in settings))
    assert planned(*short) != planned()


@pytest.mark.parametrize(
    ("option", "setting"),
    [
        ("--max-num-seqs=3", None),
        ("--trials=3", "--set trials=3"),
        ("--temperature=0.5", "--set sampling.temperature=0.5"),
        ("--isl=3", "--set workload.input_tokens=3"),
        ("--prompts=p.txt", "--set workload.kind=file --set workload.path=p.txt"),
        ("--window-s=3", "--set window_s=3"),
        ("--trails=3", "--set trials=3"),
        ("--load.batch_size=3", "--set load.batch_size=3"),
    ],
)
@pytest.mark.parametrize("command", ["run", "plan"])
def test_other_options_that_are_settings_are_pointed_to(run_llem, command: str, option: str, setting) -> None:
    """With the value that was given; one that no installed plugin has is an unknown option."""
    done = run_llem(command, *option.split("="))

    assert (done.exit_code, done.stdout) == (2, "")
    if setting is not None:
        assert f"no such option {option.partition('=')[0]}; did you mean the setting `{setting}`?" in done.stderr
    else:
        assert "no such option --max-num-seqs" in done.stderr.lower()


def test_short_options_that_contradict_are_refused(run_llem) -> None:
    """None of them is ignored."""
    both = run_llem("plan", "-b", "echo", "--batch-size", "8", "--concurrency", "4")
    twice = run_llem("plan", "-b", "echo", "--batch-size", "8", "--set", "load.batch_size=4")

    assert (both.exit_code, twice.exit_code) == (2, 2)
    assert "load.batch_size: is a setting of kind 'offline', and this is of kind 'closed'" in both.stderr
    assert twice.stderr == "error: --batch-size 8 and --set load.batch_size=4 disagree\n  give one of the two\n"


def test_a_model_may_stand_in_the_place_of_the_study(run_llem, planned, isolated_llem) -> None:
    """It is told to be one; the same experiment as with `-m`."""
    done = run_llem("plan", "shape:qwen2.5-0.5b", "-b", "echo")

    assert done.stderr == "model: shape:qwen2.5-0.5b (there is no file of this name)\n"
    assert done.stdout == planned("-m", "shape:qwen2.5-0.5b")


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ("study.yaml", "no such file: study.yaml"),
        ("./study", "no such file: study"),
        ("results", "results is a folder of results, not a study file"),
        ("empty", "empty is a folder without config.json"),
        ("shape:tyni", "unknown shape 'tyni'"),
        ("-", "a study is not read from standard input\n  save it as a YAML file"),
        ("pipe", "pipe is no regular file\n  save it as a YAML file"),
        ("/dev/null", "/dev/null is no regular file\n  save it as a YAML file"),
    ],
)
def test_what_is_neither_a_study_nor_a_model_is_told(run_llem, isolated_llem, named: str, message: str) -> None:
    """With what it is."""
    (isolated_llem.folder / "empty").mkdir()
    (isolated_llem.folder / "results").mkdir(exist_ok=True)
    (isolated_llem.folder / "results" / "study.json").write_text("{}")
    os.mkfifo(isolated_llem.folder / "pipe")
    done = run_llem("run", named, "-b", "echo")

    assert done.exit_code == 2
    assert f"error: {message}" in done.stderr


def test_a_plan_needs_no_file(planned) -> None:
    """It plans what `llem run` would measure."""
    assert "1  to run × 5 trials" in planned()


@pytest.mark.parametrize(
    ("settings", "advice"),
    [
        ({"batch_size": 8}, "did you mean 'load.batch_size'? Write load={\"batch_size\": …}"),
        ({"concurrency": 8}, 'Write load={"kind": "closed", "concurrency": …}'),
        ({"max_new_tokens": 8}, 'Write workload={"output_tokens": …}'),
        ({"token_seconds": 8}, "did you mean 'echo.token_seconds'?"),
    ],
)
def test_python_points_to_the_section(settings: dict[str, int], advice: str) -> None:
    """In the form in which it is written there."""
    with pytest.raises(llem.ConfigError) as caught:
        llem.run(backend="echo", **settings)

    assert advice in str(caught.value)


def test_python_points_to_the_model() -> None:
    """The first argument is a file."""
    with pytest.raises(llem.ConfigError, match='if it is a model, say so: model="shape:tiny"'):
        llem.run("shape:tiny", backend="echo")


# the default backend


def test_the_default_backend_is_set_by_a_command(run_llem, isolated_llem) -> None:
    """Other lines of the file stay, and a second time replaces the value."""
    isolated_llem.config.write_text("# mine\nresults_dir: here\n")
    assert run_llem("config", "set", "backend", "echo").exit_code == 0
    assert "backend: echo  # user config" in run_llem("config", "show").stdout.splitlines()
    done = run_llem("config", "set", "backend", "null")

    assert done.stdout == f"backend: null  # in {isolated_llem.config}\n"
    assert isolated_llem.config.read_text() == "# mine\nresults_dir: here\nbackend: null\n"


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("backend", "ecko", "unknown backend 'ecko'\n  did you mean 'echo'?"),
        ("launchers", "3", "launchers is a section"),
        ("trials", "3", "trials is no setting of a user configuration"),
        ("gpus", "0", "invalid settings in the user configuration"),
        ("gpus", "[1]", "takes several lines"),
    ],
)
def test_what_cannot_be_set_leaves_the_file(run_llem, isolated_llem, key: str, value: str, message: str) -> None:
    """As it was."""
    isolated_llem.config.write_text("gpus:\n  - 2\n")
    done = run_llem("config", "set", key, value)

    assert done.exit_code == 2
    assert message in done.stderr
    assert isolated_llem.config.read_text() == "gpus:\n  - 2\n"


@pytest.mark.backends("pytorch", "openai")
def test_the_first_run_works_with_further_plugins(run_llem) -> None:
    """A backend that needs a server is installed, and is not taken."""
    done = run_llem("plan")

    assert done.exit_code == 0
    assert "note: no backend is named, so llem takes pytorch (also installed: " in done.stdout


# a first run that failed


@pytest.fixture
def fails(lab, run_llem):
    """A run into `out` that fails while its engine loads."""

    def run(*arguments: str):
        return run_llem(
            "run", "-b", "lab", *SHORT, "--set=device=cpu", "--set=lab.fail_in=load", "-o", "out", *arguments
        )

    return run


@pytest.mark.process
def test_a_run_that_measured_nothing_leaves_its_folder_free(fails, run_llem, isolated_llem) -> None:
    """The same command, or a corrected one, works there; what the earlier one left is set aside."""
    for _ in range(2):
        assert fails().exit_code != 0
    fails()
    done = run_llem("run", "-b", "echo", *SHORT, "-o", "out", "-q")

    assert done.exit_code == 0, done.stderr
    folder = isolated_llem.folder / "out"
    assert sorted(path.name for path in folder.glob("earlier-*")) == ["earlier-1", "earlier-2", "earlier-3"]
    assert (folder / "earlier-3" / "workers" / "0" / "log.txt").is_file()
    assert len(Store.open(folder).experiment_ids()) == 1
    again = run_llem("run", "-b", "echo", *SHORT, "-o", "out", "-q")
    assert (again.exit_code, "is there already" in again.stderr) == (2, True)


@pytest.mark.process
@pytest.mark.parametrize(
    "name", ["thesis.tex", "confirm.json", "experiments/x/trial-0.json", "experiments/x/quality-a.json"]
)
def test_nothing_of_anybody_is_set_aside(fails, isolated_llem, name: str) -> None:
    """A file of the user, a statement made before, a trial or a score keeps the folder as it is."""
    fails()
    file = isolated_llem.folder / "out" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("mine")
    before = sorted(path for path in (isolated_llem.folder / "out").rglob("*"))

    assert "is there already and not an empty folder" in fails().stderr
    assert sorted(path for path in (isolated_llem.folder / "out").rglob("*")) == before


@pytest.mark.process
def test_a_run_that_is_at_work_is_not_set_aside(fails, isolated_llem) -> None:
    """It may still be loading."""
    fails()
    lock = Store.open(isolated_llem.folder / "out").owner_lock()
    assert lock.take()
    try:
        told = fails().stderr
    finally:
        lock.let_go()

    assert "another `llem run` works in out" in told
    assert not list((isolated_llem.folder / "out").glob("earlier-*"))


# a busy host


@pytest.fixture
def busy_host(monkeypatch) -> None:
    """Others use 1.4 of 2 cores."""
    load = HostLoad(cores=2, own_cores=0.5, others_cores=1.4, steal_cores=0.0)
    monkeypatch.setattr("llem.devices.load.HostWatch.load", lambda _: load)


@pytest.mark.process
@pytest.mark.usefixtures("busy_host")
def test_a_busy_host_is_told_before_measuring(run_llem, isolated_llem) -> None:
    """In one line, and the run goes on; not where only the result is wanted."""
    line = "note: other processes use 1.4 of 2 cores, so figures may scatter; `llem doctor` looks again\n"
    done = run_llem("run", "-b", "echo", *SHORT, "-o", "out")
    quiet = run_llem("run", "-b", "echo", *SHORT, "-o", "quiet", "--json")

    assert (done.exit_code, done.stderr.startswith(line)) == (0, True)
    assert line not in quiet.stderr
    assert json.loads(quiet.stdout)["trials"] == 1


@pytest.mark.parametrize("words", [["http://x:1/v1"], ["--url", "http://x:1/v1"], ["--target=http://x:1/v1"]])
def test_a_url_is_the_setting_of_the_backend_that_takes_one(monkeypatch, words: list[str]) -> None:
    """By whatever name other load generators know it."""
    from llem.cli.settings import flag_layers, study_or_model
    from llem.plugins.reference import Reference
    from llem.plugins.registry import Registry

    taking = Reference("taking", "nowhere:X", url="address")
    monkeypatch.setattr(Registry, "names", lambda self, kind: ("taking", "echo"))
    monkeypatch.setattr(
        Registry, "reference", lambda self, kind, name: taking if name == "taking" else Reference(name, "")
    )
    url = words[0].removeprefix("--target=") if len(words) == 1 else words[1]
    _, model, url = study_or_model(url if words == [url] else None, None, url)
    layers = flag_layers(model, None, None, (), {}, url)
    found = {path: value for layer in layers for path, value in layer.values.items()}
    assert found == {"backend": "taking", "taking.address": "http://x:1/v1"}


def test_a_url_that_nobody_takes_is_an_error(run_llem) -> None:
    """The error says what would be right."""
    done = run_llem("plan", "-b", "echo", "http://127.0.0.1:9/v1")
    assert done.exit_code == 2
    assert "takes no URL" in done.stderr
    done = run_llem("plan", "--url", "http://127.0.0.1:9/v1", "http://127.0.0.1:8/v1")
    assert done.exit_code == 2
    assert "two addresses" in done.stderr


@pytest.mark.parametrize(
    ("option", "value", "path"),
    [
        ("--rate", "0", "load.request_rate"),
        ("--rate", "fast", "load.request_rate"),
        ("--concurrency", "0", "load.concurrency"),
        ("--output-tokens", "-1", "workload.output_tokens"),
    ],
)
def test_a_mistake_is_told_of_the_option_that_was_typed(run_llem, option: str, value: str, path: str) -> None:
    """Not of `--set`, which nobody wrote."""
    done = run_llem("plan", "-b", "echo", option, value)
    assert done.exit_code == 2
    assert done.stderr.startswith(f"error: invalid configuration from flag {option}\n  {path}: ")


def test_settings_of_options_and_of_set_lie_on_one_level() -> None:
    """A kind that `--set` states leaves what an option has said of the section, and nothing of the file's."""
    tree: dict[str, Any] = {}
    below = Layer("file", {"workload": {"kind": "synthetic", "output_tokens": 9}})
    for layer in (below, *flag_layers(None, None, None, ("workload.kind=prompts",), {"input_tokens": "8"})):
        overlay(tree, layer)
    assert plain(tree) == {"workload": {"kind": "prompts", "input_tokens": 8}}


def test_a_load_that_is_no_load_of_the_option_is_refused(run_llem) -> None:
    """Both sides are named as they were written."""
    done = run_llem("plan", "-b", "echo", "--concurrency", "2", "--set", "load.kind=replay")
    told = "--concurrency 2 (load.kind=closed) and --set load.kind=replay disagree"
    assert (done.exit_code, done.stderr) == (2, f"error: {told}\n  give one of the two\n")


def test_two_addresses_of_options_are_refused(run_llem) -> None:
    """Whatever the options are called; the same one twice is one."""
    both = run_llem("plan", "-b", "echo", "--base-url", "http://127.0.0.1:9/v1", "--target", "http://127.0.0.1:8/v1")
    same = run_llem("plan", "-b", "echo", "--base-url", "http://127.0.0.1:9/v1", "--target", "http://127.0.0.1:9/v1")
    assert both.exit_code == same.exit_code == 2
    assert "two addresses, http://127.0.0.1:9/v1 and http://127.0.0.1:8/v1" in both.stderr
    assert "takes no URL" in same.stderr


@pytest.mark.parametrize("address", ["127.0.0.1:8123", "localhost:8123/v1", "[::1]:8123"])
def test_an_address_without_its_beginning_is_told_as_one(run_llem, address: str) -> None:
    """It is no model."""
    done = run_llem("plan", "-b", "echo", address)
    assert (done.exit_code, done.stderr.splitlines()[-1]) == (2, f"  write http://{address}")


def test_folders_of_results_are_named(run_llem, isolated_llem) -> None:
    """Where the folder above them is given, and where two are to be compared."""
    for name in ("one", "two"):
        inner = isolated_llem.folder / "llem-results" / name
        inner.mkdir(parents=True)
        (inner / "study.json").write_text("{}")
    above = run_llem("show", "llem-results")
    assert (above.exit_code, above.stderr.splitlines()[-1]) == (
        2,
        "  it holds folders of results: llem-results/two, llem-results/one",
    )
    for arguments in (("llem-results/two",), ("llem-results/two", "@1"), ("@1", "llem-results/two")):
        done = run_llem("compare", "llem-results/one", *arguments)
        assert done.exit_code == 2
        assert "llem-results/two is a folder of results, and A and B are experiments of one folder" in done.stderr
    assert "missing argument B" in run_llem("compare", "llem-results/one", "@1").stderr
