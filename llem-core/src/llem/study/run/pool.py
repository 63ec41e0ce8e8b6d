"""Several workers at once, each on GPUs of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from llem.study.plan.schedule import Job
from llem.study.run.gpus import Gpus
from llem.study.run.supervisor import Supervisor

__all__ = ["side_by_side"]

POLL_S = 0.2


def side_by_side(
    jobs: Sequence[Job],
    workers: int,
    carry_out: Callable[[Job], None],
    gpus: Gpus,
    supervisor: Supervisor,
    stop: threading.Event,
) -> None:
    """Carry out all jobs, so many at a time, in their order as far as GPUs are free that they may want again.

    Raises KeyboardInterrupt after every worker was killed and what became of it written down; and what `carry_out`
    raised, once the others have ended.
    """
    waiting = list(jobs)
    errors: list[BaseException] = []
    lock = threading.Lock()

    def work() -> None:
        while not stop.is_set():
            with lock:
                if not waiting:
                    return
                job = gpus.choose(waiting)
                waiting.remove(job)
            try:
                carry_out(job)
            except BaseException as error:  # it is raised again below, by the thread that can tell of it
                errors.append(error)
                stop.set()
            finally:
                with lock:
                    gpus.over(job)

    threads = [threading.Thread(target=work, name=f"worker {number}") for number in range(min(workers, len(jobs)))]
    for thread in threads:
        thread.start()
    try:
        _wait(threads)
    except KeyboardInterrupt:
        stop.set()
        supervisor.kill_all()
        _wait(threads)
        raise
    if errors:
        raise errors[0]


def _wait(threads: Sequence[threading.Thread]) -> None:
    for thread in threads:
        while thread.is_alive():  # in pieces: a lock that is waited for without end keeps Ctrl-C out
            thread.join(POLL_S)
