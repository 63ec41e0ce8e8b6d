"""Codes of findings about the load and its windows; `llem.findings.codes` has them among all."""

from __future__ import annotations

from collections.abc import Mapping

from llem.findings.kind import FindingKind

__all__ = ["LOAD_FINDINGS"]

LOAD_FINDINGS: Mapping[str, FindingKind] = {
    "over_saturated": FindingKind(
        "warning",
        "Requests in flight rise within a window of an open load, and over 5 % of the arrivals are left over. Either "
        "more arrive than the engine can serve, or it runs close below its capacity, where a queue may grow for as "
        "long as a window lasts. Latencies then depend on the length of the window, and there is no steady state. In a "
        "replay, the arrivals of the trace itself may have increased.",
        "Lower `load.request_rate` or `load.speed`, or set `load.capacity_share` below 1. Close below the capacity, "
        "lengthen `window_s`.",
    ),
    "client_lag": FindingKind(
        "warning",
        "The load generator itself is in the figures, by more than 1 ms and a share of them. It sent requests late: "
        "the TTFT from the arrival and the TTFT from the sending differ by more than 5 %. Or answers waited for their "
        "turn in its event loop: the delay is more than 5 % of the median TTFT, 10 % of the p99 TTFT, 5 % of the TPOT "
        "or 10 % of the p99 gap between chunks. Or the event loop stood still while measured requests ran, for more "
        "than 1 % of the window or more than 10 % of the p99 TTFT. The message says which figure is off, and by how "
        "much at most.",
        "Lower the load, or give the load generator more processor cores, which the engine does not use.",
    ),
    "rate_off": FindingKind(
        "warning",
        "Requests did not arrive at the rate that was asked for. Requests of the schedule were not sent, or the "
        "schedule, which is drawn from a seed, has a number of arrivals in the windows that fewer than 1 % of "
        "schedules have. It is a remark (info) where the number is more than 10 % off, which chance does. A replay is "
        "compared with its trace.",
        "Compare with other results by the arrivals seen. Lengthen the windows, or change `load.seed`. If requests "
        "were not sent, lower the rate.",
    ),
    "not_stationary": FindingKind(
        "warning",
        "The load was not stationary when it was measured. It had run for too short a time when the window opened, so "
        "that long requests were not in flight yet, and latencies are too short. Or requests in flight at the "
        "beginning of an open load's windows are not what Little's law asks for, or rise within them, by more than "
        "10 % and more than chance does. Or requests of a closed load wait while others end again and again: those "
        "that ended do not account for the requests in flight, and latencies are theirs alone.",
        "Lengthen `window_s` and `warmup.seconds`. A load is stationary when it has run for several times as long as "
        "its longest requests take. If requests wait, see how the server chooses among them.",
    ),
    "no_completions": FindingKind(
        "error",
        "No request completed within a window, so there is nothing to judge. The message says how many requests were "
        "in flight, and how many of these got no token: a server that hangs, or a window shorter than a request.",
        "See the server's log. If tokens came, raise `window_s`.",
    ),
    "trace_repeated": FindingKind(
        "info",
        "The windows of all trials together are longer than the replayed trace. After its end the trace begins again, "
        "with other token ids, so later trials measure parts that earlier ones have measured.",
        "Use a longer trace, fewer or shorter windows, or a lower `load.speed`.",
    ),
    "prompts_unheld": FindingKind(
        "info",
        "llem could not tell whether prompts are too long for the server, and sent all of them: the server does not "
        "tell its context, or nothing here has the tokenizer of its model. `too_long` has no effect then.",
        "Look for `request_errors`, and for answers that are shorter than asked for. If you know the context, leave "
        "longer prompts out of the file; name the model whose tokenizer it is with `model`.",
    ),
    "prompts_skipped": FindingKind(
        "info",
        "Rows of the workload's file were left out, as its settings ask: prompts that are too long for the engine "
        "(`too_long: skip`), or rows without a prompt or an answer (`skip_empty: true`). The message names the first.",
        "Nothing to do. What is measured is the rest of the file.",
    ),
    "prompts_ask_otherwise": FindingKind(
        "warning",
        "Rows of a file of batch requests have settings that llem does not follow: it samples all requests as the "
        "experiment says, and generates as many tokens. The message names each setting, and the first row.",
        "Give `sampling` the file's values, and set `output_tokens: file`. Tools and formats can be sent in the "
        "`extra_body` of a server's section.",
    ),
    "few_completions": FindingKind(
        "warning",
        "All windows together have fewer than 200 completed requests. The two slowest of them then decide the p99, "
        "and nothing shows what lies beyond the slowest.",
        "Raise `window_s` or `trials`.",
    ),
    "chunks_together": FindingKind(
        "warning",
        "More than 10 % of chunks arrived with the chunk before, in one read or less than 0.1 ms per token later, "
        "because the server, a proxy or the client held them back. TTFT, TPOT and the gaps between chunks then "
        "describe the delivery, not the engine. The time to the last token stands.",
        "Switch off buffering between server and client. Give each of them a processor core that the engine does not "
        "use.",
    ),
    "tokens_untold": FindingKind(
        "warning",
        "More than 5 % of the tokens of the completed requests had no event of their own: the server told their number "
        "at the end, and no event told of them. llem counts them with the last event of their request where they are "
        "fewer than its events, else evenly with each. TPOT, the gaps between chunks and the tokens within a window "
        "assume that they came so. Where a server counts tokens of reasoning that it hides, they did not.",
        "Let the server tell its count with each event (vLLM and SGLang do, since llem asks for it), or send one token "
        "an event (vLLM: `--stream-interval 1`), or show its reasoning.",
    ),
    "requests_failed": FindingKind(
        "error",
        "Requests that were on their way within a window failed, in it or later, so the engine did not do the work "
        "that the load describes. One that hangs fails when its time is over.",
        "See the worker's log. Lower the load, or mend what fails.",
    ),
    "requests_hang": FindingKind(
        "error",
        "Requests of a window got no token for three times as long as the longest wait of all others, and were aborted "
        "when the load had ended, as if the engine had forgotten them; one that serves some requests last of all looks "
        "the same. While they hang, the load is smaller than it says. They do not count as failed, because their "
        "patience (`timeout_s` of a server's section) was not over.",
        "See the server's log for the requests that it did not answer. A shorter `timeout_s` lets them fail sooner.",
    ),
    "request_errors": FindingKind(
        "info",
        "What failed requests of a trial were told: the first messages that differ. `requests_failed` says how many "
        "of the windows' requests failed.",
        "See the messages, and the worker's log.",
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
    "paused": FindingKind(
        "error",
        "The worker stood still for more than 1 % of a window, or for more than 0.1 s: a signal stopped it (also "
        "several times, each for too short to be timed), a container or the whole machine was frozen, or the machine "
        "was suspended. Or nothing ran of a process that sends the requests, for 0.25 s or more at a time, in the "
        "window or while a request was under way that counts in it. Or a signal stopped a metered command. Less work "
        "was done in the window than the engine does, and its energy holds the time of the pause.",
        "Measure again, and do not stop or suspend what measures.",
    ),
    "stalled": FindingKind(
        "error",
        "The engine stood still within a window while the worker ran. No token came although requests were in flight, "
        "for at least 5 % of the window, and three to ten times as long as usual, by how much the usual silences "
        "scatter; or one batch took so much longer than the others. What work on prompts explains, and what each "
        "request waits by itself, is no stall. It stood still in half of the windows at most, or in the only one.",
        "See the engine's log: a stopped process, a GPU that hung, a compilation in the midst of the load. Measure "
        "again.",
    ),
    "stalls_recur": FindingKind(
        "warning",
        "The engine stood still in most windows. A few times without a token, three per window and one of 100 at "
        "most, were ten times as long as all others (a few batches: three times as long), and took 5 % of the windows "
        "or more. Work on prompts does not explain them. If it is the engine's own way (a collection, a checkpoint, a "
        "compilation), the figures rightly include it. If something stops the engine again and again, they do not "
        "describe the engine.",
        "See the engine's log at these times, and what else the machine does: a container's limit on processor time, "
        "a snapshot, a debugger.",
    ),
    "clock_step": FindingKind(
        "warning",
        "The wall clock was set by more than 10 ms within a window, or the system's clock ran more than 0.1 % too fast "
        "or too slow. llem measures times on the monotonic clock, which no step moves. But a step often follows a "
        "pause of the whole virtual machine, which no clock in it sees; and a clock that runs fast takes all times "
        "with it.",
        "Let the clock settle before you measure (`chronyc tracking`), and see whether the machine was migrated.",
    ),
    "window_off_plan": FindingKind(
        "warning",
        "A window was longer or shorter than planned. An offline window took 1.5 times as long as its batches took in "
        "the warm-up (3 times where the work of batches differs). Or the windows of an engine process were on average "
        "shorter than half of `window_s` (a tenth where the work of batches differs, or is not known to be alike), "
        "because their batches took far longer in the warm-up, and more of them would have fitted. Or llem stood "
        "still in every batch of the warm-up that was to tell how many fill a window, though it was made longer three "
        "times. A serving window is off by more than 1 % and 50 ms, because the load generator was late. Or the "
        "window of a replay opened more than 50 ms after its part of the trace had begun, and has other requests than "
        "were asked for. Rates are over the time that the window took.",
        "Lengthen the warm-up; see whether the machine was busy or the GPU slowed down, then or in the windows.",
    ),
    "no_work": FindingKind(
        "error",
        "Nothing was done in a window: the engine completed no request, or returned no token; or the file of a metered "
        "command tells of no request.",
        "See the worker's log, and what the engine or the command answers.",
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
        "If your users' prompts repeat so, nothing. Else use synthetic prompts, which llem draws anew for each run "
        "against a server unless the backend's `salt` is off, or start the server anew, or without its prefix cache "
        "(vLLM: `--no-enable-prefix-caching`).",
    ),
    "cache_unknown": FindingKind(
        "warning",
        "A server that was running already gets prompts that an earlier run may have sent it: those of a file, or "
        "synthetic ones that are not drawn anew (`salt`). Neither its answers nor its page `/metrics` tell whether it "
        "has a prefix cache, or what came from it. Measured twice, such prompts may be read in no time.",
        "Let llem start the server anew (the backend's `command`), or let it tell cached tokens (vLLM: "
        "`--enable-prompt-tokens-details`).",
    ),
    "prompts_repeat": FindingKind(
        "warning",
        "The workload has fewer prompts than requests were sent, with those of the warm-up, and the engine has a "
        "prefix cache, or does not tell. A prompt that comes again may be taken from the cache, and then costs next to "
        "nothing to read.",
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
        "between the two readings, which is a little longer than the window. A reading that failed is missing, and so "
        "are the counts of its window. The trials have all figures in `serving.server`.",
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
