"""Secrets in what is stored and shown: command lines, addresses, and what servers and errors tell. Pure.

A secret is known by the name of its option, variable or header, or by its own form; one without either stays. So does
what is behind such a name and no secret: what looks something up (`cache_key=`), and in a text, behind a name that ends
in `token` and behind `key` alone, a number of up to seven digits, a model's token such as `<eos>`, and what has neither
letter nor digit.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

__all__ = [
    "HIDDEN",
    "in_each_text",
    "is_secret",
    "redacted",
    "without_key",
    "without_key_in",
    "without_known",
    "without_secrets",
]

#: Stands for a secret.
HIDDEN = "***"

#: What such a key finds is no secret: `cache_key`, `primaryKey`.
_FINDS = ("cache", "foreign", "group", "lookup", "partition", "primary", "routing", "row", "shard", "sort")
_NOT_FOUND_BY = "".join(rf"(?<!(?i:{word}))(?<!(?i:{word}[-_]))" for word in _FINDS)
_WORDS = (
    rf"api[-_]?keys?|{_NOT_FOUND_BY}keys?|token|secrets?|passw(?:or)?ds?|passwd|passphrase|credentials?|bearer|"
    r"auth(?:orization)?|cookies?|signature|sig"
)
#: Names of secrets: `HF_TOKEN`, `--api-key`, `X-Auth-Token`, `apiKey`. A number of tokens is none.
_SECRET = re.compile(rf"(?:^|[-_.])(?i:{_WORDS})$|[a-z](?:{_NOT_FOUND_BY}Key|Token|Secret|Password)$")
#: `NAME=VALUE`, also after dashes, and `NAME: VALUE`, as headers have it, also right behind `-H`.
_ASSIGNED = re.compile(
    r"(?P<name>(?:-H)?-{0,2}[A-Za-z_][\w.-]*)(?P<between>=|:\s*)(?P<value>(?!\$\{?[A-Za-z_]).+)", re.DOTALL
)
#: Names that hold a secret also where prose or YAML has them: `token: abc`, `token = abc`.
_PLAIN_WORDS = r"(?:api[-_]?key|token|secret|passw(?:or)?d)"
#: A value within a text, without its quotes: up to the same quote, which a backslash or a second one (`''`) keeps in
#: the value, or up to a blank or what ends it. In JSON within JSON the quote itself is `\"`. The name of a shell's
#: variable is no value.
_QUOTE = r"""(?P<quote>\\?["'])?+(?!\$\{?[A-Za-z_])"""
_QUOTED = r"""(?s:(?!(?P=quote))(?:\\\\\\["'\\]|\\.|[^\\])|(?P=quote){2})*+"""
_VALUE = rf"""(?P<value>(?(quote){_QUOTED}|[^\s;&"'}},]+))"""
#: The same within a line of a shell, the query of an address, JSON or a message.
_WITHIN = re.compile(
    rf"""(?P<before>(?<![A-Za-z])(?:{_WORDS})(?:=|["']\s*:\s*|\\["']\s*:\s*(?=\\["']))"""
    rf"""|(?<![A-Za-z]){_PLAIN_WORDS}:\s*"""
    rf"""|(?<![\w-])--[\w-]*{_PLAIN_WORDS}\s+(?!-)){_QUOTE}{_VALUE}""",
    re.IGNORECASE,
)
#: `NAME = VALUE`, where the value may be such a name itself: to be looked for last.
_SPACED = re.compile(
    rf"""(?P<before>(?<![A-Za-z])(?:{_PLAIN_WORDS}|(?<=[-_])(?:{_WORDS}))[ \t]*=(?!=)[ \t]*){_QUOTE}{_VALUE}""",
    re.IGNORECASE,
)
#: A header's value has blanks.
_HEADER = re.compile(
    rf"""(?P<before>(?<![A-Za-z])(?:authorization|cookie)\\?["']?\s*:\s*+)(?P<quote>\\?["'])?+(?!\s*+(?:\w+ )?\$)"""
    rf"""(?P<value>(?(quote){_QUOTED}|[^"'\r\n]+))""",
    re.IGNORECASE,
)
#: A user with a password, behind curl's option. An address and the numbers of a user and a group are none.
_USER = re.compile(
    rf"""(?P<before>(?<![\w-])(?:-u|--(?:proxy-)?user)(?:\s+|=))(?P<quote>["'])?+(?!\d+:\d+(?!\S))"""
    rf"""(?P<user>[^\s:"'$]+:)(?!//|\$)(?P<value>(?(quote){_QUOTED}|[^\s;&"'}},]+))""",
)
#: Names that are words of prose too, and what is no secret behind one.
_OF_PROSE = re.compile(r"[\w-]*token\b|(?<![\w-])key\b", re.IGNORECASE)
_NO_SECRET = re.compile(r"\d{1,7}(?:\.\d{1,7})?[).:\]]*|<[/|]?[A-Za-z_]{1,20}\|?>[).:\]]*|[\W_]*")
#: What is a secret whatever stands before it.
_FORMS = (
    re.compile(r"(?<=://)[^/\s?#\"']*(?=@)"),
    re.compile(r"(?i)(?<=\bbearer )(?!\$|token\b|auth)[^\s\"']+"),
    re.compile(
        r"\b(?:hf_|sk-|gh[oprsu]_|github_pat_|gl(?:agent|dt|ft|imt|oas|pat|ptt|rt|soat)-|nvapi-|xapp-|xox[a-z]-|"
        r"[rs]k_(?:live|test)_)[A-Za-z0-9_-]{8,}"
    ),
    re.compile(r"\b(?:gsk_|npm_|pypi-|r8_|ya29\.|AIza)[A-Za-z0-9_-]{20,}"),
    re.compile(r"(?i)(?:(?<=accountkey=)|(?<=accesskey=))[a-z0-9+/=]{16,}"),
    re.compile(
        r"-----BEGIN [A-Z ]*PRIVATE KEY(?: BLOCK)?-----.*?(?:-----END [A-Z ]*PRIVATE KEY(?: BLOCK)?-----|\Z)", re.DOTALL
    ),
)
#: A JSON web token, behind what stands before it in its word. Each word is gone through once (`(?>`), from its start.
_WEB_TOKEN = re.compile(
    r"(?<![A-Za-z0-9_-])(?P<before>(?>[A-Za-z0-9_-]*?\b(?=eyJ)))"
    r"eyJ[A-Za-z0-9_-]{8,}+\.[A-Za-z0-9_-]{8,}+\.[A-Za-z0-9_-]*+"
)
#: A key of AWS, and beside it what goes with it, which has no form but its length.
_WORD_40 = r"(?<![A-Za-z0-9/+=])[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+=])"
_AWS = re.compile(
    rf"(?:{_WORD_40}(?P<before>.{{1,60}}?))?\b(?:AKIA|ASIA)[A-Z0-9]{{16}}\b(?:(?P<after>.{{1,60}}?){_WORD_40})?",
    re.DOTALL,
)
#: Options of curl and of others whose next word is a secret, unless that is an option, an address or a small number.
_SHORT = ("-k",)
#: A shorter value of a variable may be a word of any text.
SHORTEST = 8
#: Options whose next word may hold a password behind a colon.
_USERS = ("-u", "--user", "--proxy-user")


def is_secret(name: str) -> bool:
    """Whether an option, a variable, a header or a field of this name holds a secret."""
    return _SECRET.search(name) is not None


def redacted(argv: Sequence[str], hidden: str = HIDDEN) -> tuple[str, ...]:
    """A command without what looks like a secret: `--api-key X`, `-k X`, `TOKEN=X`, `-H 'Cookie: X'`, `user:X@host`.

    Bytes that are no UTF-8 are escaped, as a store holds text alone.
    """
    found: list[str] = []
    before = ""
    for word in argv:
        found.append(hidden if _follows(before, word) else _without(word, before, hidden))
        before = word
    return tuple(word.encode(errors="backslashreplace").decode() for word in found)


def _follows(option: str, word: str) -> bool:
    """Whether a word is the secret of the option before it."""
    if option in _SHORT:
        return not (word.startswith("-") or "://" in word or (word.isdecimal() and len(word) < 8))
    return option.startswith("-") and is_secret(option) and not word.startswith(("--", "$"))


def _without(word: str, before: str, hidden: str) -> str:
    match = _ASSIGNED.fullmatch(word)
    if match and is_secret(match["name"].removeprefix("-H")):
        return f"{match['name']}{match['between']}{hidden}"
    if before in _USERS and ":" in word:
        return f"{word.partition(':')[0]}:{hidden}"
    return without_secrets(word, hidden)


def without_secrets(text: str, hidden: str = HIDDEN) -> str:
    """A text without what looks like a secret: an address, a line of a shell, JSON, a message."""
    for form in _FORMS:
        text = form.sub(hidden, text)
    text = _WEB_TOKEN.sub(lambda found: f"{found['before']}{hidden}", text)
    text = _AWS.sub(lambda found: hidden.join(("", *filter(None, found.groups()), "")), text)
    for named in (_HEADER, _WITHIN, _USER, _SPACED):
        text = named.sub(lambda found: _hiding(found, hidden), text)
    return text


def _hiding(found: re.Match[str], hidden: str) -> str:
    if _OF_PROSE.match(found.string, found.start()) and _NO_SECRET.fullmatch(found["value"]):
        return found[0]
    parts = found.groupdict("")
    return f"{parts['before']}{parts['quote']}{parts.get('user', '')}{hidden}"


def without_known(text: str, environ: Mapping[str, str]) -> str:
    """The same, and without the secrets that these variables hold, whatever stands before them."""
    for name, value in environ.items():
        if len(value) >= SHORTEST and is_secret(name):
            text = without_key(text, value)
    return without_secrets(text)


def without_key(text: str, key: str | None) -> str:
    """A text without a key that is known, as it is or as JSON writes it within a text."""
    for said in _spellings(key) if key else ():
        text = text.replace(said, HIDDEN)
    return text


def _spellings(key: str) -> tuple[str, ...]:
    """The key itself last: it may begin or end within a longer one."""
    written = json.dumps(key)[1:-1]
    return tuple(dict.fromkeys((written.replace("/", "\\/"), written, key)))


def without_key_in(value: Any, key: str | None) -> Any:
    """A JSON value without a key that is known, in any of its texts and names.

    To be asked of what was parsed: an escape (`\\u0073`) spells the key without its bytes. Raises RecursionError.
    """
    return in_each_text(value, lambda text: without_key(text, key)) if key else value


def in_each_text(value: Any, change: Callable[[str], str]) -> Any:
    """A JSON value with each of its texts and names changed. Raises RecursionError."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list):
        return [in_each_text(one, change) for one in value]
    if isinstance(value, dict):
        return {change(name): in_each_text(one, change) for name, one in value.items()}
    return value
