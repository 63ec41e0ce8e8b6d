"""Settings for whole runs that take a second, and a plugin with backends that fail and meters of known truth."""

from __future__ import annotations

import gzip
import hashlib
import itertools
import math
import os
import signal
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
import pytest

from llem.api import prepare
from llem.config.layers import Layer
from llem.config.study.file import parse_study
from llem.meters.base import Domain
from llem.meters.trace import TraceRow
from llem.meters.window import energy_readings
from llem.metrics.result import compute_result
from llem.models.spec import Architecture
from llem.plugins.registry import registry
from llem.store.evaluations import Evaluation, write_evaluation
from llem.store.models import BaselineReading, EnergyReading, Quantity, RequestRow, Result, ServingFacts, Trial
from llem.store.store import Store
from llem.study.plan.expand import expand
from llem.study.plan.planned import PlannedExperiment
from llem.study.plan.study import Study

LAB = Path(__file__).parent / "lab"
DATA = Path(__file__).parents[1] / "data"

#: What makes a run short: windows of 0.2 s of batches of 8 ms, and nothing around them.
SHORT: dict[str, Any] = {
    "preset": "quick",
    "device": "cpu",
    "window_s": 0.2,
    "warmup": {"seconds": 0.0},
    "baseline": {"seconds": 0.0},
    "workload": {"output_tokens": 8, "input_tokens": 8},
}
SHORT_ECHO: dict[str, Any] = {**SHORT, "backend": "echo", "echo": {"token_seconds": 0.001}}


@pytest.fixture
def short() -> dict[str, Any]:
    """Keyword arguments of `llem.run` for a run with echo of a second."""
    return dict(SHORT_ECHO)


@pytest.fixture(scope="session")
def h200(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders `store` and `confirm` of a real study, their CSV files compressed as llem writes them; only to read."""
    path = tmp_path_factory.mktemp("h200")
    with tarfile.open(DATA / "h200-which-vllm-small.tar.xz") as archive:
        archive.extractall(path, filter="data")
    for file in path.rglob("*.csv"):
        with gzip.open(f"{file}.gz", "wb", compresslevel=1) as packed:
            packed.write(file.read_bytes())
        file.unlink()
    return path


@pytest.fixture
def own_signals() -> Iterator[None]:
    """SIGINT and SIGTERM do afterwards what they did: a worker sets them for its whole process, here the tests'."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Install the distribution llem-lab for this process and its children; keyword arguments for a run with it."""
    info = tmp_path / "lab-site" / "llem_lab-1.2.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: llem-lab\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text("[llem]\nlab = llem_lab_hooks\n")
    path = [str(info.parent), str(LAB), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, path)))
    for entry in path[:2]:
        monkeypatch.syspath_prepend(entry)
    registry.cache_clear()
    yield {**SHORT, "backend": "lab"}
    registry.cache_clear()


@pytest.fixture
def planned() -> Callable[..., PlannedExperiment]:
    """`planned(backend="echo", …)`: an experiment as `llem run` prepares it, for the launcher `process`."""

    def made(**settings: Any) -> PlannedExperiment:
        [one] = prepare(None, [Layer("python", settings)], "unused").study.experiments
        return one

    return made


@pytest.fixture
def grid_store(tmp_path: Path) -> Callable[..., Store]:
    """`grid_store(axes, energy)`: a store with a result for each point; `energy(point)` is its joules per token.

    It may give None for a point without a result, or a Result's fields to change as a mapping with "energy", "speed",
    "basis" (scope and kind), "processes" and what its "config" has besides. Ids are `a-0000…`, in the file's order,
    each beginning unlike the others.
    """

    def make(axes: Mapping[str, Sequence[Any]], energy: Callable[[dict[str, Any]], Any], half: float = 0.01) -> Store:
        grid = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
        points = {f"{n:02x}{'0' * 14}": point for n, point in enumerate(grid)}
        document = {
            "name": "grid",
            "experiments": list(reversed(points)),
            "axes": list(axes),
            "points": {name: {"number": n, "values": point} for n, (name, point) in enumerate(points.items())},
        }
        store = Store.create(tmp_path / "grid", document)
        for name, point in points.items():
            given = energy(point)
            store.write_experiment(name, {"id": name, "config": {}, "model": {"weights": "random"}})
            if given is not None:
                store.write_result(_grid_result(name, given if isinstance(given, Mapping) else {"energy": given}, half))
        return store

    return make


