"""Runs experiments against odd servers through `llem run`, and says what is not as `modes.py` has it.

python harness.py GROUP FOLDER [MODE[/LOAD] …]     # by hand; prints what is wrong
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llem.findings.codes import FINDINGS
from llem.store.store import Store

HERE = Path(__file__).parent

Case = tuple[str, str]
KEY = "sk-odd-secret"
#: Commands that run side by side: they wait most of the time. Fewer where tests run side by side too.
COMMANDS = max(3, 10 // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))
#: A median is right within this share and these seconds: the machine is shared.
WITHIN, WITHIN_S = 0.2, 0.015
#: Where llem tells that its own client was late or that others had half of the machine, times may be longer by this
#: much: the time of another thing is off by more. The pace of tokens that waited together may be shorter, too.
BUSY_SHARE, TIMES_OFF = 0.5, 2.5
PACES = ("tpot", "gap")
#: A command is killed after this time, and this much more for each experiment: something hangs.
LONGEST_S, MORE_S = 90, 8
#: How a command may end: whatever a server does is no bug of llem (70). It was killed where something hangs.
ENDS = (0, 1, 2, 3, -signal.SIGKILL)
#: Errors of Python that are a fault of llem, whatever a server answers.
OURS = re.compile(r"\b(Attribute|Type|Key|Index|Value|Recursion|Unicode\w*|Overflow|Assertion)Error\b")
NAMES = {"ttft": "ttft_p50_s", "tpot": "tpot_p50_s", "e2el": "e2el_p50_s", "gap": "itl_chunk_p50_s"}
#: Findings about the machine, or about a short study, that say nothing of the server.
BESIDE = {
    "not_publishable_preset", "single_trial", "short_window", "host_busy", "few_completions", "prompt_as_text",
    "no_steady_state", "client_lag", "token_times_on", "not_stationary", "rate_off", "requests_unfinished", "paused",
    "stalled", "prompts_repeat", "cache_unknown", "shared_host", "interval_wide",
    "served_model_differs", "cache_not_told", "prompts_unheld", "window_off_plan", "clock_step",
}  # fmt: skip
BASE = {
    "model": "shape:tiny", "backend": "openai", "dtype": "auto", "device": "cpu", "preset": "quick", "trials": 1,
    "window_s": 0.8, "meters": [], "warmup": {"seconds": 0, "batches": 1}, "baseline": {"seconds": 0},
    "openai": {"timeout_s": 10.0, "deadline_s": 20.0},
    "workload": {"kind": "synthetic", "input_tokens": 8, "output_tokens": 6},
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


def asked(url: str, port: int) -> Any:
    """What the server answers at a page of its own, such as /log."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{url}", timeout=10) as response:
        return json.load(response)


def points(cases: Sequence[Case], group: Mapping[str, Any], ports: Mapping[str, int], turn: int) -> list[Any]:
    """Experiments of a study, one for each mode and load."""
    return [
        {
            "load": LOADS[load],
            "openai.base_url": f"http://127.0.0.1:{ports.get(f'{mode}/{load}', ports[''])}/{mode}/{load}{turn}/v1",
            "token_times": load == "offline",
            **group[mode].settings,
        }
        for mode, load in cases
    ]


@dataclass
class Ran:
    """What became of one experiment; `rows` and `spans` (t0, t1) by trial."""

    outcome: str
    error: str
    result: dict[str, Any]
    seconds: float
    tokens: set[int]
    rows: list[list[Any]]
    spans: list[tuple[int, int]]


