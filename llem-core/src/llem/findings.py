"""Findings: coded reasons why a number is invalid or doubtful, and reasons why a number is absent.

The two catalogues below are the whole vocabulary; the reference pages are generated from them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import attrs

__all__ = ["FINDINGS", "REASONS", "Finding", "FindingKind", "Severity", "finding"]

Severity = Literal["error", "warning", "info"]


@attrs.frozen
class FindingKind:
    """What a finding code means: `severity` error makes the result invalid, warning makes it not publishable."""

    severity: Severity
    meaning: str
    remedy: str


FINDINGS: Mapping[str, FindingKind] = {
    "backend_check": FindingKind(
        "error",
        "The backend refuses this configuration before anything is loaded.",
        "Change the parameter that the message names.",
    ),
    "foreign_process": FindingKind(
        "error",
        "Another process computed on the measured GPU, so its energy is in the reading.",
        "Stop the other process, or choose another GPU with `gpus`.",
    ),
    "throttled": FindingKind(
        "error",
        "The GPU slowed down for heat, hardware protection or a power brake during a window; `shares` says in how many "
        "of its readings.",
        "Improve cooling or power supply and measure again.",
    ),
    "power_capped": FindingKind(
        "info",
        "The driver lowered the GPU's clocks to stay within its power limit in some readings of a window (NVML: SW "
        "power cap), as is usual at full load. `share` says in how many of them; they come about once a second. A peak "
        "shorter than a reading is enough for it, so the mean power may lie far below the limit.",
        "Nothing to do: it is recorded because the limit is part of the configuration.",
    ),
    "meters_disagree": FindingKind(
        "warning",
        "The energy counter and the integrated instantaneous power differ by more than 2 %.",
        "Lengthen the window; look at the power trace.",
    ),
    "energy_suspect": FindingKind(
        "error",
        "The energy counter and the integrated instantaneous power differ by more than 5 %.",
        "Do not use this energy; check the driver, MIG and other tenants.",
    ),
    "no_steady_state": FindingKind(
        "warning",
        "Power or speed drifts within a window by more than 0.5 % (p < 0.01).",
        "Lengthen the warm-up.",
    ),
    "host_bound": FindingKind(
        "warning",
        "The GPU waits for the host: it is idle for a large part of the window, or steps take several times what the "
        "hardware needs. Speed and energy then vary with the host, not with the configuration.",
        "Use a larger batch, CUDA graphs (torch.compile) or an engine with less host work.",
    ),
    "token_count_mismatch": FindingKind(
        "error",
        "The engine returned another number of output tokens than asked for with end-of-sequence ignored.",
        "Report it to the backend's authors; per-token figures are not comparable.",
    ),
    "prompt_as_text": FindingKind(
        "warning",
        "Prompts went to the engine as text, which it cuts into tokens by itself: their number may differ from the "
        "workload's, which is what results count.",
        "Send token ids, where the engine takes them.",
    ),
    "single_trial": FindingKind(
        "info",
        "There is one trial, so there is no interval from repetition.",
        "Use `preset: standard` or set `trials` to 5 or more.",
    ),
    "not_publishable_preset": FindingKind(
        "info",
        "The preset `quick` is for trying things out; its result is marked not publishable.",
        "Use `preset: standard` or `publication`.",
    ),
    "interval_wide": FindingKind(
        "warning",
        "The interval is still wider than the target after the last allowed trial.",
        "Raise `max_trials` or `window_s`, or find what varies.",
    ),
    "idle_drift": FindingKind(
        "warning",
        "The idle power before and after the trials differs by more than 3 %, so net energy is doubtful.",
        "Let the GPU settle; use gross energy.",
    ),
    "baseline_failed": FindingKind(
        "warning",
        "The idle baseline after the trials could not be measured, so nothing says whether idle power stayed as it was "
        "before them. The trials stand; their energy net of idle is None.",
        "See the message and the worker's log; use gross energy, or measure again.",
    ),
    "quality_failed": FindingKind(
        "warning",
        "Quality could not be evaluated after the trials, not or not in every task. The trials stand; the tasks that "
        "the message names have no score.",
        "See the message and the worker's log; `llem run --resume` evaluates what is missing.",
    ),
    "quality_random_weights": FindingKind(
        "warning",
        "Quality was evaluated of random weights, as `quality.force` asks: the scores say nothing about any model.",
        "Use a real model.",
    ),
    "meter_unavailable": FindingKind(
        "info",
        "A built-in meter is not usable on this machine; the message says why.",
        "See `llem doctor`.",
    ),
    "short_window": FindingKind(
        "warning",
        "A window is shorter than 5 s, so the counter's edges weigh heavily in its error bound.",
        "Raise `window_s`.",
    ),
    "mig": FindingKind(
        "error",
        "MIG is on: the counter covers the whole GPU, not the slice that ran the experiment.",
        "Use a GPU without MIG; a slice's energy cannot be measured.",
    ),
    "counter_stuck": FindingKind(
        "error",
        "The energy counter did not advance during a window.",
        "Check the driver; use another meter.",
    ),
    "counter_reset": FindingKind(
        "error",
        "The energy counter went backwards during a window (driver reloaded).",
        "Measure again.",
    ),
    "sample_gap": FindingKind(
        "warning",
        "A power meter gave no new reading for more than three of its periods within a window.",
        "Reduce load on the host; the gap's share is in the error budget.",
    ),
    "token_times_on": FindingKind(
        "info",
        "Token times were recorded, which makes the engine wait for the device at every step and slows it.",
        "Measure energy and speed with `token_times: false`.",
    ),
    "plugin_observer_failed": FindingKind(
        "info",
        "A plugin's observer raised an error; the measurement is not affected.",
        "Report it to the plugin's authors.",
    ),
    "meter_failed": FindingKind(
        "error",
        "A meter stopped giving readings during a window.",
        "See the message; its energy is None with the reason `meter_failed`.",
    ),
    "meter_permission": FindingKind(
        "info",
        "A built-in meter is present and may not be read by this user.",
        "See `llem doctor` for the command that grants it.",
    ),
    "over_saturated": FindingKind(
        "warning",
        "An open load brings more than the engine can bear: requests in flight rise within a window, and over 5 % of "
        "the arrivals are left over. Latencies then depend on the length of the window, and no steady state exists. In "
        "a replay the arrivals of the trace itself may have become more.",
        "Lower `load.request_rate` or `load.speed`, or set `load.capacity_share` below 1.",
    ),
    "client_lag": FindingKind(
        "warning",
        "Requests of an open load or a replay were sent late: the p99 lag exceeds 5 ms and 1 % of the median time to "
        "first token. Latencies count from the scheduled time, so part of them is the client's own.",
        "Lower the rate, or give the load generator a processor of its own.",
    ),
    "trace_repeated": FindingKind(
        "info",
        "The windows of all trials together are longer than the trace that is replayed: after its end it begins again, "
        "with other token ids. Trials then measure parts that earlier ones have measured.",
        "Use a longer trace, fewer or shorter windows, or a lower `load.speed`.",
    ),
    "few_completions": FindingKind(
        "warning",
        "Fewer than 200 requests were completed in all windows together: a p99 then rests on the two slowest of them, "
        "and the bootstrap knows nothing beyond the slowest.",
        "Raise `window_s` or `trials`.",
    ),
    "chunks_together": FindingKind(
        "warning",
        "More than one gap in ten between the chunks of a request is none: they reached the client in one read, "
        "because a server, a proxy or the client itself held them back. TTFT, TPOT and the gaps between chunks are "
        "then those of the delivery, not of the engine; the time to the last token stands.",
        "Switch off buffering between server and client, and leave each a processor core that the engine does not use.",
    ),
    "requests_failed": FindingKind(
        "error",
        "Requests failed within a window, so the engine did not do the work that the load describes.",
        "See the worker's log; lower the load, or mend what fails.",
    ),
    "requests_unfinished": FindingKind(
        "info",
        "Requests that had begun had not ended some time after the window and were aborted. Their tokens within the "
        "window count; they are in no latency, which makes latencies look better than they are.",
        "Lower the load, or lengthen the window, when they are more than a few.",
    ),
    "still_warm": FindingKind(
        "warning",
        "A GPU was not back at the temperature of the first trial, within the margin, when the next trial began.",
        "Raise `order.gap_timeout_s` or `order.gap_until_c`.",
    ),
    "shared_host": FindingKind(
        "warning",
        "Other workers of the study ran on this machine at the same time, so that energies of the CPU, the memory and "
        "the whole machine hold theirs too.",
        "Use the energies of GPUs alone, or set `parallel: 1`.",
    ),
    "several_boards": FindingKind(
        "warning",
        "Trials ran on more than one set of GPUs or, without a GPU, in more than one environment: a study went on "
        "elsewhere, or a cluster spread its engine processes. Boards of one kind differ in power by several percent: "
        "the mean is of these boards, and the interval holds the difference between them.",
        "Measure all trials on one board: name it with `gpus`, and the node in the launcher's settings. Or compare "
        "experiments that ran on the same boards in equal shares.",
    ),
    "slo_missed": FindingKind(
        "info",
        "A smaller share of the requests kept every limit of the service level objective than it asks for.",
        "Lower the load, or choose another configuration; `goodput_requests_per_s` counts those that kept them.",
    ),
}

REASONS: Mapping[str, str] = {
    "no_meter": "No meter covers this quantity on this machine.",
    "no_baseline": "No idle baseline was measured, so nothing can be subtracted.",
    "baseline_failed": "The idle baseline after the trials failed; the finding says how.",
    "not_evaluated": "No score of this task is stored: it was not evaluated yet, or that failed, which a finding says.",
    "no_gpu": "The experiment used no GPU.",
    "not_requested": "The measurement is opt-in and was not asked for.",
    "not_supported": "The engine does not report it.",
    "peak_unknown": "The peak rate of this device is not in llem's table.",
    "several_kinds": "Trials ran on GPUs of several kinds, whose peak rates differ.",
    "architecture_unknown": "The model's architecture is not known, so operations cannot be counted.",
    "one_output_token": "A request with one output token has no time per further output token.",
    "no_trials": "No trial ended.",
    "meter_failed": "The meter failed during the window; the finding says how.",
    "counter_stuck": "The energy counter stood still during the window.",
    "counter_reset": "The energy counter went backwards during the window.",
    "offline_load": "The load is batches back to back: no request arrives by itself.",
    "closed_load": "The load is closed: a client sends when it was answered, so there is no schedule.",
    "no_completions": "No request ended, or no token came, within the window.",
    "none_good": "No request kept every limit of the service level objective.",
}


@attrs.frozen
class Finding:
    """One coded remark on a result.

    Attributes:
        code: a key of `FINDINGS`.
        severity: error (result invalid), warning (not publishable) or info.
        message: what was seen, with figures.
        evidence: the figures themselves, JSON values only.
    """

    code: str
    severity: Severity
    message: str
    evidence: Mapping[str, Any] = attrs.field(factory=dict)


def finding(code: str, message: str, **evidence: Any) -> Finding:
    """A finding with the severity its code has in the catalogue. Raises KeyError for a code that is not in it."""
    return Finding(code, FINDINGS[code].severity, message, evidence)
