"""The text: how far a study is, and what its experiments gave. Written between measured windows, whole or not at all.

Prometheus reads it through the textfile collector of its node exporter.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from llem.analysis.collection import Results
from llem.analysis.overview import Overview
from llem.config.converter import structure
from llem.config.fields import option
from llem.config.user import load_user_config, named_user_config
from llem.store.files import write
from llem.store.store import Store

__all__ = ["PrometheusOptions", "load_options", "text_of", "write_file"]

#: Metrics of llem by the names that Prometheus has for them, whose units it writes out.
SHOWN: Mapping[str, tuple[str, str]] = {
    "energy_per_output_token_j": ("llem_energy_per_output_token_joules", "Energy of an output token."),
    "power_w": ("llem_power_watts", "Mean power of the window."),
    "output_tokens_per_s": ("llem_output_tokens_per_second", "Output tokens per second."),
    "ttft_p99_s": ("llem_ttft_p99_seconds", "Time to first token, 99th percentile."),
}


@attrs.frozen(kw_only=True)
class PrometheusOptions:
    """The section `prometheus` of `observers` in the user configuration."""

    path: str | None = option(None, help="File to write; the node exporter wants the ending .prom. Null: none.")


def load_options() -> PrometheusOptions:
    """Raises ConfigError for a wrong section."""
    section = load_user_config().observers.get("prometheus", {})
    found: PrometheusOptions = structure(PrometheusOptions, section, "observers.prometheus", source=named_user_config())
    return found


def write_file(study: Mapping[str, Any], folder: str, *, running: bool) -> None:
    """Replace the file that the settings name; does nothing where they name none."""
    path = load_options().path
    if path is not None:
        rows = list(Results.open(Store.open(folder)).overviews(list(SHOWN)))
        write(Path(path).expanduser(), text_of(study, rows, running, time.time()).encode(), replace=True)


def text_of(study: Mapping[str, Any], rows: list[Overview], running: bool, now: float) -> str:
    """The exposition format, version 0.0.4."""
    name = str(study.get("name", "llem"))
    outcomes = Counter((row.outcome, _flag(row.valid)) for row in rows)
    ended = [({"study": name, "outcome": one, "valid": valid}, float(n)) for (one, valid), n in outcomes.items()]
    lines = [
        *_family("llem_study_running", "Whether llem runs the study now.", [({"study": name}, float(running))]),
        *_family("llem_study_updated_timestamp_seconds", "When this was written.", [({"study": name}, now)]),
        *_family(
            "llem_study_experiments", "Experiments planned.", [({"study": name}, float(len(study["experiments"])))]
        ),
        *_family("llem_study_experiments_ended", "Experiments with a result.", ended),
    ]
    for metric, (family, about) in SHOWN.items():
        lines += _family(family, about, [*_samples(name, metric, rows)])
    return "".join(f"{line}\n" for line in lines)


def _samples(study: str, metric: str, rows: list[Overview]) -> Iterator[tuple[dict[str, str], float]]:
    """The value and the ends of its interval; what was not measured has no sample."""
    for row in rows:
        one = row.metrics.get(metric)
        if one is None:
            continue
        known = {"study": study, "id": row.id, "backend": row.backend or "", "model": row.model or ""}
        known |= {"valid": _flag(row.valid), "fake": _flag("fake_backend" in row.codes)}
        known |= {"scope": one.scope, "kind": one.kind} if one.scope and one.kind else {}
        for bound, value in (("", one.value), ("low", one.low), ("high", one.high)):
            if value is not None:
                yield {**known, "bound": bound or "value"}, value


def _flag(value: bool) -> str:
    return str(value).lower()


def _family(name: str, about: str, samples: list[tuple[dict[str, str], float]]) -> Iterator[str]:
    if samples:
        yield f"# HELP {name} {about}"
        yield f"# TYPE {name} gauge"
    for labels, value in samples:
        told = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
        yield f"{name}{{{told}}} {value!r}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
