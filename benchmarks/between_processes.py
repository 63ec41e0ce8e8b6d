"""What varies between trials of one engine process, and between engine processes, from a store or a file of trials.

Standard deviations are of logarithms. The variance between processes is that of the process means less what trials by
themselves give them; where it comes out below 0, the trials' scatter hides it.

    python benchmarks/between_processes.py STORE|FILE.csv [--write FILE.csv]

A file has a row per trial: process, trial, t0_s, duration_s, output_tokens, energy_j.
"""

from __future__ import annotations

import argparse
import csv
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from llem.metrics.energies import gross, headline
from llem.store.store import Store

FIELDS = ("process", "trial", "t0_s", "duration_s", "output_tokens", "energy_j")


def of_store(path: Path) -> Iterator[dict[str, float]]:
    """The trials of the only experiment of a store."""
    store = Store.open(path)
    [name] = store.experiment_ids()
    trials = store.trials(name)
    chosen = headline(trials)
    if chosen is None:
        raise SystemExit(f"{path}: no meter read anything")
    for trial in sorted(trials, key=lambda one: one.t0_ns):
        energy = gross(trial, chosen.of(trial)).value
        values = (trial.process, trial.index, trial.t0_ns / 1e9, trial.duration_s, trial.output_tokens, energy)
        yield dict(zip(FIELDS, values, strict=True))


def report(name: str, groups: Mapping[int, Sequence[float]]) -> str:
    """One line: processes, and the standard deviations in percent. Processes with one trial are left out."""
    logs = {process: [math.log(value) for value in values] for process, values in groups.items() if len(values) > 1}
    freedom = sum(len(values) - 1 for values in logs.values())
    within = sum((len(values) - 1) * statistics.variance(values) for values in logs.values()) / freedom
    means = statistics.variance([statistics.mean(values) for values in logs.values()])
    between = means - within * statistics.mean([1 / len(values) for values in logs.values()])
    told = ", ".join(
        f"{what} {100 * math.sqrt(max(value, 0)):.2f} %"
        for what, value in (("within a process", within), ("process means", means), ("between processes", between))
    )
    return f"{name}: {len(logs)} processes, {sum(map(len, logs.values()))} trials; {told}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("--write", type=Path, help="write the trials to this file")
    args = parser.parse_args()
    if args.source.is_dir():
        rows = list(of_store(args.source))
    else:
        with args.source.open(newline="") as file:
            rows = [{name: float(row[name]) for name in FIELDS} for row in csv.DictReader(file)]
    if args.write:
        with args.write.open("w", newline="") as file:
            writer = csv.DictWriter(file, FIELDS)
            writer.writeheader()
            writer.writerows(rows)
    for name, numerator, denominator in (
        ("J/output token", "energy_j", "output_tokens"),
        ("output tokens/s", "output_tokens", "duration_s"),
    ):
        groups: dict[int, list[float]] = {}
        for row in rows:
            groups.setdefault(int(row["process"]), []).append(row[numerator] / row[denominator])
        print(report(name, groups))


if __name__ == "__main__":
    main()