@pytest.fixture
def quality_store(grid_store: Callable[..., Store]) -> Callable[..., Store]:
    """`quality_store(axes, scores)`: as `grid_store`, with an evaluation of each point for which there are scores.

    `scores(point)` gives the Scores of one task, or a mapping with "scores" and any of "terms" (of the section
    `quality`), "about", "evaluator", "lasted" (seconds; equal for points that share an evaluation) and "backend".
    """

    def make(
        axes: Mapping[str, Sequence[Any]], scores: Callable[[dict[str, Any]], Any], energy: Any = None, **study: Any
    ) -> Store:
        store = grid_store(axes, energy or (lambda point: 1.0))
        document = store.study()
        store.write_study({**document, "experiments": list(document["points"]), **study})
        for name, point in document["points"].items():
            given = scores(point["values"])
            given = given if isinstance(given, Mapping) else {"scores": given}
            config: dict[str, Any] = {"backend": given.get("backend", "pytorch"), "load": {"kind": "offline"}}
            if given["scores"]:
                terms = {"limit": None, **given.get("terms", {})}
                evaluator = given.get("evaluator", "spelling")
                tasks = list(dict.fromkeys(score.task for score in given["scores"]))
                config["quality"] = {"evaluator": evaluator, "tasks": tasks, "force": True, **terms}
                lasted = given.get("lasted", 1.0 + point["number"] / 1000)
                for task in tasks:
                    own = tuple(score for score in given["scores"] if score.task == task)
                    about = given.get("about", {})
                    write_evaluation(store, name, Evaluation(evaluator, task, terms, 0, own, lasted, (), about))
            model = {"weights": "real"}
            store.write_experiment(name, {"id": name, "config": config, "model": model}, replace=True)
        return store

    return make


_NO_FIELDS = ("energy", "speed", "basis", "processes", "config")


def _grid_result(name: str, given: Mapping[str, Any], half: float) -> Result:
    joules = given["energy"]

    def quantity(value: float | None, unit: str, **basis: str) -> Quantity:
        if value is None:
            return Quantity(None, unit, reason="no_meter")
        many = given.get("processes", 1)
        covers = "within one process" if many == 1 else "over processes"
        return Quantity(
            value, unit, value * (1 - half), value * (1 + half), 0.95, 5 * many, many, covers, "student_t", **basis
        )

    metrics = {
        "energy_per_output_token_j": quantity(joules, "J", **given.get("basis", {})),
        "output_tokens_per_s": quantity(given.get("speed", 100.0), "token/s"),
        "ttft_s": Quantity(None, "s", reason="not_requested"),
    }
    fields: dict[str, Any] = {
        "outcome": "done", "trials": 5, "valid": True, "publishable": True, "findings": (),
        **{key: value for key, value in given.items() if key not in _NO_FIELDS},
    }  # fmt: skip
    config = {"backend": "pytorch", "load": {"kind": "offline"}, **given.get("config", {})}
    return Result(
        id=name, config=config, sources={}, effective={}, environment="e", weights="random", metrics=metrics,
        domains=(), **fields,
    )  # fmt: skip


# what a store holds, made by hand

S = 1_000_000_000
GPU = "gpu:GPU-0a1b2c3d-0000-1111-2222-333344445555"

#: Llama-3.1-8B's shape: sizes that hand calculations are known for.
ARCHITECTURE = Architecture(
    parameters=8_030_261_248,
    active_parameters=7_504_924_672,
    layers=32,
    heads=32,
    kv_heads=8,
    head_dim=128,
    hidden_size=4096,
    vocab_size=128_256,
    weight_bytes=16_060_522_496,
    kv_bytes_per_token=131_072,
    windows=(),
    read_bytes=15_009_849_344,
)
NVML = (
    "nvml",
    Domain(
        GPU,
        "gpu",
        "measured",
        "NVML total energy counter",
        method="counter",
        period_s=0.1,
        sensor_relative=0.05,
        power_limit_w=700.0,
    ),
)


