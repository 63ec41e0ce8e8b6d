"""The section `openai:` of an experiment."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any, Literal

import attrs

from llem.config.fields import DAY_S, between, option

__all__ = ["READY_TIMEOUT_S", "OpenAIOptions", "argv"]

Endpoint = Literal["completions", "chat"]
Prompt = Literal["token_ids", "text"]
LengthField = Literal["ignore_eos", "min_tokens"]

READY_TIMEOUT_S = 600.0


def argv(command: tuple[str, ...] | str | None) -> tuple[str, ...]:
    """The command as its arguments. Raises ValueError for quotes that do not close."""
    return tuple(shlex.split(command) if isinstance(command, str) else command or ())


def _a_command(_: Any, attribute: Any, value: Any) -> None:
    if value is None:
        return
    try:
        words = argv(value)
    except ValueError as error:
        raise ValueError(f"cannot be split into arguments: {error}; close the quote, or give a list") from error
    if not words:
        raise ValueError("is empty; give the program and its arguments, or leave it out for a server that runs already")


def _a_variable(_: Any, attribute: Any, value: str | None) -> None:
    if value is not None and not value.isidentifier():
        raise ValueError("must be the name of an environment variable, not the key itself")


@attrs.frozen(kw_only=True)
class OpenAIOptions:
    """The server, and how llem sends requests to it."""

    # the server
    base_url: str = option(
        "http://127.0.0.1:8000/v1", help="URL of the server. It must be on this machine, whose energy llem measures."
    )
    command: tuple[str, ...] | str | None = option(
        None,
        help="Command that starts the server: a list of arguments, or text that llem splits like a shell. llem ends "
        "the server with the engine. Null: the server runs already, and llem leaves it running.",
        validator=_a_command,
    )
    ready_timeout_s: float | None = option(
        None,
        help="Time from starting the command until the server answers, at most. Null is 600.",
        unit="s",
        validator=between(0.1, DAY_S),
    )
    served_model: str | None = option(
        None, help="The model's name on the server. Null takes the only model that the server lists."
    )
    api_key_env: str | None = option(
        None,
        help="Name of the environment variable that holds the server's key. llem never stores the key.",
        validator=_a_variable,
    )

    # requests
    endpoint: Endpoint = option("completions", help="Which interface of the server llem uses.")
    prompt: Prompt | None = option(
        None,
        help="Send the workload's token ids, or their text. Null sends token ids to completions, and text to chat, "
        "which takes text only.",
    )
    return_token_ids: bool = option(
        False, help="Also request the generated token ids (vLLM), so that outputs of engines can be compared."
    )
    ignore_eos_fields: tuple[LengthField, ...] = option(
        ("ignore_eos", "min_tokens"),
        help="Fields that pass `sampling.ignore_eos` to the server. Leave out a field that the server does not know.",
    )
    extra_body: Mapping[str, Any] = option(
        factory=dict, help="Further fields of each request, as this server understands them."
    )

    salt: bool | None = option(
        None,
        help="Draw the token ids of synthetic prompts anew for each engine, so that the server has none of them in its "
        "cache from an earlier run. Lengths stay as the seed has them. Null does so for a server that runs already, "
        "and not with `return_token_ids`, which compares outputs of the same prompts.",
    )

    # the client
    timeout_s: float = option(
        600.0,
        help="Longest time without a new token, from sending a request on. Then the request has failed, even if the "
        "server keeps its connection alive. Of an answer that is not streamed, all tokens come at its end.",
        unit="s",
        validator=between(0.1, DAY_S),
    )
    deadline_s: float = option(
        3600.0,
        help="Longest time of one request. Then it has failed, even if its tokens still come.",
        unit="s",
        validator=between(0.1, DAY_S),
    )
    client_processes: int | None = option(
        None,
        help="How many processes send the requests of a serving load. Null takes as many as the load needs.",
        validator=between(1, 64),
    )
