"""Windows that are not what they were planned to be: llem stood still, a clock was set, nothing was done. Pure.

A pause is real where something says so besides the missing beats, for a thread that computes may hold the interpreter's
lock for seconds, and the beats with it:

- SIGCONT came: a signal had stopped the worker. Stops that are shorter than a gap are counted, not timed: so many of
  them may have been a pause.
- The process that reads the meters missed the same time: both were frozen, or the whole machine was.
- Nothing of the worker's process ran, and it did not wait for a processor. That is no sign beside an engine on a GPU,
  for whose kernels a library may wait with the lock held; and none below 0.25 s, in which little can be told.
- Nothing ran of a process that sends the requests, for 0.25 s or more at a time; also before the window, while a
  request was under way whose latency counts in it. Of a worker beside a GPU that is no sign, as above.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence

from llem.devices.pulse import LEAST_S
from llem.findings import Finding, finding
from llem.metrics.checks.words import in_trials
from llem.metrics.setup import Setup
from llem.metrics.spans import covered
from llem.store.client import ClientFacts
from llem.store.models import Beats, Gap, Trial

__all__ = ["disturbed", "frozen_s", "stood_still", "too_long", "unexplained", "was_paused"]

#: Share of a window, and seconds, of which a pause may take neither.
PAUSED_SHARE, PAUSED_S = 0.01, 0.1
#: One SIGCONT may come to a process that nothing had stopped.
SEVERAL = 2
#: A gap without any other sign of a pause has to last this long.
UNSIGNED_S = 0.25
#: The process that reads the meters may be late on a busy machine: this long is told, and this share of the window.
READER_S, READER_SHARE = 0.5, 0.01
#: Clocks that are slewed keep to this: a step is more. And no discipline of a clock runs it faster by this share.
STEP_S, SLEW = 0.01, 0.001
#: A window that takes so much longer than planned; of batches that differ in their work, and of a window with an end.
OFF_PLAN, OFF_PLAN_WORK = 1.5, 3.0
#: Offline windows that are shorter than this share of what was asked for; and of batches that differ in their work.
SHORT, SHORT_WORK = 1 / 2, 1 / 10
LATE_SHARE, LATE_S = 0.01, 0.05


def disturbed(setup: Setup, trials: Sequence[Trial], alike: bool) -> Iterable[Finding]:
    """Every check of this module.

    Args:
        alike: the batches of an offline load have the same work, so that the warm-up says how long they take.
    """
    yield from _paused(setup, trials)
    yield from _reader(setup, trials)
    yield from _clocks(trials)
    yield from _planned(setup, trials, alike)
    yield from _shrunk(setup, trials, alike)
    yield from _idle_windows(setup, trials)


def _pauses(device: str | None, beats: Beats) -> list[tuple[Gap, str]]:
    """The gaps of a window that were pauses, each with what says so."""
    found = []
    for gap in beats.gaps:
        if gap.stopped:
            found.append((gap, "stopped by a signal"))
        elif not gap.still:
            continue
        elif _shared(gap, beats):
            found.append((gap, "frozen together with the process that reads the meters"))
        elif gap.seconds > UNSIGNED_S and device != "cuda":
            found.append((gap, "frozen: nothing of the process ran"))
    return found


def _shared(gap: Gap, beats: Beats) -> bool:
    """Whether the process that reads the meters was held up for most of the same time."""
    return covered(beats.meter_gaps, gap.t0_ns, gap.t1_ns) / 1e9 > gap.seconds / 2


def _lost(setup: Setup, trial: Trial) -> tuple[float, tuple[str, ...]]:
    """Seconds in which the worker stood still in a window, or what sends since its first request was sent, and why."""
    lost, reasons = _of_worker(setup, trial)
    before, within = _of_client(setup, trial)
    if before or within > lost:
        reasons = (*reasons, "what sends the requests frozen: nothing of it ran")
    return before + max(lost, within), reasons


def _of_client(setup: Setup, trial: Trial) -> tuple[float, float]:
    """Seconds in which what sends stood still before the window and in it, where beats tell of the worker itself."""
    client = None if trial.serving is None else trial.serving.client
    if client is None or not (client.processes or setup.device != "cuda"):
        return 0.0, 0.0
    before = frozen_s(client, 0, trial.t0_ns)
    return before, frozen_s(client, trial.t0_ns, trial.t1_ns) if client.processes else 0.0


def frozen_s(client: ClientFacts | None, t0_ns: int, t1_ns: int) -> float:
    """Seconds in which a process that sends the requests stood still. No other sign tells, so each is a long time."""
    spans = () if client is None else client.still
    return covered([one for one in spans if one[1] - one[0] > UNSIGNED_S * 1e9], t0_ns, t1_ns) / 1e9


def _of_worker(setup: Setup, trial: Trial) -> tuple[float, tuple[str, ...]]:
    if trial.beats is None:
        return 0.0, ()
    lost, reasons = stood_still(setup.device, trial.beats, trial.t0_ns, trial.t1_ns)
    if _untimed_s(trial):
        reasons = (*reasons, f"stopped by a signal {trial.beats.unseen_stops} times for too short to be timed")
    return lost, reasons


def stood_still(device: str | None, beats: Beats, t0_ns: int, t1_ns: int) -> tuple[float, tuple[str, ...]]:
    """Seconds between two moments in which the worker stood still, and why. The time to the beat that was due is no
    pause.
    """
    lost, reasons = 0.0, []
    for gap, reason in _pauses(device, beats):
        inside = min(gap.t1_ns, t1_ns) - max(gap.t0_ns, t0_ns)
        lost += max(inside / 1e9 - beats.beat_s, 0.0)
        reasons.append(reason)
    if (suspended := beats.suspended_s or 0.0) > STEP_S:
        lost += suspended
        reasons.append("suspended with the whole machine")
    return lost, tuple(dict.fromkeys(reasons))


def unexplained(beats: Beats) -> bool:
    """Whether nothing of the worker ran for long. Beside a GPU a library may wait so, or the worker was frozen."""
    return any(gap.still and gap.seconds > UNSIGNED_S for gap in beats.gaps)


def was_paused(setup: Setup, trial: Trial) -> bool:
    """Whether llem stood still for more of a window than it may."""
    lost, _ = _lost(setup, trial)
    return too_long(lost + _untimed_s(trial), trial.duration_s)


def _untimed_s(trial: Trial) -> float:
    """How long stops that were not timed may have been together."""
    stops = 0 if trial.beats is None else trial.beats.unseen_stops
    return stops * LEAST_S if stops >= SEVERAL else 0.0


def too_long(lost_s: float, window_s: float) -> bool:
    """Whether so many seconds of a pause are more than a window may have."""
    return lost_s > min(PAUSED_SHARE * window_s, PAUSED_S)


def _paused(setup: Setup, trials: Sequence[Trial]) -> Iterable[Finding]:
    bad = [(*_lost(setup, trial), trial) for trial in trials if was_paused(setup, trial)]
    if not bad:
        return
    lost, reasons, worst = max(bad, key=lambda one: one[0] + _untimed_s(one[2]))
    message = (
        f"llem stood still for {'at least ' if _untimed_s(worst) else ''}{lost:.2f} s of {_span(setup, worst)} "
        f"({', '.join(reasons)}){_in([trial for *_, trial in bad])}"
    )
    evidence = {"paused_s": lost, "window_s": worst.duration_s, "reasons": list(reasons)}
    yield finding("paused", message, **evidence, trials=[trial.index for *_, trial in bad])


def _span(setup: Setup, trial: Trial) -> str:
    """The window, and what was before it where a pause reached there."""
    before, _ = _of_client(setup, trial)
    return f"a window of {trial.duration_s:.2f} s" + (" and the requests that reach into it" if before else "")


def _reader(setup: Setup, trials: Sequence[Trial]) -> Iterable[Finding]:
    """The process that reads the meters stood still, and the worker did not."""
    bad = []
    for trial in trials:
        if trial.beats is None or was_paused(setup, trial):
            continue
        lost = covered(trial.beats.meter_gaps, trial.t0_ns, trial.t1_ns) / 1e9
        if lost > max(READER_S, READER_SHARE * trial.duration_s):
            bad.append((lost, trial))
    if bad:
        lost, worst = max(bad, key=lambda one: one[0])
        where = _in([trial for _, trial in bad])
        message = f"the process that reads the meters stood still for {lost:.2f} s of {worst.duration_s:.2f} s{where}"
        yield finding("sample_gap", message, reader_s=lost, trials=[trial.index for _, trial in bad])


def _clocks(trials: Sequence[Trial]) -> Iterable[Finding]:
    steps = [(trial.beats.clock_step_s, trial) for trial in trials if trial.beats and trial.beats.clock_step_s]
    moved = [(step, trial) for step, trial in steps if abs(step) > STEP_S]
    if moved:
        step, _ = max(moved, key=lambda one: abs(one[0]))
        message = f"the wall clock was set by {step:+.3f} s within a window{_in([trial for _, trial in moved])}"
        yield finding("clock_step", message, step_s=step, trials=[trial.index for _, trial in moved])
    slews = [(trial.beats.slew, trial) for trial in trials if trial.beats and trial.beats.slew]
    rushed = [(slew, trial) for slew, trial in slews if abs(slew) > SLEW]
    if rushed:
        slew, _ = max(rushed, key=lambda one: abs(one[0]))
        message = (
            f"the system's clock ran {abs(slew):.2%} too {'fast' if slew > 0 else 'slow'} within a window, and times "
            f"with it{_in([trial for _, trial in rushed])}"
        )
        yield finding("clock_step", message, slew=slew, trials=[trial.index for _, trial in rushed])


def _planned(setup: Setup, trials: Sequence[Trial], alike: bool) -> Iterable[Finding]:
    """Windows that took longer than planned, where no pause says why."""
    bad = []
    for trial in trials:
        if trial.planned_s and _beyond(trial, trial.planned_s, alike) and not was_paused(setup, trial):
            bad.append((trial.duration_s / trial.planned_s, trial.planned_s, trial))
    if not bad:
        return
    _, planned, worst = max(bad, key=lambda one: one[0])
    plan = "its batches took" if worst.serving is None else "it was planned"
    when = " in the warm-up" if worst.serving is None else ""
    message = (
        f"a window took {worst.duration_s:.2f} s, where {plan} {planned:.2f} s{when}{_in([one for *_, one in bad])}"
    )
    evidence = {"window_s": worst.duration_s, "planned_s": planned, "trials": [trial.index for *_, trial in bad]}
    yield finding("window_off_plan", message, **evidence)


def _beyond(trial: Trial, planned_s: float, alike: bool) -> bool:
    if trial.serving is not None:  # it is the worker that ends it, on time or late
        return abs(trial.duration_s - planned_s) > max(LATE_SHARE * planned_s, LATE_S)
    return trial.duration_s > (OFF_PLAN if alike else OFF_PLAN_WORK) * planned_s


def _shrunk(setup: Setup, trials: Sequence[Trial], alike: bool) -> Iterable[Finding]:
    """Engine processes whose offline windows are far shorter than asked for: more batches would have fitted.

    The mean over the windows of a plan counts, for one of few batches may be short by chance where their work differs.
    One batch in all does not tell whether it does.
    """
    asked = setup.config.get("window_s")
    if asked is None or setup.serving:
        return
    least = asked * (SHORT if alike and sum(trial.batches for trial in trials) > 1 else SHORT_WORK)
    plans: dict[int, list[Trial]] = {}
    for trial in trials:
        plans.setdefault(trial.process, []).append(trial)
    means = [(statistics.fmean(trial.duration_s for trial in plan), plan) for plan in plans.values()]
    short = [(mean, plan) for mean, plan in means if mean < least]
    if not short:
        return
    mean, plan = min(short, key=lambda one: one[0])
    planned = "" if plan[0].planned_s is None else f" and their batches took {plan[0].planned_s:.3g} s in the warm-up"
    bad = [trial for _, plan in short for trial in plan]
    message = f"windows took {mean:.3g} s on average, where {asked:g} s were asked for{planned}{_in(bad)}"
    evidence = {"window_s": mean, "planned_s": plan[0].planned_s, "asked_s": asked}
    yield finding("window_off_plan", message, **evidence, trials=sorted(trial.index for trial in bad))


def _idle_windows(setup: Setup, trials: Sequence[Trial]) -> Iterable[Finding]:
    """Offline windows without any work; of what a command did, its file tells."""
    if setup.metered:
        return
    idle = [trial for trial in trials if trial.serving is None and not (trial.requests and trial.output_tokens)]
    if idle:
        first = idle[0]
        message = f"{first.requests} requests with {first.output_tokens} output tokens within a window{_in(idle)}"
        evidence = {"requests": first.requests, "output_tokens": first.output_tokens}
        yield finding("no_work", message, **evidence, trials=[trial.index for trial in idle])


def _in(trials: Sequence[Trial]) -> str:
    return in_trials([trial.index for trial in trials], most=True)
