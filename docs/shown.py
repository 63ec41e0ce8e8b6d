"""Runs the commands that a page shows, and compares what they print with what the page says they print.

python docs/shown.py PAGE ...      end with 1 where a page shows something else

A block ```console of a page holds commands of llem, each after `$ `, with what each prints on standard output. The
blocks of a page run one after the other in one fresh folder, without a GPU. A block ```yaml that begins with a comment
`# NAME.yaml` is that file. Words and layout must be the same. Numbers, the prefixes of their units, ids and verdicts
(better, worse) may differ, and a line `…` stands for any lines.
"""

from __future__ import annotations

import difflib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

__all__ = ["check", "commands", "matches"]

_BLOCK = re.compile(r"^```(console|yaml)\n(.*?)^```", re.M | re.S)
_NUMBER = r"(?<![A-Za-z])-?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?"
#: What may differ between two machines, and what stands for it.
_VARIES = (
    (re.compile(r"\b[0-9a-f]{16}\b"), "ID"),
    (re.compile("<?" + _NUMBER), "N"),  # a p-value may be "<0.0001"
    (re.compile(r"\(N(?: to |–)N\)"), "± N"),
    (re.compile(r"\bN (?:[nµm]?s)\b"), "N s"),
    (re.compile(r"\bN (?:[mk]?J)\b"), "N J"),
    (re.compile(r"\bN (?:[KMG]i)?B\b"), "N B"),
    (re.compile(r" (?:better|worse) *$", re.M), ""),
    (re.compile(r"─+"), "─"),
    (re.compile(r"[ \t]+"), " "),
)


def commands(text: str) -> list[tuple[str, str]]:
    """The commands of a page with what it shows after each; a block with a command of another program is left out."""
    return [command for kind, block in _BLOCK.findall(text) if kind == "console" for command in _of_llem(block)]


def _of_llem(block: str) -> Iterator[tuple[str, str]]:
    parts = [part.partition("\n") for part in re.split(r"^\$ ", block, flags=re.M)[1:]]
    if all(command.startswith("llem ") for command, _, _ in parts):
        yield from ((command, shown) for command, _, shown in parts)


def matches(shown: str, printed: str) -> bool:
    """Whether a command may print this where a page shows that."""
    lines = (r"(?:.*\n)*" if line == "…" else re.escape(line) + r"\n" for line in _lines(shown))
    return re.fullmatch("".join(lines), "".join(f"{line}\n" for line in _lines(printed))) is not None


def _lines(text: str) -> list[str]:
    for pattern, name in _VARIES:
        text = pattern.sub(name, text)
    return list(_whole_headings([line.strip() for line in text.strip().splitlines()]))


def _whole_headings(lines: list[str]) -> Iterator[str]:
    """A heading, which is what stands between a blank line and a rule, as one line with its words in order: where it is
    broken depends on the width of the figures below it.
    """
    above: list[str] = []
    for line in lines:
        if line == "─" and "…" not in above:
            above = [" ".join(sorted(" ".join(above).split()))]
        if line in ("", "─"):
            yield from (*above, line)
            above = []
        else:
            above.append(line)
    yield from above


def check(page: Path) -> list[str]:
    """What is wrong on a page: for each command that prints something else, the difference."""
    text, wrong = page.read_text(encoding="utf-8"), []
    with tempfile.TemporaryDirectory() as folder:
        for kind, block in _BLOCK.findall(text):
            if kind == "yaml" and (named := re.match(r"# ([\w.-]+\.yaml)\n", block)):
                Path(folder, named[1]).write_text(block, encoding="utf-8")
        for command, shown in commands(text):
            done = subprocess.run(
                ["bash", "-c", command], cwd=folder, env=_environment(folder), capture_output=True, text=True
            )
            if not matches(shown, done.stdout):
                difference = difflib.unified_diff(_lines(shown), _lines(done.stdout), "shown", "printed", lineterm="")
                wrong.append("\n".join([f"{page}: $ {command}", *difference, done.stderr.strip()]))
    return wrong


def _environment(folder: str) -> dict[str, str]:
    """The same on every machine: no GPU, one thread, no settings of the user's, lines of one width."""
    settings = Path(folder, ".user.yaml")
    settings.touch()
    fixed = {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "COLUMNS": "120", "NO_COLOR": "1"}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return {**os.environ, **fixed, "LLEM_CONFIG": str(settings), "PATH": path}


def main(pages: list[str]) -> int:
    wrong = [difference for page in pages for difference in check(Path(page))]
    print("\n\n".join(wrong), file=sys.stderr, end="\n" if wrong else "")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
