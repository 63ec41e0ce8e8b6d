"""`llem run` as a user meets it: bad input is one clear message, an exit code by kind, and nothing written."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import attrs
import pytest

import llem
from llem.cli.resume import keeping
from llem.errors import MachineError
from llem.meters.rapl import RaplMeter
from llem.metrics.verify import verify
from llem.plugins.registry import registry
from llem.store.store import Store
from llem.testing.fakes import FakeClock, FakeGpu, FakeNvml, Load

ECHO = ("-b", "echo", "--set", "device=cpu")
SHORT = (
    *ECHO,
    "--preset=quick",
    "--set=window_s=0.2",
    "--set=warmup.seconds=0",
    "--set=baseline.seconds=0",
    "--set=workload.output_tokens=8",
    "--set=echo.token_seconds=0.001",
)


@pytest.fixture
def refuse(run_llem, isolated_llem):
    """Run with a mistake; its message, after making sure of the exit code and that nothing was written or printed."""

    def _refuse(code: int, *arguments: str) -> str:
        before = sorted(path.name for path in isolated_llem.folder.iterdir())
        done = run_llem("run", "-o", "out", *arguments)
        assert (done.exit_code, done.stdout) == (code, "")
        assert sorted(path.name for path in isolated_llem.folder.iterdir()) == before
        assert "Traceback" not in done.stderr
        return done.stderr

    return _refuse


def test_an_unknown_backend_names_the_nearest(refuse) -> None:
    """A slip of the finger."""
    told = refuse(2, "-b", "ecko")

    assert told.startswith("error: unknown backend 'ecko'\n  did you mean 'echo'?; installed: ")


def test_an_unknown_backend_names_what_to_install(refuse) -> None:
    """A backend of ours that is not installed here, also when it is misspelt."""
    absent = [name for name in ("tensorrt", "vllm", "openai", "pytorch") if name not in registry().names("backend")]
    if not absent:
        pytest.skip("every backend of ours is installed")

    told = refuse(2, "-b", f"{absent[0]}t")

    missing = f"'{absent[0]}' is not installed: pip install llem-{absent[0]}"
    assert told.startswith(f"error: unknown backend '{absent[0]}t'\n  did you mean '{absent[0]}'? {missing}")


@pytest.mark.parametrize(
    ("setting", "problem"),
    [
        ("dtipe=float16", "dtipe: unknown field (did you mean 'dtype'?)"),
        ("load.batchsize=3", "load.batchsize: unknown field (did you mean 'batch_size'?)"),
        ("echo.tokenseconds=1", "echo.tokenseconds: unknown field (did you mean 'token_seconds'?)"),
        ('token_times="false"', "token_times: must be true or false, got the text 'false' (write true or false, "),
        ("trials=2.9", "trials: must be an integer, got the number 2.9"),
        ("trials=0", "trials: must be between 1 and 100000, got 0"),
        ("window_s=fast", "window_s: must be a number, got the text 'fast'"),
        ("dtype=float8", "dtype: "),
        (
            "workload.path=x.txt",
            "workload.path: is a setting of kind one of 'file', 'trace', and no kind is set, which means 'synthetic' "
            "(set `workload.kind=file` too)",
        ),
    ],
)
def test_a_wrong_field_or_type_is_named(refuse, setting: str, problem: str) -> None:
    """The path to the value, what is wrong with it, and the nearest that would be right; nothing is coerced."""
    told = refuse(2, *ECHO, "--set", setting)

    assert told.startswith(f"error: invalid configuration from flag --set\n  {problem}")


def test_every_problem_is_told_at_once(refuse) -> None:
    """One round of corrections, not one per mistake."""
    settings = ("trials=0", "load.batch_sise=3", "echo.token_seconds=-1", "dtipe=float16")
    told = refuse(2, *ECHO, *(f"--set={setting}" for setting in settings))

    assert told.count("\n  ") == len(settings)
    for path in ("trials: ", "load.batch_sise: ", "echo.token_seconds: ", "dtipe: "):
        assert f"\n  {path}" in told


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("./nowhere", "model './nowhere': folder not found"),
        ("shape:llama-3.1-8", "unknown shape 'llama-3.1-8'\n  did you mean shape:llama-3.1-8b? known: tiny, "),
        ("not a name", "model 'not a name' is not a valid name\n  a model is `shape:NAME`, a folder"),
    ],
)
def test_a_missing_model_is_named(refuse, model: str, message: str) -> None:
    """With the forms that a model may have."""
    assert refuse(2, *ECHO, "-m", model).startswith(f"error: {message}")


def test_a_folder_without_a_model_is_told_from_a_missing_one(refuse, isolated_llem) -> None:
    """It is there and holds no config.json."""
    (isolated_llem.folder / "empty").mkdir()

    assert "model folder './empty' has no config.json" in refuse(2, *ECHO, "-m", "./empty")


@pytest.fixture
def two_gpus(monkeypatch) -> list[FakeGpu]:
    """A machine with two GPUs, as NVML shows them."""
    gpus = [FakeGpu(Load([(10.0, 100.0)]), uuid=uuid) for uuid in ("GPU-a", "GPU-b")]
    monkeypatch.setattr("llem.devices.nvml._pynvml", lambda: FakeNvml(FakeClock(5_000_000_000), gpus))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return gpus


def test_a_gpu_that_is_not_there_lists_those_that_are(refuse, two_gpus) -> None:
    """By index and UUID."""
    told = refuse(3, "-b", "echo", "--set", "gpus=[7]")

    assert told == ("error: GPU 7 is not there\n  GPUs of this machine: 0 (Fake GPU, GPU-a), 1 (Fake GPU, GPU-b)\n")


def test_a_gpu_that_is_hidden_names_the_variable(refuse, two_gpus, monkeypatch) -> None:
    """CUDA would not see it."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")

    assert refuse(3, "-b", "echo", "--set", "gpus=[0]").startswith(
        "error: GPU 0 is hidden by CUDA_VISIBLE_DEVICES\n  change CUDA_VISIBLE_DEVICES or `gpus`; a number "
    )


