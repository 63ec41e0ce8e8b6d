"""What a stranger's plugin gives: a backend that breaks the rule which its setting names."""

from __future__ import annotations

from llem.plugins import Reference, hookimpl


@hookimpl
def llem_backends():
    return [
        Reference(
            "stranger",
            "llem_stranger:StrangerBackend",
            config="llem_stranger:StrangerOptions",
            summary="Breaks a rule.",
            capabilities=dict.fromkeys(("stream", "token_times"), "supported"),
        )
    ]


@hookimpl
def llem_meters():
    return [Reference("odd", "llem_stranger:OddMeter", config="llem_stranger:OddOptions", summary="Breaks a rule.")]
