"""The studies of the validation, as mappings of the shape of a study file. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.validation.sizes import Sizes

__all__ = ["EFFECTS", "WINDOWS_S", "batches", "drift", "graphs", "phases", "products", "repeat"]

Study = Mapping[str, Any]
#: Known effects, in percent of the work. The first two do the same work.
EFFECTS = (0, 0, 1, 2, 5, 10)
#: Lengths of windows for the linearity, in seconds.
WINDOWS_S = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
#: Prompts and outputs of the grid of phases, in tokens.
INPUTS, OUTPUTS = (32, 96, 192), (1, 17, 49)
#: Sequences at a time, for the curve of joules per token.
SIZES = (1, 8, 32, 128, 512, 1024)


def _base(sizes: Sizes, trials: int, window_s: float, warm_s: float, idle_s: float = 0.0) -> dict[str, Any]:
    return {
        "preset": "standard",
        "device": sizes.device,
        "trials": trials,
        "max_trials": trials,
        "window_s": max(0.1, sizes.seconds(window_s)),
        "warmup": {"batches": 1, "seconds": sizes.seconds(warm_s)},
        "baseline": {"seconds": sizes.seconds(idle_s), "discard_seconds": sizes.seconds(0.3 * idle_s)},
    }


def _work(batch: int, prompt: int, output: int, seed: int = 0, **more: Any) -> dict[str, Any]:
    workload = {"kind": "synthetic", "input_tokens": prompt, "output_tokens": output, "seed": seed}
    return {"workload": workload, "load": {"kind": "offline", "batch_size": batch}, **more}


def _products(sizes: Sizes, growth: float = 0.0) -> dict[str, Any]:
    made = {"rows": sizes.rows, "size": sizes.size, "per_token": sizes.per_token, "growth": growth}
    return {"model": "shape:tiny", "backend": "products", "products": made}


def _model(sizes: Sizes, **options: Any) -> dict[str, Any]:
    return {"model": sizes.model, "backend": "pytorch", "pytorch": options}


def products(sizes: Sizes) -> Study:
    """Known effects and linearity, in one engine process: in blocks, so that drift is common to all."""
    trials = max(2, 2 * sizes.trials // 5)
    points = [
        _work(1, 1, round(sizes.tokens * (1 + effect / 100)), seed) for seed, effect in enumerate(EFFECTS, start=1)
    ]
    for number, seconds in enumerate(WINDOWS_S):
        length = {"window_s": max(0.1, sizes.seconds(seconds)), "trials": 2, "max_trials": 2}
        points.append(_work(1, 1, sizes.tokens, 10 + number, **length))
    return _study("products", {**_base(sizes, trials, 1.5, 1.0), **_products(sizes)}, points)


def drift(sizes: Sizes, order: str) -> Study:
    """Two experiments of the same work on an engine that does more with every batch, in blocks or one by one."""
    points = [_work(1, 1, sizes.tokens, seed) for seed in (1, 2)]
    base = {**_base(sizes, 5, 1.5, 2.0), **_products(sizes, growth=0.0006)}
    return {**_study(f"drift-{order}", base, points), "order": {"kind": order, "seed": 1}}


def repeat(sizes: Sizes) -> Study:
    """Repeatability in two engine processes: decoding, twice the same but for the prompts, and prefill alone."""
    points = [_work(sizes.wide, 8, 24, seed) for seed in (1, 2)]
    points.append(_work(max(1, sizes.wide // 32), 640, 1, 1))
    return _study("repeat", {**_base(sizes, sizes.trials, 1.5, 3.0), **_model(sizes), "processes": 2}, points)


def graphs(sizes: Sizes) -> Study:
    """Repeatability of decoding with few sequences, which only CUDA graphs keep the GPU busy with."""
    base = {**_base(sizes, sizes.trials, 1.5, 3.0), **_model(sizes, cache_implementation="static"), "processes": 2}
    return _study("graphs", base, [_work(8, 32, 64, 1)])


def batches(sizes: Sizes) -> Study:
    """Joules per token by batch size."""
    points = [_work(size, 32, 64) for size in SIZES if size <= sizes.wide]
    return _study("batches", {**_base(sizes, 3, 2.0, 2.0, idle_s=8.0), **_model(sizes)}, points)


def phases(sizes: Sizes) -> Study:
    """A grid of prompt and output lengths: one output token is prefill alone."""
    points = [_work(max(1, sizes.wide // 2), prompt, output) for prompt in INPUTS for output in OUTPUTS]
    return _study("phases", {**_base(sizes, 2, 2.0, 0.5), **_model(sizes)}, points)


def _study(name: str, base: Mapping[str, Any], points: list[dict[str, Any]]) -> dict[str, Any]:
    order = {"kind": "blocks", "seed": 1}
    return {"name": f"validation-{name}", "base": dict(base), "experiments": points, "order": order}
