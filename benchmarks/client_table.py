"""Tables of the figures of `client.py`. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

BEGIN, END = "<!-- figures of benchmarks/client.py -->", "<!-- end of figures -->"

COLUMNS = (
    "tool", "TTFT error: mean", "p50", "p99", "ITL error", "E2EL error", "requests", "lost", "CPU", "per event",
    "wall clock",
)  # fmt: skip
HEAD = f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|\n"

#: A share of one core that other processes used, above which a run is marked.
OTHERS = 0.1


def costs(runs: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """CPU of an event and of a request, microseconds, by tool: a fit of the CPU time under load to what was done.

    Runs in which the tool had no time left are left out: then it does less for each event. So are tools of which there
    are not two loads with different numbers of events a request.
    """
    found = {}
    for tool in dict.fromkeys(run["tool"] for run in runs):
        points = [run["during"] for run in runs if run["tool"] == tool and "during" in run]
        points = [one for one in points if one["cpu_s"] < 0.9 * one["seconds"]]
        per = {round(one["events"] / max(one["requests"], 1) / 10) for one in points}
        if len(per) < 2:
            continue
        # least squares of cpu = a * events + b * requests, each point weighed by its cpu
        rows = [(one["events"] / one["cpu_s"], one["requests"] / one["cpu_s"]) for one in points if one["cpu_s"] > 0]
        ee, rr, er = (sum(x[i] * x[j] for x in rows) for i, j in ((0, 0), (1, 1), (0, 1)))
        e1, r1 = (sum(x[i] for x in rows) for i in (0, 1))
        whole = ee * rr - er * er
        if whole > 0:
            found[tool] = {
                "us_per_event": 1e6 * (e1 * rr - r1 * er) / whole,
                "us_per_request": 1e6 * (r1 * ee - e1 * er) / whole,
                "runs": len(rows),
            }
    return found


def title(load: Mapping[str, Any]) -> str:
    """A load in words."""
    size = f"{load['size']} closed streams" if load["kind"] == "closed" else f"{load['size']} arrivals per second"
    return f"{size}, {load['input_tokens']} tokens in, {load['output_tokens']} out"


def _ms(error: Mapping[str, float], name: str, digits: int) -> str:
    return f"{error[name]:+.{digits}f} ms" if name in error else "–"


def row(run: Mapping[str, Any]) -> str:
    """A run as a line of its table."""
    name = run["tool"]
    if "failed" in run:
        return f"| {name} | failed: {run['failed'][:80]} |" + " |" * 9
    error, cost = run["error"], run["during"]["us_per_event"]
    marks = [f"server late by {run['server']['late_p99_ms']:.1f} ms"] if run["server"]["was_late"] else []
    if run["others_cpu_share"] > OTHERS:
        marks.append(f"others used {run['others_cpu_share']:.2f} cores")
    if run["unmatched"]:
        marks.append(f"{run['unmatched']} not in the log")
    if "client_lag" in run["findings"]:
        marks.append("`client_lag`")
    return "| " + " | ".join((
        name + (f" ({', '.join(marks)})" if marks else ""),
        *(_ms(error, f"ttft_{part}_ms", 2) for part in ("mean", "p50", "p99")),
        f"{error['itl_mean_percent']:+.3f} %" if "itl_mean_percent" in error else "–",
        _ms(error, "e2el_mean_ms", 1),
        str(run["requests"]), str(run["lost"]), f"{run['cpu_s']:.1f} s",
        f"{cost:.1f} µs" if cost else "–", f"{run['wall_s']:.0f} s",
    )) + " |"  # fmt: skip


def tables(report: Mapping[str, Any]) -> str:
    """All tables, and what they were measured with."""
    return "\n".join(_parts(report)) + "\n"


def _parts(report: Mapping[str, Any]) -> Iterator[str]:
    here, true = report["machine"], report["true"]
    yield (
        f"Server: TTFT {true['ttft_s'] * 1000:g} ms, ITL {true['itl_s'] * 1000:g} ms. "
        f"{here['cpu']}, {here['cores']} cores, Python {here['python']}, {here['date']}, commit {report['commit']}. "
        + ", ".join(f"{name} {version}" for name, version in report["versions"].items() if not name.startswith("bare"))
        + ". Errors are what a tool states less what is true of the same requests; the bare protocol's are of its rows."
    )
    for load in report["loads"]:
        runs = [run for run in report["runs"] if run["load"] == load["name"]]
        if runs:
            yield f"\n**{title(load)}**\n\n{HEAD}" + "\n".join(map(row, runs))
    if report["costs"]:
        yield "\nCPU of an event and of a request, fitted over the loads that left the tool's core some time:\n"
        yield "| tool | an event | a request | loads |\n|---|---|---|---|\n" + "\n".join(
            f"| {name} | {cost['us_per_event']:.1f} µs | {cost['us_per_request']:.0f} µs | {cost['runs']} |"
            for name, cost in report["costs"].items()
        )
    for line in report["left_out"]:
        yield f"\n{line[0].upper()}{line[1:]}."


def page(text: str, report: Mapping[str, Any]) -> str:
    """A page with the tables between its two marks. Raises ValueError: it has none."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page has no {BEGIN} … {END}")
    return f"{before}{BEGIN}\n\n{tables(report)}\n{END}{after}"
