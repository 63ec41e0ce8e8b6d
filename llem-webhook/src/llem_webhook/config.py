"""Where messages go, and about which events: from the user configuration and the environment."""

from __future__ import annotations

import os
import shlex
from typing import Any, Literal

import attrs

from llem.config.converter import structure
from llem.config.fields import DAY_S, between, option
from llem.config.user import load_user_config, named_user_config

__all__ = ["COMMAND", "URL", "WebhookOptions", "load_options"]

#: Environment variables that take the place of `url` and `command`.
URL, COMMAND = "LLEM_WEBHOOK_URL", "LLEM_WEBHOOK_COMMAND"


def _web(_: Any, attribute: Any, value: str | None) -> None:
    """Validator. The message leaves the value out: with most services a URL is a secret."""
    if value is not None and not value.startswith(("https://", "http://")):
        raise ValueError("must begin with https:// or http://")


@attrs.frozen(kw_only=True)
class WebhookOptions:
    """The section `webhook` of `observers` in the user configuration."""

    url: str | None = option(None, help="POST messages to this URL. Null: to none.", validator=_web)
    command: tuple[str, ...] | None = option(
        None, help="Program and arguments, run without a shell. The program gets the JSON on standard input."
    )
    events: tuple[Literal["study", "experiment", "failure"], ...] = option(
        ("study", "failure"),
        help="Send a message when a study has ended, an experiment has ended, or an experiment has failed.",
    )
    timeout_s: float = option(5.0, help="Give up a message after this long.", unit="s", validator=between(0.1, DAY_S))


def load_options() -> WebhookOptions:
    """Raises ConfigError for a wrong section, or a URL that is none."""
    section = load_user_config().observers.get("webhook", {})
    found: WebhookOptions = structure(WebhookOptions, section, "observers.webhook", source=named_user_config())
    named: dict[str, Any] = {}
    if url := os.environ.get(URL):
        named["url"] = url
    if command := os.environ.get(COMMAND):
        named["command"] = shlex.split(command)
    if not named:
        return found
    given = structure(WebhookOptions, named, source="the environment (LLEM_WEBHOOK_…)")
    return attrs.evolve(found, **{name: getattr(given, name) for name in named})
