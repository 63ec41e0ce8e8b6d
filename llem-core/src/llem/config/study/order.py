"""How a study runs: in which order, with which pauses, and when it stops."""

from __future__ import annotations

from typing import Literal

import attrs

from llem.config.fields import DAY_S, YEAR_S, at_least, between, option

__all__ = ["Limits", "Order"]


@attrs.frozen(kw_only=True)
class Order:
    """In which order the trials of a study are measured. Experiments that can share an engine take turns at it."""

    kind: Literal["blocks", "sequential", "reverse", "williams"] = option(
        "blocks",
        help="`blocks`: block k has trial k of every experiment, in random order by the seed. `reverse`: blocks in the "
        "file's order, every other block backwards. `williams`: blocks in which each experiment follows each other one "
        "equally often. `sequential`: all trials of one experiment, then of the next; drift then looks like an effect.",
    )
    seed: int = option(0, help="Seed of the random order. llem stores it with the results.")
    gap_s: float = option(
        0.0, help="Pause before each trial except an engine's first.", unit="s", validator=between(0, DAY_S)
    )
    gap_until_c: float | None = option(
        None,
        help="Pause until every GPU is at most this much warmer than when the engine's first trial began.",
        unit="°C",
        validator=at_least(0),
    )
    gap_timeout_s: float = option(
        300.0, help="Pause for at most this long; the trial then has a finding.", unit="s", validator=between(0, DAY_S)
    )


@attrs.frozen(kw_only=True)
class Limits:
    """When llem ends a worker, or the whole study."""

    timeout_s: float | None = option(
        None,
        help="llem ends a worker that runs for longer. Null is ten times the estimated time, plus an hour, plus a day "
        "if the worker evaluates quality.",
        unit="s",
        validator=between(0.1, YEAR_S),
    )
    silence_s: float = option(
        3600.0,
        help="llem ends a worker that sends no event for this long beyond twice the expected time of its phase.",
        unit="s",
        validator=between(0.1, YEAR_S),
    )
    failures_in_a_row: int = option(
        10, help="llem stops the study after this many failures in a row with one cause.", validator=at_least(1)
    )
    gpu_wait_s: float | None = option(
        None,
        help="Wait for at most this long for a GPU that another study uses. Null waits until the GPU is free.",
        unit="s",
        validator=between(0, YEAR_S),
    )