@pytest.mark.parametrize("visible", ["MIG-4f2c", "MIG-GPU-a/3/0"])
def test_a_slice_is_not_replaced_by_the_cpu(refuse, two_gpus, monkeypatch, visible: str) -> None:
    """`device: auto` with a slice of a GPU ends with exit status 3 and what to do."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)

    assert refuse(3, "-b", "echo").startswith(
        f"error: CUDA_VISIBLE_DEVICES names the MIG slice {visible}, which cannot be measured\n  the energy counter "
    )


def test_a_gpu_named_twice_is_the_users_mistake(refuse, two_gpus) -> None:
    """Once by index, once by UUID."""
    assert refuse(2, "-b", "echo", "--set", "gpus=[0, GPU-a]").startswith("error: `gpus` names a GPU twice\n")


def test_mig_is_told_before_a_model_is_loaded(refuse, two_gpus) -> None:
    """A named meter that cannot measure this GPU says so at once."""
    two_gpus[0] = attrs.evolve(two_gpus[0], mig=True)

    told = refuse(3, "-b", "echo", "--set", "meters=[nvml]")
    assert told.startswith("error: MIG is on for GPU GPU-a\n  use a GPU without MIG")


def test_a_machine_without_a_gpu_says_what_to_do(refuse, monkeypatch) -> None:
    """A driver that is not there is the machine's state."""
    monkeypatch.setattr("llem.devices.nvml._pynvml", lambda: FakeNvml(FakeClock(), []))

    told = refuse(3, "-b", "echo", "--set", "device=cuda")
    assert told.startswith("error: no NVIDIA GPU can be reached: driver not loaded\n  install the NVIDIA driver")


