"""Joules of prefill and decode per token at several input lengths, and how well the phases close against whole windows.

    python benchmarks/phases.py OUT [--backend pytorch] [--model shape:llama-3.1-8b] [--inputs 128 512 2048]
        [--outputs 64] [--batch 16] [--window 5] [--trials 3] [--phases differential]
        [--set vllm.enable_prefix_caching=false]

Through `llem.run`, an engine for each length. Writes OUT/stores.tar.gz, OUT/phases.json (the metrics with their
intervals) and OUT/phases.md (a table, and the arithmetic of the joules of one request), anew after each length. One
that would not fit into `--budget` seconds, by the time of the longest before it, is left out. The windows of a trial
take 15 s with `differential`, 30 s with `regression`, and what stands before and after them.
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
    "energy_per_request_j", "phase_closure", "fit_batch_j", "fit_prompt_token_j", "fit_decoded_token_j",
    "fit_context_token_j", "prefill_mfu", "prefill_mbu", "decode_mfu", "decode_mbu",
    "power_w", "output_tokens_per_s",
)  # fmt: skip


def settings_of(args: argparse.Namespace, inputs: int) -> dict[str, Any]:
    """The settings of one length."""
    base: dict[str, Any] = {
        "model": args.model,
        "backend": args.backend,
        "workload": {"input_tokens": inputs, "output_tokens": args.outputs},
        "load": {"kind": "offline", "batch_size": args.batch},
        "phases": args.phases,
        "window_s": args.window,
        "trials": args.trials,
        "max_trials": args.trials,
        "warmup": {"batches": 2, "seconds": args.warmup},
        "baseline": {"seconds": 5.0, "discard_seconds": 2.0},
    }
    for setting in args.set:
        path, _, value = setting.partition("=")
        *outer, last = path.split(".")
        at = base
        for name in outer:
            at = at.setdefault(name, {})
        at[last] = yaml.safe_load(value)
    return base


def row_of(result: Any, seconds: float) -> dict[str, Any]:
    """What is written of one length."""
    return {
        "input_tokens": result.config["workload"]["input_tokens"],
        "output_tokens": result.config["workload"]["output_tokens"],
        "batch_size": result.config["load"]["batch_size"],
        "seconds": seconds,
        "outcome": result.outcome,
        "error": result.error,
        "valid": result.valid,
        "findings": [f"{one.severity} {one.code}: {one.message}" for one in result.findings],
        "metrics": {name: attrs.asdict(result.metrics[name]) for name in METRICS if name in result.metrics},
    }


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
    parser.add_argument("--phases", default="differential", help="differential, or regression: twice the time")
    parser.add_argument("--warmup", type=float, default=5.0, help="seconds of load before the first window")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a further setting")
    parser.add_argument("--budget", type=float, default=340.0, help="seconds for all lengths")
    parser.add_argument("--stores", type=Path, help="where the stores go; else OUT/stores")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    stores, since = args.stores or args.out / "stores", time.monotonic()
    rows: list[dict[str, Any]] = []
    for inputs in args.inputs:
        begun = time.monotonic()
        if rows and begun - since + max(row["seconds"] for row in rows) > args.budget:
            print(f"{inputs} tokens in would not fit into {args.budget:g} s")
            continue
        result = llem.run(**settings_of(args, inputs), out=stores / str(inputs))
        rows.append(row_of(result, time.monotonic() - begun))
        write(args.out, rows, stores)
        print(table(rows), f"{time.monotonic() - since:.0f} s", sep="\n", flush=True)


def write(out: Path, rows: Sequence[Mapping[str, Any]], stores: Path) -> None:
    """All that there is so far."""
    (out / "phases.json").write_text(json.dumps(rows, indent=1) + "\n")
    (out / "phases.md").write_text(table(rows))
    with tarfile.open(out / "stores.tar.gz", "w:gz") as archive:
        archive.add(stores, "stores")


if __name__ == "__main__":
    main()
