"""Settings of generated answers: a task's `generation_kwargs` as llem's `Sampling`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
from lm_eval.models.utils import normalize_gen_kwargs, postprocess_generated_text

from llem.config.converter import structure
from llem.config.models import Sampling
from llem.errors import ConfigError, Problem, nearest

__all__ = ["CHOICE", "AnswerSettings", "answer_settings", "unknown_settings"]

REFUSED = "answers cannot be generated"
#: What lm-eval's own model generates where a task says nothing, in tokens.
MAX_GEN_TOKS = 256
#: Settings of sampled answers.
CHOICE = ("temperature", "top_p", "top_k", "min_p")
KNOWN = ("until", "max_gen_toks", "do_sample", *CHOICE, "repetition_penalty")
#: Other names of `max_gen_toks`, which lm-eval takes.
ALIASES = ("max_new_tokens", "max_tokens", "max_completion_tokens")


@attrs.frozen
class AnswerSettings:
    """How one kind of answer is made.

    Attributes:
        sampling: how tokens are chosen.
        max_tokens: the longest answer.
        until: texts that end it; they are no part of it.
    """

    sampling: Sampling
    max_tokens: int
    until: tuple[str, ...]

    def cut(self, text: str, eos: str) -> str:
        """The answer up to the first of the texts that end it, or the text of the end-of-sequence token."""
        return str(postprocess_generated_text(text, [*self.until, eos], None))


def answer_settings(kwargs: Mapping[str, Any], seed: int) -> AnswerSettings:
    """Read generation settings as lm-eval's own model does; unlike it, what is not known is refused.

    Raises:
        ConfigError: an unknown setting, a value out of bounds, or sampling without a temperature.
    """
    try:
        given = dict(normalize_gen_kwargs(dict(kwargs), MAX_GEN_TOKS))
    except (TypeError, ValueError) as error:
        raise _refusal(f"{dict(kwargs)}: {error}", "give numbers for max_gen_toks and temperature") from error
    if unknown := unknown_settings(given):
        raise ConfigError(REFUSED, problems=(unknown,))
    if given["max_gen_toks"] < 1:
        raise _refusal(f"max_gen_toks is {given['max_gen_toks']}", "at least 1")
    if given["do_sample"] and not given.get("temperature"):
        raise _refusal("do_sample without a temperature", "a temperature above 0, or do_sample: false")
    chosen = [*CHOICE, "repetition_penalty"] if given["do_sample"] else ["repetition_penalty"]
    named = {name: given[name] for name in chosen if given.get(name) is not None}
    sampling = structure(Sampling, {"seed": seed, "ignore_eos": False, **named}, "quality.gen_kwargs")
    return AnswerSettings(sampling, given["max_gen_toks"], tuple(text for text in map(str, given["until"]) if text))


def unknown_settings(kwargs: Mapping[str, Any]) -> Problem | None:
    """What is no generation setting, with the nearest that is one; None where all are known. Needs no task."""
    unknown = sorted(str(name) for name in kwargs if not _is_known(name, kwargs[name]))
    if not unknown:
        return None
    meant = nearest(unknown[0], KNOWN)
    hint = f"did you mean {meant}?" if meant else f"known are {', '.join(KNOWN)}"
    return Problem("quality.gen_kwargs", f"{', '.join(unknown)}: no such generation setting here", hint)


def _is_known(name: str, value: Any) -> bool:
    return name in KNOWN or name in ALIASES or (name == "num_beams" and value == 1)  # one beam is no beam search


def _refusal(message: str, hint: str) -> ConfigError:
    return ConfigError(REFUSED, problems=(Problem("quality.gen_kwargs", message, hint),))
