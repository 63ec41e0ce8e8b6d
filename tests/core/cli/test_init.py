"""`llem init`: each template, for each backend that is installed, is a study that `llem plan` takes as written."""

from __future__ import annotations

import pytest

from llem.backends.start import Start
from llem.config.load import COMMAND
from llem.config.text import parse_yaml
from llem.plugins.registry import Registry, discover, registry
from llem.study.plan.expand import load
from llem.study.start.here import Here, look_here
from llem.study.start.templates import TEMPLATES, study_text

GPU = "NVIDIA H200, 140 GiB"


#: Backends that run a model.
BACKENDS = [name for name in registry().names("backend") if name != COMMAND]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("template", TEMPLATES)
def test_each_template_plans_with_each_backend(run_llem, isolated_llem, template: str, backend: str) -> None:
    """As written, and with every line of `base` explained."""
    done = run_llem("init", template, "-b", backend)
    assert done.exit_code == 0, done.stderr
    text = (isolated_llem.folder / f"{template}.yaml").read_text()
    plan = run_llem("plan", f"{template}.yaml")

    assert (plan.exit_code, plan.stderr) == (0, "")
    assert "0  invalid" in plan.stdout
    base = text.partition("base:")[2].partition("\naxes:")[0].partition("\nexperiments:")[0]
    assert [line for line in base.splitlines() if line and "#" not in line] == []
    planned = load(parse_yaml(text), (), registry())
    assert backend in {one.experiment.backend for one in planned.experiments}


@pytest.mark.parametrize("template", TEMPLATES)
def test_each_template_plans_with_what_is_taken_here(run_llem, template: str) -> None:
    """Without a backend named; the next commands name the file."""
    done = run_llem("init", template)

    assert done.exit_code == 0, done.stderr
    assert f"  llem plan {template}.yaml\n" in done.stdout
    assert run_llem("plan", f"{template}.yaml").exit_code == 0


@pytest.mark.parametrize(
    ("backend", "answer"),
    [
        pytest.param("pytorch", "recommend load-slo --slo 'e2el:p50<2s'", marks=pytest.mark.backends("pytorch")),
        ("echo", "show load-slo"),
    ],
)
def test_the_last_command_of_a_load_asks_with_a_limit(run_llem, backend: str, answer: str) -> None:
    """Where the backend does not stream, the file holds no `slo`, and without a limit latency would not count."""
    done = run_llem("init", "load-slo", "-b", backend)

    assert done.stdout.endswith(f"  llem {answer}\n")


@pytest.mark.parametrize("model", ["shape:llama-3.1-8b", "Qwen/Qwen2.5-0.5B-Instruct"])
@pytest.mark.parametrize("backend", [name for name in BACKENDS if name != "echo"])
@pytest.mark.parametrize("template", TEMPLATES)
def test_each_template_plans_on_a_gpu(template: str, backend: str, model: str) -> None:
    """With the ways to hold weights that the backend offers there."""
    here = look_here(registry(), None, model, gpu=lambda: True, gpus=list, zones=tuple)
    here = Here(here.backends, here.stream, (GPU,), 140.0, ("nvml",))
    study = load(parse_yaml(study_text(template, here, model, backend)), (), registry())

    assert not study.invalid
    if template == "quantisation":
        assert len(study.experiments) > 1
    if template == "load-slo" and backend in here.stream:
        assert study.experiments[0].experiment.load.request_rate == "max"


def test_with_the_core_alone_it_uses_echo_and_says_so() -> None:
    """In the file; the load is one that only a backend which streams can have."""
    alone = Registry(discover([]))
    here = look_here(alone, None, None, gpu=lambda: False, zones=tuple)
    text = study_text("load-slo", here, here.model, here.backend(streams=True))

    assert "# The backend is `echo`, a fake that repeats its prompt: its figures mean nothing. For real ones," in text
    assert "No sensor can be read here, so energy will be None (no_meter)" in text
    assert load(parse_yaml(text), (), alone).experiments[0].experiment.backend == "echo"