def run(folder: Path, experiments: list[Any], base: Mapping[str, Any] | None = None) -> dict[Case, Ran]:
    """One command; what became of its experiments, by mode and load. `base`: of all of them, instead of BASE."""
    folder.mkdir()
    study = {"name": "odd", "base": base or BASE, "experiments": experiments, "limits": {"failures_in_a_row": 1000}}
    (folder / "study.yaml").write_text(json.dumps(study))
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
    assert process.returncode in ENDS, f"`llem run` ended with {process.returncode}: {text[-2000:]}"
    assert KEY not in text, f"{folder}/told has the key"
    readable(folder / "out", environment, whole=process.returncode in (0, 1))
    if process.returncode in (2, 3) and len(experiments) == 1:
        mode, load = experiments[0]["openai.base_url"].split("/")[3:5]
        return {
            (mode, load[:-1]): Ran("refused", text, {"findings": [], "valid": False, "metrics": {}}, 0.0, set(), [], [])
        }
    for path in folder.glob("out/**/*.json*"):
        assert KEY not in path.read_text(), f"{path} has the key"
        assert path.stat().st_size < 1_000_000, f"{path} is large"
    return dict(found for path in folder.glob("out/workers/*/events.jsonl") if (found := ran(folder / "out", path)))


def readable(out: Path, environment: Mapping[str, str], *, whole: bool) -> None:
    """What was stored is shown and, where the command ended by itself, as it was. Nothing where it began nothing."""
    for words in (("show", str(out), "--json"), ("verify", str(out))) if (out / "study.json").exists() else ():
        command = [sys.executable, "-m", "llem", *words]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=LONGEST_S, check=False)
        told = f"`llem {words[0]}` of {out} ended with {done.returncode}: {done.stderr[-2000:]}"
        assert done.returncode in ((0,) if whole else ENDS), told
        assert KEY not in done.stdout + done.stderr, f"`llem {words[0]}` of {out} tells the key"


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
    trials = store.trials(ended["id"])
    rows = [list(store.requests(ended["id"], trial.index)) for trial in trials]
    whole = {row.output_tokens for each in rows for row in each if row.finish_reason not in ("error", "unfinished")}
    url = result["config"].get("openai", {}).get("base_url", "http:///none/none1/v1")
    mode, load = url.split("/")[3:5]
    error = json.dumps(result.get("error"), ensure_ascii=False)
    return (mode, load[:-1]), Ran(
        result["outcome"],
        error,
        result,
        (times[-1] - times[0]) / 1e9,
        whole,
        rows,
        [(one.t0_ns, one.t1_ns) for one in trials],
    )


def wrong(right: Any, found: Ran | None, turn: int) -> list[str]:
    """What is not as it should be."""
    if found is None:
        return ["has not ended"]
    faults = []
    codes = {one["code"] for one in found.result["findings"]}
    if failed_within(found) != ("requests_failed" in codes):
        faults.append(f"{failed_within(found)} requests of the windows failed: {sorted(codes - BESIDE)}")
    busy = is_busy(found)
    if busy:
        codes.discard("chunks_together")  # nobody read them in time
    if found.seconds > right.within_s:
        faults.append(f"took {found.seconds:.1f} s, not {right.within_s:g}")
    ends = ended(found, codes, right)
    if not ends & set(right.ends):
        told = f"{found.outcome}, valid {found.result['valid']}, {sorted(codes - BESIDE)}, {found.error[:300]}"
        faults.append(f"is not {' or '.join(right.ends)}: {told}")
    if sound(found, "requests_failed"):  # the times of the others are right
        faults += wrong_numbers(right, found, busy)
    return faults


def failed_within(found: Ran) -> bool:
    """Whether a request failed that was on its way within a window of a serving load, of which a trial has rows."""
    return any(row.finish_reason == "error" for rows in found.rows for row in rows)


def ended(found: Ran, codes: set[str], right: Any) -> set[str]:
    """In which of the ways of `Right.ends`."""
    if found.outcome != "done":
        fine = re.search(right.words, found.error, re.IGNORECASE) and not OURS.search(found.error)
        return {"failed"} if fine else set()
    ends = set()
    if not any(FINDINGS[code].severity != "info" for code in codes - BESIDE):
        ends.add("measured")
    if codes & set(right.codes):
        ends |= {"told"} if sound(found) else {"told", "invalid"}
    if "requests_failed" in right.codes and "request_errors" in codes and not failed_within(found):
        ends.add("told")  # by chance all of them ended outside the windows
    return ends


