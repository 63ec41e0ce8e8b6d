"""Servers whose answers were changed at random: does every study end well, and does no result state what is wrong?

    python benchmarks/fuzz_answers.py [MUTATIONS] [SEED] [SECONDS] [PROCESSES]

`odd_answers.py` answers. Each study has experiments against a few mutations and one, the last, against a sound server.
It runs through `llem run` under short offline, closed and open loads; then `show`, `verify`, `export` and `report` read
what is stored. `SECONDS` ends it early. Prints a table as JSON, a row for each kind of change:

mutations  servers that were changed
refused    of these, those for which `llem run` began nothing: the server was not ready, or wanted another key
valid      experiments that are done and valid: the change was of no harm, or away from what counts
told       done, and a finding makes them invalid
failed     no result, but an error
bugs       what must not be; each is listed below the table
slowest_s  the longest study with such a server

What must not be: a command that ends with 70, with a traceback, without an outcome, or much later than its loads and
patience take; a command to a terminal in what is printed; the key in the store, in what is printed, or at the end of a
redirect; a store that `verify` finds changed; memory that grew by 500 MB; the sound experiment not done; a valid result
whose requests have other numbers of tokens than were asked for and brought, or with a number that cannot be.
"""

from __future__ import annotations

import contextlib
import gzip
import html
import json
import math
import multiprocessing
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import odd_answers
from click.testing import CliRunner
from fuzz_studies import COLOURS, COMMANDS
from odd_answers import OFFLINE, TOKENS, WINDOW_S, Case, Ports, case_of, name_of

#: Of the form of no known service, so that it is known by its value alone; with what JSON and HTML escape.
KEY = 'Odd/K3y"7f&9c+Zq='
VARIABLE = "ODD_KEY"
#: How long llem waits: for a token, for a request.
PATIENCE_S, DEADLINE_S = 1.0, 2.0
#: A study may take so long, and so much for each experiment, of which each has a few seconds of its own on a machine
#: where nothing else runs: pages that hang have ten.
STUDY_S, EXPERIMENT_S = 30.0, 40.0
#: Any other command: of processor time, and in all.
LONGEST_S, READING_S = 10.0, 60.0
MOST_MIB, MOST_STORED, MOST_PRINTED = 500, 5_000_000, 200_000
#: Mutations of one study, beside the sound server.
TOGETHER = 6
#: Errors of Python that are a fault of llem, whatever a server answers.
OURS = re.compile(
    r"\b(Attribute|Type|Key|Index|Value|Recursion|Unicode\w*|Overflow|Assertion|ZeroDivision|JSONDecode)Error\b"
)
READING = (
    ("show", "STORE", "--json"),
    ("verify", "STORE"),
    ("export", "STORE", "--all"),
    ("report", "STORE", "-o", "STORE.html"),
    ("show", "STORE"),
)
BASE: dict[str, Any] = {
    "model": "shape:tiny", "backend": "openai", "dtype": "auto", "device": "cpu", "preset": "quick", "trials": 1,
    "window_s": WINDOW_S, "meters": [], "warmup": {"seconds": 0, "batches": 1}, "baseline": {"seconds": 0},
    "openai": {"timeout_s": PATIENCE_S, "deadline_s": DEADLINE_S, "api_key_env": VARIABLE, "client_processes": 1},
    "workload": {"kind": "synthetic", "input_tokens": 8, "output_tokens": TOKENS},
}  # fmt: skip
#: No metric of so short a window is as great.
MOST_METRIC = 1e12


@attrs.frozen
class Ran:
    """One command: its exit code, all that it printed, how long it took, and how much of that was processor time."""

    code: int
    out: str
    err: str
    seconds: float
    processor_s: float = 0.0


@attrs.define
class Row:
    """A row of the table."""

    mutations: int = 0
    refused: int = 0
    valid: int = 0
    told: int = 0
    failed: int = 0
    bugs: int = 0
    slowest_s: float = 0.0


class Hang(BaseException):
    """A command took too long."""


