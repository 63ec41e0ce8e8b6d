"""Documents of reports, made by hand in the form of `llem.reports.page.document`, from one experiment to a thousand."""

from __future__ import annotations

import math
import random
from typing import Any

Pages = tuple[dict[str, Any], dict[str, dict[str, Any]]]

#: Names that must stay text wherever they stand.
HOSTILE = (
    "<script>window.hurt = 1</script>",
    "</script><img src=x onerror='window.hurt = 2'>",
    "\"quoted\" 'twice' & `once`",
    "right\u202eto\u202cleft \u05e9\u05dc\u05d5\u05dd",
    "bell\x07 and escape\x1b[31m",
    "line\u2028separator <!-- comment",
)

METRICS: dict[str, dict[str, Any]] = {
    "energy_per_output_token_j": {
        "label": "energy per output token",
        "heading": "J/output token",
        "unit": "J",
        "better": "less",
        "group": "energy",
        "doc": "Energy of the window, divided by the tokens made.",
        "basis": "gpu, measured",
        "divisor": 1e-3,
        "scaledUnit": "mJ",
    },
    "power_w": {
        "label": "mean power",
        "heading": "W",
        "unit": "W",
        "better": "less",
        "group": "energy",
        "doc": "",
        "basis": "gpu, measured",
    },
    "output_tokens_per_s": {
        "label": "output tokens",
        "heading": "output token/s",
        "unit": "token/s",
        "better": "more",
        "group": "speed",
        "doc": "",
        "basis": None,
    },
    "ttft_p99_s": {
        "label": "time to first token, p99",
        "heading": "TTFT p99",
        "unit": "s",
        "better": "less",
        "group": "latency",
        "doc": "",
        "basis": None,
        "divisor": 1e-3,
        "scaledUnit": "ms",
    },
    "quality.piqa": {
        "label": "piqa accuracy",
        "heading": "piqa",
        "unit": "",
        "better": "more",
        "group": "quality",
        "doc": "",
        "basis": None,
    },
}


def _triple(value: float, half: float) -> list[float]:
    return [value, value - half, value + half]


def _experiment(number: int, values: dict[str, str], rng: random.Random) -> dict[str, Any]:
    scale = 1.0 + 2.0 * rng.random() ** 2
    energy, ttft = 0.0164 * scale, 0.12 + 0.5 * rng.random() / scale
    name = f"{number:04x}{rng.getrandbits(48):012x}"
    return {
        "id": name,
        "name": name[:8],
        "label": "vllm · shape:llama-3.1-8b · " + ", ".join(f"{key} {text}" for key, text in values.items()),
        "values": values,
        "state": "done",
        "valid": True,
        "publishable": number % 2 == 0,
        "error": None,
        "codes": ["short_window"] if number % 3 else [],
        "trials": 5,
        "restsOn": "n = 5, one process",
        "m": {
            "energy_per_output_token_j": _triple(energy, 0.05 * energy),
            "power_w": _triple(210 + 40 * rng.random(), 9),
            "output_tokens_per_s": _triple(12000 / scale, 700),
            "ttft_p99_s": _triple(ttft, 0.06 * ttft),
            "quality.piqa": _triple(0.71 - 0.02 * rng.random(), 0.011) if number % 4 else "not_requested",
        },
    }


