"""Results as records of Every Eval Ever (evaleval/every_eval_ever), schema 0.3.0. Pure.

A record holds scores alone. So results that are not valid, and those of the fake backend, have none; a metric that was
not measured is named with its reason beside the scores, and so is what is neither better nor worse. Scope and kind of
an energy, and what its interval covers, stand in the details of its score.
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import PurePath
from typing import Any

import attrs

from llem import __version__
from llem.analysis.collection import Results
from llem.analysis.sides import is_fake
from llem.errors import StoreError
from llem.metrics.catalogue import lower_is_better, metric_of
from llem.metrics.quality import family_of, is_score, wanted
from llem.reports.dataset import public
from llem.store.evaluations import evaluations
from llem.store.models import Quantity, Result
from llem.store.store import Store

__all__ = ["SCHEMA", "eee_files"]

#: Version of the schema of the records.
SCHEMA = "0.3.0"
#: Folder of the records within `data`, and what begins the names of metrics.
COLLECTION = "llem"
PROPORTION = "proportion"
#: What a setting or a fact holds where there is none.
NOTHING: tuple[Any, ...] = (None, "", {}, [])
#: Scores with a name that is the same everywhere; their least and greatest value, and their unit.
GLOBAL: Mapping[str, tuple[str, float, float | str, str]] = {
    "acc": ("accuracy", 0.0, 1.0, PROPORTION),
    "exact_match": ("exact-match", 0.0, 1.0, PROPORTION),
    "perplexity": ("perplexity", 0.0, "Infinity", "score"),
}


def eee_files(
    results: Results, organisation: str = "unknown", now: float | None = None
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Records by their paths, one for each experiment, and what has none.

    The same results give the same paths and ids; `retrieved_timestamp` is when the record was made.

    Args:
        organisation: who publishes the records.
        now: seconds since 1970; None takes the clock.

    Raises StoreError (nothing_to_compare): no experiment has a record.
    """
    made = datetime.now(UTC).timestamp() if now is None else now
    files: dict[str, str] = {}
    fakes = invalid = 0
    for result, record in results.each(lambda name: [_recorded(results, name, organisation, made)]):
        if is_fake(result.config.get("backend")):
            fakes += 1
        elif record is None:
            invalid += 1
        else:
            identity = uuid.UUID(bytes=hashlib.sha256(record["evaluation_id"].encode()).digest()[:16], version=4)
            path = f"data/{COLLECTION}/{record['model_info']['id']}/{identity}.json"
            files[path] = json.dumps(record, allow_nan=False, indent=2, ensure_ascii=False) + "\n"
    told = {"of echo, a fake, whose figures mean nothing": fakes, "not valid": invalid}
    if not files:
        what = "; ".join(f"{count} are {why}" for why, count in told.items() if count) or "there is none"
        hint = "a record holds figures that can be relied on; `llem show` says what was found"
        raise StoreError(f"no result has a record of Every Eval Ever: {what}", hint, "nothing_to_compare")
    return files, tuple(
        f"results without a record, because they are {why}: {count}" for why, count in told.items() if count
    )


def _recorded(results: Results, name: str, organisation: str, now: float) -> tuple[Result, dict[str, Any] | None]:
    """A result and its record, if it is valid."""
    result = results[name]
    fit = result.valid and not is_fake(result.config.get("backend"))
    return result, _record(results.store, result, organisation, now) if fit else None


def _record(store: Store, result: Result, organisation: str, now: float) -> dict[str, Any]:
    trials = store.trials(result.id)
    started = min((trial.started_at for trial in trials), default="")
    environment = store.read_environment(result.environment) if result.environment else {}
    model = _model_id(str(result.config.get("model")))
    return {
        "schema_version": SCHEMA,
        "evaluation_id": f"{COLLECTION}/{model}/{result.id}/{started}",
        **({"evaluation_timestamp": started} if started else {}),
        "retrieved_timestamp": f"{now:.3f}",
        "source_metadata": {
            "source_name": "llem",
            "source_type": "evaluation_run",
            "source_organization_name": organisation,
            "evaluator_relationship": "other",
            "additional_details": _texts({"evaluator_relationship": "not stated", **_facts(result)}),
        },
        "eval_library": {"name": "llem", "version": str(environment.get("llem", __version__))},
        "model_info": _model_info(result, environment, model),
        "evaluation_results": list(_scores(store, result)),
    }


def _facts(result: Result) -> dict[str, Any]:
    """What is said of all scores together."""
    missing = {name: one.reason for name, one in result.metrics.items() if one.value is None}
    neither = {name: attrs.asdict(one) for name, one in result.metrics.items() if _is_context(name, one)}
    return {
        "experiment_id": result.id,
        "valid": result.valid,
        "publishable": result.publishable,
        "trials": result.trials,
        "findings": [{"code": one.code, "severity": one.severity, "message": one.message} for one in result.findings],
        "not_measured": missing,
        "neither_better_nor_worse": neither,
    }


def _is_context(name: str, one: Quantity) -> bool:
    return one.value is not None and not one.better and metric_of(name).direction is None


