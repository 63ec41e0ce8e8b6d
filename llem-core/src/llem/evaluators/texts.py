"""Texts cut into passages by their characters alone, and what of them is predicted from what. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator

import attrs

from llem.backends.base import Scored
from llem.errors import ConfigError

__all__ = ["PASSAGE", "Passage", "Text", "passages"]

#: Characters of a passage at least, unless its text ends; it ends with a line, or a word, within as many more.
PASSAGE = 2048


@attrs.frozen
class Text:
    """A document.

    Attributes:
        name: by its content.
        ids: its tokens, without any that is not of the text.
        starts: at which character each token begins; None: the tokenizer does not tell.
        begin: the token that the first one is predicted from; None: the first one is not predicted.
    """

    name: str
    text: str
    ids: tuple[int, ...]
    starts: tuple[int, ...] | None
    begin: int | None

    def requests(self, passage: Passage, stride: int, length: int) -> Iterator[Scored]:
        """What is asked of the engine for a passage: all its tokens once, in parts of `stride` tokens at most.

        Each part follows `length` − `stride` tokens, or all there are before it: at least one.
        """
        before = () if self.begin is None else (self.begin,)
        parts, most = -(-passage.tokens // stride), length - stride
        for part in range(parts):
            first = passage.first + passage.tokens * part // parts
            end = passage.first + passage.tokens * (part + 1) // parts
            context = (*before, *self.ids[:first]) if first < most else self.ids[first - most : first]
            yield Scored(context, self.ids[first:end])


@attrs.frozen
class Passage:
    """A stretch of a text, the same for every tokenizer.

    Attributes:
        id: its text's name and its number there.
        bytes: UTF-8 bytes of the characters whose tokens are predicted.
        first, tokens: the tokens that begin in it: the first, and how many; none that is not predicted.
    """

    id: str
    bytes: int
    first: int
    tokens: int


def passages(text: Text) -> Iterator[Passage]:
    """The passages of a text that have a token to predict; the whole text where the tokenizer tells no starts.

    A token that lies across the end of a passage counts in the one in which it begins, and each byte in its own. The
    bytes of a first token that is not predicted count nowhere.

    Raises ConfigError: the tokenizer has neither a beginning nor an end of texts, nor does it tell starts.
    """
    skipped = 0 if text.begin is not None else 1
    if text.starts is None:
        if skipped:
            what = "the tokenizer has no token that begins or ends a text, and does not tell where its tokens begin"
            raise ConfigError(what, "use a model with a fast tokenizer")
        yield Passage(f"{text.name}/0", len(text.text.encode()), 0, len(text.ids))
        return
    lost = _bytes_of_first(text) if skipped else 0
    for number, (begin, end) in enumerate(_cuts(text.text)):
        first = max(bisect_left(text.starts, begin), skipped)
        tokens = bisect_left(text.starts, end) - first
        size = len(text.text[begin:end].encode()) - (lost if begin == 0 else 0)
        if tokens > 0 and size > 0:
            yield Passage(f"{text.name}/{number}", size, first, tokens)


def _bytes_of_first(text: Text) -> int:
    """Of the first token: the characters before the second one; a single byte where both are of one character."""
    starts = text.starts or ()
    until = starts[1] if len(starts) > 1 else len(text.text)
    return len(text.text[:until].encode()) or 1


def _cuts(text: str) -> Iterator[tuple[int, int]]:
    """Beginning and end of each passage: after the first line end past `PASSAGE` characters, else the first space."""
    at = 0
    while at < len(text):
        soon, late = at + PASSAGE, at + 2 * PASSAGE
        places = (text.find(mark, soon, late) + 1 for mark in "\n ")
        end = next((place for place in places if place), late)
        yield at, min(end, len(text))
        at = end