def study(count: int = 8, seed: int = 7) -> Pages:
    """A study of two axes with a decision, ties, a broken limit, a failure, curves, quality and details."""
    rng = random.Random(seed)
    many = ["8", "16", "32", "64", "128", "256", "512", "768"]
    rates = [str(2 * n + 2) for n in range(max(1, count // 16))]
    rows = [
        _experiment(
            number,
            {
                "vllm.max_num_seqs": many[number % 8],
                "vllm.quantization": ["none", "fp8"][number // 8 % 2],
                "load.request_rate": rates[number // 16 % len(rates)],
            }
            if count > 16
            else {"vllm.max_num_seqs": many[number % 8], "vllm.quantization": ["none", "fp8"][number % 2]},
            rng,
        )
        for number in range(count)
    ]
    ranked = sorted(rows, key=lambda one: one["m"]["energy_per_output_token_j"][0])
    late = [one for one in ranked if one["m"]["ttft_p99_s"][0] > 0.35]
    kept = [one for one in ranked if one not in late]
    if count > 4:
        rows[-1].update(state="failed: oom", valid=False, error="CUDA out of memory: tried to allocate 20.00 GiB")
        rows[-1]["m"] = dict.fromkeys(rows[-1]["m"], "no_trial")
        kept = [one for one in kept if one is not rows[-1]]
        late = [one for one in late if one is not rows[-1]]
        rows[-2]["valid"] = False
    kept = [one for one in kept if one["valid"]] or rows[:1]
    choice, ties = kept[0], kept[: min(3, len(kept))]
    chances = [0.62, 0.27, 0.08]
    contenders = {
        one["id"]: {
            "p": chances[place] if place < 3 else 0.001,
            "feasible": 0.98,
            "standing": "choice" if one is choice else "tie" if one in ties else "worse",
            "why": "",
            "limits": [{"limit": "ttft:p99<350ms", "p": 0.98}],
        }
        for place, one in enumerate(kept)
    }
    contenders |= {
        one["id"]: {"p": 0.0, "feasible": 0.02, "standing": "out", "limits": [{"limit": "ttft:p99<350ms", "p": 0.02}]}
        for one in late
    }
    words = ", ".join(f"{path} {text}" for path, text in choice["values"].items())
    document = {
        "format": 1,
        "llem": "0.1.0",
        "title": "batch-and-quantisation",
        "folder": "llem-results/batch",
        "axes": list(rows[0]["values"]),
        "verdict": {
            "sentences": [
                f"Take {choice['name']}: {words}",
                "energy per output token: 16.4 mJ, 15.6 to 17.2 with 95 % (gpu, measured)",
                "P = 0.62 that it keeps the limit and has the lowest energy per output token",
                "not told from: " + ", ".join(one["name"] for one in ties[1:]),
            ],
            "outcome": "tie" if len(ties) > 1 else "recommended",
            "choice": choice["id"],
            "probability": 0.62,
            "ties": [one["id"] for one in ties],
            "contenders": contenders,
            "limits": [{"metric": "ttft_p99_s", "text": "ttft:p99<350ms", "bound": 0.35, "sense": "below"}],
            "others": [f"{one['name']}: ttft:p99<350ms is kept with P = 0.02" for one in late[:3]],
            "restsOn": ["5 trials each, in one engine process", "energies cover gpu, measured"],
            "warnings": ["the choice is not publishable: short_window"],
            "objective": "energy_per_output_token_j",
        },
        "metrics": METRICS,
        "columns": ["energy_per_output_token_j", "power_w", "output_tokens_per_s", "ttft_p99_s"],
        "plot": {"x": "ttft_p99_s", "y": "energy_per_output_token_j"},
        "experiments": rows,
        "reasons": {"no_trial": "No trial ended.", "not_requested": "The study did not ask for it."},
        "findings": {"short_window": {"severity": "warning", "title": "short window"}},
        "effects": [
            {
                "axis": "vllm.max_num_seqs",
                "value": value,
                "reference": "32",
                "metric": metric,
                "ratio": ratio,
                "low": ratio * 0.9,
                "high": ratio * 1.12,
                "p": p,
                "verdict": verdict,
                "pairs": 5,
            }
            for metric in ("energy_per_output_token_j", "output_tokens_per_s")
            for value, ratio, p, verdict in (
                ("8", 2.3, 1e-6, "more"),
                ("64", 0.93, 0.2, "no difference shown"),
                ("256", 0.62, 0.0004, "less"),
            )
        ],
        "effectsNote": "",
        "curves": [
            {
                "label": f"vllm · {kind}",
                "x": "request_rate",
                "points": [one["id"] for one in part],
                "rates": [2.0 * n + 2 for n in range(len(part))],
            }
            for kind, part in (("none", rows[0:6:2]), ("fp8", rows[1:6:2]))
            if part
        ],
        "quality": [
            {
                "id": one["id"],
                "task": "quality.piqa",
                "change": _triple(-0.004, 0.009),
                "reference": rows[0]["id"],
                "p": 0.4,
                "verdict": "no loss shown",
            }
            for one in rows[1:4]
        ],
        "time": [
            {"part": part, "seconds": seconds, "doc": doc}
            for part, seconds, doc in (
                ("windows", 900.0, "Trials that count."),
                ("engine start", 640.0, "Loading weights and compiling."),
                ("baseline", 240.0, "Idle power before and after."),
                ("warm-up", 120.0, "Until the throughput is steady."),
            )
        ],
        "method": [
            "Energy is read from the counter of the GPU's driver between two ticks within the same work.",
            "Intervals are Student's t over 5 trials of one engine process.",
        ],
        "cite": "llem 0.1.0",
    }
    return document, {one["id"]: details(one, rows[0]["id"], rng) for one in rows}


def details(one: dict[str, Any], reference: str, rng: random.Random) -> dict[str, Any]:
    """Details of one experiment: two trials' traces and a distribution."""
    if one["state"] != "done":
        return {"config": [["dtype", "bfloat16", "study", False]], "reference": reference, "findings": []}
    times = [round(0.1 * n - 2, 3) for n in range(240)]
    quantiles = [[n / 100, 0.05 + 0.04 * math.tan(n / 100 * 1.43)] for n in range(1, 100)]
    return {
        "config": [
            ["backend", "vllm", "study", False],
            ["dtype", "bfloat16", "default", False],
            *([path, text, "axis", one["id"] != reference] for path, text in one["values"].items()),
        ],
        "reference": reference,
        "environment": [["gpu", "NVIDIA H200"], ["driver", "580.82"]],
        "effective": [["max_model_len", "4096"]],
        "findings": [
            {
                "code": "short_window",
                "severity": "warning",
                "message": "The window lasts 18 s, so one tick of the counter is 0.6 % of its energy.",
                "advice": "Set duration_s to 60 or more.",
            }
        ],
        "figures": [["energy per output token", "16.4 ± 0.8 mJ", "gpu, measured"], ["peak memory", "18.2 GiB", ""]],
        "traces": [
            {
                "trial": trial,
                "process": 0,
                "domain": "gpu:GPU-26fd",
                "meter": "nvml",
                "kind": "measured",
                "t": times,
                "w": [120 + 110 / (1 + math.exp(-4 * (t + 1.6))) + 8 * rng.random() for t in times],
                "window": [0, 18.0],
                "lead": [-2, 0],
                "after": [18.0, 21.9],
                "ticks": times[::5],
            }
            for trial in range(2)
        ],
        "tracesLeftOut": 1,
        "latencies": [
            {
                "label": "TTFT",
                "unit": "s",
                "quantiles": quantiles,
                "n": 4096,
                "stated": {
                    "p50": [quantiles[49][1], quantiles[47][1], quantiles[52][1]],
                    "p99": [quantiles[98][1], quantiles[97][1], quantiles[98][1] * 1.1],
                },
            }
        ],
        "energies": [
            {
                "domain": "gpu:GPU-26fd",
                "meter": "nvml",
                "instrument": "counter",
                "kind": "measured",
                "scope": "gpu",
                "gross": [4200.0, 4080.0, 4320.0],
                "net": "no_baseline",
                "power": [233.0, 226.0, 240.0],
                "idle": "no_baseline",
                "cross": "no_second",
                "budget": {"tick": 25.0, "gap": 0.2, "repeat": 120.0, "sensor": None, "baseline": None},
            }
        ],
        "method": [
            "One NVIDIA H200, vLLM, bfloat16, random weights.",
            "The window lasts 18 s; the counter ticks every 0.1 s.",
        ],
    }


def hostile() -> Pages:
    """A study in which all that others name tries to be more than text."""
    document, pages = study(6)
    document["title"] = HOSTILE[0] + HOSTILE[3]
    document["verdict"]["sentences"] = [f"Take {HOSTILE[1]}", HOSTILE[4]]
    document["verdict"]["warnings"] = list(HOSTILE)
    document["method"] = [HOSTILE[5], HOSTILE[1]]
    document["effects"][0]["value"] = HOSTILE[1]
    document["curves"][0]["label"] = HOSTILE[0]
    document["time"][0]["part"] = HOSTILE[1]
    document["metrics"] = {**METRICS, "power_w": {**METRICS["power_w"], "label": HOSTILE[1], "heading": HOSTILE[0]}}
    for one, name in zip(document["experiments"], HOSTILE, strict=True):
        one.update(label=name, values={"model": name})
        pages[one["id"]]["findings"] = [{"code": "odd", "severity": "error", "message": name, "advice": name}]
        pages[one["id"]]["config"] = [["model", name, name, True]]
    document["axes"] = ["model"]
    return document, pages


def nothing() -> Pages:
    """A folder without experiments."""
    document, _ = study(1)
    verdict = {
        **document["verdict"],
        "sentences": ["No decision: no experiment has ended"],
        "outcome": "no_decision",
        "choice": None,
        "probability": None,
        "ties": [],
        "contenders": {},
        "others": [],
        "warnings": [],
        "restsOn": [],
    }
    empty = dict.fromkeys(("experiments", "effects", "curves", "quality", "time", "method"), ())
    return {
        **document,
        "verdict": verdict,
        **{key: list(value) for key, value in empty.items()},
        "metrics": {},
        "columns": [],
        "plot": {"x": None, "y": None},
        "axes": [],
    }, {}


def unmeasured() -> Pages:
    """Experiments of which none was measured."""
    document, pages = study(6)
    gone, _ = nothing()
    for one in document["experiments"]:
        one.update(state="failed: oom", valid=False, error="out of memory", m={})
        pages[one["id"]] = {}
    keys = ("verdict", "metrics", "columns", "plot", "effects", "curves", "quality")
    return {**document, **{key: gone[key] for key in keys}}, pages
