"""Secrets in commands, addresses and messages: hidden by their name or their form, and nothing else."""

from __future__ import annotations

import json
import time

import pytest

from llem.foreign.secrets import (
    is_secret,
    redacted,
    without_key,
    without_key_in,
    without_known,
    without_secrets,
)


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
        (['{"Authorization": "Bearer abc", "n": 1}'], ['{"Authorization": "***", "n": 1}']),
        (["--data", '{"api_key": "a b"}'], ["--data", '{"api_key": "***"}']),
        (["-k", "abc"], ["-k", "***"]),
        (["-k", "https://me:abc@host/v1?token=abc"], ["-k", "https://***@host/v1?token=***"]),
        (["-H", "Cookie: a=abc; b=abc"], ["-H", "Cookie: ***"]),
        (["-HCookie: a=abc"], ["-HCookie: ***"]),
        (["--header=Cookie: a=abc"], ["--header=Cookie: ***"]),
        (["-H", "X-Auth-Token: abc"], ["-H", "X-Auth-Token: ***"]),
        (["--cookie", "a=abc"], ["--cookie", "***"]),
        (["-u", "me:abc"], ["-u", "me:***"]),
        (["apiKey=abc"], ["apiKey=***"]),
        (["sh", "-c", "serve m --api-key abc --x"], ["sh", "-c", "serve m --api-key *** --x"]),
        (
            ["sh", "-c", "curl -H 'Authorization: Basic abc' http://u:a@bc@h/x"],
            ["sh", "-c", "curl -H 'Authorization: ***' http://***@h/x"],
        ),
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
        ["-k", "50"],
        ["-k", "http://host/v1"],
        ["--api-key", "$KEY"],
        ["sh", "-c", 'serve m --api-key $KEY; curl -H "Authorization: Bearer ${KEY}" http://h'],
        ["sh", "-c", "run --data prompt_tokens=64,output_tokens=24; monkey=1"],
    ],
)
def test_what_is_no_secret_stays(words):
    """Counts of tokens are what a benchmark is about; the name of a shell's variable is no secret."""
    assert redacted(words) == tuple(words)


def test_words_that_are_no_text_are_escaped() -> None:
    """Python gives an argument's bytes that are no UTF-8 as lone surrogates, which no file of text can hold."""
    assert redacted(["echo", "\udcff-é"]) == ("echo", "\\udcff-é")


@pytest.mark.parametrize(
    "text",
    [
        "401 for https://user:s3cr3t@host/x",
        "token hf_s3cr3ts3cr3t was refused",
        "GET https://host/x?api_key=s3cr3t failed",
        "GET https://host/x?a=1&signature=s3cr3t failed",
        "Authorization: Bearer s3cr3t",
        "Cookie: session=s3cr3t; more=s3cr3t",
        "password=s3cr3t is wrong",
        "the token: s3cr3t",
    ],
)
def test_what_looks_like_a_secret_is_taken_out_of_a_text(text: str) -> None:
    """Of an error, which may quote an address or a header."""
    told = without_secrets(text)

    assert "s3cr3t" not in told
    assert "***" in told


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (r'{"password": "ab\"s3cr3t", "n": 1}', '{"password": "***", "n": 1}'),
        (r'{"api_key":"a\\\"s3cr3t"}', '{"api_key":"***"}'),
        (r'{"api_key":"a\\", "n": "b"}', '{"api_key":"***", "n": "b"}'),
        (r"{'token': 'a\'s3cr3t'}", "{'token': '***'}"),
        ("export TOKEN='it''s3cr3t' x='1'", "export TOKEN='***' x='1'"),
        ('secret="it\'s3cr3t" x', 'secret="***" x'),
        (r'"{\"api_key\": \"a\\\"s3cr3t\", \"n\": \"b\"}"', r'"{\"api_key\": \"***\", \"n\": \"b\"}"'),
        ('{"Authorization": "Digest a=\\"b\\", c=\\"s3cr3t\\""}', '{"Authorization": "***"}'),
        ('{"api_key":"", "n": "b"}', '{"api_key":"***", "n": "b"}'),
        ("client_secret = s3cr3t", "client_secret = ***"),
        ('token = "s3cr3t"', 'token = "***"'),
        ("AWS_ACCESS_KEY =s3cr3t # x", "AWS_ACCESS_KEY =*** # x"),
        ("curl -u me:s3cr3t http://x", "curl -u me:*** http://x"),
        ("curl --user 'me:s3 cr3t s3cr3t' http://x", "curl --user 'me:***' http://x"),
        ("curl --proxy-user=me:s3cr3t http://x", "curl --proxy-user=me:*** http://x"),
    ],
)
def test_a_value_goes_whole(text: str, told: str) -> None:
    """With its escaped quotes and those that are doubled, in JSON within JSON, with blanks around `=`, behind `-u`."""
    assert without_secrets(text) == told


