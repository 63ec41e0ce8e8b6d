"""The section `quality:` with `evaluator: lmeval`. Names are those of lm-eval's own command line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import attrs

from llem.config.fields import at_least, option
from llem.config.models import Quality

__all__ = ["LmEvalOptions", "Seeds"]


@attrs.frozen
class Seeds:
    """Seeds of Python's `random`, numpy, torch with sampled answers, and the choice of examples."""

    random: int
    numpy: int
    torch: int
    fewshot: int


@attrs.frozen(kw_only=True)
class LmEvalOptions(Quality):
    """Section `quality` with `evaluator: lmeval`. Names are those of lm-eval's own command line."""

    evaluator: Literal["lmeval"] = option("lmeval", help="EleutherAI's lm-evaluation-harness.")
    include_path: tuple[str, ...] = option(
        (), help="Folders with tasks of your own, searched before lm-eval's. Such a task needs no network.", file=True
    )
    num_fewshot: int | None = option(
        None,
        help="Examples before each question. Null takes what the task says. A task that itself says 0 keeps 0. A task "
        "without a split for examples draws them from its test items, the question itself included.",
        validator=at_least(0),
    )
    apply_chat_template: bool = option(False, help="Put every prompt into the model's chat template.")
    fewshot_as_multiturn: bool | None = option(
        None, help="Examples as turns of a conversation. Null does so where the chat template is applied."
    )
    system_instruction: str | None = option(None, help="A system message before each prompt.")
    gen_kwargs: Mapping[str, Any] | None = option(
        None,
        help="Settings of generated answers in place of the task's: until, max_gen_toks, do_sample, temperature, "
        "top_p, top_k, min_p, repetition_penalty.",
    )
    seed: int | tuple[int, int, int, int] = option(
        (0, 1234, 1234, 1234),
        help="Seeds of Python's random, numpy, torch with sampled answers, and the choice of examples; one number is "
        "all four.",
    )
    batch_size: int | None = option(
        None,
        help="Requests given to the engine at a time. It changes no score beyond the rounding of sums, but the time "
        "and energy of the evaluation: give configurations whose J/right answer you compare the same. Null gives 32 "
        "that generate and 512 that are only scored.",
        validator=at_least(1),
    )
    add_bos_token: bool | None = option(
        None, help="Begin every text with the model's beginning-of-sequence token. Null does what its tokenizer does."
    )
    max_length: int | None = option(
        None,
        help="Tokens of a text that the model reads; a longer one is cut on the left. Null takes the engine's context.",
        unit="tokens",
        validator=at_least(2),
    )
    cluster_by: str | None = option(
        None,
        help="Field of the task's documents. Items with the same value are not independent, such as questions on one "
        "passage.",
    )
    confirm_run_unsafe_code: bool = option(False, help="Allow tasks that run code which the model wrote.")
    bootstrap_iters: int = option(
        1000, help="Resamples for standard errors that have no formula. 0 states no standard error.",
        validator=at_least(0),
    )  # fmt: skip

    @property
    def seeds(self) -> Seeds:
        """The four seeds."""
        return Seeds(*([self.seed] * 4 if isinstance(self.seed, int) else self.seed))