@pytest.mark.parametrize(
    ("zones", "message"),
    [
        (False, "error: this machine has no RAPL counters\n  virtual machines and some processors have none; leave"),
        (True, "error: the RAPL counters may not be read by this user\n  run: sudo chmod -R a+r "),
    ],
    ids=["absent", "no permission"],
)
def test_rapl_that_was_named_and_cannot_be_read(refuse, tmp_path: Path, monkeypatch, zones: bool, message: str) -> None:
    """Absence and missing permission are two messages, the latter with the command that grants it."""
    root = tmp_path / "powercap"
    root.mkdir()
    if zones:
        package = root / "intel-rapl:0"
        package.mkdir()
        (package / "name").write_text("package-0\n")
        (package / "max_energy_range_uj").write_text("262143328850\n")
        (package / "energy_uj").symlink_to(package / "energy_uj")  # not readable, for root neither
    monkeypatch.setitem(RaplMeter.__init__.__kwdefaults__, "root", root)

    assert refuse(3, *ECHO, "--set", "meters=[rapl]").startswith(message)


@pytest.mark.parametrize(
    ("flag", "setting"),
    [("--preset=standard", "preset=quick"), ("--model=shape:tiny", "model=x"), ("--backend=echo", "backend=lab")],
)
@pytest.mark.parametrize("command", ["run", "plan"])
def test_a_flag_and_a_setting_that_disagree_are_refused(
    run_llem, isolated_llem, flag: str, setting: str, command: str
) -> None:
    """One of them would be ignored; to say the same twice is no mistake."""
    name, _, value = flag.removeprefix("--").partition("=")
    (isolated_llem.folder / "study.yaml").write_text("axes: {load.batch_size: [1, 2]}\n")
    done = run_llem(command, "study.yaml", "-b", "echo", flag, "--set", setting)

    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == f"error: --{name} {value} and --set {setting} disagree\n  give one of the two\n"
    assert run_llem("plan", "study.yaml", "-b", "echo", flag, "--set", f"{name}={value}").exit_code == 0


def test_a_folder_that_holds_something_is_left_as_it_is(refuse, isolated_llem) -> None:
    """Results that are there are not touched."""
    (isolated_llem.folder / "out").mkdir()
    (isolated_llem.folder / "out" / "study.json").write_text("{}")
    told = refuse(2, *SHORT)

    assert told == (
        "error: out is there already and not an empty folder\n"
        "  choose another folder with `-o`, or go on with it by `--resume`\n"
    )
    assert "what was measured" not in told
    assert [path.name for path in (isolated_llem.folder / "out").iterdir()] == ["study.json"]
    assert (isolated_llem.folder / "out" / "study.json").read_text() == "{}"


@pytest.mark.parametrize("resume", [(), ("--resume",)])
def test_only_a_store_can_be_gone_on_with(refuse, isolated_llem, resume: tuple[str, ...]) -> None:
    """`--resume` is no advice for a folder of something else, or for a file."""
    (isolated_llem.folder / "out").mkdir()
    (isolated_llem.folder / "out" / "thesis.tex").write_text("")
    told = refuse(2, *SHORT, *resume)

    assert told == (
        "error: out is there already and not an empty folder\n"
        "  choose another folder with `-o`; this one holds no results of llem, so there is nothing to go on with\n"
    )
    (isolated_llem.folder / "out" / "thesis.tex").unlink()
    (isolated_llem.folder / "out").rmdir()
    (isolated_llem.folder / "out").write_text("")
    told = refuse(2, *SHORT, *resume)

    assert told == "error: out is there already and no folder\n  name a folder with `-o`\n"