def trace(watts, t0, t1, *, meter="nvml", domain=GPU, integrated=None, rise=0.0):
    """Counter ticks and power samples every 0.1 s from 0.5 s before the window to 0.5 s after it.

    `rise` watts are added over the length of the window, linearly.
    """
    rows, joules, step = [], 1000.0, S // 10
    for t in range(t0 - S // 2, t1 + S // 2 + 1, step):
        now = watts + rise * (t - t0) / (t1 - t0)
        rows.append(TraceRow(meter, domain, "counter_j", t - 1_000_000, t, joules))
        rows.append(TraceRow(meter, domain, "power_w", t - 1_000_000, t, now if integrated is None else integrated))
        joules += now * 0.1
    return tuple(rows)


def request_rows(index, t0, t1, *, batches=4, batch_size=2, inputs=128, outputs=64, token_times=False, first=0):
    """Requests of batches back to back; every token of a batch comes at equal distances."""
    rows, length = [], (t1 - t0) // batches
    for batch in range(batches):
        start, end = t0 + batch * length, t0 + (batch + 1) * length
        times = tuple(start + (k + 1) * length // outputs for k in range(outputs)) if token_times else None
        rows += [
            RequestRow(first + batch * batch_size + i, batch, inputs, outputs, start, end, times)
            for i in range(batch_size)
        ]
    return tuple(rows)


def make_trial(
    index,
    rows,
    requests,
    t0,
    t1,
    *,
    process=0,
    domains=(NVML,),
    extra=(),
    experiment_id="exp-one",
    health=None,
    findings=(),
    peak=17_000_000_000,
):
    """A trial whose energies and counts are what its rows give."""
    batches = sorted({row.batch for row in requests})
    spans = [[row for row in requests if row.batch == batch] for batch in batches]
    inputs = [row.input_tokens for row in requests]
    return Trial(
        experiment_id=experiment_id,
        index=index,
        process=process,
        started_at="2026-11-24T10:00:00Z",
        t0_ns=t0,
        t1_ns=t1,
        batches=len(batches),
        requests=len(requests),
        input_tokens=None if None in inputs else sum(inputs),
        output_tokens=sum(row.output_tokens for row in requests),
        expected_output_tokens=sum(row.output_tokens for row in requests),
        batch_s=tuple((span[0].end_ns - span[0].start_ns) / S for span in spans),
        first_index=min(row.index for row in requests),
        energies=(*energy_readings(rows, domains, t0, t1), *extra),
        peak_memory_bytes=peak,
        memory_covers="allocated by the engine",
        memory_reason=None if peak is not None else "not_supported",
        output_digest=hashlib.sha256(str(index).encode()).hexdigest(),
        health=health if health is not None else {GPU: {"utilisation_percent": {"mean": 99.0}, "power_limit_w": 700.0}},
        findings=tuple(findings),
    )


def served_row(index, arrival, *, ttft, tpot, inputs=128, outputs=64, lag=0, kind="open", chunk=1, **more):
    """A request whose tokens come at equal distances, `chunk` at a time; all times in nanoseconds."""
    counts = [1, *[chunk] * ((outputs - 1) // chunk), *([(outputs - 1) % chunk] if (outputs - 1) % chunk else [])]
    done, times = 0, []
    for count in counts:
        done += count
        times.append(arrival + ttft + (done - 1) * tpot)
    return RequestRow(
        index, 0, inputs, outputs, arrival + lag, times[-1], tuple(times),
        scheduled_ns=None if kind == "closed" else arrival, chunk_tokens=tuple(counts),
        **{"finish_reason": "length", **more},
    )  # fmt: skip


def served_rows(t0, t1, *, rate=10, before=3, first=0, **shape):
    """Requests at equal distances from `before` seconds ahead of the window to its end, those alone that touch it."""
    shape = {"ttft": S // 20, "tpot": S // 100, **shape}
    arrivals = range(t0 - before * S, t1, S // rate)
    rows = [served_row(first + i, arrival, **shape) for i, arrival in enumerate(arrivals)]
    return tuple(row for row in rows if row.end_ns >= t0)


def served_trial(
    index,
    rows,
    requests,
    t0,
    t1,
    *,
    rate=10.0,
    kind="open",
    expected=None,
    unfinished=0,
    lead_s=None,
    client=None,
    **more,
):
    """A serving trial whose facts are counted from its rows, one by one."""
    offline = make_trial(index, rows, requests, t0, t1, **more)
    ended = [row for row in requests if t0 <= row.end_ns < t1]
    good = [row for row in ended if row.finish_reason not in ("error", "unfinished")]
    chunks = [
        (row, number, at, count)
        for row in requests
        for number, (at, count) in enumerate(zip(row.token_times_ns or (), row.chunk_tokens or (), strict=True))
        if t0 <= at < t1
    ]
    tokens = sum(count for *_, count in chunks)
    lags = sorted((row.start_ns - row.scheduled_ns) / S for row in good if row.scheduled_ns is not None)
    rest = [row for row in requests if row.end_ns >= t1 or row.finish_reason == "unfinished"]

    made = sum(row.output_tokens for row in good)
    facts = ServingFacts(
        kind=kind,
        concurrency=8 if kind == "closed" else None,
        request_rate=None if kind == "closed" else rate,
        seed=index,
        sent=sum(t0 <= row.start_ns < t1 for row in requests),
        completed=len(good),
        failed=sum(row.finish_reason == "error" for row in ended),
        unfinished=unfinished,
        lag_p50_s=lags[math.ceil(0.5 * len(lags)) - 1] if lags else None,
        lag_p99_s=lags[math.ceil(0.99 * len(lags)) - 1] if lags else None,
        lag_max_s=lags[-1] if lags else None,
        in_flight_mean=sum(min(row.end_ns, t1) - max(row.start_ns, t0) for row in requests) / (t1 - t0),
        in_flight_start=float(sum(row.start_ns < t0 <= row.end_ns for row in requests)),
        in_flight_end=float(sum(row.start_ns < t1 for row in rest)),
        completed_output_tokens=made,
        completed_expected_tokens=made if expected is None else expected,
        failed_output_tokens=sum(count for row, _, _, count in chunks if row.finish_reason == "error"),
        lead_s=lead_s,
        client=client,
    )
    return attrs.evolve(
        offline,
        batches=0,
        batch_s=(),
        requests=len(good),
        input_tokens=sum(row.input_tokens or 0 for row, number, *_ in chunks if number == 0),
        output_tokens=tokens,
        expected_output_tokens=tokens,
        serving=facts,
    )


class Served:
    """A serving experiment whose parts a test changes before it computes the result."""

    def __init__(self, make, count=1, *, seconds=10, kind="open", engine=None, watts=600.0, **shape):
        self.make = make
        loads = {"open": {"request_rate": 10.0}, "replay": {"speed": 1.0}, "closed": {"concurrency": 8}}
        load = {"kind": kind, **loads[kind]}
        self.experiment = make.experiment_document(load=load, slo=None)
        self.engines = [engine or make.engine_document()]
        self.trials, self.traces, self.requests = [], {}, {}
        for index in range(count):
            t0, t1 = make.window(index, seconds)
            rows = make.served_rows(t0, t1, kind=kind, first=index * 1000, **shape)
            self.put(index, rows, kind=kind, seconds=seconds, watts=watts)

    def put(self, index, rows, *, kind="open", seconds=10, watts=600.0, **more):
        """Trial `index` of these rows, instead of the one that was there."""
        t0, t1 = self.make.window(index, seconds)
        self.requests[index], self.traces[index] = tuple(rows), self.make.trace(watts, t0, t1)
        health = {self.make.GPU: {"utilisation_percent": {"mean": 99.0}, "power_limit_w": 700.0}}
        trial = self.make.served_trial(
            index, self.traces[index], self.requests[index], t0, t1, kind=kind, health=health, **more
        )
        self.trials = [*self.trials[:index], trial, *self.trials[index + 1 :]]

    def result(self):
        return compute_result(
            self.experiment, self.engines, self.trials, [], self.requests, [self.make.outcome_document()], self.traces
        )

    def metrics(self):
        return self.result().metrics

    def codes(self):
        return {found.code for found in self.result().findings}

    def found(self, code):
        return next(found for found in self.result().findings if found.code == code)


def modelled(domain, joules, scope):
    """A reading of a library that models."""
    return EnergyReading("codecarbon", domain, scope, "modelled", "CodeCarbon", joules)


def baseline(watts, *, process=0, phase="before", seconds=20):
    """Idle at a steady power, and the rows it was read from."""
    t0, t1 = 10 * S, (10 + seconds) * S
    rows = trace(watts, t0, t1)
    return BaselineReading(process, phase, t0, t1, energy_readings(rows, (NVML,), t0, t1)), rows


def experiment_document(experiment_id="exp-one", **config):
    """experiment.json of a standard experiment."""
    resolved = {
        "model": "shape:llama-3.1-8b",
        "backend": "pytorch",
        "dtype": "bfloat16",
        "preset": "standard",
        "load": {"kind": "offline", "batch_size": 2},
        "sampling": {"ignore_eos": True},
        "processes": 1,
        "token_times": False,
        "phases": "none",
        "target_half_width": 0.01,
        **config,
    }
    model = {"name": resolved["model"], "source": "shape", "weights": "random", "fingerprint": "f", "seed": 0}
    return {"id": experiment_id, "config": resolved, "sources": {"dtype": "default"}, "model": model}


def engine_document(process=0, *, cuda=True, architecture=ARCHITECTURE, domains=(NVML,), **more):
    """engine-<process>.json on an H200, or on a CPU."""
    device = {"device": "cuda", "gpus": [GPU[4:]], "names": ["NVIDIA H200"]} if cuda else {"device": "cpu"}
    return {
        "process": process,
        "effective": {"dtype": "bfloat16"},
        "architecture": attrs.asdict(architecture) if architecture else None,
        "environment": "",
        "device": {"gpus": [], "names": [], **device},
        "load_s": 1.5,
        "domains": [{"meter": meter, **attrs.asdict(domain)} for meter, domain in domains],
        "findings": [],
        "workload": {},
        **more,
    }


def outcome_document(process=0, outcome="done", error=None, findings=()):
    """outcome-<process>.json."""
    return {"process": process, "outcome": outcome, "error": error, "findings": list(findings)}


def window(index, seconds=10):
    """Begin and end of window `index`, far enough apart for its margins."""
    t0 = (1000 + index * (seconds + 5)) * S
    return t0, t0 + seconds * S


WATTS = (600.0, 601.0, 599.0, 600.5, 599.5)


def fill(store, experiment_id="exp-one", *, processes=1, token_times=False, per_process=5, power=1.0, **config):
    """A whole experiment on one GPU: trials at about 600 W, 123 W idle, CodeCarbon's modelled CPU and RAM beside.

    `power` times 600 W; `config` are settings besides.
    """
    document = experiment_document(experiment_id, processes=processes, token_times=token_times, **config)
    store.write_experiment(experiment_id, document)
    for process in range(processes):
        library = ("codecarbon", Domain("cpu:0", "cpu", "modelled", "CodeCarbon", method="window"))
        store.write_engine(experiment_id, engine_document(process, domains=(NVML, library)))
        for phase in ("before", "after"):
            store.write_baseline(experiment_id, *baseline(123.0 + process, process=process, phase=phase))
        for i in range(per_process):
            index = process * per_process + i
            t0, t1 = window(index)
            rows = trace(power * (WATTS[i % len(WATTS)] + process), t0, t1)
            requests = request_rows(index, t0, t1, token_times=token_times, first=index * 8)
            extra = (modelled("cpu:0", 425.0 + i, "cpu"), modelled("dram", 100.0, "dram"))
            trial = make_trial(index, rows, requests, t0, t1, process=process, extra=extra, experiment_id=experiment_id)
            store.write_trial(trial, rows, requests)
        store.write_outcome(experiment_id, outcome_document(process))
    from llem.metrics.result import recompute

    store.write_result(recompute(store, experiment_id))


@pytest.fixture(scope="session")
def make():
    """The builders of this file."""
    return SimpleNamespace(**{name: value for name, value in globals().items() if not name.startswith("_")})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store with one finished experiment on a GPU, five trials."""
    made = Store.create(tmp_path / "out", {"name": "by hand"})
    made.write_environment({"machine": "test"})
    fill(made)
    return made


# studies written as mappings, on the echo backend

BASE = {"backend": "echo", "device": "cpu"}


def expanded(base: Mapping[str, Any] = BASE, overrides: Mapping[str, Any] | None = None, **parts: Any) -> Study:
    """The study with this base and these parts."""
    layers = [Layer("flag --set", overrides)] if overrides else []
    return expand(parse_study({"base": base, **parts}), registry(), overrides=layers)


@pytest.fixture
def study() -> Callable[..., Study]:
    """`study(axes={...}, exclude=[...])`: expanded, on echo unless `base` says otherwise."""
    return expanded
