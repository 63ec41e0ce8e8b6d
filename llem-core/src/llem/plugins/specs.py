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
    """The hooks of llem. Registrars return references; observers run in the parent process only.

    Observers are called one by one, each isolated, and never between the beginning and the end of a window.
    """

    @hookspec
    def llem_backends(self) -> Sequence[Reference]:  # type: ignore[empty-body]
        """Inference engines. The target is a `llem.backends.base.Backend`. Added in 0.1."""

    @hookspec
    def llem_meters(self) -> Sequence[Reference]:  # type: ignore[empty-body]
        """Readers of energy or power. The target is a `llem.meters.base.Meter`. Added in 0.1."""

    @hookspec
    def llem_evaluators(self) -> Sequence[Reference]:  # type: ignore[empty-body]
        """Quality evaluators. The target is a `llem.evaluators.base.Evaluator`. Added in 0.1."""

    @hookspec
    def llem_launchers(self) -> Sequence[Reference]:  # type: ignore[empty-body]
        """Ways to run a worker. The target is a `llem.launchers.base.Launcher`. Added in 0.1."""

    @hookspec
    def llem_workloads(self) -> Sequence[Reference]:  # type: ignore[empty-body]
        """Sources of requests. The target is a `llem.workloads.base.Workload`. Added in 0.1."""

    @hookspec
    def llem_commands(self) -> Mapping[str, click.Command]:  # type: ignore[empty-body]
        """Commands to add to `llem`, by name. Import what they need inside their bodies. Added in 0.1."""

    @hookspec
    def llem_environment(self) -> Mapping[str, Any]:  # type: ignore[empty-body]
        """Facts to store with each result, JSON values only, no secrets. Called in the worker. Added in 0.1."""

    @hookspec
    def llem_study_started(self, study: Mapping[str, Any], store: str) -> None:
        """Observer: a study begins. `study` is study.json, `store` its folder. Added in 0.1."""

    @hookspec
    def llem_study_finished(self, study: Mapping[str, Any], store: str) -> None:
        """Observer: a study has ended, in whatever way. Added in 0.1."""

    @hookspec
    def llem_experiment_started(self, experiment: Mapping[str, Any], store: str) -> None:
        """Observer: the worker of one experiment is about to start.

        With workers side by side the call comes when none of them runs, and so perhaps after that. Added in 0.1.
        """

    @hookspec
    def llem_experiment_finished(self, experiment: Mapping[str, Any], result: Mapping[str, Any], store: str) -> None:
        """Observer: one experiment has a result, failed ones included.

        With workers side by side the call comes when none of them runs. Added in 0.1.
        """
