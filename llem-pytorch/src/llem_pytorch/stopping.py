"""Texts that end a sequence: those of the settings, and those of each request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase, StoppingCriteria, StopStringCriteria

from llem.backends.base import Request
from llem.models.tokenizer import Tokenizer

__all__ = ["RequestStops", "StopTexts"]

#: Tokens that are read beside those that a text may have, since some begin or stand for no text by themselves.
MARGIN = 4


class StopTexts(StoppingCriteria):  # type: ignore[misc]
    """Ends a row at one of the texts, as transformers' own criterion does, and remembers where.

    Rows that have ended are filled up with padding, whose id a model may also generate, so that the end of a row cannot
    be told from its tokens. Made once and used for every batch, as transformers looks through the whole vocabulary.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, texts: str | Sequence[str]) -> None:
        self.found = StopStringCriteria(tokenizer, [texts] if isinstance(texts, str) else list(texts))
        self._width = 0
        self._ends: torch.Tensor | None = None

    def begin(self, width: int) -> None:
        """Forget the last batch; `width` is the tokens of this one's longest prompt."""
        self._width, self._ends = width, None

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        """Per row whether it ends; nothing here waits for the device."""
        done: torch.Tensor = self.found(input_ids, scores, **kwargs)
        length = input_ids.shape[1] - self._width
        ends = torch.zeros_like(done, dtype=torch.long) if self._ends is None else self._ends
        self._ends = torch.where(done & (ends == 0), length, ends)
        return done

    def ends(self) -> list[int]:
        """Per row the tokens after which it ended, 0 where it did not."""
        return [] if self._ends is None else self._ends.tolist()


class RequestStops(StoppingCriteria):  # type: ignore[misc]
    """Ends each row at one of its own request's texts. It waits for the device at every step.

    Where exactly a row ends is seen afterwards, by `llem.models.tokenizer.stops_at`: a step may bring several tokens.
    """

    def __init__(self, requests: Sequence[Request], tokenizer: Tokenizer, width: int) -> None:
        self._texts = [request.stop for request in requests]
        self._tokenizer, self._width = tokenizer, width
        self._done = [False] * len(requests)
        longest = max(len(text.encode()) for texts in self._texts for text in texts)
        self._tail = longest + MARGIN

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        """Per row whether it ends."""
        for row, tokens in enumerate(input_ids[:, self._width :][:, -self._tail :].tolist()):
            if self._texts[row] and not self._done[row]:
                said = self._tokenizer.decode(tokens, strict=False)
                self._done[row] = any(text in said for text in self._texts[row])
        return torch.tensor(self._done, device=input_ids.device)
