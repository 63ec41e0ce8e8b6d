"""How many requests a window was worth."""

from __future__ import annotations

from llem.store.models import Trial

__all__ = ["edge_factor", "requests_within"]


def edge_factor(trial: Trial) -> float:
    """What a count of requests that ended within a window is multiplied by, for those that its edges cut.

    Clients that began together end together, so that how many ends fall within a window is a matter of where its edges
    lie: a window of 4.9 times as long as a request holds the ends of four or of five of each client, the same in every
    trial. What was done within the window is known by the token, so the rule is

        factor = output tokens that came within the window / output tokens of the requests that ended within it

    that is, a request is worth the mean output of those that ended. 1 for batches, which no edge cuts, and where
    requests failed or were aborted, whose tokens belong to no request that ended.
    """
    facts = trial.serving
    if facts is None or facts.failed or facts.unfinished or not facts.completed_output_tokens:
        return 1.0
    return trial.output_tokens / facts.completed_output_tokens


def requests_within(trial: Trial) -> float:
    """Requests that a window's work amounts to; 0 where none ended within it, so that their size is not known."""
    return trial.requests * edge_factor(trial)
