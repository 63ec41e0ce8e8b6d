"""A result as a run of MLflow. llem calls this between measured windows; nothing is left running when it returns."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from llem.config.converter import structure
from llem.config.fields import option
from llem.config.user import load_user_config, named_user_config
from llem.reports.export import labelled
from llem.store.models import Result
from llem.store.store import Store

__all__ = ["MlflowOptions", "load_options", "log_result"]

#: MLflow takes no longer value of a parameter or a tag, and no longer list in a call.
LONGEST, MOST = 5000, 100
#: The tag by which a run is found again when a study goes on.
KEY = "llem.key"


@attrs.frozen(kw_only=True)
class MlflowOptions:
    """The section `mlflow` of `observers` in the user configuration."""

    tracking_uri: str | None = option(None, help="Where runs go, such as http://localhost:5000. Null: nowhere.")
    experiment: str | None = option(None, help="Name of MLflow's experiment. Null takes the study's name.")


def load_options() -> MlflowOptions:
    """Raises ConfigError for a wrong section."""
    section = load_user_config().observers.get("mlflow", {})
    found: MlflowOptions = structure(MlflowOptions, section, "observers.mlflow", source=named_user_config())
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    return attrs.evolve(found, tracking_uri=uri) if uri and found.tracking_uri is None else found


def log_result(options: MlflowOptions, identity: str, folder: str) -> str:
    """Write one result as a run, which replaces an earlier one of the same experiment; its id."""
    from mlflow.entities import Metric, Param, RunTag
    from mlflow.tracking import MlflowClient

    store = Store.open(folder)
    result, study = store.read_result(identity), store.study()
    if result is None:
        raise LookupError(f"{folder} holds no result {identity}")
    client = MlflowClient(tracking_uri=options.tracking_uri)
    name = options.experiment or str(study.get("name", "llem"))
    known = client.get_experiment_by_name(name)
    group = client.create_experiment(name) if known is None else known.experiment_id
    key = f"{Path(folder).resolve()}/{identity}"
    for earlier in client.search_runs([group], f"tags.`{KEY}` = '{key.replace(chr(39), '')}'"):
        client.delete_run(earlier.info.run_id)
    run = client.create_run(group, run_name=identity[:8])
    now = run.info.start_time
    numbers = [Metric(one, value, now, 0) for one, value in labelled(result).items()]
    params = [Param(one, value[:LONGEST]) for one, value in _settings(result.config)]
    told = {**_tags(result), KEY: key.replace("'", "")}
    tags = [RunTag(one, value[:LONGEST]) for one, value in told.items()]
    for begin in range(0, max(len(numbers), len(params)), MOST):
        some = slice(begin, begin + MOST)
        client.log_batch(run.info.run_id, numbers[some], params[some], tags if begin == 0 else [])
    client.set_terminated(run.info.run_id, "FINISHED" if result.outcome == "done" else "FAILED")
    return str(run.info.run_id)


def _settings(config: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, str]]:
    """Every setting that has a value, by its dotted path."""
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from _settings(value, f"{path}{name}.")
        elif value is not None:
            yield f"{path}{name}", str(value)


def _tags(result: Result) -> dict[str, str]:
    """What says whether the numbers may be relied on, and why some are missing."""
    missing = {name: one.reason for name, one in result.metrics.items() if one.reason}
    return {
        "llem.id": result.id,
        "llem.outcome": result.outcome,
        "llem.valid": str(result.valid).lower(),
        "llem.publishable": str(result.publishable).lower(),
        "llem.weights": result.weights,
        "llem.findings": " ".join(dict.fromkeys(one.code for one in result.findings)),
        "llem.not_measured": " ".join(f"{name}={reason}" for name, reason in missing.items()),
        **({"llem.error": result.error.splitlines()[0]} if result.error else {}),
    }
