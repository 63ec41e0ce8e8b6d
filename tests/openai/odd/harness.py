"""Runs experiments against odd servers through `llem run`, and says what is not as `modes.py` has it.

python harness.py GROUP FOLDER [MODE[/LOAD] …]     # by hand; prints what is wrong
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llem.findings.codes import FINDINGS
from llem.store.store import Store

HERE = Path(__file__).parent

Case = tuple[str, str]
KEY = "sk-odd-secret"
#: Commands that run side by side.
COMMANDS = 4
#: A median is right within this share and these seconds: the machine is shared.
WITHIN, WITHIN_S = 0.2, 0.015
#: A command is killed after this time, and this much more for each experiment: something hangs.
LONGEST_S, MORE_S = 40, 8
#: Errors of Python that are a fault of llem, whatever a server answers.
OURS = re.compile(r"\b(Attribute|Type|Key|Index|Value|Recursion|Unicode\w*|Overflow|Assertion)Error\b")
NAMES = {"ttft": "ttft_p50_s", "tpot": "tpot_p50_s", "e2el": "e2el_p50_s", "gap": "itl_chunk_p50_s"}
#: Findings about the machine, or about a short study, that say nothing of the server.
BESIDE = {
    "not_publishable_preset", "single_trial", "short_window", "host_busy", "few_completions", "prompt_as_text",
    "no_steady_state", "client_lag", "token_times_on", "not_stationary", "rate_off", "requests_unfinished", "paused", "stalled",
    "prompts_repeat", "shared_host", "interval_wide",
}  # fmt: skip
BASE = {
    "model": "shape:tiny", "backend": "openai", "dtype": "auto", "device": "cpu", "preset": "quick", "trials": 1,
    "window_s": 1.0, "meters": [], "warmup": {"seconds": 0, "batches": 1}, "baseline": {"seconds": 0},
    "openai": {"timeout_s": 1.0},
}  # fmt: skip
LOADS = {
    "offline": {"kind": "offline", "batch_size": 2},
    "closed": {"kind": "closed", "concurrency": 2},
    "open": {"kind": "open", "request_rate": 8},
}


@contextlib.contextmanager
def serving(folder: Path, group: dict[str, Any]) -> Iterator[dict[str, int]]:
    """A server of these modes; the port of all that have none of their own is at ""."""
    written = folder / "modes.json"
    written.write_text(json.dumps({name: mode.options for name, mode in group.items()}))
    command = [sys.executable, str(HERE / "server.py"), str(written)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            yield json.loads(process.stdout.readline())
        finally:
            process.kill()


def points(cases: Sequence[Case], group: Mapping[str, Any], ports: Mapping[str, int], turn: int) -> list[Any]:
    """Experiments of a study, one for each mode and load."""
    return [
        {
            "load": LOADS[load],
            "openai.base_url": f"http://127.0.0.1:{ports.get(mode, ports[''])}/{mode}/{load}{turn}/v1",
            "token_times": load == "offline",
            **group[mode].settings,
        }
        for mode, load in cases
    ]


@dataclass
class Ran:
    """What became of one experiment."""

    outcome: str
    error: str
    result: dict[str, Any]
    seconds: float
    tokens: set[int]


def run(folder: Path, experiments: list[Any], tokens: int = 6) -> dict[Case, Ran]:
    """One command; what became of its experiments, by mode and load."""
    folder.mkdir()
    base = {**BASE, "workload": {"kind": "synthetic", "input_tokens": 8, "output_tokens": tokens}}
    (folder / "study.yaml").write_text(json.dumps({"name": "odd", "base": base, "experiments": experiments}))
    command = [sys.executable, "-m", "llem", "run", str(folder / "study.yaml"), "-o", str(folder / "out")]
    environment = {**os.environ, "ODD_KEY": KEY}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    with (
        (folder / "told").open("w") as told,
        subprocess.Popen(
            [*command, "--launcher", "inline", "--json"], env=environment, stdout=told, stderr=told
        ) as process,
    ):
        try:
            process.wait(LONGEST_S + MORE_S * len(experiments))
        except subprocess.TimeoutExpired:
            process.kill()
    text = (folder / "told").read_text(errors="replace")
    if process.returncode not in (0, 1):
        print(f"{folder}: the command ended with {process.returncode}: {text[-600:]}")
    assert KEY not in text, f"{folder}/told has the key"
    for path in folder.glob("out/**/*.json*"):
        assert KEY not in path.read_text(), f"{path} has the key"
        assert path.stat().st_size < 1_000_000, f"{path} is large"
    return dict(found for path in folder.glob("out/workers/*/events.jsonl") if (found := ran(folder / "out", path)))


def ran(out: Path, path: Path) -> tuple[Case, Ran] | None:
    """The experiment of a worker's events; None where it has not ended."""
    events = [json.loads(line) for line in path.read_text().splitlines()]
    times = [event["at"]["monotonic_ns"] for event in events]
    ended = next((event for event in events if event["event"] == "outcome"), None)
    if ended is None:
        return None
    folder = out / "experiments" / ended["id"]
    if not (folder / "result.json").exists():
        return None
    result = json.loads((folder / "result.json").read_text())
    store = Store.open(out)
    rows = [row for trial in store.trials(ended["id"]) for row in store.requests(ended["id"], trial.index)]
    whole = {row.output_tokens for row in rows if row.finish_reason not in ("error", "unfinished")}
    mode, load = result["config"]["openai"]["base_url"].split("/")[3:5]
    error = json.dumps(result.get("error"), ensure_ascii=False)
    return (mode, load[:-1]), Ran(result["outcome"], error, result, (times[-1] - times[0]) / 1e9, whole)


