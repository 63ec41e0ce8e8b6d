"""Study files with mistakes that nobody would think of, through `llem plan`. Prints JSON; exits 1 where one fails.

    python benchmarks/fuzz_studies.py [MUTATIONS] [SEED]

Each study is a valid one with one to four mutations of its values (wrong types, huge numbers, deep nesting, odd keys,
commands to a terminal, duplicates) or of its text (bytes, anchors, tags, cuts). One fails that ends with another exit
code than 0, 2 or 3, shows a traceback, lets a command to a terminal out, or takes longer than 10 s.
"""

from __future__ import annotations

import copy
import json
import os
import random
import re
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import yaml
from click.testing import CliRunner

__all__ = ["Planned", "faults", "mutated", "plan", "seeds"]

#: Seconds that planning one study takes at most.
MOST_S = 10.0
#: Characters of a message at most.
MOST_CHARACTERS = 200_000
#: Exit codes of what is planned, and of a mistake that is told.
FINE = (0, 2, 3)
#: What a terminal would obey.
COMMANDS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")

#: What takes long to load, is fetched, or is not there.
HEAVY = r"lm-eval|quality:|command:|includes:|path:"
ENGINES = ("openai", "pytorch", "tensorrt", "vllm")
#: Colours of click's.
COLOURS = re.compile("\x1b\\[(?:0|1|31)m")

ESCAPES = [
    "\x1b[2J",
    "\x1b]0;owned\x07",
    "\x9b31m",
    "\u202e",
    "\u2066a\u2069",
    "\ud800",
    "\x00",
    "\x7f",
    "\r",
    "\t",
    "\n",
]
TEXTS = [
    *ESCAPES, "", " ", ".", "..", "a.b", "a..b", "~", "null", "true", "1", "-1", "1e999", "nan", "=1+1", "@x", "*",
    "?", "%s",
    "{0}", "[0]", "../../etc/passwd", "/dev/zero", "/dev/stdin", "./", "shape:", "shape:tiny", "shape:" + "x" * 300,
    "n" * 300, "ü" * 200, "auto", "max", "echo", "kind", "é", "日本", "a" * 100_000, "http://u:p@h/", "b" * 255 + "/c",
]  # fmt: skip
NUMBERS = [
    0, 1, -1, 2, -0.0, 0.5, 1e-300, 5e-324, 1e300, -1e300, 1.7976931348623157e308, 2**31, 2**53, 2**63 - 1, -(2**63),
    2**63, 2**64, 10**30, 10**400, 10**4299, float("inf"), float("-inf"), float("nan"), 1e308, 10**15, 10**18,
]  # fmt: skip
PLAIN: list[Any] = [None, True, False, [], {}, [[]], [{}], {"": None}, [None], {"a": {"b": {"c": 1}}}, {"kind": None}]
KEYS: list[Any] = [
    *TEXTS, "kind", "name", "base", "axes", "zip", "experiments", "exclude", "reference", "includes", "order", "limits",
    "parallel", "trials", "load", "load.batch_size", "load.kind", "workload", "workload.kind", "sampling", "backend",
    "model", "slo", "echo", "echo.token_seconds", "quality", "meters", "gpus", "window_s", "processes", "linear", "log",
    1, -1, 0, 1.5, True, None, "values", "seed", "<<", "load.batch_size.x", "load..x", ".load", "load.",
]  # fmt: skip

