"""Findings: coded reasons why a number is invalid or doubtful, and reasons why a number is absent.

`FINDINGS` and `REASONS` are the whole vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from llem.findings.codes import FINDINGS, FindingKind, Severity

__all__ = ["FINDINGS", "REASONS", "Finding", "FindingKind", "Severity", "finding"]

#: Why a number is absent, by code.
REASONS: Mapping[str, str] = {
    "no_meter": "No meter covers this quantity on this machine.",
    "no_baseline": "No idle baseline was measured, so there is no idle power to subtract.",
    "baseline_failed": "The idle baseline after the trials failed; the finding says how.",
    "not_evaluated": "No score of this task is stored. If its evaluation failed, a finding says why; else it was not "
    "evaluated yet. `llem run … -o DIR --resume` evaluates it.",
    "no_right_answer": "No answer of the evaluation is right, so there is no energy per right answer.",
    "no_gpu": "The experiment used no GPU.",
    "not_requested": "You did not ask for this, which is off by default (latencies of batches: `token_times`; "
    "prefill and decode: `phases`).",
    "phases_side_by_side": "Under a serving load prefill and decode of several requests run at the same time, so the "
    "energy of a window cannot be told apart.",
    "modelled_energy": "The energy is modelled, so a part of it would be a part of the model.",
    "difference_too_small": "The difference of two windows is no greater than what the instrument may be off by. "
    "Lengthen the outputs or `window_s`.",
    "too_few_lengths": "Prompts or answers are too short to be halved, so that no line can be fitted to their lengths.",
    "part_paused": "llem stood still in a window of one of the phases.",
    "not_supported": "The engine does not report it.",
    "peak_unknown": "The peak rate of this device is not in llem's table.",
    "several_kinds": "Trials ran on GPUs of several kinds, and their peak rates differ.",
    "architecture_unknown": "llem does not know the model's architecture, or does not model it (latent or linear "
    "attention, state spaces, encoder-decoder, multimodal), so it cannot count operations.",
    "speculative": "Tokens are drafted and verified several at a time, so passes through the model do not follow from "
    "output tokens.",
    "passes_unknown": "Passes through the model do not follow from output tokens: beam search, guidance, or no "
    "key-value cache.",
    "format_unknown": "llem does not know the number format of the matrix products, or the bytes of the weights.",
    "model_does_not_fit": "The counted work is more than the hardware can do in that time, so the count does not fit.",
    "one_output_token": "A request with one output token has no further output token, and no time for one.",
    "tokens_together": "All tokens of a request came at once, or faster than 10,000 a second, which no engine makes: "
    "the server, or what stands before it, sends whole answers, so there is no time from one token to the next. Or the "
    "server hid its reasoning, whose tokens it counts: they had come before the first that was seen.",
    "prompt_not_told": "Prompts went out as text, and the engine did not tell how many tokens it made of each.",
    "no_trials": "No trial ended.",
    "meter_failed": "The meter failed during the window; the finding says how.",
    "counter_stuck": "The energy counter did not advance during the window.",
    "counter_reset": "The energy counter went backwards during the window.",
    "offline_load": "The load is offline: it sends batches one after another, and no request arrives by itself.",
    "closed_load": "The load is closed: a client sends when its last request has ended, so there is no schedule.",
    "slo_broken": "The lowest rate that was tried already breaks the service level objective.",
    "boundary_above": "The greatest rate that was tried, or that llem could send on time, keeps the service level "
    "objective: the boundary lies above it.",
    "no_request_file": "llem metered a command and has no file of its requests that it could read, so tokens and "
    "requests are not known (`llem meter --requests FILE`).",
    "not_told": "The file of requests that the command wrote does not tell it.",
    "not_recorded": "An older llem measured this, and did not record it.",
    "no_client_process": "The clients share their process with the engine, whose processor time cannot be told apart.",
    "cache_not_told": "Neither the engine's answers nor its counters tell how much of the prompts came from a cache.",
    "no_completions": "No request ended, or no token came, within the window.",
    "too_few_values": "A window has too few batches for this percentile (p50: 2, p90: 10, p95: 20, p99: 100).",
    "none_good": "No request kept every limit of the service level objective.",
    "no_price": "A price that the cost needs is missing: `gpu_hour`, `machine_hour` where there is no GPU, or `kwh`.",
    "no_grid": "The carbon intensity of the grid was not given.",
    "gpus_unknown": "The number of GPUs is not stored, or is not the same in all engine processes, so the price of an "
    "hour is not known.",
    "is_reference": "The row is the reference's own, so there is no difference.",
    "no_reference": "The reference has no such score.",
    "no_share": "The reference's score is not above 0, so there is no share of it.",
    "other_evaluator": "The two scores are of different evaluators.",
    "other_terms": "The two scores are not in the same terms, such as limit or shots.",
    "other_version": "The two scores are of different versions of the task or of the evaluator.",
    "other_direction": "Of one of the two scores higher is better, of the other one lower.",
    "identical": "The two scores are identical item by item, so nothing scatters.",
    "no_scatter": "Items differ by one amount, or have one value, so nothing scatters and there is no interval.",
    "too_few_items": "Fewer than two items are independent.",
    "no_stderr": "A score has neither items nor a standard error.",
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
