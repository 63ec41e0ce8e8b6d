"""Names that no file can have, names with commands to a terminal, and names of plugins that are not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from llem.errors import UnknownPlugin
from llem.plugins.registry import registry
from llem.study.run.folder import default_folder

LONG = "n" * 300
#: Sets the title of a terminal.
TITLE = "\x1b]0;owned\x07"


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "-b", "echo", "-o", LONG),
        ("run", f"{LONG}.yaml"),
        ("run", "-b", "echo", "-m", f"./{LONG}"),
        ("run", "-b", "echo", "--set", "workload.kind=file", "--set", f"workload.path={LONG}"),
        ("plan", f"{LONG}.yaml"),
        ("show", LONG),
        ("verify", LONG),
    ],
    ids=lambda one: " ".join(one)[:30],
)
@pytest.mark.usefixtures("isolated_llem")
def test_a_name_that_no_file_can_have_is_the_users_mistake(run_llem, arguments: tuple[str, ...]) -> None:
    """Exit 2 and a message that names it; neither a bug nor the machine's fault."""
    done = run_llem(*arguments)

    assert done.exit_code == 2, done.stderr
    assert LONG in done.stderr
    assert "Traceback" not in done.stderr


def test_a_long_name_of_a_study_is_cut_in_its_folder() -> None:
    """Without `-o` the folder has the study's name and the time, within what a file system allows."""
    name = default_folder("results", "ü" * 300).name

    assert len(name.encode()) < 200
    assert name.startswith("ü" * 70)


def test_names_in_a_plan_command_no_terminal(run_llem, isolated_llem) -> None:
    """Of the study, of a model, and of what an axis sets."""
    study = isolated_llem.folder / "study.yaml"
    title = TITLE.replace("\x1b", "\\e").replace("\x07", "\\a")
    values = f'["a{title}", "b"]'
    study.write_text(f'name: "s{title}"\nbase: {{backend: echo, model: "m{title}"}}\naxes:\n  model: {values}\n')
    done = run_llem("plan", study)

    assert done.exit_code == 0, done.stderr
    assert "\x1b" not in done.stdout
    assert "s\\u001b]0;owned\\u0007" in done.stdout


@pytest.mark.parametrize(("kind", "name"), [("meter", "vlm"), ("backend", "zeuss"), ("launcher", "vllm")])
def test_a_hint_never_crosses_kinds(kind, name: str) -> None:
    """A meter is no remedy for a backend that is not there."""
    with pytest.raises(UnknownPlugin) as told:
        registry().reference(kind, name)

    assert "pip install" not in told.value.hint
    assert told.value.hint.startswith("installed: ")


def test_a_hint_within_the_kind(tmp_path: Path) -> None:
    """What is not installed is named with its package."""
    if "slurm" in registry().names("launcher"):
        pytest.skip("llem-slurm is installed")
    with pytest.raises(UnknownPlugin, match="slurm"):
        registry().reference("launcher", "slurmm")
