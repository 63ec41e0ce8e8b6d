"""Completion: what is offered where, that no engine is imported for it, and that a real shell writes it down."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time

import pytest
from click.shell_completion import ShellComplete

from llem.cli import cli
from llem.cli.completion import COMPLETE, COMPLETERS, prepare

AXES = {"load.batch_size": [1, 8], "dtype": ["float16", "bfloat16"]}


@pytest.fixture
def offered(monkeypatch):
    """`offered("show", "out", "")`: the values after these words, of which the last is not whole."""
    for command in [cli, *cli.commands.values()]:
        for parameter in command.params:
            monkeypatch.setattr(parameter, "shell_complete", parameter.shell_complete)  # and back again
    prepare(cli)

    def complete(*words):
        *before, last = map(str, words)
        return [one.value for one in ShellComplete(cli, {}, "llem", COMPLETE).get_completions(before, last)]

    return complete


def test_settings_and_their_values(offered) -> None:
    """Sections first, then their settings, then the values of those that have a list."""
    assert {"dtype=", "load.", "echo.", "workload."} <= set(offered("run", "--set", ""))
    assert offered("run", "--set", "load.batch") == ["load.batch_size="]
    assert offered("plan", "--set", "load.kind=") == [
        f"load.kind={one}" for one in ("offline", "closed", "open", "replay")
    ]
    assert offered("run", "--set", "dtype=b") == ["dtype=bfloat16"]
    assert "echo.token_seconds=" in offered("run", "--set", "echo.")
    assert "workload.input_tokens=" in offered("run", "--set", "workload.in")
    assert offered("run", "--set", "trust_remote_code=") == ["trust_remote_code=true", "trust_remote_code=false"]
    assert offered("run", "--set", "nothing.here=") == []


@pytest.mark.backends("vllm")
def test_settings_of_a_plugin(offered) -> None:
    """By its config module, which imports no engine."""
    assert offered("run", "--set", "vllm.max_num_s") == ["vllm.max_num_seqs="]
    assert "vllm" not in sys.modules


def test_what_a_folder_holds(offered, grid_store) -> None:
    """Ids in the study's order, axes, conditions with their values, and metrics."""
    folder = grid_store(AXES, lambda _: 1.0).path

    assert [one[:2] for one in offered("show", folder, "")] == ["03", "02", "01", "00"]
    assert [one[:2] for one in offered("compare", folder, "00", "0")] == ["03", "02", "01", "00"]
    assert offered("show", folder, "--by", "") == list(AXES)
    assert offered("show", folder, "--where", "dtype=") == ["dtype=float16", "dtype=bfloat16"]
    assert "energy_per_output_token_j" in offered("show", folder, "--sort", "energy")
    assert offered("show", folder, "--columns", "memory,ttft_p99") == ["memory,ttft_p99_s"]
    assert offered("show", folder / "nowhere", "") == []


def test_names_that_a_shell_would_read_are_left_out(offered, grid_store) -> None:
    """A folder of somebody else's may hold any text."""
    store = grid_store({"$(touch x)": [1, 2], "dtype": ["`id`", "a"]}, lambda _: 1.0)

    assert offered("show", store.path, "--by", "") == ["dtype"]
    assert offered("show", store.path, "--where", "dtype=") == ["dtype=a"]


def test_backends_commands_and_models(offered) -> None:
    """Those that are installed."""
    assert "echo" in offered("run", "-b", "")
    assert offered("sh") == ["show"]
    assert "worker" not in offered("")
    assert "shape:tiny" in offered("run", "-m", "shape:")
    assert offered("completion", "") == ["bash", "zsh", "fish"]


def test_every_completer_belongs_to_a_parameter() -> None:
    """A renamed option does not lose its completion in silence."""
    names = {parameter.name for command in cli.commands.values() for parameter in command.params}

    assert set(COMPLETERS) <= names


@pytest.fixture
def program(tmp_path):
    """The environment with a program `llem`."""
    script = tmp_path / "bin" / "llem"
    script.parent.mkdir()
    run = "import sys; sys.argv[0] = 'llem'; from llem.cli import main; main()"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{run}" "$@"\n')
    script.chmod(0o755)
    path = os.pathsep.join([str(script.parent), os.environ["PATH"]])
    return {**os.environ, "PATH": path, "TERM": "dumb", "PS1": "$ ", "HOME": str(tmp_path)}


@pytest.mark.process
def test_completing_imports_no_engine_and_no_numbers(program) -> None:
    """Settings are the heaviest list."""
    code = (
        "import sys; from llem.cli import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'numpy', 'scipy', 'rich', 'transformers', 'vllm', 'zeus'} & set(sys.modules)\n"
        "print(sorted(heavy), file=sys.stderr)"
    )
    asked = {"COMP_WORDS": "llem run --set load.k", COMPLETE: "bash_complete"}
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.argv = ['llem']\n{code}"],
        env={**program, **asked}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip

    assert (done.stdout, done.stderr) == ("plain,load.kind=\n", "[]\n")


SHELLS = {
    "bash": (("bash", "--norc", "-i"), "source <(llem completion bash)"),
    "zsh": (("zsh", "-f", "-i"), 'autoload -Uz compinit; compinit -u -d "$HOME/dump"; eval "$(llem completion zsh)"'),
    "fish": (("fish", "--no-config", "-i"), "llem completion fish | source"),
}


@pytest.mark.process
@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("typed", "whole"),
    [("llem run --set load.kind=off", "load.kind=offline"), ("llem run --set loa", "load."), ("llem rec", "recommend")],
)
def test_a_real_shell_writes_it_down(shell, typed, whole, program) -> None:
    """As after TAB in a terminal."""
    argv, setup = SHELLS[shell]
    if shutil.which(argv[0]) is None:
        pytest.skip(f"no {shell} here")
    child, terminal = pty.fork()
    if child == 0:
        os.execvpe(argv[0], argv, program)
    try:
        os.write(terminal, f'{setup}; echo REA""DY\n'.encode())
        read_until(terminal, rb"READY\r?\n")
        os.write(terminal, f"{typed}\t".encode())
        assert read_until(terminal, re.escape(whole).encode())
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)
        os.close(terminal)


def read_until(terminal, pattern, limit=120.0) -> bool:
    """Whether a terminal shows this before the time is over."""
    shown, end = b"", time.monotonic() + limit
    while time.monotonic() < end:
        if select.select([terminal], [], [], 0.5)[0]:
            shown += os.read(terminal, 65536)
            if b"\x1b[c" in shown or b"\x1b[0c" in shown:  # fish asks what terminal this is
                os.write(terminal, b"\x1b[?62;c")
                shown = shown.replace(b"\x1b[c", b"").replace(b"\x1b[0c", b"")
        if re.search(pattern, shown):
            return True
    return False
