"""Study files for common questions, with a comment on what each line decides. Pure: from what is here to text."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from llem.backends.start import Start
from llem.config.load import ECHO
from llem.study.start.here import Here

__all__ = ["TEMPLATES", "needs_stream", "recommended_limit", "study_text"]

#: What each template asks, by its name; the first is the one for no name.
TEMPLATES: Mapping[str, str] = {
    "study": "a first study on this machine",
    "batch-size": "which batch size?",
    "engine": "which engine?",
    "quantisation": "which way to hold the weights?",
    "load-slo": "how much load under this SLO?",
}
SLO = "{ttft_s: 0.5, tpot_s: 0.05, attainment: 0.99}"
#: The limit that takes the place of `slo` where no backend serves loads.
LIMIT = "e2el:p50<2s"
_PLAIN = re.compile(r"[A-Za-z][\w./:-]*[\w/]")
_WORDS = ("true", "false", "null", "yes", "no", "on", "off")


def needs_stream(template: str) -> bool:
    """Whether a template is for a backend that serves loads, where there is one."""
    return template == "load-slo"


def recommended_limit(template: str, here: Here, backend: str) -> str | None:
    """The limit with which `llem recommend` answers what a template asks; None where the file itself holds it."""
    return LIMIT if needs_stream(template) and not _serves(here, backend) else None


def study_text(template: str, here: Here, model: str | None, backend: str) -> str:
    """The file. Its settings are such that `llem plan` takes them with what is installed here.

    Args:
        template: a name of TEMPLATES.
        model: None takes one that fits this machine, where a study of the backend names one.
        backend: one of `here.backends`, or `echo`.
    """
    parts: Mapping[str, Callable[[Here, str, Start], Iterator[str]]] = {
        "study": _study,
        "batch-size": _batch_size,
        "engine": _engine,
        "quantisation": _quantisation,
        "load-slo": _load_slo,
    }
    start = here.backends.get(backend, Start())
    lines = [*_head(template, here, backend), *_base(template, here, model, backend, start)]
    return "\n".join([*lines, *parts[template](here, backend, start)]) + "\n"


def _head(template: str, here: Here, backend: str) -> Iterator[str]:
    asked = TEMPLATES[template]
    yield f"# {asked[0].upper()}{asked[1:]}{'' if asked.endswith('?') else '.'} Made by `llem init` for this machine:"
    yield f"# {_one_line(', '.join(here.gpus)) or 'no GPU'}; backends {', '.join(here.backends)}."
    if backend == ECHO:
        yield "# The backend is `echo`, a fake that repeats its prompt: its figures mean nothing. For real ones,"
        yield "# pip install llem-pytorch (from a clone: pip install ./llem-pytorch), and make this file again."
    yield f"name: {template}"


def _base(template: str, here: Here, model: str | None, backend: str, start: Start) -> Iterator[str]:
    yield "base:  # what all experiments share"
    several = template == "engine"
    if model is not None or several or start.names_model:
        named = here.model if model is None else model
        yield _line(
            f"  model: {_yaml(named)}", "or an id of the Hugging Face Hub, or ./folder; `shape:` has random weights"
        )
    if not several:
        yield _line(f"  backend: {_yaml(backend)}", "the engine; `llem plugins` lists what is installed")
        for path, value in start.base.items():
            yield _line(f"  {path}: {_yaml(value)}", "which this backend needs")
        if "dtype" not in start.base and not _varies_dtype(template, start):
            yield _line("  dtype: bfloat16", "number format of weights and activations")
    lengths = "{kind: synthetic, input_tokens: 128, output_tokens: 128}"
    yield _line(f"  workload: {lengths}", "random tokens; your prompts: {kind: file, path: prompts.txt}")
    yield from _load(template, here, backend)
    yield from _meters(here)
    yield _line("  preset: standard", "5 trials of 10 s at least; `quick` to try, `publication` for a paper")
    if several or "processes" not in start.base:
        yield _line(
            "  processes: 2", "engine processes that share the trials, so that intervals include their differences"
        )


def _varies_dtype(template: str, start: Start) -> bool:
    return template == "quantisation" and (not start.quantisation or any("dtype" in one for one in start.quantisation))


def _serves(here: Here, backend: str) -> bool:
    return backend in here.stream or backend == ECHO


def _load(template: str, here: Here, backend: str) -> Iterator[str]:
    if template == "load-slo" and _serves(here, backend):
        rate = "the greatest rate that keeps `slo`, searched for before the trials; or a number, in requests/s"
        yield _line("  load: {kind: open, request_rate: max}", rate)
        yield _line(f"  slo: {SLO}", "99 % of requests: first token in 0.5 s, each further one in 0.05 s")
    elif template in ("engine", "quantisation"):
        yield _line("  load: {kind: offline, batch_size: 8}", "batches of 8 back to back; a server: {kind: closed, …}")
    else:
        yield _line("  load: {kind: offline}", "batches back to back; their size is an axis below")


def _meters(here: Here) -> Iterator[str]:
    if here.meters:
        yield f"  # meters: {' and '.join(here.meters)} can be read here, and built-in meters are used by themselves"
    elif here.modelled:
        yield _line("  meters: [codecarbon]", "no sensor can be read here: the energy of CPU and memory is modelled")
    else:
        yield "  # No sensor can be read here, so energy will be None (no_meter); `llem doctor` says what to do."
        yield "  # `pip install llem-codecarbon` and `meters: [codecarbon]` give modelled energy of CPU and memory."


def _study(here: Here, backend: str, start: Start) -> Iterator[str]:
    yield "axes:  # every combination of these values is one experiment"
    yield from _sizes(here)
    yield "  # dtype: [bfloat16, float16]  # each further axis multiplies the number of experiments"
    yield "# exclude: [{load.batch_size: 1}]  # combinations to leave out"


def _batch_size(here: Here, backend: str, start: Start) -> Iterator[str]:
    yield "axes:"
    yield from _sizes(here)


def _sizes(here: Here) -> Iterator[str]:
    values = "[1, 8, 32, 128]" if here.gpus else "[1, 4, 16]"
    yield _line(f"  load.batch_size: {values}", "or {powers_of_two: [1, 1024]}; what cannot fit is told by `llem plan`")


def _engine(here: Here, backend: str, start: Start) -> Iterator[str]:
    yield "axes:"
    yield _line("  backend:", "each engine, with axes of its own in its braces")
    for name in dict.fromkeys((backend, *here.able)):
        own = here.backends.get(name, Start()).base
        axes = ", ".join(f"{path}: [{_yaml(value)}]" for path, value in own.items())
        yield f"    {name}: {{{axes}}}"
    for name, other in here.backends.items():
        if other.obstacle is not None and name != backend:
            yield f"    # {name}: {{}}  # {_one_line(other.obstacle)}"
    if len({backend, *here.able}) == 1:
        yield "  # One engine alone can run here. `llem plugins` lists what is installed and what each needs."


def _quantisation(here: Here, backend: str, start: Start) -> Iterator[str]:
    if start.note:
        yield f"# {_one_line(start.note)}"
    if start.quantisation:
        yield "experiments:  # one for each way; the settings of `base` hold for all"
        for way in start.quantisation:
            yield f"  - {{{', '.join(f'{path}: {_yaml(value)}' for path, value in way.items())}}}"
    else:
        yield "axes:"
        yield _line("  dtype: [float32, bfloat16]", "the number formats that this backend offers here by itself")
    yield "# What fewer bits lose is measured too, if the model has real weights. Under `base`:"
    yield "#   quality: {evaluator: perplexity, tasks: [texts.txt]}"


def _load_slo(here: Here, backend: str, start: Start) -> Iterator[str]:
    if _serves(here, backend):
        yield "# To compare settings, add axes: each configuration then gets its own greatest rate."
        yield "# axes: {workload.input_tokens: [128, 1024]}"
        return
    yield f"# {backend} serves no requests that arrive by themselves (it does not stream). In their place: batches of"
    yield f"# growing size, of which `llem recommend DIR --slo '{LIMIT}'` takes the best whose median is below 2 s."
    yield "axes:"
    yield from _sizes(here)


def _line(text: str, comment: str) -> str:
    return f"{text}  # {comment}"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _yaml(value: Any) -> str:
    """A scalar as it stands in YAML: plain where that is the same text."""
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return value
    return json.dumps(value)