@pytest.mark.parametrize(
    ("out", "says"),
    [
        ("file/out", "cannot make the folder file/out: not a directory"),
        ("link/out", "cannot make the folder link/out: file exists: link"),
        ("/proc/none/out", "cannot make the folder /proc/none/out: no such file or directory: /proc/none"),
        ("a" * 300, "too long"),
    ],
    ids=["file", "link", "proc", "long"],
)
@pytest.mark.parametrize("command", ["run", "export"])
def test_a_folder_that_cannot_be_made_is_the_machines_state(
    run_llem, isolated_llem, grid_store, out: str, says: str, command: str
) -> None:
    """No file in it is missing, so nothing is to be restored; the same for a table that is exported."""
    (isolated_llem.folder / "file").write_text("")
    (isolated_llem.folder / "link").symlink_to("nowhere")
    if command == "run":
        done = run_llem("run", *SHORT, "-o", out)
    else:
        store = grid_store({"dtype": ["float16"]}, lambda point: 1.0)
        done = run_llem("export", store.path, "-o", f"{out}/table.csv")

    assert (done.exit_code, done.stdout) == (2 if out.startswith("aaa") else 3, "")  # no machine takes that name
    assert says in done.stderr
    assert "missing" not in done.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_is_the_machines_state(refuse, isolated_llem) -> None:
    """With the way out."""
    locked = isolated_llem.folder / "locked"
    locked.mkdir(mode=0o555)

    assert refuse(3, *SHORT, "-o", "locked/out").startswith("error: no permission for locked/out\n  choose a folder")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "error: no such file: study.yaml\n  give the path of a YAML file\n"),
        ("a: [\n", "error: study.yaml:2:1: "),
        ("- 1\n", "error: study.yaml"),
        ("", "error: study.yaml"),
        (
            "base: {backend: echo}\nquality: {tasks: [arc_easy]}\n",
            "error: invalid study in file study.yaml\n  quality: unknown field of a study (settings of the "
            "experiment go under `base`)",
        ),
        ("backend: echo\ntrails: 3\n", "error: invalid configuration from file study.yaml\n  trails: unknown field "),
        ("backend: echo\nbackend: echo\n", "error: study.yaml:2"),
    ],
    ids=["missing", "not YAML", "a list", "empty", "not in base", "unknown field", "twice"],
)
def test_a_study_that_cannot_be_read_says_where(refuse, isolated_llem, text: str | None, message: str) -> None:
    """File, line and column, or the field."""
    if text is not None:
        (isolated_llem.folder / "study.yaml").write_text(text)

    assert refuse(2, "study.yaml").startswith(message)


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ((*ECHO, "--preset", "quik"), "'quik' is not one of 'quick', 'standard', 'publication'"),
        ((*ECHO, "--set", "foo"), "cannot understand the setting 'foo'\n  write PATH=VALUE"),
        ((*ECHO, "--launcher", "proces"), "unknown launcher 'proces'\n  did you mean 'process'?"),
        ((*ECHO, "--set", "meters=[nvmll]"), "unknown meter 'nvmll'\n  did you mean 'nvml'?"),
        ((*ECHO, "--set", "workload.kind=files"), "unknown workload 'files'\n  did you mean 'file'?"),
        ((*ECHO, "--set", "workload={kind: file, path: nope.txt}"), "workload.path: no file nope.txt"),
    ],
)
def test_other_slips(refuse, arguments: tuple[str, ...], part: str) -> None:
    """Usage, settings, launcher, meter, workload and prompt file."""
    assert part in refuse(2, *arguments)


# runs that are done


@pytest.mark.process
def test_json_is_alone_on_standard_output(run_llem, isolated_llem) -> None:
    """The Result and nothing else, though the engine and the progress have much to say; it is what the store holds."""
    done = run_llem("run", *SHORT, "-o", "out", "--json")
    document = json.loads(done.stdout)

    assert (done.exit_code, done.stderr) == (0, "")
    assert document["outcome"] == "done"
    [stored] = llem.load_results("out").values()
    assert document["id"] == stored.id
    assert document["metrics"]["output_tokens_per_s"]["value"] == stored.metrics["output_tokens_per_s"].value


@pytest.mark.process
def test_the_result_is_on_standard_output_and_the_rest_on_standard_error(run_llem, isolated_llem) -> None:
    """So that a pipe gets the table alone."""
    done = run_llem("run", *SHORT, "-o", "out")

    assert done.exit_code == 0
    assert "output tokens" in done.stdout
    assert done.stderr.splitlines()[:2] == ["load", "warm-up"]
    assert done.stderr.splitlines()[-1] == "stored in out"


@pytest.mark.process
def test_quiet_leaves_the_result(run_llem, isolated_llem) -> None:
    """No progress; where the result lies is still told."""
    done = run_llem("run", *SHORT, "-o", "out", "-q")

    assert "output tokens" in done.stdout
    assert done.stderr == "stored in out\n"