@contextlib.contextmanager
def served(folder: Path) -> Iterator[Ports]:
    """The server, as a process of its own."""
    command = [sys.executable, odd_answers.__file__, KEY, str(folder / "redirected")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            yield Ports(**json.loads(process.stdout.readline()))
        finally:
            process.kill()


def command(words: Sequence[str], longest_s: float = READING_S) -> Ran:
    """A command in this process, with a limit of its time; in colour, for click takes commands out elsewhere."""
    from llem.cli import cli

    def late(*_: Any) -> None:
        raise Hang

    handler = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, longest_s)
    began, busy = time.monotonic(), time.process_time()
    try:
        done = CliRunner().invoke(cli, list(words), env={"COLUMNS": "120"}, color=True)
    except Hang:
        return Ran(-signal.SIGALRM, "", f"longer than {longest_s:g} s", time.monotonic() - began)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
    raised = done.exception is not None and not isinstance(done.exception, SystemExit)
    err = done.stderr + (f"Traceback: {done.exception!r}" if raised else "")
    return Ran(done.exit_code, done.stdout, err, time.monotonic() - began, time.process_time() - busy)


def point(case: Case | None, name: str, ports: Ports) -> dict[str, Any]:
    """An experiment of a study; None: against the sound server."""
    url = f"http://127.0.0.1:{ports.own}/{name}/v1"
    if case is None:
        return {"load": OFFLINE, "openai.base_url": url, "openai.timeout_s": 10.0, "openai.deadline_s": 20.0}
    return {"load": case.load, "openai.base_url": url, **case.settings}


def study(cases: Sequence[Case], ports: Ports) -> dict[str, Any]:
    """One experiment for each, and the sound one last."""
    points = [point(case, name_of(case), ports) for case in cases]
    points.append(point(None, "sound", ports))
    return {"name": "odd", "base": BASE, "experiments": points, "limits": {"failures_in_a_row": 1000}}


@attrs.frozen
class Ended:
    """What became of a study: what must not be, by mutation, and what each ended as."""

    bugs: Mapping[str, Sequence[str]]
    ends: Mapping[str, str]
    seconds: float


def ended(cases: Sequence[Case], ports: Ports, folder: Path, reading: Sequence[Sequence[str]] = READING) -> Ended:
    """Run the study of these mutations, and read what it stored.

    A study is refused where a server is not ready, before anything is stored: then it runs without that one.
    """
    folder.mkdir()
    os.environ[VARIABLE] = KEY
    store, path = folder / "out", folder / "study.yaml"
    before, known = memory(), (["--json"], ["-q"], [])[cases[0].number % 3]
    begun, said, seconds, ends = list(cases), [], 0.0, {}
    while True:
        path.write_text(json.dumps(study(begun, ports)))
        longest = STUDY_S + EXPERIMENT_S * (len(begun) + 1)
        ran = command(["run", str(path), "-o", str(store), "--launcher", "inline", *known], longest)
        seconds = max(seconds, ran.seconds)
        refused = [case for case in begun if f"/{name_of(case)}/" in ran.err and is_early(case)]
        if ran.code not in (2, 3) or store.exists() or not refused:
            break
        said += [f"llem run: {fault}" for fault in faults(ran, (2, 3))]
        ends |= {name_of(case): "refused" for case in refused}
        begun = [case for case in begun if case not in refused]
    said += [f"llem run: {fault}" for fault in faults(ran, (0, 1))]
    found = results(store)
    invalid = json.dumps(json.loads((store / "study.json").read_text())["invalid"]) if found else ""
    ends |= {name_of(case): "refused" for case in begun if f"/{name_of(case)}/" in invalid and is_early(case)}
    names = [*(name for name in map(name_of, begun) if name not in ends), "sound"]
    bugs: dict[str, list[str]] = {name: wrong(found.get(name), name) for name in names}
    for words in reading if store.exists() else ():
        did = command([word.replace("STORE", str(store)) for word in words])
        # what is exported goes into a file here, which gets every character; on a terminal it would be made visible
        said += [f"llem {' '.join(words[:2])}: {fault}" for fault in faults(did, (0,), shown=words[0] != "export")]
    said += leaks(folder)
    if (grown := memory() - before) > MOST_MIB:
        said.append(f"memory grew by {grown} MiB")
    if said:
        bugs["study"] = said
    ends |= {name: end_of(found.get(name)) for name in names}
    return Ended({name: told for name, told in bugs.items() if told}, ends, seconds)


