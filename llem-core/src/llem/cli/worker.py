"""`llem worker`: launchers run this command. Users do not."""

from __future__ import annotations

import click

__all__ = ["worker"]


@click.command(hidden=True)
@click.argument("order", type=click.Path(exists=True, dir_okay=False))
@click.option("--lifeline", is_flag=True, help="End when standard input ends: the launching process has then ended.")
def worker(order: str, lifeline: bool) -> None:
    """Carry out ORDER, a JSON file that a launcher wrote."""
    import io
    import os
    import signal
    import sys
    import threading
    from pathlib import Path

    if lifeline:
        from llem.protocol.lifeline import guard

        guard()

    from llem.experiment.worker import work
    from llem.plugins.registry import registry
    from llem.protocol.events import Event, Started
    from llem.protocol.lines import kept, to_json
    from llem.protocol.order import WorkOrder

    # Engines print to standard output; from here on only events go to the pipe, and all else to standard error.
    sys.stdout.flush()
    events_fd = os.dup(1)
    os.dup2(2, 1)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # the log of a worker that is killed has its last lines
    _log_to_stderr()
    stop = threading.Event()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what Ctrl-C means
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    path = Path(order)

    def end() -> None:
        """With all that it started, where it leads its process group."""
        os.killpg(0, signal.SIGKILL) if lifeline else os.kill(os.getpid(), signal.SIGKILL)

    def write(event: Event) -> None:
        try:
            os.write(events_fd, to_json(event).encode())
        except BrokenPipeError:
            if lifeline:  # the parent died a moment ago, and the guard is about to act
                end()
            raise

    with kept(path.parent / "events.jsonl", write) as emit:
        emit(Started(pid=os.getpid()))
        outcome = work(WorkOrder.read(path), registry(), emit, stop, events_fd, end)
    raise SystemExit(0 if outcome == "done" else 1)


def _log_to_stderr() -> None:
    """Send llem's and other libraries' log lines to standard error, with UTC times."""
    import logging
    import sys

    import structlog

    processors: list[structlog.types.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        structlog.processors.KeyValueRenderer(key_order=["timestamp", "level", "event"]),
    ]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