OWN = """
name: all
base:
  model: shape:llama-3.1-8b
  backend: echo
  preset: quick
  workload:
    kind: synthetic
    input_tokens: {kind: uniform, low: 1, high: 8}
    output_tokens: {kind: lognormal, mean: 8, sigma: 1, max: 20}
  warmup: {seconds: 0, batches: 1}
  baseline: {seconds: 0, discard_seconds: 0}
  sampling: {temperature: 0.5, top_p: 0.9, seed: 3}
  echo: {token_seconds: 0.001}
axes:
  load.batch_size: [1, 8]
  window_s: {linear: [0.2, 1, 3]}
  dtype: [bfloat16, float16]
zip:
  - {sampling.seed: [1, 2], weights_seed: [3, 4]}
exclude:
  - {load.batch_size: 1, dtype: float16}
reference: {load.batch_size: 8, dtype: bfloat16, sampling.seed: 1, window_s: 1, processes: 3}
order: {kind: blocks, seed: 1, gap_s: 1}
limits: {timeout_s: 60, failures_in_a_row: 3}
trials: 3
parallel: 1
---
name: loads
base: {backend: echo, echo: {token_seconds: 0.001}, window_s: 1, slo: {ttft_s: 0.5, attainment: 0.99}}
experiments:
  - load: {kind: open, request_rate: 4, burstiness: 1}
  - load: {kind: closed, concurrency: 2, ramp_s: 1}
  - load: {kind: open, request_rate: max, search: {min_rate: 1, max_rate: 9}}
---
base: {backend: echo, load: {kind: offline}}
axes:
  load.batch_size: [1, 64]
  window_s: {log: [1, 100, 5]}
---
backend: echo
model: shape:tiny
load: {kind: closed, concurrency: 4}
workload: {kind: prompts, output_tokens: 16}
"""


@attrs.frozen
class Planned:
    """How `llem plan` of one study ended."""

    code: int
    out: str
    err: str
    seconds: float


def seeds() -> list[Any]:
    """Valid studies: some of our own, and those of the documentation, for the fake backend where they name none."""
    from llem.config.study.file import is_study

    pages = sorted((Path(__file__).parents[1] / "docs").rglob("*.md"))
    blocks = [block for page in pages for block in re.findall(r"^```yaml\n(.*?)^```", page.read_text(), re.M | re.S)]
    found = [yaml.safe_load(block) for block in blocks if not re.search(HEAVY, block)]
    shown = [one for one in found if isinstance(one, dict) and not {"launchers", "gpu_hour"} & set(one)]
    for one in shown:
        settings = one.setdefault("base", {}) if is_study(one) else one
        if isinstance(settings, dict):
            settings.setdefault("backend", next((key for key in settings if key in ENGINES), "echo"))
    return [*yaml.safe_load_all(OWN), *shown]


def mutated(number: int, seed: int, studies: list[Any]) -> bytes:
    """The text of the study with this number, the same each time."""
    draw = random.Random(f"{seed}-{number}")
    study = copy.deepcopy(draw.choice(studies))
    for _ in range(draw.choice((0, 1, 1, 1, 1, 2))):
        study = draw.choice(TREE)(study, draw)
    if draw.random() < 0.5:
        text = json.dumps(_plain(study), ensure_ascii=draw.random() < 0.5).encode("utf-8", "surrogatepass")
    else:
        text = _written(study).encode("utf-8", "surrogatepass")
    for _ in range(draw.choice((0, 0, 0, 1, 2))):
        text = draw.choice(BYTES)(text, draw) or b" "
    return text


def _plain(value: Any) -> Any:
    """What JSON can say: keys are texts."""
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list) else value


def _written(study: Any) -> str:
    try:
        return str(yaml.safe_dump(study, allow_unicode=True, sort_keys=False, width=200))
    except (ValueError, yaml.YAMLError, UnicodeError):  # a number of too many digits
        return repr(study)


# mutations of values


def _places(study: Any) -> Iterator[tuple[Any, Any]]:
    """Every container with every key of it."""
    if isinstance(study, (dict, list)):
        for key in list(study) if isinstance(study, dict) else range(len(study)):
            yield study, key
            yield from _places(study[key])


def _some(study: Any, draw: random.Random) -> tuple[Any, Any] | None:
    places = list(_places(study))
    return draw.choice(places) if places else None


def _value(draw: random.Random) -> Any:
    kind = draw.random()
    if kind < 0.35:
        return draw.choice(NUMBERS)
    if kind < 0.7:
        return draw.choice(TEXTS)
    if kind < 0.9:
        return copy.deepcopy(draw.choice(PLAIN))
    return [draw.choice(NUMBERS), draw.choice(TEXTS)] if kind < 0.95 else {draw.choice(TEXTS): draw.choice(NUMBERS)}