def _model_id(name: str) -> str:
    """As `developer/model`. A shape has no developer; of a folder the name alone, for its path is nobody's business."""
    if name.startswith("shape:"):
        developer, model = COLLECTION, name.replace(":", "-", 1)
    elif re.fullmatch(r"[\w.-]+/[\w.-]+", name) and not name.startswith("."):
        developer, model = name.split("/")
    else:
        developer, model = "local", PurePath(name).name
    return f"{_component(developer)}/{_component(model)}"


def _component(name: str) -> str:
    """A part of a path that every system takes."""
    plain = re.sub(r"[^\w.-]+", "-", name).strip(".-") or "unknown"
    return f"{plain}-" if plain.lower() == "data" else plain


def _model_info(result: Result, environment: Mapping[str, Any], model: str) -> dict[str, Any]:
    config, backend = result.config, str(result.config.get("backend"))
    packages = environment.get("packages", {})
    version = packages.get(backend) or packages.get({"pytorch": "torch", "tensorrt": "tensorrt-llm"}.get(backend, ""))
    name, settings = str(config.get("model")), public(config.get(backend) or {})
    return {
        "name": name if model.partition("/")[0] != "local" else model.partition("/")[2],
        "id": model,
        "developer": model.partition("/")[0],
        "inference_engine": {"name": backend, "version": str(version or "unknown")},
        "additional_details": _texts(
            {
                "deployment_type": "unknown" if backend == "openai" else "self_deployed",
                "model_availability": "unknown",
                "weights": result.weights,
                "revision": config.get("revision"),
                "dtype": config.get("dtype"),
                "gpus": [gpu.get("name") for gpu in environment.get("gpus", ())],
                "cpu": environment.get("host", {}).get("cpu"),
                "engine_settings": {key: value for key, value in settings.items() if value not in NOTHING},
            }
        ),
    }


def _scores(store: Store, result: Result) -> Iterator[dict[str, Any]]:
    """Every metric with a value, of which less or more is better."""
    about = {one.task: one for one in wanted(result.config, evaluations(store, result.id))}
    for name, one in result.metrics.items():
        if one.value is None or _is_context(name, one):
            continue
        task = name.partition(".")[2]
        while is_score(name) and task not in about and "." in task:
            task = task.rpartition(".")[0]  # `quality.<task>.<metric>`
        yield {
            "evaluation_result_id": f"{result.id}/{name}",
            "evaluation_name": f"{COLLECTION}.{task}" if family_of(name) else f"{COLLECTION}.inference",
            "source_data": _source(result.config, about.get(task)),
            "metric_config": _metric(name, one),
            "score_details": _score(one),
            "generation_config": _generation(result.config),
        }


def _source(config: Mapping[str, Any], evaluation: Any) -> dict[str, Any]:
    if evaluation is not None:
        details = {"evaluator": evaluation.evaluator, "terms": evaluation.terms, "about": evaluation.about}
        return {"dataset_name": evaluation.task, "source_type": "other", "additional_details": _texts(details)}
    workload = public(config.get("workload") or {})
    details = {"workload": workload, "load": config.get("load"), "slo": config.get("slo")}
    name = f"llem workload: {workload.get('kind', 'prompts')}"
    return {"dataset_name": name, "source_type": "other", "additional_details": _texts(details)}


def _metric(name: str, one: Quantity) -> dict[str, Any]:
    row, score = metric_of(name), is_score(name)
    own = (
        ("-Infinity", "Infinity", "score") if score else (0.0, "Infinity" if row.unit else 1.0, row.unit or PROPORTION)
    )
    known = GLOBAL.get(one.score) if score else None
    least, most, unit = own if known is None else known[1:]
    return {
        "evaluation_description": row.doc,
        "metric_id": known[0] if known else f"{COLLECTION}.{one.score or name}",
        "metric_name": one.score or row.label,
        "metric_kind": row.group,
        "metric_unit": unit,
        "lower_is_better": lower_is_better(name, [one]),
        "score_type": "continuous",
        "min_score": least,
        "max_score": most,
    }


def _score(one: Quantity) -> dict[str, Any]:
    details = {
        "kind": one.kind,
        "scope": one.scope,
        "covers": one.covers,
        "method": one.method,
        "n": one.n,
        "processes": one.processes,
        "rests_on": one.rests_on,
    }
    found: dict[str, Any] = {"score": one.value, "details": _texts(details)}
    if one.low is not None and one.high is not None:
        interval = {"lower": one.low, "upper": one.high, "confidence_level": one.confidence}
        method = ", ".join(filter(None, (one.method, one.covers)))
        found["uncertainty"] = {"confidence_interval": {**interval, "method": method}, "num_samples": one.n}
    return found


def _generation(config: Mapping[str, Any]) -> dict[str, Any]:
    sampling = dict(config.get("sampling") or {})
    typed = {name: sampling[name] for name in ("temperature", "top_p", "top_k") if name in sampling}
    tokens = dict(config.get("workload") or {}).get("output_tokens")
    longest = {"max_tokens": tokens} if isinstance(tokens, int) else {}
    others = {name: value for name, value in sampling.items() if name not in typed}
    return {"generation_args": {**typed, **longest}, "additional_details": _texts(others)}


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    """Text alone, as the schema asks for; without what is None or empty."""
    return {
        name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)
        for name, value in values.items()
        if value not in NOTHING
    }
