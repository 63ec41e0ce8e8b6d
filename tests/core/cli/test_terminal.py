"""Output where characters are missing: in another encoding, or with nowhere to go."""

from __future__ import annotations

import io
import os
import subprocess
import sys

import pytest

from llem.cli.terminal import fit_output

QUICK = ("run", "-b", "echo", "--preset", "quick", "--set", "window_s=0.1")
AT_ONCE = ("--set", "warmup.seconds=0", "--set", "baseline.seconds=0")


def llem(*arguments, **environment):
    """`llem` as a process of its own with these environment variables."""
    return subprocess.run(
        [sys.executable, "-m", "llem", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        timeout=100,
        check=False,
    )


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("ascii", b"1.5 +- 0.1 \\xe4"),
        ("latin-1", b"1.5 \xb1 0.1 \xe4"),
        ("utf-8", "1.5 ± 0.1 ä".encode()),
    ],
)
def test_what_an_encoding_lacks_is_written_in_ascii(encoding, shown, monkeypatch):
    """Signs of figures become ASCII where they must, and other characters their escapes; nothing else changes."""
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding))

    fit_output()
    print("1.5 ± 0.1 ä", end="", flush=True)

    assert raw.getvalue() == shown


def test_an_experiment_ends_well_where_output_is_ascii(tmp_path):
    """A measurement is not lost for a character that the terminal cannot show."""
    done = llem(*QUICK, *AT_ONCE, "-o", str(tmp_path / "out"), PYTHONIOENCODING="ascii", PYTHONUTF8="0", LC_ALL="C")

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(b"echo | shape:tiny | bfloat16 | batch 1\n")


def test_closed_standard_output_is_no_bug():
    """A command whose standard output was closed before it began ends as it would otherwise."""
    done = subprocess.run(
        ["sh", "-c", '"$0" -m llem plugins >&-', sys.executable], capture_output=True, timeout=60, check=False
    )

    assert (done.returncode, done.stderr) == (0, b"")
