"""How an experiment, and a study, was measured: sentences that a paper can cite, from stored facts alone. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import attrs

from llem.analysis.overview import Overview
from llem.config.load import COMMAND
from llem.metrics.result import place_of
from llem.reports.figures import number
from llem.reports.views import load_text
from llem.store.models import BaselineReading, Quantity, Trial

__all__ = ["Facts", "cite", "experiment_method", "facts_of", "study_method"]


@attrs.frozen
class Facts:
    """What the documents of engine processes say of how was measured, each once and in order.

    Attributes:
        boards: GPUs with their kind, or the environment's hash where there is none.
        instruments: how energy was read, in words.
        software: name and version of the engine, of llem and of the driver, in words.
        hosts: processor and system, in words.
        weights: "random" or "real".
    """

    boards: tuple[str, ...] = ()
    instruments: tuple[str, ...] = ()
    software: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    weights: tuple[str, ...] = ()


def facts_of(
    experiments: Iterable[Mapping[str, Any]],
    engines: Iterable[Mapping[str, Any]],
    environments: Mapping[str, Mapping[str, Any]],
) -> Facts:
    """Facts of some experiments.

    Args:
        experiments: experiment.json of each. engines: engine-<process>.json of all their processes.
        environments: stored environments, by hash.
    """
    boards: list[str] = []
    instruments: list[str] = []
    software: list[str] = []
    hosts: list[str] = []
    for engine in engines:
        environment = environments.get(str(engine.get("environment", "")), {})
        boards += [str(place_of(engine))] if (engine.get("device") or {}).get("gpus") else []
        instruments += [_instrument(domain) for domain in engine.get("domains", ())]
        software += _software(environment)
        hosts += [_host(environment)]
    weights = [str((one.get("model") or {}).get("weights", "")) for one in experiments]
    return Facts(*(tuple(dict.fromkeys(filter(None, one))) for one in (boards, instruments, software, hosts, weights)))


def _instrument(domain: Mapping[str, Any]) -> str:
    period, sensor = domain.get("period_s"), domain.get("sensor_relative")
    every = f", updated every {period:g} s" if isinstance(period, (int, float)) and period else ""
    error = f"; its maker states ± {sensor:.0%}" if isinstance(sensor, (int, float)) and sensor else ""
    return f"{domain['scope']}: {domain['instrument']} ({domain['meter']}, {domain['kind']}{every}{error})"


def _software(environment: Mapping[str, Any]) -> Iterator[str]:
    """llem, the engine and the driver; what else is installed stands in the environment."""
    packages = environment.get("packages") or {}
    if environment.get("llem"):
        yield f"llem {environment['llem']}"
    for name in ("vllm", "tensorrt_llm", "tensorrt-llm", "torch", "transformers"):
        section = environment.get("vllm") or environment.get("pytorch") or {}
        if (version := packages.get(name) or (section.get(name) if isinstance(section, Mapping) else None)) is not None:
            yield f"{name} {version}"
    if environment.get("driver"):
        yield f"driver {environment['driver']}"


def _host(environment: Mapping[str, Any]) -> str:
    host = environment.get("host") or {}
    return ", ".join(str(host[name]) for name in ("cpu", "system", "kernel", "container") if host.get(name))


def experiment_method(
    config: Mapping[str, Any],
    facts: Facts,
    trials: Sequence[Trial],
    baselines: Sequence[BaselineReading],
    headline: Quantity | None,
) -> Iterator[str]:
    """How one experiment was measured.

    Args:
        headline: the metric whose interval stands for those of all others.
    """
    weights = f" with {' and '.join(facts.weights)} weights" if facts.weights else ""
    load = config.get("load") or {}
    if metered := load.get("kind") == COMMAND:
        yield f"The energy is that of the command {load_text(load)}."
    else:
        backend, dtype = config.get("backend"), config.get("dtype")
        yield f"{config.get('model')}{weights} ran on {backend} as {dtype}, {load_text(load)}."
        yield from _workload(config.get("workload") or {})
    if facts.boards:
        yield f"It ran on {' and on '.join(facts.boards)}."
    if facts.instruments:
        yield f"Energy was read from {'; '.join(facts.instruments)}."
    if not trials:
        yield "No trial ended, so nothing was measured."
        return
    yield from _windows(trials, "" if metered else " between lead-in and lead-out of the same work")
    yield from _baselines(baselines, "" if metered else " with the model loaded")
    yield from _intervals(headline)
    if config.get("preset"):
        yield f"The preset was {config['preset']}."
    if facts.software:
        yield f"Software: {', '.join(facts.software)}."


def _workload(workload: Mapping[str, Any]) -> Iterator[str]:
    told = [f"{name.replace('_', ' ')} {value}" for name, value in workload.items() if name != "kind" and _plain(value)]
    if workload:
        yield f"The requests were {workload.get('kind', 'prompts')}{': ' + ', '.join(told) if told else ''}."


def _plain(value: Any) -> bool:
    return isinstance(value, (int, float, str)) and not isinstance(value, bool)


def _windows(trials: Sequence[Trial], lies: str) -> Iterator[str]:
    seconds = [trial.duration_s for trial in trials]
    processes = len({trial.process for trial in trials})
    first, last = min(trial.started_at for trial in trials), max(trial.started_at for trial in trials)
    yield (
        f"{_counted(len(trials), 'trial')} in {_counted(processes, 'engine process', 'engine processes')}, each with a "
        f"window of {_range(seconds)} s{lies}, were measured "
        f"{f'at {_moment(first)}' if first == last else f'from {_moment(first)} to {_moment(last)}'}."
    )
    updates = [one.updates for trial in trials for one in trial.energies if one.updates is not None]
    if updates:
        yield f"{_range(updates)} updates of an energy reading were seen within a window."


def _baselines(baselines: Sequence[BaselineReading], state: str) -> Iterator[str]:
    if baselines:
        phases = " and ".join(dict.fromkeys(one.phase for one in baselines))
        seconds = _range([one.duration_s for one in baselines])
        yield f"Idle power{state} was measured {phases} the trials, for {seconds} s each."
    else:
        yield "No idle baseline was measured."


#: What an interval was computed with, by the method of a quantity.
INTERVALS: Mapping[str, str] = {
    "student_t": "Student's t over trials, with several engine processes over their means",
    "batch_means": "batch means over runs of consecutive requests",
    "instrument": "the error bound of the instrument in one window",
}


def _intervals(headline: Quantity | None) -> Iterator[str]:
    if headline is None or headline.value is None:
        return
    if headline.low is None or headline.confidence is None:
        yield f"There is no interval: {headline.rests_on}."
        return
    how = INTERVALS.get(headline.method, headline.method)
    yield (
        f"Intervals are {headline.confidence * 100:g} %: {how}. That of the first figure rests on {headline.rests_on}"
        f"{f' and covers what varies {headline.covers}' if headline.covers else ''}."
    )


def study_method(study: Mapping[str, Any], rows: Sequence[Overview], facts: Facts, begun: int) -> Iterator[str]:
    """How a study was measured.

    Args:
        rows: overviews of the experiments that can be read. begun: all that have begun.
    """
    planned = len(study.get("experiments", ())) or begun
    of = f" of {planned:,} planned" if planned > begun else ""
    done = sum(row.outcome == "done" for row in rows)
    valid = sum(row.valid for row in rows)
    started = f", begun {_moment(study['started_at'])}" if study.get("started_at") else ""
    yield f"{_counted(begun, 'experiment')}{of}{started}: {done:,} done, {valid:,} valid."
    for name, what in (("model", "Models"), ("backend", "Engines")):
        if found := sorted({str(getattr(row, name)) for row in rows if getattr(row, name)}):
            yield f"{what if len(found) > 1 else what[:-1]}: {', '.join(found)}."
    if "random" in facts.weights:
        yield f"Weights were {' and '.join(facts.weights)}: random ones tell of the architecture, not of its answers."
    if facts.boards:
        yield f"All ran on {facts.boards[0]}." if len(facts.boards) == 1 else f"They ran on {'; '.join(facts.boards)}."
    if facts.instruments:
        yield f"Energy was read from {'; '.join(facts.instruments)}."
    yield from _sizes(rows)
    order = (study.get("order") or {}).get("kind")
    if order:
        yield f"Order of trials: {order}."
    if facts.software:
        yield f"Software: {', '.join(facts.software)}."
    if facts.hosts:
        yield f"Host: {'; '.join(facts.hosts)}."


def _moment(stored: object) -> str:
    """A stored time as people write it: `2026-11-30 14:27:37 UTC`; as it stands where it is no such time."""
    found = re.fullmatch(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(?:\.\d+)?(?:\+00:00|Z)", str(stored))
    return f"{found[1]} {found[2]} UTC" if found else str(stored)


def _sizes(rows: Sequence[Overview]) -> Iterator[str]:
    """Trials, processes and windows of those that have any."""
    trials = [row.trials for row in rows if row.trials]
    if not trials:
        yield "No trial ended, so nothing was measured."
        return
    processes = [one.processes for row in rows if (one := row.metrics.get("duration_s")) is not None and one.processes]
    seconds = [value for row in rows if (value := row.value("duration_s")) is not None]
    over = f" over {_range(processes)} engine process{'es' if max(processes) > 1 else ''}" if processes else ""
    windows = f", in windows of {_range(seconds)} s" if seconds else ""
    yield f"Each was measured in {_range(trials)} trial{'s' if max(trials) > 1 else ''}{over}{windows}."
    if any(one.low is not None for row in rows for one in row.metrics.values()):
        yield "Intervals are 95 %; each figure says what its own rests on."


def cite(title: str, study: Mapping[str, Any], rows: Sequence[Overview], facts: Facts) -> str:
    """One line for a paper."""
    models = ", ".join(sorted({str(row.model) for row in rows if row.model}))
    version = next((one for one in facts.software if one.startswith("llem ")), f"llem {study.get('llem', '')}".strip())
    others = [one for one in facts.software if not one.startswith("llem ")][:2]
    when = str(study.get("started_at", ""))[:10]
    parts = [f"“{title}”", models, ", ".join(facts.boards), ", ".join(others), f"measured with {version}", when]
    return "; ".join(filter(None, parts)) + "."


def _counted(count: int, one: str, many: str = "") -> str:
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"


def _range(values: Sequence[float]) -> str:
    least, most = (f"{one:,}" if isinstance(one, int) else number(one) for one in (min(values), max(values)))
    return least if least == most else f"{least} to {most}"
