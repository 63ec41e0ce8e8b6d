"""Codes of findings: what each means and what to do. The reference page is generated from this table."""

from __future__ import annotations

from collections.abc import Mapping

from llem.findings.kind import FindingKind, Severity
from llem.findings.load_codes import LOAD_FINDINGS

__all__ = ["FINDINGS", "FindingKind", "Severity"]


FINDINGS: Mapping[str, FindingKind] = {
    "backend_check": FindingKind(
        "error",
        "The backend refuses this configuration before it loads anything.",
        "Change the parameter that the message names.",
    ),
    "foreign_process": FindingKind(
        "error",
        "Another process computed on the measured GPU, so the reading includes its energy.",
        "Stop the other process, or choose another GPU with `gpus`.",
    ),
    "throttled": FindingKind(
        "error",
        "The GPU slowed down during a window for heat, hardware protection or a power brake. `shares` gives the share "
        "of the window's readings affected.",
        "Improve cooling or power supply and measure again.",
    ),
    "power_capped": FindingKind(
        "info",
        "The driver lowered the GPU's clocks to stay within its power limit (NVML: SW power cap), as is usual at full "
        "load. `share` gives the share of the window's readings affected; there is about one reading per second. One "
        "short peak is enough for a reading to count, so the mean power may lie far below the limit.",
        "Nothing to do: llem records it because the limit is part of the configuration.",
    ),
    "meters_disagree": FindingKind(
        "warning",
        "The energy counter and the integrated instantaneous power differ by more than 2 %, on a load that the "
        "instantaneous reading resolves. The counter stays the result.",
        "Lengthen the window, and look at the power trace. If the two differ by 5 % or more on steady loads too, check "
        "the driver.",
    ),
    "cross_unresolved": FindingKind(
        "info",
        "The energy counter and the integrated instantaneous power differ by more than 2 %, but the instantaneous "
        "reading cannot resolve this load: it samples 25 of each 100 ms and aliases. So the difference says nothing "
        "about the counter. `known_to` is the 95 % half-width of the ratio, `null` if its scatter cannot show.",
        "Nothing to do. For a check of the counter, measure a steady load.",
    ),
    "energy_suspect": FindingKind(
        "error",
        "The energy cannot be right: it says more power than the board's limit, or than any part of a machine takes.",
        "Do not use this energy. Check the driver, MIG and other users of the GPU, and the unit of a meter that is not "
        "llem's own: it gives joules.",
    ),
    "utilisation_model": FindingKind(
        "info",
        "The operations or bytes that llem counts for a window are more than the hardware can do in that time, so the "
        "count does not fit this engine. The share of the peak is None; energy and speed do not rest on it.",
        "Nothing to do for energy and speed. If the engine drafts tokens, shares prefixes or computes in another "
        "number format, its backend should tell llem so.",
    ),
    "no_steady_state": FindingKind(
        "warning",
        "Power or speed changes within a window by more than 0.5 % (p < 0.01): along a line, by a step or a bump, or "
        "with a turn.",
        "Lengthen the warm-up.",
    ),
    "drift_between_trials": FindingKind(
        "warning",
        "Energy per output token or speed changes along a line from the first trial of an engine process to the last, "
        "by more than 0.5 % (p < 0.04). The trials are then not repetitions of one state, and the interval describes "
        "the drift, not the scatter.",
        "Lengthen the warm-up, let the machine settle, and look for what changes: temperature, clocks, other users.",
    ),
    "host_bound": FindingKind(
        "warning",
        "The GPU waits for the host. Either the GPU is idle for a large part of the window, or steps take several "
        "times what the hardware needs. Speed and energy then vary with the host, not with the configuration.",
        "Use a larger batch, CUDA graphs (torch.compile) or an engine with less host work.",
    ),
    "token_count_mismatch": FindingKind(
        "error",
        "The engine returned another number of output tokens than asked for, although it was told to ignore the end "
        "of the sequence.",
        "Report it to the backend's authors. Do not compare figures per token.",
    ),
    "setting_overruled": FindingKind(
        "warning",
        "The engine says that it runs with another value of a setting than the one asked for. The result is of what "
        "the engine runs with.",
        "Leave the setting out, or give the value that the engine takes. If the engine does take what was asked for, "
        "report it to the backend's authors.",
    ),
    "work_left": FindingKind(
        "warning",
        "After a batch had returned, the worker's process, one that it began, or its GPU went on working. The window "
        "ends when the batch returns, so work of one batch may be counted for the next, or for none.",
        "Report it to the backend's authors: `generate` returns when every token is in host memory.",
    ),
    "prompt_as_text": FindingKind(
        "warning",
        "llem sent prompts to the engine as text, and the engine cut them into tokens by itself. Its number of tokens "
        "may differ from the workload's number, which the results count.",
        "If the engine takes token ids, send token ids.",
    ),
    "single_trial": FindingKind(
        "info",
        "There is one trial, so there is no interval from repetition.",
        "Use `preset: standard` or set `trials` to 5 or more.",
    ),
    "not_publishable_preset": FindingKind(
        "info",
        "The preset `quick` is for trying things out, so llem marks its result not publishable.",
        "Use `preset: standard` or `publication`.",
    ),
    "fake_backend": FindingKind(
        "info",
        "The backend is a fake that only plays at inference. Its figures mean nothing, and no view ranks them.",
        "Use a backend that runs a model; `llem plugins` lists them.",
    ),
    "interval_wide": FindingKind(
        "info",
        "The 95 % interval is wider than the target. The interval is honest all the same, and the result may be "
        "published: to take only results with narrow intervals is to take the lucky ones.",
        "Raise `trials`, `max_trials` or `window_s`, or `processes` where there are several; or find what varies.",
    ),
    "idle_drift": FindingKind(
        "warning",
        "The idle power before and after the trials differs by more than 3 %, so the interval of net energy is wide.",
        "Let the GPU settle, or use gross energy.",
    ),
    "baseline_failed": FindingKind(
        "warning",
        "The idle baseline after the trials failed, so llem cannot say whether idle power stayed the same. "
        "The trials stand; their energy net of idle is None.",
        "See the message and the worker's log. Use gross energy, or measure again.",
    ),
    "quality_failed": FindingKind(
        "warning",
        "llem could not evaluate quality after the trials, in some or all tasks. The trials stand. The task that the "
        "message names has no score; if it names none, no task has. `llem run` ends with 1.",
        "See the message and the worker's log. `llem run --resume` evaluates what is missing.",
    ),
    "quality_random_weights": FindingKind(
        "warning",
        "Quality was evaluated on random weights, as `quality.force` asks. Such scores say nothing about any model.",
        "Use a real model.",
    ),
    "meter_unavailable": FindingKind(
        "info",
        "A built-in meter cannot be used on this machine; the message says why.",
        "See `llem doctor`.",
    ),
    "short_window": FindingKind(
        "warning",
        "A window is shorter than 5 s, so the counter's edges weigh heavily in its error bound.",
        "Raise `window_s`. Let a metered command run longer.",
    ),
    "mig": FindingKind(
        "error",
        "MIG is on: the counter covers the whole GPU, not the slice that ran the experiment.",
        "Use a GPU without MIG; a slice's energy cannot be measured.",
    ),
    "counter_stuck": FindingKind(
        "error",
        "The energy counter did not advance during a window.",
        "Check the driver, or use another meter.",
    ),
    "counter_reset": FindingKind(
        "error",
        "The energy counter went backwards during a window, because the driver was reloaded or the counter set back.",
        "Measure again.",
    ),
    "sample_gap": FindingKind(
        "warning",
        "Within a window, a power meter gave no new reading for more than three of its periods, or the process that "
        "reads the meters stood still for more than 0.5 s and 1 % of the window.",
        "Reduce load on the host. The gap's share is in the error budget.",
    ),
    "token_times_on": FindingKind(
        "info",
        "llem recorded token times. The engine then waits for the device at every step, which slows it.",
        "Measure energy and speed with `token_times: false`.",
    ),
    "plugin_observer_failed": FindingKind(
        "info",
        "A plugin's observer raised an error. The measurement is not affected.",
        "Report it to the plugin's authors.",
    ),
    "meter_failed": FindingKind(
        "error",
        "A meter stopped giving readings during a window.",
        "See the message. The energy is None with the reason `meter_failed`.",
    ),
    "meter_permission": FindingKind(
        "info",
        "A built-in meter is present, but this user may not read it, or may not read all of it. Part of a machine's "
        "energy must not pass for the whole, so llem then reads none.",
        "See `llem doctor` for the command that grants it.",
    ),
    **LOAD_FINDINGS,
    "still_warm": FindingKind(
        "warning",
        "When the next trial began, a GPU was still warmer than at the first trial, by more than the margin.",
        "Raise `order.gap_timeout_s` or `order.gap_until_c`.",
    ),
    "shared_host": FindingKind(
        "warning",
        "Other workers of the study ran on this machine at the same time. Energies of the CPU, the memory and the "
        "whole machine include their work.",
        "Use the energies of GPUs alone, or set `parallel: 1`.",
    ),
    "host_busy": FindingKind(
        "warning",
        "Other processes, or other virtual machines on the same hardware, used the host's processors within a window. "
        "Beside an engine on the CPU more than a tenth of a core and 2 % of the cores counts; beside one on a GPU more "
        "than half a core and 10 %. Only processors on which the engine may run count. The engine's own processes are "
        "those that the worker or `openai.command` started, and the family of a server that was running; a server "
        "that its command started in a container is told apart from nobody, so its load counts as others'.",
        "Stop what else runs, measure workers one after another, or give llem processors of its own (`taskset`).",
    ),
    "cpu_throttled": FindingKind(
        "warning",
        "A CPU quota of the container or the job stopped the worker within a window, so speed depends on the quota.",
        "Give the container whole processors (`--cpuset-cpus`) in place of a quota, or a larger quota.",
    ),
    "several_boards": FindingKind(
        "warning",
        "Trials ran on more than one set of GPUs or, without a GPU, in more than one environment. A study went on "
        "elsewhere, or a cluster spread its engine processes. GPUs of one kind differ in power by several percent. "
        "The mean is of these GPUs, and the interval includes the difference between them.",
        "Measure all trials on one GPU: name it with `gpus`, and the node in the launcher's settings. Or compare "
        "experiments that ran on the same GPUs in equal shares.",
    ),
    "boundary_above": FindingKind(
        "info",
        "The search for the greatest rate under the service level objective ended without a rate that breaks it: the "
        "highest rate that it may try keeps it, or llem sent late at the rate that broke it. The trials have the "
        "greatest rate that was kept, and `max_request_rate` is `null`.",
        "Raise `load.search.max_rate`; where llem sent late, give the load generator a processor core of its own.",
    ),
    "slo_missed": FindingKind(
        "info",
        "The share of requests that kept every limit of the service level objective is below `slo.attainment`.",
        "Lower the load, or choose another configuration. `goodput_requests_per_s` counts the requests that kept the "
        "limits.",
    ),
}
