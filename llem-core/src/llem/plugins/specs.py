"""Every hook, typed and documented. An implementation may take fewer arguments than a hook offers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pluggy

from llem.plugins.reference import NAME, Reference

if TYPE_CHECKING:
    import click

__all__ = ["Hooks"]

hookspec = pluggy.HookspecMarker(NAME)


class Hooks:
    """The hooks of llem. Some return references to plugins; observers are told of a study's progress.

    llem calls observers in the parent process, one by one, and only while no worker runs on this machine. With workers
    side by side, calls about experiments may come as late as the end of the run. If an observer raises, llem prints a
    warning and goes on.
    """

    @hookspec
    def llem_backends(self) -> Sequence[Reference]:  # type: ignore[empty-body]
        """Backends of inference engines. The target is a `llem.backends.base.Backend`. Added in 0.1.

        `deploy` of a reference names a function that says how to launch a configuration without llem: it takes an
        `Experiment` and its `ModelSpec`, and returns a `llem.backends.deployment.Deployment`.
        """

    @hookspec
    def llem_meters(self) -> Sequence[Reference]:  # type: ignore[empty-body]
        """Meters of energy or power. The target is a `llem.meters.base.Meter`. Added in 0.1."""

    @hookspec
    def llem_evaluators(self) -> Sequence[Reference]:  # type: ignore[empty-body]
        """Evaluators of quality. The target is a `llem.evaluators.base.Evaluator`. Added in 0.1."""

    @hookspec
    def llem_launchers(self) -> Sequence[Reference]:  # type: ignore[empty-body]
        """Launchers of workers. The target is a `llem.launchers.base.Launcher`. Added in 0.1."""

    @hookspec
    def llem_workloads(self) -> Sequence[Reference]:  # type: ignore[empty-body]
        """Workloads, which make requests. The target is a `llem.workloads.base.Workload`. Added in 0.1."""

    @hookspec
    def llem_commands(self) -> Mapping[str, click.Command]:  # type: ignore[empty-body]
        """Commands to add to `llem`, by name. A command imports what it needs inside its body. Added in 0.1."""

    @hookspec
    def llem_environment(self) -> Mapping[str, Any]:  # type: ignore[empty-body]
        """Facts to store with the environment of each result: JSON values, no secrets. Called in the worker.

        Added in 0.1.
        """

    @hookspec
    def llem_study_started(self, study: Mapping[str, Any], store: str) -> None:
        """Observer: a run of a study begins. `study` is study.json, `store` the result folder. Added in 0.1."""

    @hookspec
    def llem_study_finished(self, study: Mapping[str, Any], store: str) -> None:
        """Observer: a run of a study has ended, completed or not. Added in 0.1."""

    @hookspec
    def llem_experiment_started(self, experiment: Mapping[str, Any], store: str) -> None:
        """Observer: the first worker of an experiment is about to start. `experiment` is experiment.json.

        With workers side by side, the call may come after the worker has ended. Added in 0.1.
        """

    @hookspec
    def llem_experiment_finished(self, experiment: Mapping[str, Any], result: Mapping[str, Any], store: str) -> None:
        """Observer: an experiment has a result, also if it failed.

        `result` has `id`, `outcome`, `valid` and `error`; result.json in the store has the rest. Added in 0.1.
        """
