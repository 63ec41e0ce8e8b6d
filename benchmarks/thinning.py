"""What thinning the counter's reads within a window costs in accuracy, on the traces of a stored experiment.

    python benchmarks/thinning.py STORE

For each trial whose trace has every tick: its energy from all ticks, and from those that a thinned trial would have.
"""

from __future__ import annotations

import json
import sys

from windows import thinned

from llem.meters.window import energy_readings
from llem.metrics.verify import sampled_domains
from llem.store.store import Store


def main() -> None:
    store = Store.open(sys.argv[1])
    found = []
    for experiment_id in store.experiment_ids():
        [engine, *_] = store.engines(experiment_id)
        domains = sampled_domains(engine)
        for trial in store.trials(experiment_id):
            rows = list(store.trace(experiment_id, trial.index))
            every = energy_readings(rows, domains, trial.t0_ns, trial.t1_ns)
            thin = energy_readings(thinned(rows, trial.t0_ns, trial.t1_ns), domains, trial.t0_ns, trial.t1_ns)
            for a, b in zip(every, thin, strict=True):
                ratio = b.energy_j / a.energy_j - 1
                bounds = {"every_tick": a.budget.bound_j / a.energy_j, "thinned": b.budget.bound_j / b.energy_j}
                found.append({"trial": trial.index, "seconds": trial.duration_s, "difference": ratio, "bound": bounds})
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
