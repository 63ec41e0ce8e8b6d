"""How prompts go out: as their source has them, never there and back through a tokenizer."""

from __future__ import annotations

import json

import attrs
import pytest

from llem.backends.base import Request
from llem.config.models import Sampling
from llem.errors import ConfigError
from llem_openai.body import http_head, http_message, prompt_text, request_body
from llem_openai.config import OpenAIOptions

PLAIN = Request(3, (97, 110), 4)
TEXT = Request(3, (97, 110), 4, text=" an\u00ef\r\n ")
TURNS = ({"role": "system", "content": "Be brief."}, {"role": "user", "content": [{"type": "text", "text": "Hi"}]})
CONVERSATION = Request(3, (97, 110), 4, messages=TURNS)
UNKNOWN = attrs.evolve(TEXT, token_ids=())
TOKEN_IDS, AS_TEXT, CHAT = OpenAIOptions(), OpenAIOptions(prompt="text"), OpenAIOptions(endpoint="chat")


def decode(ids):
    """As a tokenizer that does not give back what it was given."""
    return "decoded"


def sent(options, request, decoder=decode):
    """The body's prompt or messages."""
    body = request_body(options, Sampling(), request, model="m", text=prompt_text(options, request, decoder))
    return body.get("prompt", body.get("messages"))


@pytest.mark.parametrize(
    ("options", "request_", "wanted"),
    [
        (TOKEN_IDS, PLAIN, [97, 110]),
        (TOKEN_IDS, TEXT, [97, 110]),
        (TOKEN_IDS, CONVERSATION, [97, 110]),
        (TOKEN_IDS, UNKNOWN, TEXT.text),
        (AS_TEXT, PLAIN, "decoded"),
        (AS_TEXT, TEXT, TEXT.text),
        (AS_TEXT, UNKNOWN, TEXT.text),
        (CHAT, PLAIN, [{"role": "user", "content": "decoded"}]),
        (CHAT, TEXT, [{"role": "user", "content": TEXT.text}]),
        (CHAT, CONVERSATION, list(TURNS)),
    ],
)
def test_prompts_go_out_as_their_source_has_them(options, request_, wanted):
    """Token ids to completions, text as it is where text is sent, a conversation whole to chat."""
    assert sent(options, request_) == wanted


@pytest.mark.parametrize(
    ("options", "request_", "decoder", "hint"),
    [
        (OpenAIOptions(prompt="token_ids"), UNKNOWN, decode, "openai.prompt: text"),
        (TOKEN_IDS, attrs.evolve(CONVERSATION, token_ids=()), decode, "endpoint: chat"),
        (AS_TEXT, CONVERSATION, decode, "openai.endpoint: chat"),
        (AS_TEXT, PLAIN, None, "tokenizer"),
        (CHAT, PLAIN, None, "tokenizer"),
    ],
)
def test_prompts_that_cannot_be_sent(options, request_, decoder, hint):
    """The request is named, and what would be right."""
    with pytest.raises(ConfigError, match="prompt of request 3 cannot be sent") as failed:
        sent(options, request_, decoder)
    assert hint in failed.value.hint
    assert ("prompt: text" in failed.value.hint) == (request_ is UNKNOWN)  # a conversation is no text


def test_text_needs_no_tokenizer():
    """What has its text is sent without one."""
    assert sent(AS_TEXT, TEXT, None) == TEXT.text
    assert sent(CHAT, CONVERSATION, None) == list(TURNS)


def test_a_message_is_the_whole_request():
    """Head, length in bytes and body; any text is legal JSON, lone surrogates too."""
    head = http_head("http://[::1]:8000/api/v1/completions", "k")
    message = http_message(head, {"prompt": "a\u00ef\U0001f600\ud800"})
    told, _, body = message.partition(b"\r\n\r\n")
    lines = told.split(b"\r\n")
    assert lines[0] == b"POST /api/v1/completions HTTP/1.1"
    assert b"host: [::1]:8000" in lines
    assert b"authorization: Bearer k" in lines
    assert b"content-length: %d" % len(body) in lines
    assert json.loads(body) == {"prompt": "a\u00ef\U0001f600\ud800"}
