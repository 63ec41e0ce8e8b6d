"""The core's own plugins, in the form in which other packages give theirs."""

from __future__ import annotations

from collections.abc import Sequence

from llem.plugins.reference import Reference, hookimpl

__all__ = ["llem_backends", "llem_evaluators", "llem_launchers", "llem_meters", "llem_workloads"]


@hookimpl
def llem_backends() -> Sequence[Reference]:
    return [
        Reference(
            "echo",
            "llem.backends.echo:EchoBackend",
            config="llem.backends.echo:EchoOptions",
            summary="Repeats the prompt, without a model or an engine. For tests, examples and trying a plugin.",
            status="a fake: its figures mean nothing",
            capabilities=dict.fromkeys(("token_times", "stream", "loglikelihood", "stop", "prefilled"), "supported"),
        ),
        Reference(
            "command",
            "llem.backends.command:CommandBackend",
            summary="Any program: `llem meter` measures the energy of its run.",
            status="measures a command, and runs no model by itself",
        ),
    ]


@hookimpl
def llem_meters() -> Sequence[Reference]:
    return [
        Reference("nvml", "llem.meters.nvml:NvmlMeter", summary="NVIDIA GPUs: energy counter and instantaneous power."),
        Reference("rapl", "llem.meters.rapl:RaplMeter", summary="CPU packages and memory: RAPL energy counters."),
    ]


@hookimpl
def llem_workloads() -> Sequence[Reference]:
    return [
        Reference(
            "synthetic",
            "llem.workloads.synthetic:SyntheticWorkload",
            config="llem.workloads.synthetic:SyntheticOptions",
            summary="Random token ids of given lengths.",
        ),
        Reference(
            "file",
            "llem.workloads.files:FileWorkload",
            config="llem.workloads.files:FileOptions",
            summary="Prompts from a file: text, JSON, tables, conversations, batches.",
        ),
        Reference(
            "prompts",
            "llem.workloads.files:BuiltinWorkload",
            config="llem.workloads.files:BuiltinOptions",
            summary="A built-in set of English prompts.",
        ),
        Reference(
            "trace",
            "llem.workloads.trace:TraceWorkload",
            config="llem.workloads.trace:TraceOptions",
            summary="Random token ids of lengths from a trace.",
        ),
    ]


@hookimpl
def llem_evaluators() -> Sequence[Reference]:
    return [
        Reference(
            "perplexity",
            "llem.evaluators.perplexity:PerplexityEvaluator",
            config="llem.evaluators.perplexity:PerplexityOptions",
            summary="Bits per byte and perplexity of your own text files.",
        )
    ]


@hookimpl
def llem_launchers() -> Sequence[Reference]:
    return [
        Reference("process", "llem.launchers.process:ProcessLauncher", summary="A fresh process on this machine."),
        Reference("inline", "llem.launchers.inline:InlineLauncher", summary="This process; for debugging."),
        Reference(
            "docker",
            "llem.launchers.docker:DockerLauncher",
            config="llem.launchers.options:DockerOptions",
            summary="A Docker container for each worker, with the backend's image.",
        ),
        Reference(
            "apptainer",
            "llem.launchers.apptainer:ApptainerLauncher",
            config="llem.launchers.options:ApptainerOptions",
            summary="An Apptainer container for each worker, with the backend's image.",
            status="run as root on a CPU; not yet run without root, or with GPUs",
        ),
    ]
