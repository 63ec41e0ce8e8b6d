"""The card of a data set of Hugging Face: its head in YAML, which types the columns, and what they mean. Pure."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from llem import __version__
from llem.analysis.collection import Results
from llem.findings import FINDINGS, REASONS
from llem.foreign.shown import visible
from llem.metrics.catalogue import is_metric, metric_of
from llem.store.models import Result

__all__ = ["EXPERIMENTS", "LONG", "Columns", "card_text"]

Columns = Mapping[str, Sequence[Any]]

#: Columns of a metric beside its value, by their endings.
PARTS: Mapping[str, str] = {
    "_low": "lower end of the 95 % interval",
    "_high": "upper end of the 95 % interval",
    "_n": "number of trials, or of what the method counts",
    "_processes": "number of engine processes behind it",
    "_covers": "what the interval covers: `within one process` lacks what varies between engine processes",
    "_reason": "why there is no value: a code of the list below",
    "_scope": "what an energy covers: `gpu`, `cpu+dram`, …",
    "_kind": "`measured` (read from a sensor) or `modelled` (computed from rated power and load)",
    "_score": "name of an evaluator's score",
    "_better": "which way a score is better",
}
FACTS: Mapping[str, str] = {
    "id": "the experiment: one configuration",
    "outcome": "`done`, or why it ended",
    "trials": "number of trials",
    "valid": "done, and without a finding of severity error: a row that is not valid is no result",
    "publishable": "valid, without a warning, five trials or more, and not with the preset `quick`",
    "findings": "codes of the list below",
    "error": "what happened, if the outcome is not `done`",
    "backend": "adapter to the inference engine",
    "model": "the model; `shape:` has the named model's architecture and random weights",
    "dtype": "number format of the weights and activations, as asked for",
}
LONG: Mapping[str, str] = {
    "id": "the experiment",
    "metric": "name of the metric, which ends with its unit",
    "value": "null where nothing was measured",
    "reason": "why there is no value",
    "unit": "unit of value, low and high",
    "low": "lower end of the interval",
    "high": "upper end of the interval",
    "confidence": "of the interval",
    "n": PARTS["_n"],
    "processes": PARTS["_processes"],
    "covers": PARTS["_covers"],
    "method": "how value and interval were computed",
    "scope": PARTS["_scope"],
    "kind": PARTS["_kind"],
    "valid": "whether the experiment is valid",
}
EXPERIMENTS: Mapping[str, str] = {
    "id": "the experiment",
    "weights": "`random` or `real`",
    "config": "JSON: every setting that was asked for",
    "effective": "JSON: the configuration that the engine itself reports",
    "environment": "JSON: machine, GPUs, driver and packages",
}


#: Sizes of a data set as the card's head names them, each below so many rows.
SIZES = ((1000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def card_text(
    results: Results,
    found: Sequence[Result],
    tables: Mapping[str, Columns],
    environments: Mapping[str, Mapping[str, Any]],
    fakes: int,
) -> str:
    """The card.

    Args:
        found: the results, read.
        tables: the columns of each configuration.
        environments: by their hashes.
        fakes: number of results of the fake backend.
    """
    import yaml

    study = results.study
    name = " ".join(str(study.get("name") or "llem results").split())
    head = {
        "pretty_name": name,
        "tags": ["llm-inference", "energy", "benchmark", "llem"],
        "size_categories": [next((name for most, name in SIZES if len(found) < most), "1M<n<10M")],
        "configs": [
            {"config_name": one, "data_files": f"data/{one}.jsonl", **({"default": True} if one == "results" else {})}
            for one in tables
        ],
        "dataset_info": [
            {"config_name": one, "features": [_feature(column, values) for column, values in columns.items()]}
            for one, columns in tables.items()
        ],
    }
    parts = [
        f"---\n{yaml.safe_dump(head, sort_keys=False, allow_unicode=True)}---\n",
        f"# {_plain(name)}\n",
        *_summary(found, fakes),
        "## What was measured, and how\n",
        *_method(found, environments),
        "## Columns of `results`\n",
        "A row is one experiment. Columns of a metric have its name; endings say more of it:\n",
        _list((f"`{ending}`", text) for ending, text in PARTS.items()),
        _table(("column", "unit", "better", "meaning"), _columns(tables["results"], study.get("axes", ()))),
        "## Columns of `metrics`\n",
        "A row is one metric of one experiment.\n",
        _table(("column", "meaning"), ((_code(one), text) for one, text in LONG.items())),
        "## Columns of `experiments`\n",
        _table(("column", "meaning"), ((_code(one), text) for one, text in EXPERIMENTS.items())),
        *_codes(found),
        "## Citation\n",
        "Cite this data set, and the program that measured it:\n",
        f"```bibtex\n@software{{llem,\n  title = {{llem: energy, compute, time and quality of LLM inference}},\n"
        f"  author = {{{{The llem developers}}}},\n  version = {{{__version__}}}\n}}\n```\n",
    ]
    return "\n".join(parts)


def _summary(found: Sequence[Result], fakes: int) -> Iterator[str]:
    valid = sum(one.valid for one in found)
    publishable = sum(one.publishable for one in found)
    yield (
        f"Energy, time, memory and quality of {len(found)} deployment configurations of LLM inference, measured with "
        f"llem {__version__}. Valid: {valid}; publishable: {publishable}. Do not use a row that is not valid.\n"
    )
    if fakes:
        yield (
            f"**{fakes} of {len(found)} rows are of `echo`, a fake that only plays at inference. Their figures mean "
            "nothing.** They have the finding `fake_backend`.\n"
        )
    if any(one.weights == "random" for one in found):
        yield "Rows with `weights: random` have a model's shape and random weights: their text means nothing.\n"


def _method(found: Sequence[Result], environments: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    meters = dict.fromkeys(
        f"{one.meter}: {one.instrument} ({one.scope}, {one.kind})" for result in found for one in result.domains
    )
    machines = dict.fromkeys(_machine(one) for one in environments.values())
    presets = dict.fromkeys(str(one.config.get("preset")) for one in found)
    windows = dict.fromkeys(f"{one.config['window_s']:g} s" for one in found if one.config.get("window_s"))
    yield (
        "One engine process loads a configuration, is warmed up, and runs trials. A trial is a window within steady "
        "work; energies are those of the window. Intervals are of 95 %. Trials of one engine process are a cluster: "
        "the column `_covers` says whether an interval has what varies between processes. What was not measured is "
        "null, with a reason.\n"
    )
    yield _list(
        (
            ("Meters", "; ".join(map(_plain, meters)) or "none"),
            ("Machines", "; ".join(map(_plain, machines)) or "not stored"),
            ("Presets", ", ".join(map(_plain, presets))),
            ("Windows", ", ".join(windows) or "as the preset has it"),
        )
    )


def _machine(environment: Mapping[str, Any]) -> str:
    gpus = [str(one.get("name")) for one in environment.get("gpus") or ()]
    host = environment.get("host", {})
    packages = environment.get("packages") or {}
    engines = [
        f"{name} {packages[name]}" for name in ("vllm", "tensorrt-llm", "torch", "transformers") if name in packages
    ]
    driver = f"driver {environment['driver']}" if environment.get("driver") else ""
    return ", ".join(filter(None, (" + ".join(gpus), str(host.get("cpu") or ""), driver, *engines)))


def _columns(columns: Columns, axes: Sequence[str]) -> Iterator[tuple[str, ...]]:
    for name in columns:
        if name in axes:
            yield _code(name), "", "", "axis of the study"
        elif name in FACTS:
            yield _code(name), "", "", FACTS[name]
        elif is_metric(name):
            row = metric_of(name)
            doc = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", row.doc)  # its links lead within llem's own pages
            yield _code(name), row.unit, row.direction or "", f"{_plain(row.label)}. {doc}"


def _codes(found: Sequence[Result]) -> Iterator[str]:
    codes = dict.fromkeys(one.code for result in found for one in result.findings)
    reasons = dict.fromkeys(one.reason for result in found for one in result.metrics.values() if one.reason)
    if codes:
        rows = ((_code(one), FINDINGS[one].severity, FINDINGS[one].meaning) for one in codes if one in FINDINGS)
        yield "## Findings\n"
        yield _table(("code", "severity", "meaning"), rows)
    if reasons:
        yield "## Reasons for missing values\n"
        yield _table(("code", "meaning"), ((_code(one), REASONS.get(one, "")) for one in reasons))


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(_cell(one) for one in line)} |\n" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "&#124;")


def _list(rows: Iterable[tuple[str, str]]) -> str:
    return "".join(f"- {name}: {text}\n" for name, text in rows)


def _plain(text: str) -> str:
    """Text of others in which Markdown and HTML find no markup."""
    escaped = html.escape(visible(" ".join(text.split())))
    return re.sub(r"[\\`*_{}\[\]|~]", lambda one: f"&#{ord(one[0])};", escaped)


def _code(name: str) -> str:
    """A name as code; one with odd characters as plain text."""
    return f"`{name}`" if re.fullmatch(r"[\w.+:/ -]+", name) else _plain(name)


def _feature(name: str, column: Sequence[Any]) -> dict[str, Any]:
    """Type of a column as a card declares it; one without any value is of text where its name says so."""
    kinds = {type(value) for value in column if value is not None}
    if kinds == {list}:
        return {"name": name, "list": "string"}
    if not kinds:
        text = name in (*FACTS, *LONG) or name.endswith(("_covers", "_reason", "_scope", "_kind", "_score", "_better"))
        number = name in ("value", "low", "high", "confidence")
        return {"name": name, "dtype": "string" if text and not number else "float64"}
    known = {bool: "bool", int: "int64", str: "string"}
    return {"name": name, "dtype": known[kinds.pop()] if len(kinds) == 1 and kinds <= known.keys() else "float64"}
