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
            capabilities={"stream": "supported"},
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
