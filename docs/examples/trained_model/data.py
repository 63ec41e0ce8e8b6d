"""The made task: a story, and questions whose answers take both the story and a learnt table.

A story names one word of every kind, in any order. A question names the first kind of a pair. The answer gives both
words of the pair, wherever they stand in the story, and what the table has for the two; then the same for the next two
pairs:

    tool vako . city meri . pet sula . drink tobe . … ? pet   →   sula drink tobe makes rine . tool vako fruit … . done

The table is drawn once by the seed, for every two words of a pair. No prompt holds it: the model must have learnt it.
So a model that reads less of its prompt misses words of the story, and one with rougher weights or fewer layers misses
what was learnt.
"""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

__all__ = ["KINDS", "PLAIN", "World", "write_tasks"]

T = TypeVar("T")

KINDS = ("pet", "drink", "tool", "fruit", "city", "sport", "tree", "metal", "music", "food", "cloth", "game")
PLAIN = ("makes", "?", ".", "done")
PAIRS = len(KINDS) // 2
#: Pairs that one question asks about: the one that it names and the next ones, in this order and round.
IN_A_ROW = 3
SYLLABLES = [first + second for first in "bdfgklmnprstv" for second in "aeiou"]


class World:
    """Words of every kind, the table, and stories from them, all by one seed.

    Args:
        words: words of each kind; the table has `PAIRS * words**2` entries.
        made: different entries of the table.
    """

    def __init__(self, seed: int, words: int = 16, made: int = 512) -> None:
        chance = random.Random(seed)
        drawn = chance.sample(
            ["".join(two) for two in itertools.product(SYLLABLES, repeat=2)], len(KINDS) * words + made
        )
        self.made = drawn[len(KINDS) * words :]
        self.words = [drawn[kind * words : (kind + 1) * words] for kind in range(len(KINDS))]
        self.table = [[[chance.choice(self.made) for _ in range(words)] for _ in range(words)] for _ in range(PAIRS)]

    @property
    def vocabulary(self) -> list[str]:
        """Every word of every text."""
        return [*KINDS, *itertools.chain(*self.words), *self.made, *PLAIN]

    def answer(self, pair: int, first: int, second: int, made: str | None = None) -> str:
        """What follows a question; `made` replaces what the table has."""
        said = made or self.table[pair][first][second]
        one, two = self.words[2 * pair][first], self.words[2 * pair + 1][second]
        return f"{one} {KINDS[2 * pair + 1]} {two} makes {said}"

    def story(self, chance: random.Random) -> tuple[list[int], str]:
        """The word of each kind, as numbers, and the text."""
        held = [chance.randrange(len(words)) for words in self.words]
        order = chance.sample(range(len(KINDS)), len(KINDS))
        return held, " ".join(f"{KINDS[kind]} {self.words[kind][held[kind]]} ." for kind in order)

    def answers(self, held: list[int], pair: int) -> list[str]:
        """Words of the answers about `IN_A_ROW` pairs in their order, from one on."""
        said = []
        for asked in range(pair, pair + IN_A_ROW):
            two = 2 * (asked % PAIRS)
            said.append(f"{KINDS[two]} {self.answer(asked % PAIRS, held[two], held[two + 1])} .")
        return said

    def text(self, chance: random.Random) -> str:
        """A story and all pairs, half of them in a row: what the model is trained on."""
        held, story = self.story(chance)
        pair = chance.randrange(PAIRS)
        rows = (" ".join(self.answers(held, first)) for first in range(pair, pair + PAIRS, IN_A_ROW))
        return " ".join((story, *(f"? {row} done" for row in rows)))

    def questions(self, chance: random.Random, count: int) -> Iterator[dict[str, Any]]:
        """Questions with the right answer and seven wrong ones.

        Five have what the table gives for a neighbour, with one of the two words; two have another word.
        """
        words = range(len(self.words[0]))
        for _ in range(count):
            held, story = self.story(chance)
            pair = chance.randrange(PAIRS)
            first, second = held[2 * pair], held[2 * pair + 1]
            table = self.table[pair]
            beside = {table[first][one] for one in words} | {table[one][second] for one in words}
            wrong = [
                *(
                    self.answer(pair, first, second, one)
                    for one in chance.sample(sorted(beside - {table[first][second]}), 5)
                ),
                self.answer(pair, first, _other(chance, words, second)),
                self.answer(pair, _other(chance, words, first), second),
            ]
            right = self.answer(pair, first, second)
            choices = chance.sample([right, *wrong], 1 + len(wrong))
            answer = " ".join(self.answers(held, pair)).removeprefix(f"{KINDS[2 * pair]} ")
            question = f"{story} ? {KINDS[2 * pair]}"
            yield {"question": question, "choices": choices, "gold": choices.index(right), "answer": answer}


def _other(chance: random.Random, among: Sequence[T], than: T) -> T:
    return chance.choice([one for one in among if one != than])


def write_tasks(world: World, seed: int, folder: Path, count: int = 500) -> None:
    """Write three tasks of lm-eval with `count` items each: to choose, to answer, and texts.

    The items are drawn apart from what the model is trained on. The YAML files name their data by absolute path, so
    that they work from any folder, with lm-eval's own command too.
    """
    folder.mkdir(parents=True, exist_ok=True)
    mean = {"aggregation": "mean", "higher_is_better": True}
    asked = {"doc_to_text": "{{question}}"}
    tasks = {
        "made_choose": {
            "output_type": "multiple_choice",
            "doc_to_choice": "choices",
            "doc_to_target": "gold",
            "metric_list": [{"metric": "acc", **mean}],
            **asked,
        },
        "made_answer": {
            "output_type": "generate_until",
            "doc_to_target": "answer",
            "generation_kwargs": {"until": [" done"], "max_gen_toks": 22, "do_sample": False},
            "filter_list": [
                {"name": "none", "filter": [{"function": "remove_whitespace"}, {"function": "take_first"}]}
            ],
            "metric_list": [{"metric": "exact_match", **mean}],
            **asked,
        },
        "made_text": {
            "output_type": "loglikelihood_rolling",
            "doc_to_text": "",
            "doc_to_target": "{{text}}",
            "metric_list": [{"metric": one} for one in ("word_perplexity", "byte_perplexity", "bits_per_byte")],
        },
    }
    for name, settings in tasks.items():
        chance = random.Random(f"{seed} {name}")
        rows = list(world.questions(chance, count))
        if name == "made_text":
            rows = [{"text": world.text(chance)} for _ in range(count)]
        data = folder.resolve() / f"{name}.jsonl"
        data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        source = {"dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(data)}}, "test_split": "test"}
        written = {"task": name, **source, **settings, "metadata": {"version": 1.0}}
        text = json.dumps(written, indent=2)  # JSON is YAML
        (folder / f"{name}.yaml").write_text(text + "\n", encoding="utf-8")
