"""Stands between the worker and the server that it started, so that the server ends when the worker does.

`python -P -m llem_openai.guard COMMAND …` runs the command until it ends or standard input does: a worker that closes
the pipe, dies or is killed takes the server with it, whose memory the next experiment needs. Imports nothing but the
standard library, and sleeps while the server runs.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

__all__ = ["GRACE_S", "main"]

#: How long a server may take to end by itself.
GRACE_S = 15.0


def main(command: list[str]) -> int:
    """Run the command; the guard leads its process group. Returns its exit status."""
    # a handler and not SIG_IGN, which the server would inherit
    signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        server = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    except OSError as error:
        print(f"cannot start {command[0]}: {error}", file=sys.stderr)
        return 127
    told, gone = threading.Event(), threading.Event()
    ending = threading.Thread(target=_end_with_the_worker, args=(told, gone), daemon=True)
    ending.start()
    code = server.wait()
    gone.set()
    if told.is_set():
        ending.join()
    return code


def _end_with_the_worker(told: threading.Event, gone: threading.Event) -> None:
    while os.read(0, 1024):  # until nobody holds the pipe's other end; not sys.stdin, whose lock would bar the exit
        pass
    told.set()
    os.killpg(0, signal.SIGTERM)
    gone.wait(GRACE_S)
    os.killpg(0, signal.SIGKILL)  # what is left of the group, this process included


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
