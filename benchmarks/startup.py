"""How long `llem --help` takes, against importing the libraries it cannot do without. Prints JSON.

Both are started in turn, so that what else the computer does falls on both alike. The minimum is the cost itself;
the median shows how noisy the computer was.

    python benchmarks/startup.py [REPEATS]
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time

COMMANDS = {
    "llem_help": [sys.executable, "-m", "llem", "--help"],
    "libraries": [sys.executable, "-c", "import click, attrs, cattrs, pluggy"],
}


def seconds(command: list[str]) -> float:
    """Wall time of one process from start to end. Raises CalledProcessError when it fails."""
    begin = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - begin


def main(repeats: int) -> None:
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for command in COMMANDS.values():
        seconds(command)  # fills the file cache and writes the bytecode
    for _ in range(repeats):
        for name, command in COMMANDS.items():
            times[name].append(seconds(command))
    report = {
        "repeats": repeats,
        "min_s": {name: round(min(values), 4) for name, values in times.items()},
        "median_s": {name: round(statistics.median(values), 4) for name, values in times.items()},
        "ratio_of_minima": round(min(times["llem_help"]) / min(times["libraries"]), 3),
        "ratio_of_medians": round(statistics.median(times["llem_help"]) / statistics.median(times["libraries"]), 3),
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 30)
