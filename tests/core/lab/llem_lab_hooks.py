"""The plugin that tests install: a backend that fails when told, and meters with a known truth."""

from __future__ import annotations

from llem.plugins import Reference, hookimpl


@hookimpl
def llem_backends():
    return [
        Reference(
            "lab",
            "llem_lab:LabBackend",
            config="llem_lab:LabOptions",
            summary="Fails when told.",
            capabilities=dict.fromkeys(("stream", "loglikelihood", "stop"), "supported"),
        ),
        Reference("mute", "llem_lab:MuteBackend", config="llem_lab:LabOptions", summary="Does not stream."),
    ]


@hookimpl
def llem_meters():
    steady = "llem.testing.fakes:SteadyOptions"
    return [
        Reference("steady", "llem.testing.fakes:SteadyMeter", config=steady),
        Reference("failing", "llem.testing.fakes:FailingMeter", config=steady),
        Reference("watch", "llem_lab:WatchMeter"),
        Reference("absent", "llem_lab:AbsentMeter"),
        Reference("noisy", "llem_lab:NoisyMeter"),
    ]


@hookimpl
def llem_evaluators():
    return [
        Reference("spelling", "llem_lab:Spelling", config="llem_lab:SpellingOptions", summary="Repeats words."),
        Reference("choosy", "llem_lab:Choosy", summary="Needs what the lab has not."),
    ]