#: Of no account; in parts, so that nobody takes them for real ones.
KEYS = {
    "AWS": ("AKIA", "IOSFODNN7EXAMPLE"),
    "AWS, for a while": ("ASIA", "IOSFODNN7EXAMPLE"),
    "GitHub": ("ghp_", "0123456789abcdefghijABCDEFGHIJ012345"),
    "GitHub, of a server": ("ghs_", "0123456789abcdefghijABCDEFGHIJ012345"),
    "GitHub, fine": ("github_pat_", "11ABCDEFG0123456789_abcdefghij"),
    "GitLab": ("glpat-", "0123456789abcdefghij"),
    "Slack": ("xoxb-", "0123456789-abcdefghij"),
    "Slack, of an app": ("xapp-", "1-A0123456789-abcdefghij"),
    "Google": ("AIza", "0123456789abcdefghijABCDEFGHIJ01234"),
    "Google, OAuth": ("ya29.", "a0AfH6SMB0123456789abcdefghij"),
    "JWT": ("eyJ", "hbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N"),
    "npm": ("npm_", "0123456789abcdefghijABCDEFGHIJ012345"),
    "PyPI": ("pypi-", "AgEIcHlwaS5vcmcCJDAxMjM0NTY3ODk"),
    "Stripe": ("sk_live_", "0123456789abcdefghijABCD"),
    "Replicate": ("r8_", "0123456789abcdefghijABCDEFGHIJ0123456"),
    "Groq": ("gsk_", "0123456789abcdefghijABCDEFGHIJ0123456"),
}


@pytest.mark.parametrize("parts", KEYS.values(), ids=KEYS)
def test_keys_of_well_known_services_are_known_by_their_form(parts: tuple[str, str]) -> None:
    """Whatever stands before them, and nothing around them goes."""
    assert without_secrets(f"# see {''.join(parts)}, or ask") == "# see ***, or ask"


def test_a_web_token_goes_and_what_stands_before_it_in_its_word_stays() -> None:
    """Also where a word before it, or a part of itself, begins as one does."""
    token = "".join(KEYS["JWT"])
    for before in ("", "x-", "-", "eyJust.", "host.", "eyJust.a."):
        assert without_secrets(f"# {before}{token} b") == f"# {before}*** b"
    assert without_secrets("eyJabcdefgh-eyJa.01234567.") == "***"


@pytest.mark.parametrize(
    "text",
    [
        "-eyJaaaaaaaa" * 30_000,
        "cookie:" + "\n" * 300_000,
        "cookie:" + " " * 300_000 + "$",
        "--" + "-token" * 50_000,
        "token:" + " " * 300_000,
        'token" ' + " " * 300_000,
        "://a" * 80_000,
        "-----BEGIN " * 30_000,
    ],
    ids=lambda text: text[:12].strip(),
)
def test_a_long_text_takes_a_time_by_its_length(text: str) -> None:
    """A study file may have 32 MiB: what goes through it again from every place takes hours."""
    began = time.process_time()
    without_secrets(text)
    assert time.process_time() - began < 2


@pytest.mark.parametrize(
    "between", [" ", "\n# ", ", secret ", ' / "'], ids=["a blank", "the next line", "a word", "a quote"]
)
def test_the_second_half_of_a_key_of_aws_goes_with_it(between: str) -> None:
    """It has no form but its length."""
    key, secret = "AKIA" + "IOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/" + "bPxRfiCYEXAMPLEKEY"
    assert without_secrets(f"# {key}{between}{secret} x") == f"# ***{between}*** x"
    assert without_secrets(secret) == secret