def _replace(study: Any, draw: random.Random) -> Any:
    if place := _some(study, draw):
        place[0][place[1]] = _value(draw)
    return study


def _wrap(study: Any, draw: random.Random) -> Any:
    if place := _some(study, draw):
        inner = place[0][place[1]]
        place[0][place[1]] = draw.choice(([inner], [inner, inner], {"kind": inner}, {"linear": inner}, str(inner)))
    return study


def _remove(study: Any, draw: random.Random) -> Any:
    if place := _some(study, draw):
        del place[0][place[1]]
    return study


def _rename(study: Any, draw: random.Random) -> Any:
    place = _some(study, draw)
    if place and isinstance(place[0], dict):
        place[0][draw.choice(KEYS)] = place[0].pop(place[1])
    return study


def _add(study: Any, draw: random.Random) -> Any:
    maps = [one for one in (study, *(inner[key] for inner, key in _places(study))) if isinstance(one, dict)]
    if maps:
        draw.choice(maps)[draw.choice(KEYS)] = _value(draw)
    return study


def _move(study: Any, draw: random.Random) -> Any:
    first, second = _some(study, draw), _some(study, draw)
    if first and second:
        second[0][second[1]] = copy.deepcopy(first[0][first[1]])
    return study


def _nest(study: Any, draw: random.Random) -> Any:
    if place := _some(study, draw):
        inner: Any = 1
        for _ in range(draw.choice((3, 50, 150))):
            inner = [inner] if draw.random() < 0.5 else {"a": inner}
        place[0][place[1]] = inner
    return study


def _widen(study: Any, draw: random.Random) -> Any:
    """Axes of many values, so that points multiply."""
    if isinstance(study, dict):
        many = draw.choice((list(range(1, 40)), {"linear": [1, 10**6, 10**6]}, {"log": [1, 1e9, 10**9]}, [{}] * 8))
        study.setdefault("axes", {})
        if isinstance(study["axes"], dict):
            study["axes"][draw.choice(("load.batch_size", "window_s", "sampling.seed", "model", "load"))] = many
    return study


TREE: tuple[Callable[[Any, random.Random], Any], ...] = (
    *(_replace,) * 4, _wrap, _remove, _rename, _add, _add, _move, _nest, _widen,
)  # fmt: skip

# mutations of the text


def _flip(text: bytes, draw: random.Random) -> bytes:
    found = bytearray(text)
    for _ in range(draw.choice((1, 3, 30))):
        found[draw.randrange(len(found))] = draw.randrange(256)
    return bytes(found)


def _cut(text: bytes, draw: random.Random) -> bytes:
    begin = draw.randrange(len(text))
    return text[:begin] + (text[draw.randrange(begin, len(text)) :] if draw.random() < 0.5 else b"")


def _insert(text: bytes, draw: random.Random) -> bytes:
    at = draw.randrange(len(text) + 1)
    return text[:at] + draw.choice(INSERTS) + text[at:]


def _repeat(text: bytes, draw: random.Random) -> bytes:
    lines = text.splitlines(keepends=True)
    at = draw.randrange(len(lines))
    return b"".join([*lines[:at], *lines[at : at + 2] * draw.choice((2, 3, 50)), *lines[at:]])


