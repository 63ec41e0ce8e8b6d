"""Codes of findings that only a serving load, or a metered command, has; `llem.findings.codes` has them among all."""

from __future__ import annotations

from collections.abc import Mapping

from llem.findings.kind import FindingKind

__all__ = ["LOAD_FINDINGS"]

LOAD_FINDINGS: Mapping[str, FindingKind] = {
    "over_saturated": FindingKind(
        "warning",
        "An open load brings more requests than the engine can serve: requests in flight rise within a window, and "
        "over 5 % of the arrivals are left over. Latencies then depend on the length of the window, and there is no "
        "steady state. In a replay, the arrivals of the trace itself may have increased.",
        "Lower `load.request_rate` or `load.speed`, or set `load.capacity_share` below 1.",
    ),
    "client_lag": FindingKind(
        "warning",
        "llem sent requests of an open load or a replay late: the p99 lag exceeds 5 ms and 1 % of the median time to "
        "first token. Latencies count from the scheduled time, so part of them is the client's own.",
        "Lower the rate, or give the load generator a processor core of its own.",
    ),
    "trace_repeated": FindingKind(
        "info",
        "The windows of all trials together are longer than the replayed trace. After its end the trace begins again, "
        "with other token ids, so later trials measure parts that earlier ones have measured.",
        "Use a longer trace, fewer or shorter windows, or a lower `load.speed`.",
    ),
    "few_completions": FindingKind(
        "warning",
        "All windows together have fewer than 200 completed requests. The two slowest of them then decide the p99, "
        "and nothing shows what lies beyond the slowest.",
        "Raise `window_s` or `trials`.",
    ),
    "chunks_together": FindingKind(
        "warning",
        "More than 10 % of chunks arrived in the same read as the chunk before, because the server, a proxy or the "
        "client held them back. TTFT, TPOT and the gaps between chunks then describe the delivery, not the engine. "
        "The time to the last token stands.",
        "Switch off buffering between server and client. Give each of them a processor core that the engine does not "
        "use.",
    ),
    "requests_failed": FindingKind(
        "error",
        "Requests failed within a window, so the engine did not do the work that the load describes.",
        "See the worker's log. Lower the load, or mend what fails.",
    ),
    "requests_unfinished": FindingKind(
        "info",
        "Some requests had not ended some time after the window, and llem aborted them. Their tokens within the "
        "window count. They are in no latency, so latencies look better than they are.",
        "If they are more than a few, lower the load or lengthen the window.",
    ),
    "command_failed": FindingKind(
        "error",
        "The metered command ended with an exit code other than 0, or by a signal. The energy is that of the command "
        "until then, but it may not have done its work. llem makes no further trial, and ends with the same code.",
        "Mend the command and measure again.",
    ),
    "command_interrupted": FindingKind(
        "error",
        "The metered command was interrupted. The energy is that of the command until its end.",
        "Measure again.",
    ),
    "requests_told": FindingKind(
        "info",
        "Requests, tokens and their times are those of the file that the command wrote; llem did not see the requests. "
        "The message names the tool, and which part of the command's run is the window: from the first request to the "
        "last token, or the whole run where a meter cannot be read in between.",
        "Nothing to do. What the tool itself states of throughput and latencies is beside the result.",
    ),
    "request_file_unread": FindingKind(
        "warning",
        "The file of requests was not there after the command, had not been written by it, is of no known format, or "
        "has no single requests with times. Energies stand; what needs tokens or requests is None.",
        "See the message. `vllm bench serve` needs `--save-result --save-detailed`, AIPerf writes "
        "`profile_export.jsonl`, GuideLLM `benchmarks.json`.",
    ),
    "window_beyond_requests": FindingKind(
        "warning",
        "The window is the command's whole run, and for more than 5 % of it no request had begun or all had ended. "
        "Energies per token and rates include that time: the tool's own start, mostly.",
        "Use a meter that can be read at any time (`nvml`, `rapl`), or let the benchmark run longer.",
    ),
    "requests_outside": FindingKind(
        "warning",
        "Requests of the file lie outside the command's run, by their times. They are not counted.",
        "Let each run of the command write the file anew, on the machine that is measured.",
    ),
    "cache_warm": FindingKind(
        "warning",
        "The engine says that it took more than 1 % of the prompts' tokens from its cache: it had computed them "
        "before, for an earlier request. TTFT, the time per request and the energy are those of a warm cache. "
        "`cached_tokens_share` says how large the part is.",
        "If your users' prompts repeat so, nothing. Else use synthetic prompts, which `openai.salt` makes new for each "
        "run, or start the server anew, or without its prefix cache (vLLM: `--no-enable-prefix-caching`).",
    ),
    "prompts_repeat": FindingKind(
        "warning",
        "The workload has fewer prompts than requests were sent, and the engine has a prefix cache, or does not tell. "
        "A prompt that comes again may be taken from the cache, and then costs next to nothing to read.",
        "Use a file with more prompts, fewer or shorter windows, or an engine without a prefix cache.",
    ),
    "served_model_differs": FindingKind(
        "warning",
        "`model` names one model, and the server says that it serves another. The prompts are made with the tokenizer "
        "of the first, and all figures are of the second.",
        "Leave `model` out: llem takes the name that the server tells. Or start the server with the right model.",
    ),
    "server_told": FindingKind(
        "info",
        "What the server's page `/metrics` told right before and right after each window. Counts are of the time "
        "between the two readings, which is a little longer than the window. The trials have all figures in "
        "`serving.server`.",
        "Nothing to do. Requests that wait, a full KV cache and preemptions say what limits the server.",
    ),
    "server_counts_differ": FindingKind(
        "warning",
        "By the counters of its page `/metrics`, the server made another number of tokens beside the window than llem "
        "received, by more than 2 % and more than its requests in flight explain. Mostly somebody else uses the "
        "server, so its energy and its times are not those of this load alone.",
        "Let nobody else use the server. See `serving.server` of the trials for the figures.",
    ),
}
