"""What a terminal shows: whole outputs, and figures with the digits they deserve."""

from __future__ import annotations

import io
import sys

import attrs
import pytest
from rich.console import Console

from llem.analysis.overview import overview_of
from llem.findings import finding
from llem.meters.base import ErrorBudget
from llem.reports.console import render_result
from llem.reports.figures import figure
from llem.reports.tables import render_study
from llem.reports.views import study_view
from llem.store.models import DomainMetrics, Quantity, Result

GPU = {"scope": "gpu", "kind": "measured"}


def student(value, half, unit, n=5, processes=1, **more):
    covers = "within one process" if processes == 1 else "over processes"
    return Quantity(value, unit, value - half, value + half, 0.95, n, processes, covers, "student_t", **more)


def render_results(results, console):
    """A line for each."""
    render_study(study_view(map(overview_of, results), {}), console)


def text(render, value, width=80, **more):
    """Output as a file or a pipe gets it, lines without the blanks that fill a column."""
    out = io.StringIO()
    render(value, Console(file=out, width=width, highlight=False, **more))
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


@pytest.fixture
def result() -> Result:
    """A standard experiment on one GPU with a doubtful finding."""
    domain = DomainMetrics(
        meter="nvml",
        domain="gpu:GPU-0a1b2c3d-0000-1111",
        instrument="NVML total energy counter",
        energy_j=student(6000.0, 9.8, "J", **GPU),
        energy_net_j=student(4770.0, 9.8, "J", **GPU),
        power_w=student(600.0, 0.98, "W", **GPU),
        idle_power_w=Quantity(123.0, "W", 122.0, 124.0, 0.95, 1, 1, "one window", "instrument", **GPU),
        budget=ErrorBudget(0.6, 0.0, 9.8, 300.0),
        cross_ratio=student(1.0012, 0.0002, ""),
        **GPU,
    )
    return Result(
        id="0123456789abcdef",
        outcome="done",
        config={"backend": "pytorch", "model": "shape:llama-3.1-8b", "dtype": "bfloat16", "load": {"batch_size": 32}},
        sources={},
        effective={},
        environment="e",
        weights="random",
        trials=5,
        metrics={
            "energy_per_output_token_j": student(0.18612, 0.00031, "J", **GPU),
            "energy_j": student(6000.0, 9.8, "J", **GPU),
            "energy_net_j": student(4770.0, 9.8, "J", **GPU),
            "output_tokens_per_s": student(1450.0, 12.0, "token/s"),
            "ttft_s": Quantity(None, "s", reason="not_requested"),
            "e2el_p99_s": Quantity(2.5, "s", 2.4, 2.6, 0.95, 20, 1, "one window", "batch_means"),
            "mfu": Quantity(None, "", reason="peak_unknown"),
            "mbu": Quantity(None, "", reason="peak_unknown"),
            "peak_memory_bytes": Quantity(17e9, "B", n=5, method="exact"),
        },
        domains=(domain,),
        findings=(finding("idle_drift", "idle power was 123.0 W before the trials and 130.0 W after"),),
        valid=True,
        publishable=False,
    )


def test_whole_output(result):
    """The whole table at 80 columns: headline, basis of each number, domain with its error, finding with remedy."""
    assert text(render_result, result) == EXPECTED


def test_no_colour_outside_a_terminal(result):
    """A pipe gets no escape sequences."""
    assert "\x1b" not in text(render_result, result)


