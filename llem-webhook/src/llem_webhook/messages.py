"""What is told. Nothing of a configuration, an environment or a prompt; an error without what may be a secret."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llem.analysis.overview import overviews
from llem.foreign.secrets import without_secrets
from llem.foreign.shown import one_line
from llem.store.store import Store

__all__ = ["experiment_message", "study_message"]

_LONGEST = 300


def _error(text: str | None) -> str | None:
    """The first line of an error, not too long, with what looks like a secret taken out."""
    lines = (text or "").strip().splitlines()
    return without_secrets(one_line(lines[0], 10 * _LONGEST))[:_LONGEST] if lines else None


def experiment_message(result: Mapping[str, Any], store: str) -> dict[str, Any]:
    """An experiment that has ended, well or not. `result`: what the hook gives."""
    done = result["outcome"] == "done"
    error = _error(result.get("error"))
    state = result["outcome"] if result["valid"] or not done else "done (not valid)"
    return {
        "event": "experiment_finished" if done else "experiment_failed",
        "text": f"llem: experiment {result['id']}: {state}" + (f": {error}" if error else ""),
        "id": result["id"],
        "outcome": result["outcome"],
        "valid": result["valid"],
        "error": error,
        "store": Path(store).name,
    }


def study_message(study: Mapping[str, Any], store: str) -> dict[str, Any]:
    """A study that has ended, in whatever way; outcomes as the store has them."""
    planned = list(study.get("experiments", ()))
    outcomes = dict(Counter(row.outcome for row in overviews(Store(Path(store)), planned, ())).most_common())
    name = str(study.get("name", "llem"))
    failed = [f"{count} {outcome}" for outcome, count in outcomes.items() if outcome != "done"]
    missing = len(planned) - sum(outcomes.values())
    told = [f"{outcomes.get('done', 0)} of {len(planned)} experiments done", *failed]
    return {
        "event": "study_finished",
        "text": f"llem: {name}: " + ", ".join(told + ([f"{missing} not run"] if missing else [])),
        "study": name,
        "experiments": len(planned),
        "outcomes": outcomes,
        "store": Path(store).name,
    }
