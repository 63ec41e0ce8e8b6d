"""How a study runs: in which order, with which pauses, and when it gives up."""

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
        help="`blocks`: block k has trial k of every experiment, at random by the seed; `reverse`: blocks as the file "
        "lists the experiments, every other one backwards; `williams`: blocks in which each experiment follows each "
        "other one equally often; `sequential`: all trials of one after the other, which confounds with drift.",
    )
    seed: int = option(0, help="Seed of the random order; it is stored with the results.")
    gap_s: float = option(
        0.0, help="Pause before each trial but an engine's first.", unit="s", validator=between(0, DAY_S)
    )
    gap_until_c: float | None = option(
        None,
        help="Pause until every GPU is at most this many degrees warmer than when the engine's first trial began.",
        unit="°C",
        validator=at_least(0),
    )
    gap_timeout_s: float = option(
        300.0, help="Go on after this long all the same, with a finding.", unit="s", validator=between(0, DAY_S)
    )


@attrs.frozen(kw_only=True)
class Limits:
    """When a study gives up on a worker, or on itself."""

    timeout_s: float | None = option(
        None,
        help="A worker that runs for longer is ended; null is ten times the estimated time and an hour.",
        unit="s",
        validator=between(0.1, YEAR_S),
    )
    silence_s: float = option(
        3600.0,
        help="A worker that tells nothing for this long, beyond twice the time that its phase should take, is ended.",
        unit="s",
        validator=between(0.1, YEAR_S),
    )
    failures_in_a_row: int = option(
        10, help="The study stops after so many failures in a row with one cause.", validator=at_least(1)
    )
    gpu_wait_s: float | None = option(
        None,
        help="Wait no longer than this for a GPU that another study uses; null waits until it is free.",
        unit="s",
        validator=between(0, YEAR_S),
    )