INSERTS = (
    b"\x1b[2J", b"\x9b", b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"\t", b"\r", b"&a ", b"*a", b"&a [*a, *a]",
    b"<<: *a\n",
    b"!!python/object:os.system x", b"!!binary aGk=", b"!!set {a, b}", b"!!timestamp 2001-01-01", b"!!int x",
    b"!!float x",
    b"!!str 1", b"!!null x", b"!!omap [a: 1]", b"!x", b"---\n", b"...\n", b"%YAML 9.9\n", b"? [a, b]\n: c\n",
    b"? {a: 1}\n: 2\n",
    b'"\\ud800"', b'"\\e[2J"', b"[" * 3000, b"{a: " * 3000, b"- " * 3000, b"9" * 5000, b"0x" + b"f" * 5000, b"1e999",
    b".nan",
    b"1_000", b"0o777", b"12:30:45", b"2024-01-01", b"'", b'"', b": ", b"# ", b"| ", b"> ", b"a: &b {c: *b}\n",
    b"a: &x [1,1,1,1,1,1,1,1,1]\nb: &y [*x,*x,*x,*x,*x,*x,*x,*x]\nc: &z [*y,*y,*y,*y,*y,*y,*y,*y]\n"
    b"d: &w [*z,*z,*z,*z,*z,*z,*z,*z]\ne: &v [*w,*w,*w,*w,*w,*w,*w,*w]\nf: [*v,*v,*v,*v,*v,*v,*v,*v]\n",
)  # fmt: skip
BYTES: tuple[Callable[[bytes, random.Random], bytes], ...] = (_flip, _cut, _insert, _insert, _insert, _repeat)


# what llem makes of it


class _TooLong(BaseException):
    """Raised by the alarm, and caught by nobody but us."""


@contextmanager
def _within(seconds: float) -> Iterator[None]:
    def ring(*_: Any) -> None:
        raise _TooLong

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def plan(text: bytes, folder: Path, *options: str) -> Planned:
    """Plan a study in this process."""
    from llem.cli import cli

    path = folder / "study.yaml"
    path.write_bytes(text)
    begin = time.perf_counter()
    try:
        with _within(MOST_S):
            # in colour, for click itself takes commands out where none is asked for
            done = CliRunner().invoke(cli, ["plan", str(path), *options], env={"COLUMNS": "120"}, color=True)
    except _TooLong:
        return Planned(-1, "", "longer than 10 s", time.perf_counter() - begin)
    err = COLOURS.sub("", done.stderr)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        err += f"Traceback: {done.exception!r}"
    return Planned(done.exit_code, done.stdout, err, time.perf_counter() - begin)


def faults(planned: Planned) -> list[str]:
    """What must not be."""
    found = [] if planned.code in FINE else [f"exit {planned.code}"]
    if "Traceback" in planned.err:
        found.append("traceback")
    if command := COMMANDS.search(planned.out + planned.err):
        found.append(f"command {command[0]!r}")
    if planned.code and not planned.err.strip():
        found.append("no message")
    if len(planned.err) > MOST_CHARACTERS:
        found.append(f"a message of {len(planned.err):,} characters")
    if planned.code == 3 and "plugin" in planned.err:
        found.append("a plugin is blamed")
    return found


def main(count: int, seed: int) -> int:
    """Plan so many studies; 1 where any failed, whose text is kept."""
    studies, codes, failed = seeds(), Counter[int](), list[Mapping[str, Any]]()
    kept = Path(tempfile.mkdtemp(prefix="llem-fuzz-"))
    longest = 0.0
    with tempfile.TemporaryDirectory() as name:
        os.environ |= {"HOME": name, "XDG_CONFIG_HOME": name, "XDG_CACHE_HOME": name}
        os.chdir(name)
        for number in range(count):
            text = mutated(number, seed, studies)
            planned = plan(text, Path(name), *(["--json"] if number % 3 == 0 else []))
            codes[planned.code] += 1
            longest = max(longest, planned.seconds)
            if wrong := faults(planned):
                (kept / f"{number}.yaml").write_bytes(text)
                failed.append({"number": number, "wrong": wrong, "said": planned.err[-300:]})
    report = {
        "mutations": count,
        "seed": seed,
        "studies": len(studies),
        "exit_codes": dict(sorted(codes.items())),
        "longest_s": round(longest, 2),
        "memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "failed": failed,
        **({"kept": str(kept)} if failed else {}),
    }
    print(json.dumps(report, indent=2))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(*(int(word) for word in (*sys.argv[1:], *("1000", "1")[len(sys.argv) - 1 :]))))
