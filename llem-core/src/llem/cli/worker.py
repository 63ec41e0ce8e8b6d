"""`llem worker`: what launchers run. Not for people."""

from __future__ import annotations

import click

__all__ = ["worker"]


@click.command(hidden=True)
@click.argument("order", type=click.Path(exists=True, dir_okay=False))
def worker(order: str) -> None:
    """Carry out ORDER, a JSON file that a launcher wrote."""
    import json
    import os
    import signal
    import sys
    import threading
    from pathlib import Path

    from llem.experiment.order import WorkOrder
    from llem.experiment.worker import work
    from llem.log import to_stderr
    from llem.plugins.registry import registry

    # Engines print to standard output as they please; events keep the pipe to themselves.
    sys.stdout.flush()
    events_fd = os.dup(1)
    os.dup2(2, 1)
    to_stderr()
    stop = threading.Event()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what Ctrl-C means
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    path = Path(order)
    with (path.parent / "events.jsonl").open("a", encoding="utf-8") as kept:

        def emit(event: object) -> None:
            line = json.dumps(event) + "\n"
            os.write(events_fd, line.encode())  # first: a full disk must not keep the parent from hearing of it
            kept.write(line)
            kept.flush()

        outcome = work(WorkOrder.read(path), registry(), emit, stop, events_fd)
    raise SystemExit(0 if outcome == "done" else 1)