@pytest.mark.process
def test_flags_lie_over_the_file(run_llem, isolated_llem) -> None:
    """Each value says where it came from."""
    (isolated_llem.folder / "study.yaml").write_text("backend: lab\nload: {batch_size: 4}\nsampling: {seed: 1}\n")
    done = run_llem("run", "study.yaml", *SHORT, "--set", "sampling.seed=2", "-o", "out", "--json")
    document = json.loads(done.stdout)

    assert (document["config"]["backend"], document["sources"]["backend"]) == ("echo", "flag")
    assert (document["config"]["sampling"]["seed"], document["sources"]["sampling.seed"]) == (2, "flag --set")
    assert (document["config"]["load"]["batch_size"], document["sources"]["load.batch_size"]) == (4, "file study.yaml")


@pytest.mark.process
def test_an_invalid_result_ends_with_1(run_llem, isolated_llem, lab) -> None:
    """It is shown all the same."""
    arguments = [argument.replace("echo", "lab") for argument in SHORT]
    done = run_llem("run", *arguments, "--set", "meters=[failing]", "--set", "failing.reads=5", "-o", "out", "--json")

    assert done.exit_code == 1
    assert json.loads(done.stdout)["valid"] is False


def test_a_full_disk_has_one_next_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where the error says to go on, nobody is told to begin anew in the same folder."""
    (tmp_path / "study.json").write_text("{}")
    with pytest.raises(MachineError), keeping(tmp_path):
        raise MachineError("no space left", "free some space and go on with `--resume`", "disk_full")
    assert capsys.readouterr().err == f"the log is in {tmp_path}\n"


@pytest.mark.process
def test_a_failure_of_the_engine_ends_with_1_and_says_where_the_rest_is(run_llem, isolated_llem, lab) -> None:
    """The message and the hint of the error, nothing on standard output."""
    arguments = [argument.replace("echo", "lab") for argument in SHORT]
    done = run_llem("run", *arguments, "--set", "lab.fail_in=load", "--set", "lab.error=oom", "-o", "out", "-q")

    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == (
        "the log is in out; nothing was measured, so another run may use this folder\n"
        "error: the batch does not fit into memory\n  use a smaller batch\n"
    )


@pytest.fixture
def small_disk(tmp_path: Path):
    """A file system of its own that holds as much as is asked for."""
    mounted: list[Path] = []

    def mount(kilobytes: int) -> Path:
        folder = tmp_path / f"disk-{len(mounted)}"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "none", str(folder)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            pytest.skip("there is no mount command")
        if done.returncode:
            pytest.skip(f"no file system may be mounted here: {done.stderr.strip()}")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.process
@pytest.mark.parametrize("full", ["from the beginning", "later"])
def test_a_full_disk_is_one_message_and_loses_nothing(small_disk, lab, full: str) -> None:
    """Exit 3 with what to do; the trials that were stored before are whole, and the store can be read."""
    disk = small_disk(160)
    filler = disk / "filler"
    command = [sys.executable, "-m", "llem", "run", *[argument.replace("echo", "lab") for argument in SHORT]]
    command += ["-o", str(disk / "out"), "--set=trials=400", "--set=max_trials=400", "--set=window_s=0.1", "-q"]
    if full != "later":
        filler.write_bytes(b"\0" * (156 * 1024))
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)

    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stderr
    assert "error: no space left" in done.stderr
    lines = done.stderr.splitlines()
    assert any("free some" in line for line in lines)
    where = command.index("-o")
    again = ["llem", *command[3:where], *command[where + 2 :], "-o", str(disk / "out"), "--resume"]
    assert (shlex.split(lines[-1]) == again) == (full == "later")  # there is nothing to go on with from the beginning
    if full == "later":
        store = Store.open(disk / "out")
        [name] = store.experiment_ids()
        trials = store.trials(name)
        assert len(trials) >= 1
        assert [trial.index for trial in trials] == list(range(len(trials)))
        assert verify(store) == []
        assert {path.name for path in (disk / "out").rglob(".*")} <= {".owner", ".workers"}
