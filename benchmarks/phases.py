"""Joules of prefill and decode per token at several input lengths, and how well the phases close against whole windows.

    python benchmarks/phases.py OUT [--backend pytorch] [--model shape:llama-3.1-8b] [--inputs 128 512 2048]
        [--outputs 64] [--batch 16] [--window 5] [--trials 3] [--set vllm.enable_prefix_caching=false]

Through `llem.run_study`, with `phases: differential`. Writes OUT/store.tar.gz (the store), OUT/phases.json (the metrics
with their intervals) and OUT/phases.md (a table, and the arithmetic of the joules of one request). The defaults take
five minutes on an H200, of which the windows are four.
"""

from __future__ import annotations

import argparse
import json
import tarfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import yaml

import llem

METRICS = (
    "prefill_energy_per_token_j", "decode_energy_per_token_j", "prefill_energy_j", "decode_energy_j",
    "energy_per_request_j", "phase_closure", "prefill_mfu", "prefill_mbu", "decode_mfu", "decode_mbu",
    "power_w", "output_tokens_per_s",
)  # fmt: skip


def study_of(args: argparse.Namespace) -> dict[str, Any]:
    """The study as a file would have it."""
    base: dict[str, Any] = {
        "model": args.model,
        "backend": args.backend,
        "workload": {"input_tokens": args.inputs[0], "output_tokens": args.outputs},
        "load": {"kind": "offline", "batch_size": args.batch},
        "phases": "differential",
        "window_s": args.window,
        "trials": args.trials,
        "max_trials": args.trials,
        "warmup": {"batches": 1, "seconds": args.warmup},
        "baseline": {"seconds": 6.0, "discard_seconds": 2.0},
    }
    for setting in args.set:
        path, _, value = setting.partition("=")
        *outer, last = path.split(".")
        at = base
        for name in outer:
            at = at.setdefault(name, {})
        at[last] = yaml.safe_load(value)
    return {"name": "phases", "base": base, "axes": {"workload.input_tokens": args.inputs}}


def rows_of(results: Any) -> list[dict[str, Any]]:
    """What is written of each experiment, by input length."""
    rows = [
        {
            "input_tokens": result.config["workload"]["input_tokens"],
            "output_tokens": result.config["workload"]["output_tokens"],
            "batch_size": result.config["load"]["batch_size"],
            "outcome": result.outcome,
            "error": result.error,
            "valid": result.valid,
            "findings": [f"{one.severity} {one.code}: {one.message}" for one in result.findings],
            "metrics": {name: attrs.asdict(result.metrics[name]) for name in METRICS if name in result.metrics},
        }
        for result in results.values()
    ]
    return sorted(rows, key=lambda row: row["input_tokens"])


def shown(found: Mapping[str, Any]) -> str:
    """`0.0123 ± 0.0004`, or why there is no value."""
    value, low, high = (found.get(name) for name in ("value", "low", "high"))
    if value is None:
        return f"– ({found.get('reason')})"
    return f"{value:.4g}" if low is None or high is None else f"{value:.4g} ± {(high - low) / 2:.2g}"


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The table, and the arithmetic."""
    columns = ("prefill_energy_per_token_j", "decode_energy_per_token_j", "phase_closure", "prefill_mfu", "decode_mbu")
    head = ("tokens in", "prefill J/prompt token", "decode J/token", "closure", "prefill MFU", "decode MBU")
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    lines += [
        f"| {row['input_tokens']} | {' | '.join(shown(row['metrics'].get(name, {})) for name in columns)} |"
        for row in rows
    ]
    lines.append("")
    for row in rows:
        of = row["metrics"]
        prefill, decode, whole = (of[name]["value"] for name in METRICS[2:5])
        if None not in (prefill, decode, whole):
            inputs, decoded = row["input_tokens"], row["output_tokens"] - 1
            lines.append(
                f"{inputs} in, {decoded + 1} out: {inputs} × {of[METRICS[0]]['value']:.4g} J = {prefill:.4g} J; "
                f"{decoded} × {of[METRICS[1]]['value']:.4g} J = {decode:.4g} J; together {prefill + decode:.4g} J of "
                f"{whole:.4g} J a request; from other windows {of['phase_closure']['value']:.4f} of it.  "
            )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--backend", default="pytorch")
    parser.add_argument("--model", default="shape:llama-3.1-8b")
    parser.add_argument("--inputs", type=int, nargs="+", default=[128, 512, 2048])
    parser.add_argument("--outputs", type=int, default=64)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--window", type=float, default=5.0)
    parser.add_argument("--trials", type=int, default=3)
    parser.add_argument("--warmup", type=float, default=5.0, help="seconds of load before the first window")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a further setting")
    parser.add_argument("--store", type=Path, help="where the store goes; else OUT/store")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    store, since = args.store or args.out / "store", time.monotonic()
    results = llem.run_study(study_of(args), store, on_event=lambda event: print(event.kind, flush=True))
    rows, took = rows_of(results), time.monotonic() - since
    (args.out / "phases.json").write_text(json.dumps({"seconds": took, "rows": rows}, indent=1) + "\n")
    (args.out / "phases.md").write_text(table(rows))
    with tarfile.open(args.out / "store.tar.gz", "w:gz") as archive:
        archive.add(store, "store")
    print(table(rows), f"{took:.0f} s", sep="\n")


if __name__ == "__main__":
    main()