def test_no_colour_on_request(result, monkeypatch):
    """NO_COLOR takes the colours away in a terminal too."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[33m" in text(render_result, result, force_terminal=True, color_system="standard")
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[33m" not in text(render_result, result, force_terminal=True, color_system="standard")


def test_fits_eighty_columns(result):
    """No line is longer than the terminal."""
    assert max(map(len, text(render_result, result).splitlines())) <= 80


def test_narrow_terminal_keeps_figures_whole(result):
    """Where there is no room for a table its lines run over the edge; no figure is cut or broken."""
    shown = text(render_result, result, width=30)

    assert "energy per output token      0.18612 ± 0.00031 J" in shown
    row = next(line for line in text(render_results, [result], width=30).splitlines() if line.startswith("0123"))
    assert "0.18612 ± 0.00031" in row
    assert "1,450 ± 12" in row


def test_pipe_is_wide(monkeypatch, capsys, result):
    """Without a terminal and without COLUMNS a reason stands in one line, for those who search in it."""
    monkeypatch.delenv("COLUMNS", raising=False)
    render_result(result)

    assert "The peak rate of this device is not in llem's table" in capsys.readouterr().out


def test_no_text_commands_the_terminal(result):
    """Names and messages come from files of others: escape sequences, titles, and turns of the direction of writing."""
    evil = "evil\x1b[2J\x1b]0;title\x07\x9b31m\u202e"
    failed = attrs.evolve(
        result,
        outcome="failed",
        error=evil,
        config={**result.config, "model": evil},
        metrics={f"quality.{evil}": Quantity(0.5, "", score=evil, n=3), **result.metrics},
        findings=(finding("quality_failed", evil),),
    )
    shown = text(render_result, failed)

    assert not set(shown) & {"\x1b", "\x07", "\x9b", "\u202e"}
    assert shown.count("\\u001b[2J\\u001b]0;title\\u0007\\u009b31m\\u202e") >= 3


def test_failed_experiment(result):
    """A failure shows its outcome and what happened, also when the message looks like markup."""
    failed = attrs.evolve(
        result,
        outcome="oom",
        error="CUDA out of memory [/red] tried 20 GiB",
        trials=0,
        metrics={"energy_j": Quantity(None, "J", reason="no_trials")},
        domains=(),
        findings=(),
        valid=False,
    )
    shown = text(render_result, failed)
    assert "0123456789abcdef · oom · 0 trials · random weights · not valid" in shown
    assert "CUDA out of memory [/red] tried 20 GiB" in shown
    assert "No trial ended" in shown


def test_a_board_of_some_trials_is_said(result):
    """Where not all trials ran on a board, how many did; of one that all ran on, nothing is said."""
    other = attrs.evolve(result.domains[0], domain="gpu:GPU-99999999-0000", energy_j=student(6100.0, 9.8, "J", 2))
    shown = text(render_result, attrs.evolve(result, domains=(*result.domains, other)))
    assert [line for line in shown.splitlines() if "ran there" in line] == [
        "gpu:GPU-99999999: 2 of 5 trials ran there",
    ]


def test_modelled_is_said(result):
    """A modelled headline says so beside the number."""
    modelled = Quantity(500.0, "J", n=1, method="single_trial", scope="cpu+dram", kind="modelled")
    shown = text(render_result, attrs.evolve(result, metrics={"energy_j": modelled}, domains=()))
    assert "cpu+dram · modelled · n = 1" in shown


@pytest.mark.parametrize(
    ("quantity", "expected"),
    [
        (student(0.18612, 0.00031, "J"), "0.18612 ± 0.00031 J"),
        (student(0.0001236, 0.0000012, "J"), "0.1236 ± 0.0012 mJ"),
        (student(12345.6, 234.0, "J"), "12,350 ± 230 J"),
        (student(10.0, 0.0, "s"), "10.00 ± 0 s"),
        (student(-480.0, 5.0, "J"), "-480.0 ± 5.0 J"),
        (student(0.0390625, 0.0004, "s"), "39.06 ± 0.40 ms"),
        (student(20.2e-6, 1.9e-6, "s"), "20.2 ± 1.9 µs"),
        (Quantity(5898.0, "token/s", n=1, method="single_trial"), "5,898 token/s"),
        (Quantity(0.0, "J", n=1, method="single_trial"), "0 J"),
        (Quantity(1.503e10, "FLOP", n=5, method="exact"), "1.503e+10 FLOP"),
        (Quantity(17e9, "B", n=5, method="exact"), "15.83 GiB"),
        (Quantity(900.0, "B", n=5, method="exact"), "900.0 B"),
        (student(0.66, 0.01, ""), "0.660 ± 0.010"),
        (student(0.5, 40.0, "J"), "0.50 ± 40 J"),
        (student(14512.0, 5300.0, "token/s"), "14,500 ± 5,300 token/s"),
        (student(123456789.0, 1.0, "J"), "123,456,789 ± 1.0 J"),
        (Quantity(0.02, "s", 0.0076, 0.052, 0.95, 5, method="student_t"), "20 (7.6 to 52) ms"),
        (Quantity(None, "J", reason="no_meter"), "– (no_meter)"),
    ],
)
def test_figures(quantity, expected):
    """Digits follow the half-width; units stay readable; nothing measured is a dash with its reason, never 0.

    A lopsided interval is told by its ends.
    """
    assert figure(quantity) == expected


def test_a_lopsided_interval_has_no_plus_minus():
    """The text of a Quantity tells the ends of such an interval, and the half-width of others."""
    lopsided = Quantity(0.02, "s", 0.0076, 0.052, 0.95, 5, 1, "within one process", "student_t")

    assert str(lopsided) == "0.02 s 0.0076 to 0.052 (95 %, n = 5, one process)"
    assert str(student(2.0, 0.1, "J")) == "2 J ± 0.1 (95 %, n = 5, one process)"


@pytest.mark.parametrize(
    ("quantity", "words", "whole"),
    [
        (student(0.0123, 0.0004, "J", scope="cpu+dram", kind="modelled"), "n = 5, one process",
         "0.0123 J ± 0.0004 (95 %, n = 5, one process), cpu+dram, modelled"),
        (student(2.0, 0.1, "J", 10, 5, **GPU), "n = 10, over 5 processes",
         "2 J ± 0.1 (95 %, n = 10, over 5 processes), gpu, measured"),
        (Quantity(2.0, "J", 1.9, 2.1, 0.95, 1, 1, "one window", "instrument", **GPU), "one window, instrument's bound",
         "2 J ± 0.1 (95 %, one window, instrument's bound), gpu, measured"),
        (Quantity(2.0, "s", 1.9, 2.1, 0.95, 40, 2, "over processes", "batch_means"),
         "40 runs of requests, over 2 processes", "2 s ± 0.1 (95 %, 40 runs of requests, over 2 processes)"),
        (Quantity(2.0, "s", 1.9, 2.1, 0.95, 40, 1, "one window", "batch_means"), "40 runs of requests, one window",
         "2 s ± 0.1 (95 %, 40 runs of requests, one window)"),
        (Quantity(2.0, "s", n=12, processes=1, method="observed"), "12 values, too few for an interval",
         "2 s (12 values, too few for an interval)"),
        (Quantity(2.0, "s", n=1, processes=1, method="observed"), "1 value, too few for an interval",
         "2 s (1 value, too few for an interval)"),
        (Quantity(0.75, "", 0.5, 1.0, 0.95, 12, covers="items", method="items"), "12 items",
         "0.75 ± 0.25 (95 %, 12 items)"),
        (Quantity(28.0, "W", n=1, processes=1, method="single_trial", scope="cpu", kind="modelled"), "n = 1",
         "28 W (n = 1), cpu, modelled"),
        (Quantity(17.0, "B", n=5, method="exact"), "exact", "17 B (exact)"),
        (Quantity(None, "J", reason="no_trials", **GPU), "", "none (no_trials), gpu, measured"),
        (Quantity(None, "s", reason="not_requested"), "", "none (not_requested)"),
    ],
)  # fmt: skip
def test_a_number_keeps_what_it_is_of(quantity, words, whole):
    """Its text has the trials and engine processes that it rests on, what the interval covers, scope and kind."""
    assert quantity.rests_on == words
    assert str(quantity) == whole


def test_latencies_say_what_their_intervals_rest_on(result):
    """Below their table, which has no room for intervals."""
    ttft = {f"ttft_{part}s": Quantity(0.1, "s", 0.09, 0.11, 0.95, 40, 2, "over processes", "batch_means")
            for part in ("", "p50_", "p99_")}  # fmt: skip
    served = attrs.evolve(result, config={**result.config, "load": {"kind": "closed", "concurrency": 8}}, metrics=ttft)

    assert "\nlatencies: 40 runs of requests, over 2 processes; intervals are in --json\n" in text(
        render_result, served
    )


def test_list_of_several(result):
    """Several results are one row each, failures among them."""
    other = attrs.evolve(result, id="fedcba9876543210", outcome="timeout", valid=False, metrics={})
    shown = text(render_results, [result, other], width=120)
    assert shown.splitlines()[0] == "all: pytorch · shape:llama-3.1-8b · bfloat16 · batch 32"
    assert shown.splitlines()[2].split("  ")[0] == "id"
    assert "0.18612 ± 0.00031" in shown
    assert "1,450 ± 12" in shown
    assert "timeout" in shown


@pytest.mark.process
def test_importing_it_stays_light():
    """The module imports rich only when it prints."""
    import subprocess

    code = "import sys, llem.reports.console; sys.exit('rich' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


EXPECTED = """\
pytorch · shape:llama-3.1-8b · bfloat16 · batch 32
0123456789abcdef · done · 5 trials · random weights · valid, not publishable

energy per output token      0.18612 ± 0.00031 J   gpu · measured · n = 5, one
                                                   process
window energy, gross         6,000.0 ± 9.8 J       gpu · measured · n = 5, one
                                                   process
window energy, net of idle   4,770.0 ± 9.8 J       gpu · measured · n = 5, one
                                                   process
output tokens                1,450 ± 12 token/s    n = 5, one process
time per request, p99        2.50 ± 0.10 s         20 runs of requests, one
                                                   window
share of peak FLOP/s         – (peak_unknown)      The peak rate of this device
                                                   is not in llem's table
peak memory                  15.83 GiB             exact

domain             gross J   net J   W       idle W   by
─────────────────────────────────────────────────────────────────────
gpu:GPU-0a1b2c3d   6,000     4,770   600.0   123.0    nvml (measured)
gpu:GPU-0a1b2c3d gross, error: tick 0.60, gap 0, repeat 9.8, sensor 300 J;
counter/integrated 1.0012

warning idle_drift
  idle power was 123.0 W before the trials and 130.0 W after
  → Let the GPU settle, or use gross energy."""
