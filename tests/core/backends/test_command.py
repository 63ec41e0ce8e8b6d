"""Secrets of a command's words, and what a command refuses."""

from __future__ import annotations

import pytest

from llem.backends.command import redacted


@pytest.mark.parametrize(
    ("words", "stored"),
    [
        (["--api-key", "abc"], ["--api-key", "***"]),
        (["--api_key=abc"], ["--api_key=***"]),
        (["--hf-token", "abc", "-x"], ["--hf-token", "***", "-x"]),
        (["OPENAI_API_KEY=abc"], ["OPENAI_API_KEY=***"]),
        (["-H", "Authorization: Bearer abc"], ["-H", "Authorization: ***"]),
        (["curl", "https://me:abc@host/v1"], ["curl", "https://***@host/v1"]),
        (["x", "hf_abcdefghijkl"], ["x", "***"]),
        (["--password", "abc"], ["--password", "***"]),
        (["sh", "-c", "export OPENAI_API_KEY='abc'; run"], ["sh", "-c", "export OPENAI_API_KEY='***'; run"]),
        (["http://host/v1?api_key=abc&n=1"], ["http://host/v1?api_key=***&n=1"]),
        (['{"api_key": "abc", "n": 1}'], ['{"api_key": "***", "n": 1}']),
    ],
)
def test_secrets_are_hidden(words, stored):
    """By the name of the option or variable, or by their own form."""
    assert redacted(words) == tuple(stored)


@pytest.mark.parametrize(
    "words",
    [
        ["--max-tokens", "128"],
        ["--num-input-tokens=64"],
        ["--output-tokens", "24"],
        ["--token", "--verbose"],
        ["--tokenizer", "gpt2"],
        ["--keyboard=us"],
        ["prompt_tokens=64,output_tokens=24"],
        ["monkey=1"],
        ["sh", "-c", "run --data prompt_tokens=64,output_tokens=24; monkey=1"],
    ],
)
def test_what_is_no_secret_stays(words):
    """Counts of tokens are what a benchmark is about."""
    assert redacted(words) == tuple(words)


def test_words_that_are_no_text_are_escaped() -> None:
    """Python gives an argument's bytes that are no UTF-8 as lone surrogates, which no file of text can hold."""
    assert redacted(["echo", "\udcff-é"]) == ("echo", "\\udcff-é")