def sound(found: Ran, *but: str) -> bool:
    """Done, and nothing makes it invalid `but` these and what this machine did meanwhile."""
    errors = {one["code"] for one in found.result["findings"] if one["severity"] == "error"}
    return found.outcome == "done" and errors <= {*BESIDE, *but}


def is_busy(found: Ran) -> bool:
    """Whether llem tells that times are longer than the server's: others had the machine, or its client was late."""
    if any(one["code"] == "client_lag" for one in found.result["findings"]):
        return True
    seen = [one["evidence"] for one in found.result["findings"] if one["code"] == "host_busy"]
    return any(one["others_cores"] > BUSY_SHARE * one["cores"] for one in seen)


def wrong_numbers(right: Any, found: Ran, busy: bool) -> list[str]:
    """Numbers that count as valid and are not right."""
    faults, times = [], right.times
    for name, metric in NAMES.items():
        wanted, value = getattr(times, name), found.result["metrics"][metric]["value"]
        if wanted == "any" or (value is None and wanted is None):
            continue
        if value is None and busy:  # too few batches, or tokens that waited together: no false number
            continue
        if wanted is None or value is None:
            faults.append(f"{name} {value} where {wanted} is right")
            continue
        within = max(WITHIN * wanted, WITHIN_S)
        low = wanted / TIMES_OFF if busy and name in PACES else wanted - within
        high = wanted * TIMES_OFF + within if busy else wanted + within
        if not low <= value <= high:
            faults.append(f"{name} {value} where {wanted} is right")
    metrics = found.result["metrics"]
    faults += [f"{name} is not null" for name in right.null if metrics[name]["value"] is not None]
    faults += [
        f"{name} {metrics[name]['value']} where {value} is right"
        for name, value in right.values.items()
        if metrics[name]["value"] is None or abs(metrics[name]["value"] - value) > 1e-9
    ]
    if found.tokens - {times.tokens}:
        faults.append(f"requests of {sorted(found.tokens)} tokens")
    return faults


def judged(group: Mapping[str, Any], cases: Sequence[Case], folder: Path, turn: int) -> dict[Case, list[str]]:
    """What is wrong, by mode and load."""
    folder.mkdir()
    commands = COMMANDS if turn == 1 else 1 + len(cases) // 8  # what was wrong once runs nearly alone
    with serving(folder, group) as ports, concurrent.futures.ThreadPoolExecutor(commands) as pool:
        several = [case for case in cases if not group[case[0]].alone]
        # each has of each load, whose experiments take different times
        turns = [(number + number // 3) % commands for number in range(len(several))]
        shares = [[case for case, its in zip(several, turns, strict=True) if its == one] for one in sorted({*turns})]
        shares += [[case] for case in cases if group[case[0]].alone]
        runs = [
            pool.submit(run, folder / str(number), points(share, group, ports, turn))
            for number, share in enumerate(shares)
        ]
        results = {name: one for each in runs for name, one in each.result().items()}
    faults = {(mode, load): wrong(group[mode].right_for(load), results.get((mode, load)), turn) for mode, load in cases}
    return {name: found for name, found in faults.items() if found}


def main(name: str, folder: str, *wanted: str) -> None:
    sys.path.insert(0, str(HERE))
    import modes

    group = getattr(modes, name.upper())
    cases = [
        (mode, load)
        for mode in group
        for load in group[mode].loads
        if not wanted or mode in wanted or f"{mode}/{load}" in wanted
    ]
    since = time.monotonic()
    for (mode, load), faults in judged(group, cases, Path(folder), 1).items():
        print(f"{mode}/{load}: {'; '.join(faults)}")
    print(f"{name}: {len(cases)} experiments in {time.monotonic() - since:.0f} s")


if __name__ == "__main__":
    main(*sys.argv[1:])
