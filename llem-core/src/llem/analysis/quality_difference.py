"""The score of a configuration beside the reference's, as data."""

from __future__ import annotations

import attrs

from llem.analysis.contrast import Contrast

__all__ = ["ROUNDING", "QualityDifference"]

#: Rounding alone moves scores of likelihoods by about this share. Seen between PyTorch and vLLM on a small Llama: 4e-8
#: in float32, 3e-5 with float16; bfloat16, which rounds more, moved a perplexity by up to 2e-4.
ROUNDING = 1e-4


@attrs.frozen
class QualityDifference:
    """A score of one engine configuration, and its difference to the reference's.

    The interval covers the items: what another draw of such items would show. It does not cover another engine process,
    other seeds of sampled answers, or numerics that depend on the batch.

    Attributes:
        metric: its name in a Result, such as `quality.arc_easy`. task, score: such as `arc_easy` and `acc`.
        experiments: ids of those that share the evaluation, in the study's order: they differ in load or workload.
        reference: id of the first experiment of the reference; None where there is none. The row of the reference
            itself names its own, and has no difference.
        value: the score.
        low, high: of the score (see `llem.metrics.quality.score_quantity`); None where no standard error is stated.
        n: items of the score.
        higher_is_better: whether a higher score is better.
        difference: the score less the reference's, with all that is said of it; None with a reason.
        p_adjusted: after Holm's correction over the differences of this metric, or of all metrics together.
        verdict: "better" or "worse" than the reference where `p_adjusted` is 0.05 or less, else "". None of a fake, nor
            of a difference that `is_rounding`.
        reason: why there is no difference: "is_reference", "no_reference", "other_terms", "other_evaluator",
            "other_version", "other_direction"; else "". why: in words; of a difference, which terms came out otherwise
            by the engines' own limits.
    """

    metric: str
    task: str
    score: str
    experiments: tuple[str, ...]
    reference: str | None
    value: float
    low: float | None
    high: float | None
    n: int
    higher_is_better: bool
    difference: Contrast | None = None
    p_adjusted: float | None = None
    verdict: str = ""
    reason: str = ""
    why: str = ""

    @property
    def is_rounding(self) -> bool:
        """Whether a score of likelihoods differs by less than `ROUNDING` of itself: however sure, it tells nothing."""
        found = self.difference
        return found is not None and found.lost is None and 0 < abs(found.value) < ROUNDING * abs(self.value)