def test_other_keys_go_whole() -> None:
    """A private key with all its lines; a key of an account in a connection string."""
    key = "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n+/=\n-----END RSA PRIVATE KEY-----"
    assert without_secrets(f"a\n{key}\nb") == "a\n***\nb"
    assert without_secrets("-----BEGIN PRIVATE KEY-----\n# MIIE") == "***"
    account = "AccountName=a;AccountKey=c2VjcmV0c2VjcmV0c2VjcmV0==;EndpointSuffix=x"
    assert without_secrets(account) == "AccountName=a;AccountKey=***;EndpointSuffix=x"
    assert "c2VjcmV0" not in without_secrets("SharedAccessKey=c2VjcmV0c2VjcmV0c2VjcmV0=")


@pytest.mark.parametrize(
    "text",
    [
        "a bearer token is missing",
        "unknown key 'x'",
        "128 tokens: too many",
        "see https://host/@me/x",
        "AKIAB",
        "eyJust a word",
        "xapp",
        "task-1234567890",
        "0123456789abcdef0123456789abcdef01234567",
        "AIzawa",
        "if token == end:",
        "the key = value of a map",
        "token = $TOKEN, secret = ${SECRET}",
        "docker run -u 1000:1000 image",
        "python -u http://host/x",
        "curl -u $ME:$PASSWORD http://x",
        "curl -u me:$PASSWORD http://x",
    ],
)
def test_a_text_without_a_secret_stays(text: str) -> None:
    """Words that name secrets are in many messages."""
    assert without_secrets(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "# token: 4096 tokens",
        "max token: 4096 reached",
        "unexpected token: <eos>",
        "stop token: '</s>', token: <|im_end|>.",
        "unexpected token: '}'",
        "cache_key=prompt-17 hit",
        "sort-key=name, primary_key = id",
        "key=17, token=0.5; token = 12",
        '{"key": 17, "stop_token": "<eos>", "token": ""}',
    ],
)
def test_what_is_behind_a_word_of_prose_and_no_secret_stays(text: str) -> None:
    """Numbers, a model's tokens, signs, and keys that find something."""
    assert without_secrets(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "token: {}12345678",
        "key={}1a2b3c",
        "token={}12:AAabc",
        'token: "{}12 secret words"',
        "token: <{}eos-s3cr3t>",
        "api_key={}1234",
        "my_key={}1234",
        "password: {}1234",
        "secret={}<eos>",
        "partition_api_key={}abc",
        "cache_key=token={}abc",
    ],
)
def test_what_may_be_a_secret_is_none_of_these(text: str) -> None:
    """More digits, anything beside them, and names that nothing but a secret has."""
    value = text.split("{}")[1].rstrip('>"')
    told = without_secrets(text.format(""))
    assert value not in told
    assert "***" in told


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("HF_TOKEN", True),
        ("x-api-key", True),
        ("max_tokens", False),
        ("prompt_cache_key", False),
        ("sortKey", False),
        ("monkeyKey", True),
        ("cache_token", True),
        ("CACHE_API_KEY", True),
    ],
)
def test_names_of_secrets(name: str, secret: bool) -> None:
    """Of variables, headers and fields."""
    assert is_secret(name) == secret


def test_a_key_that_is_known() -> None:
    """Wherever it stands."""
    assert without_key("a sk-1 b sk-1", "sk-1") == "a *** b ***"
    assert without_key("a", None) == "a"


@pytest.mark.parametrize("key", ['se"cr/et', "a\\b/c", "plain", "é\x7f", "/"])
def test_a_key_is_hidden_however_json_writes_it(key):
    """As it is, with escapes, with all that may be escaped; in texts and names of what was parsed."""
    written = json.dumps(key)[1:-1]
    for said in (key, written, written.replace("/", "\\/")):
        assert without_key(f"1{said}2{said}", key) == "1***2***"
    value = {key: [f"x{key}", {"a": key}], "n": 1, "z": None, "t": True}
    assert without_key_in(value, key) == {"***": ["x***", {"a": "***"}], "n": 1, "z": None, "t": True}
    assert without_key_in(value, None) is value


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("# mine is envsecret99", "# mine is ***"),
        ("# token: abc", "# token: ***"),
        ("# short is a word of its own", "# short is a word of its own"),
        ("# /home/me", "# /home/me"),
    ],
)
def test_secrets_of_variables_are_hidden(text, stored):
    """Whatever stands before them, if the variable's name says that it holds one; short ones may be words."""
    environ = {"HF_TOKEN": "envsecret99", "A_KEY": "short", "HOME": "/home/me"}
    assert without_known(text, environ) == stored