def is_early(case: Case) -> bool:
    """Whether a page is changed that is asked for when a study is planned: the point is refused, or the study."""
    return case.spot.page in ("models", "health")


def memory() -> int:
    """The most that this process, or one that it started, had in MiB."""
    return max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) // 1024


def faults(ran: Ran, fine: Sequence[int], *, shown: bool = True) -> list[str]:
    """What must not be in how a command ended and in what it printed; `shown`: standard output as well."""
    said = COLOURS.sub("", ran.out + ran.err)
    found = [] if ran.code in fine else [f"ended with {ran.code}: {ran.err.strip()[-400:]!r}"]
    if "Traceback" in said:
        found.append(f"traceback: {said[said.index('Traceback') :][-600:]!r}")
    looked_at = said if shown else COLOURS.sub("", ran.err)
    if command := COMMANDS.search(looked_at):
        found.append(f"command {command[0]!r} in {looked_at[max(command.start() - 80, 0) : command.end() + 20]!r}")
    if place := has_key(said.encode(errors="surrogatepass")):
        found.append(f"the key: {place!r}")
    if ran.processor_s > LONGEST_S:
        found.append(f"took {ran.processor_s:.0f} s of a processor")
    if len(ran.err) > MOST_PRINTED:
        found.append(f"messages of {len(ran.err):,} characters")
    return found


def has_key(content: bytes) -> bytes | None:
    """Where the key stands in a text, as it is, or as JSON or HTML escape it."""
    for said in {KEY, json.dumps(KEY)[1:-1], html.escape(KEY), KEY.replace('"', '""')}:
        if (at := content.find(said.encode())) >= 0:
            return content[max(at - 60, 0) : at + 60]
    return None


def leaks(folder: Path) -> list[str]:
    """Files that hold the key, or are large; the study and what redirects told of among them."""
    found = []
    for path in sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
        if place := has_key(content):
            found.append(f"the key in {path.relative_to(folder)}: {place!r}")
        if len(content) > MOST_STORED:
            found.append(f"{path.relative_to(folder)} has {len(content):,} bytes")
        if path.suffix in (".html", ".csv", ".json", ".jsonl", ".txt") and b"\x1b" in content:
            found.append(f"a control character in {path.relative_to(folder)}")
    return found


@attrs.frozen
class Found:
    """An experiment as it is stored: its result, and of each trial the rows of its requests."""

    result: Mapping[str, Any]
    rows: Sequence[Any]


def results(folder: Path) -> dict[str, Found]:
    """By the name in the address of its server."""
    from llem.store.store import Store

    if not (folder / "study.json").exists():
        return {}
    store, found = Store.open(folder), {}
    for path in folder.glob("experiments/*/result.json"):
        result = json.loads(path.read_text())
        name = result["config"]["openai"]["base_url"].split("/")[3]
        rows = [
            row for trial in store.trials(path.parent.name) for row in store.requests(path.parent.name, trial.index)
        ]
        found[name] = Found(result, rows)
    return found


def end_of(found: Found | None) -> str:
    """In a word of the table."""
    if found is None or found.result["outcome"] != "done":
        return "failed"
    return "valid" if found.result["valid"] else "told"


def wrong(found: Found | None, name: str) -> list[str]:
    """What must not be in a result."""
    if found is None:
        return ["has no result"]
    result = found.result
    said = json.dumps([result["error"], result["findings"]], ensure_ascii=False)
    told = [f"an error of ours: {said[max(ours.start() - 200, 0) :][:500]}"] if (ours := OURS.search(said)) else []
    if result["outcome"] != "done":
        told += ["no reason"] if not str(result["error"] or "").strip() else []
        return told + ([f"the sound server: {said[:300]}"] if name == "sound" else [])
    if not result["valid"]:
        return told
    values = {name: metric["value"] for name, metric in result["metrics"].items() if metric["value"] is not None}
    odd = {name: value for name, value in values.items() if not math.isfinite(value) or not 0 <= value <= MOST_METRIC}
    odd |= {name: value for name, value in values.items() if name.endswith("_share") and value > 1}
    if odd:
        told.append(f"valid, with {odd}")
    counts = {row.output_tokens for row in found.rows if row.finish_reason not in ("error", "unfinished")} - {TOKENS}
    if counts:
        told.append(f"valid, with requests of {sorted(counts)} tokens for {TOKENS}")
    prompts = [
        row.engine_metrics["prompt_tokens"] for row in found.rows if "prompt_tokens" in (row.engine_metrics or {})
    ]
    if prompts and max(prompts) > MOST_PROMPT:
        told.append(f"valid, with a prompt of {max(prompts):,.0f} tokens")
    return told


