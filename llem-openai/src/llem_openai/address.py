"""Where the server answers, and whether that is this machine."""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import urlsplit

import attrs
import psutil

from llem.foreign.secrets import without_secrets

__all__ = ["Address", "elsewhere"]


#: Where these servers have their interface.
VERSION = "/v1"
#: What follows a base URL; the first that is there counts.
ENDPOINTS = ("/chat/completions", "/completions")


@attrs.frozen
class Address:
    """A base URL, taken apart.

    Attributes:
        base: without a trailing slash; with `/v1`, where the URL has no path.
        root: without `/v1` too; health and version are asked there.
    """

    base: str
    root: str
    host: str
    port: int

    @classmethod
    def of(cls, base_url: str) -> Address:
        """Raises ValueError, saying what would be right."""
        example = "write it as http://127.0.0.1:8000/v1"
        parts = urlsplit(base_url)
        try:
            port = parts.port
        except ValueError as error:  # not a number, or too large
            raise ValueError(f"{without_secrets(base_url)!r} has no valid port; {example}") from error
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{without_secrets(base_url)!r} is not an HTTP address; {example}")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError(f"holds more than an address; {example}, and name the key's variable in api_key_env")
        for endpoint in ENDPOINTS:
            if parts.path.rstrip("/").endswith(endpoint):
                right = base_url.rstrip("/").removesuffix(endpoint)
                raise ValueError(f"{base_url!r} holds an endpoint, which llem adds by itself; write {right}")
        base = base_url.rstrip("/") if parts.path.strip("/") else f"{base_url.rstrip('/')}{VERSION}"
        default = 443 if parts.scheme == "https" else 80
        return cls(base, base.removesuffix(VERSION), parts.hostname, port or default)


def elsewhere(host: str) -> str | None:
    """Why a host is not this machine, or None where it is."""
    try:
        found = {str(info[4][0]).partition("%")[0] for info in socket.getaddrinfo(host, None)}
    except (OSError, UnicodeError) as error:
        return f"{host} cannot be resolved ({error})"
    own = {entry.address.partition("%")[0] for entries in psutil.net_if_addrs().values() for entry in entries}
    strange = sorted(one for one in found if one not in own and not ipaddress.ip_address(one).is_loopback)
    if not strange:
        return None
    named = host if strange == [host] else f"{host} is {', '.join(strange)}, which"
    return f"{named} is no address of this machine"