def test_a_load_takes_a_backend_that_serves_it() -> None:
    """The default if it does, else the first that can run here."""
    starts = {"pytorch": Start(), "vllm": Start(), "openai": Start(obstacle="needs a server")}
    here = Here(starts, frozenset(("vllm", "openai")))

    assert (here.backend(), here.backend(streams=True)) == ("pytorch", "vllm")
    assert Here(starts, frozenset(("vllm",)), default="openai").backend() == "openai"
    assert Here({"pytorch": Start()}).backend(streams=True) == "pytorch"


@pytest.mark.parametrize(
    ("gib", "model"), [(140.0, "shape:llama-3.1-8b"), (24.0, "shape:llama-3.2-1b"), (4.0, "shape:tiny")]
)
def test_the_model_fits_the_machine(gib: float, model: str) -> None:
    """Without a GPU it is the tiny one."""
    assert Here({}, gpus=(GPU,), gpu_gib=gib).model == model
    assert Here({}, gpu_gib=gib).model == "shape:tiny"


def test_names_of_hardware_stay_in_their_comment() -> None:
    """A line break in one would begin a line of the study."""
    here = Here({"echo": Start(note="a\nbase: 1", obstacle="b\nname: x")}, gpus=("evil\nname: other",))
    document = parse_yaml(study_text("engine", here, "shape:tiny", "echo"))

    assert document["name"] == "engine"


@pytest.mark.parametrize("model", ["shape:tiny", "a: b # c", "yes", "12", "[x]", "x\ny"])
def test_a_model_is_the_text_that_was_given(model: str) -> None:
    """Whatever YAML would make of it."""
    document = parse_yaml(study_text("study", Here({"echo": Start()}), model, "echo"))

    assert document["base"]["model"] == model


def test_a_study_of_what_runs_already_names_no_model() -> None:
    """It would be another than the one that is served; with others beside it, or asked for, it is named."""
    here = Here({"served": Start(names_model=False), "echo": Start()})
    named = {
        (template, model): parse_yaml(study_text(template, here, model, "served"))["base"].get("model")
        for template in ("study", "engine")
        for model in (None, "org/name")
    }

    assert named == {
        ("study", None): None,
        ("study", "org/name"): "org/name",
        ("engine", None): "shape:tiny",
        ("engine", "org/name"): "org/name",
    }


def test_no_file_is_overwritten(run_llem, isolated_llem) -> None:
    """Of any content, by any name."""
    file = isolated_llem.folder / "mine.yaml"
    file.write_text("mine")
    done = run_llem("init", "engine", "-o", "mine.yaml")

    assert (done.exit_code, file.read_text()) == (2, "mine")
    assert (
        done.stderr == "error: mine.yaml is there already, and llem overwrites no file\n  name another with `-o FILE`\n"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["batchsize"], "no template 'batchsize'\n  did you mean 'batch-size'?"),
        (["engine", "-b", "ecko"], "unknown backend 'ecko'"),
        (["engine", "-m", "shape:nothing"], "unknown shape 'nothing'"),
        (["engine", "-o", "/proc/none/file.yaml"], "cannot make the folder /proc/none"),
    ],
)
def test_a_mistake_writes_nothing(run_llem, isolated_llem, arguments: list[str], message: str) -> None:
    """What a plan would refuse is refused before the file is there."""
    done = run_llem("init", *arguments)

    assert done.exit_code in (2, 3)
    assert message in done.stderr.lower()
    assert list(isolated_llem.folder.iterdir()) == []


def test_the_list_names_the_questions(run_llem) -> None:
    """One line each."""
    lines = run_llem("init", "--list").stdout.splitlines()

    assert len(lines) == len(TEMPLATES)
    assert lines[1] == "batch-size    which batch size?"


def test_a_command_needs_no_study(run_llem, isolated_llem) -> None:
    """The backend of metered commands runs no model; the error names the command that meters."""
    done = run_llem("init", "-b", COMMAND)

    assert done.exit_code == 2
    assert "llem meter" in done.stderr
    assert list(isolated_llem.folder.glob("*.yaml")) == []