#: The longest of the built-in prompts, and all that a server may add to one.
MOST_PROMPT = 40_000


@attrs.frozen
class Share:
    """What one process does: every so many of the mutations."""

    numbers: Sequence[int]
    seed: int
    ends: float
    kinds: Sequence[str] = ()


def rounds(share: Share, ports: Ports, folder: Path) -> tuple[dict[str, Row], list[str]]:
    """Studies of a few mutations each, by kind, and what must not be."""
    rows: dict[str, Row] = {}
    told: list[str] = []
    for begin in range(0, len(share.numbers), TOGETHER):
        if time.monotonic() > share.ends:
            break
        cases = [case_of(share.seed, number, share.kinds) for number in share.numbers[begin : begin + TOGETHER]]
        done = ended(cases, ports, folder / str(cases[0].number))
        for case in cases:
            row = rows.setdefault(case.kind, Row())
            row.mutations += 1
            end = done.ends[name_of(case)]
            setattr(row, end, getattr(row, end) + 1)
            row.bugs += name_of(case) in done.bugs
            row.slowest_s = round(max(row.slowest_s, done.seconds), 1)
        kinds = ", ".join(f"{name_of(case)} {case.kind} of {case.spot.page}" for case in cases)
        told += [f"{name}: {fault}" for name, faults in done.bugs.items() for fault in faults]
        told += [f"  in {folder / str(cases[0].number)}: {kinds}"] if done.bugs else []
    return rows, told


def together(parts: Sequence[tuple[Mapping[str, Row], Sequence[str]]]) -> tuple[dict[str, Row], list[str]]:
    """One table of all."""
    rows: dict[str, Row] = {}
    for part, _ in parts:
        for kind, one in part.items():
            row = rows.get(kind, Row())
            added = {name: value + getattr(row, name) for name, value in attrs.asdict(one).items()}
            rows[kind] = Row(**{**added, "slowest_s": max(row.slowest_s, one.slowest_s)})
    return dict(sorted(rows.items())), [line for _, told in parts for line in told]


def work(share: Share, ports: Ports, folder: Path, sender: Any) -> None:
    """One process."""
    folder.mkdir()
    os.environ |= {"HOME": str(folder), "XDG_CONFIG_HOME": str(folder), "XDG_CACHE_HOME": str(folder)}
    os.chdir(folder)
    sender.send(rounds(share, ports, folder))


def main(mutations: int = 1000, seed: int = 1, seconds: float = math.inf, processes: int = 4) -> int:
    """Several processes, which wait most of the time; 1 where anything is found."""
    folder = Path(tempfile.mkdtemp(prefix="llem-fuzz-"))
    ends = time.monotonic() + seconds
    with served(folder) as ports:
        making, parts, began = multiprocessing.get_context("spawn"), [], []
        for number in range(processes):
            receiver, sender = making.Pipe(duplex=False)
            share = Share(range(number, mutations, processes), seed, ends)
            process = making.Process(target=work, args=(share, ports, folder / f"process-{number}", sender))
            process.start()
            began.append((process, receiver))
        for process, receiver in began:
            parts.append(receiver.recv())
            process.join()
    rows, told = together(parts)
    redirected = folder / "redirected"
    asked = redirected.read_bytes() if redirected.exists() else b""
    if b"uthorization" in asked or has_key(asked):
        told.append(f"a redirect took the key along: {asked[:500]!r}")
    print(json.dumps({kind: attrs.asdict(row) for kind, row in rows.items()}, indent=1))
    print("\n".join([f"studies in {folder}; redirects that were followed: {asked.count(b'HTTP/1.1')}", *told]))
    return 1 if told else 0


if __name__ == "__main__":
    given = [float(word) for word in sys.argv[1:]]
    sys.exit(main(*[*map(int, given[:2]), *given[2:3], *map(int, given[3:4])]))