def wrong(right: Any, found: Ran | None) -> list[str]:
    """What is not as it should be."""
    if found is None:
        return ["has not ended"]
    faults = []
    codes = {one["code"] for one in found.result["findings"]}
    if found.seconds > right.within_s:
        faults.append(f"took {found.seconds:.1f} s, not {right.within_s:g}")
    ends = ended(found, codes, right)
    if not ends & set(right.ends):
        told = f"{found.outcome}, valid {found.result['valid']}, {sorted(codes - BESIDE)}, {found.error[:300]}"
        faults.append(f"is not {' or '.join(right.ends)}: {told}")
    if found.outcome == "done" and found.result["valid"]:
        faults += wrong_numbers(right.times, found)
    return faults


def ended(found: Ran, codes: set[str], right: Any) -> set[str]:
    """In which of the ways of `Right.ends`."""
    if found.outcome != "done":
        fine = re.search(right.words, found.error, re.IGNORECASE) and not OURS.search(found.error)
        return {"failed"} if fine else set()
    ends = set()
    if found.result["valid"] and not any(FINDINGS[code].severity != "info" for code in codes - BESIDE):
        ends.add("measured")
    if codes & set(right.codes):
        ends |= {"told"} if found.result["valid"] else {"told", "invalid"}
    return ends


def wrong_numbers(times: Any, found: Ran) -> list[str]:
    """Numbers that count as valid and are not right."""
    faults = []
    for name, metric in NAMES.items():
        wanted, value = getattr(times, name), found.result["metrics"][metric]["value"]
        if wanted == "any" or (value is None and wanted is None):
            continue
        if wanted is None or value is None or abs(value - wanted) > max(WITHIN * wanted, WITHIN_S):
            faults.append(f"{name} {value} where {wanted} is right")
    if found.tokens - {times.tokens}:
        faults.append(f"requests of {sorted(found.tokens)} tokens")
    return faults


def judged(group: Mapping[str, Any], cases: Sequence[Case], folder: Path, turn: int) -> dict[Case, list[str]]:
    """What is wrong, by mode and load."""
    folder.mkdir()
    commands = COMMANDS // turn  # what was wrong once runs on a quieter machine
    with serving(folder, group) as ports, concurrent.futures.ThreadPoolExecutor(commands) as pool:
        shares = [cases[first::commands] for first in range(commands) if cases[first::commands]]
        runs = [
            pool.submit(run, folder / str(number), points(share, group, ports, turn))
            for number, share in enumerate(shares)
        ]
        results = {name: one for each in runs for name, one in each.result().items()}
    faults = {(mode, load): wrong(group[mode].right_for(load), results.get((mode, load))) for mode, load in cases}
    return {name: found for name, found in faults.items() if found}


def main(name: str, folder: str, *wanted: str) -> None:
    sys.path.insert(0, str(HERE))
    import modes

    group = getattr(modes, name.upper())
    cases = [
        (mode, load) for mode in group for load in LOADS if not wanted or mode in wanted or f"{mode}/{load}" in wanted
    ]
    for (mode, load), faults in judged(group, cases, Path(folder), 1).items():
        print(f"{mode}/{load}: {'; '.join(faults)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
