"""Files as people have them, made from a seed: shaped as ShareGPT, OpenAI's requests and published traces are."""

from __future__ import annotations

import csv
import io
import json
import random
from collections.abc import Callable, Mapping
from typing import Any

import pytest

WORDS = ["the", "quay", "of", "Vell", "was", "built", "in", "three", "stages", "and", "why", "is", "that", "so"]


def _text(rng: random.Random, most: int) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(rng.randint(1, most)))


def sharegpt(count: int = 8, seed: int = 0) -> str:
    """Conversations of one to three turns of a human, each with an answer; some begin with a system's."""
    rng = random.Random(seed)
    rows = []
    for number in range(count):
        turns = [{"from": "system", "value": "Be brief."}] if number % 4 == 3 else []
        for _ in range(rng.randint(1, 3)):
            turns += [{"from": "human", "value": _text(rng, 12)}, {"from": "gpt", "value": _text(rng, 20)}]
        rows.append({"id": f"conv_{number}", "conversations": turns})
    return json.dumps(rows)


def messages(count: int = 8, seed: int = 0) -> str:
    """OpenAI's messages, one turn and many."""
    rng = random.Random(seed)
    rows = []
    for number in range(count):
        said: list[Mapping[str, Any]] = [{"role": "system", "content": "Be brief."}] if number % 2 else []
        for _ in range(number % 3):
            said += [{"role": "user", "content": _text(rng, 9)}, {"role": "assistant", "content": _text(rng, 9)}]
        rows.append({"messages": [*said, {"role": "user", "content": [{"type": "text", "text": _text(rng, 9)}]}]})
    return "\n".join(map(json.dumps, rows))


def batch(count: int = 8, seed: int = 0) -> str:
    """Requests of a batch of completions."""
    rng = random.Random(seed)
    rows = [
        {
            "custom_id": f"request-{number}",
            "method": "POST",
            "url": "/v1/completions",
            "body": {"model": "m", "prompt": _text(rng, 9), "max_tokens": rng.randint(2, 6)},
        }
        for number in range(count)
    ]
    return "\n".join(map(json.dumps, rows)) + "\n"


def table(count: int = 8, seed: int = 0) -> str:
    """A CSV with a prompt, which may have line ends, and an output length."""
    rng, out = random.Random(seed), io.StringIO()
    rows = csv.writer(out)
    rows.writerow(["id", "prompt", "output_tokens"])
    rows.writerows([number, f"{_text(rng, 9)},\n{_text(rng, 9)}", rng.randint(2, 6)] for number in range(count))
    return out.getvalue()


def mooncake(count: int = 40, seed: int = 0, gap_ms: int = 20) -> str:
    """A trace of prompts that begin with the same block, and here and there go on as an earlier one did."""
    rng = random.Random(seed)
    rows, new, blocks = [], 1, [0]
    for number in range(count):
        if rng.random() < 0.7:  # another conversation
            blocks = [0]
        more = rng.randint(1, 2)
        blocks = [*blocks, *range(new, new + more)]
        new += more
        length = 512 * (len(blocks) - 1) + rng.randint(1, 512)
        row = {"timestamp": number * gap_ms, "input_length": length, "output_length": rng.randint(2, 6)}
        rows.append({**row, "hash_ids": blocks})
    return "\n".join(map(json.dumps, rows)) + "\n"


def burstgpt(count: int = 40) -> str:
    """A trace with times in seconds, some requests of which failed."""
    rows = ["Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type"]
    rows += [f"{n * 0.02:.2f},ChatGPT,{8 + n % 3},{3 * (n % 7 > 0)},{11 + n % 3},API log" for n in range(count)]
    return "\n".join(rows) + "\n"


def azure(count: int = 40) -> str:
    """A trace with dates, as of 2024."""
    rows = ["TIMESTAMP,ContextTokens,GeneratedTokens"]
    rows += [f"2024-05-10 00:00:{n * 0.02:09.6f}+00:00,{8 + n % 3},3" for n in range(count)]
    return "\n".join(rows) + "\n"


SHAPES: Mapping[str, Callable[..., str]] = {
    "sharegpt.json": sharegpt,
    "messages.jsonl": messages,
    "batch.jsonl": batch,
    "table.csv": table,
    "mooncake.jsonl": mooncake,
    "burstgpt.csv": burstgpt,
    "azure.csv": azure,
}


@pytest.fixture
def shapes() -> Mapping[str, Callable[..., str]]:
    """File name to what makes its text: `shapes["sharegpt.json"](count, seed)`."""
    return SHAPES
