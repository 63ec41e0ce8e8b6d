"""Conversations as ShareGPT and OpenAI's requests write them: their turns, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["ASKING", "Empty", "Wrong", "check_message", "encodable", "filled_list", "joined_text", "turn_of"]

#: Who speaks, in ShareGPT's words and in those of OpenAI's messages.
SPEAKERS = {
    **dict.fromkeys(("human", "user"), "user"),
    **dict.fromkeys(("gpt", "assistant", "chatgpt", "bing", "bard", "model"), "assistant"),
    "system": "system",
}
ROLES = ("system", "developer", "user", "assistant", "tool", "function")
ASKING = ("user", "tool", "function")


class Wrong(Exception):
    """A row that cannot be read: what is wrong, and what would be right."""


class Empty(Wrong):
    """A row with nothing to send, or without an answer to measure."""


def turn_of(number: int, turn: Any) -> tuple[str, str]:
    """Who speaks, by the roles of OpenAI's messages, and what. Raises Wrong."""
    if not isinstance(turn, dict):
        raise Wrong(f"turn {number} is no JSON object", 'turns look like {"from": "human", "value": "…"}')
    who, value = turn.get("from", turn.get("role")), turn.get("value", turn.get("content"))
    if not isinstance(who, str) or who not in SPEAKERS:
        raise Wrong(f"turn {number} is from {str(who)[:40]!r}", f"`from` must be one of {', '.join(SPEAKERS)}")
    if not isinstance(value, str):
        raise Wrong(f"turn {number} holds {type(value).__name__}, not text", "`value` is a JSON string")
    return SPEAKERS[who], encodable(value, f"turn {number}")


def check_message(which: str, message: Any) -> None:
    """Raises Wrong: no message of a known role with a text, or with parts of text."""
    if not isinstance(message, dict):
        raise Wrong(f"{which} is no JSON object", 'messages look like {"role": "user", "content": "…"}')
    role, content = message.get("role"), message.get("content")
    if role not in ROLES:
        raise Wrong(f"{which} has the role {str(role)[:40]!r}", f"roles are {', '.join(ROLES)}")
    if isinstance(content, list):
        for part in content:
            kind = part.get("type") if isinstance(part, dict) else type(part).__name__
            if kind != "text" or not isinstance(part.get("text"), str):
                told = f"{which} has a part {str(kind)[:40]!r}, and llem sends text alone"
                raise Wrong(told, 'remove the row; parts look like {"type": "text", "text": "…"}')
    elif content is None and role == "assistant" and message.get("tool_calls"):
        return
    elif not isinstance(content, str):
        raise Wrong(f"{which} has {type(content).__name__} for its content, not text", "contents are JSON strings")


def joined_text(content: Any) -> str:
    """The text of a message's content, of its parts together; "" where it has none."""
    if isinstance(content, list):
        return "".join(part["text"] for part in content)
    return content if isinstance(content, str) else ""


def encodable(text: str, where: str) -> str:
    """The text, which can be written as UTF-8. Raises Wrong."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Wrong(f"{where} has half of a character (a lone surrogate)", "write the text anew") from None
    return text


def filled_list(row: Mapping[str, Any], key: str) -> Sequence[Any]:
    """The array in a field. Raises Wrong: it is none; Empty: it has no items."""
    value = row[key]
    if not isinstance(value, list):
        raise Wrong(f"field {key!r} holds {type(value).__name__}, not an array", f"`{key}` is a JSON array")
    if not value:
        raise Empty(f"field {key!r} is empty", "remove the row")
    return value
