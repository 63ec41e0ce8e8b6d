"""`llem plan`: the whole output, and proof that it runs nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

STUDY = """
name: batch and dtype
base: {backend: echo, device: cpu, model: shape:tiny}
axes:
  load.batch_size: [1, 8, 0]
  dtype: [float16, float32]
zip: {trials: [5], window_s: [10]}
experiments:
  - {load.batch_size: 8, dtype: float16}
exclude:
  - {load.batch_size: 8, dtype: float32}
  - {dtype: bfloat16}
order: {kind: sequential}
"""


@pytest.fixture
def study(isolated_llem) -> Path:
    """A study file with points of every fate."""
    path = isolated_llem.folder / "study.yaml"
    path.write_text(STUDY)
    return path


def test_the_plan_as_text(run_llem, study) -> None:
    """The funnel, the order, each reason with its points, notes, and the time with what it is made of."""
    done = run_llem("plan", study)

    assert (done.exit_code, done.stderr) == (0, "")
    ids = [line.split()[1] for line in done.stdout.splitlines() if line.startswith(("  1  ", "  2  ", "  3  "))]
    assert (
        done.stdout
        == f"""batch and dtype

       7  declared
      -1  excluded
      -2  invalid
      -1  merged
       3  to run × 5 trials = 15 trials at least

order: as in the file, all trials of one experiment after the other; 2 engines, loaded 2 times
  1  {ids[0]}  2 min  load.batch_size=1 dtype=float16 trials=5 window_s=10
  2  {ids[1]}  2 min  load.batch_size=8 dtype=float16 trials=5 window_s=10
  3  {ids[2]}  2 min  load.batch_size=1 dtype=float32 trials=5 window_s=10

excluded:
  study.yaml: exclude[0]
    load.batch_size=8 dtype=float32 trials=5 window_s=10

invalid:
  study.yaml: axes.load.batch_size[2]: must be at least 1, got 0
    load.batch_size=0 dtype=float16 trials=5 window_s=10
    load.batch_size=0 dtype=float32 trials=5 window_s=10

merged:
  the same experiment as {ids[1]}
    load.batch_size=8 dtype=float16

note: study.yaml: exclude[1] matches no point

time, estimated: 6 min to 8 min
  (5 s for the load of every engine and an idle baseline before and after, warm-up and trials × window of every \
experiment, with the least and the most trials; larger models, compilation and batches longer than a window come on top)
"""
    )


def test_the_plan_as_json(run_llem, study) -> None:
    """The same for programs: the document of the study, trials and estimate."""
    text = run_llem("plan", study).stdout
    document = json.loads(run_llem("plan", study, "--json").stdout)

    assert document["declared"] == 7
    assert [len(document[word]) for word in ("experiments", "excluded", "invalid", "merged")] == [3, 1, 2, 1]
    assert all(name in text for name in document["experiments"])
    assert document["trials"] == 15
    assert document["estimate"]["least_s"] == 350.0  # two engines, of which one serves two of the experiments
    assert [one["least_s"] for one in document["estimates"].values()] == [135.0] * 3  # each by itself
    assert document["texts"] == {"study.yaml": STUDY}


def test_flags_lie_over_every_point(run_llem, study) -> None:
    """As they will in the run."""
    document = json.loads(run_llem("plan", study, "--set", "load.batch_size=4", "--preset", "quick", "--json").stdout)

    assert len(document["experiments"]) == 3
    assert all("load.batch_size" not in point["values"] for point in document["points"].values())
    assert document["invalid"] == []
    assert [one["source"] for one in document["overrides"]] == ["flag", "flag --set"]


def test_one_experiment_has_a_plan_too(run_llem, isolated_llem) -> None:
    """A file that varies nothing."""
    (isolated_llem.folder / "one.yaml").write_text("backend: echo\ndevice: cpu\n")
    done = run_llem("plan", "one.yaml")

    assert done.exit_code == 0
    assert "       1  to run × 5 trials = 5 trials at least\n" in done.stdout
    assert "the base alone" in done.stdout


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "name: s\nbase: {backend: echo, dtipe: x}\naxes: {dtype: [float16, float32]}\n",
            "error: invalid study 's'\n  study.yaml: base.dtipe: unknown field (did you mean 'dtype'?)\n",
        ),
        (
            "name: s\nbase: {backend: echo}\naxes: {load.batch_size: [0]}\n",
            "error: invalid study 's'\n  study.yaml: axes.load.batch_size[0]: must be at least 1, got 0\n",
        ),
        (
            "base: {backend: echo}\naxes: {load.batch_size: 3}\n",
            "error: the study's axes cannot be expanded\n"
            "  study.yaml: axes.load.batch_size: must be a list of values, got the number 3 (write [3])\n",
        ),
    ],
)
def test_a_mistake_of_the_study_ends_with_2(run_llem, study, text: str, message: str) -> None:
    """With file and path, and nothing on standard output."""
    study.write_text(text)
    done = run_llem("plan", study)

    assert (done.exit_code, done.stdout, done.stderr) == (2, "", message)


@pytest.mark.process
def test_a_plan_imports_nothing_that_could_run_it(study, lab) -> None:
    """No launcher, no procedure, no engine's library; no process is started and nothing is written."""
    study.write_text(STUDY.replace("backend: echo", "backend: lab, lab: {fail_in: load}"))
    before = sorted(path.name for path in study.parent.iterdir())
    program = (
        "import os, subprocess, sys\n"
        "def refuse(*_, **__): raise AssertionError('a process was started')\n"
        "subprocess.Popen.__init__ = os.fork = os.posix_spawn = refuse\n"
        "from llem.cli import cli\n"
        "import llem_lab\n"
        "llem_lab.LabBackend.load = refuse\n"
        "cli(['plan', 'study.yaml'], standalone_mode=False)\n"
        "heavy = ('torch', 'transformers', 'vllm', 'pynvml', 'numpy')\n"
        "ours = [m for m in sys.modules\n"
        "        if m.startswith(('llem.experiment', 'llem.launchers', 'llem.study.run', 'llem.api'))\n"
        "        or m in ('llem.devices.nvml', 'llem.devices.host', 'llem.devices.locks')]\n"
        "print('LOADED', ours, [m for m in heavy if m in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=study.parent,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert "to run" in done.stdout
    assert done.stdout.splitlines()[-1] == "LOADED [] []"
    assert sorted(path.name for path in study.parent.iterdir()) == before
