"""The section `quality:` with `evaluator: lmeval`."""

from __future__ import annotations

from typing import Literal

import attrs

from llem.config.fields import at_least, option
from llem.config.models import Quality

__all__ = ["LmEvalOptions"]


@attrs.frozen(kw_only=True)
class LmEvalOptions(Quality):
    """Section `quality` with `evaluator: lmeval`. Names are those of lm-eval's own command line."""

    evaluator: Literal["lmeval"] = option("lmeval", help="EleutherAI's lm-evaluation-harness.")
    num_fewshot: int | None = option(
        None, help="Examples before each question. Null takes what the task says.", validator=at_least(0)
    )
