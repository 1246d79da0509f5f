"""Base URLs of peers: what is allowed in one, and how paths are joined to it.

Which addresses may be connected to where others say where: not this machine, not its networks.
"""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from reconciler.errors import UsageError


@dataclass(frozen=True, slots=True)
class Address:
    """A peer's base URL: `text` without a trailing slash, and whether its host is this machine."""

    text: str
    loopback: bool
    encrypted: bool
    host: str = ""

    def join(self, path: str) -> str:
        """The URL of `path`, which is below the base URL's own path."""
        return f"{self.text}/{path.lstrip('/')}"


def parse_address(url: str, what: str = "URL") -> Address:
    """Check a peer's base URL. `what` names it in errors, such as "api".

    Raises UsageError unless it is http or https with a host and nothing but a path behind it. User
    information is refused because URLs are shown in logs.
    """
    parts, port_holds = _split(url)
    hint = "write it like http://127.0.0.1:5001"
    shown = "" if parts is not None and "@" in parts.netloc else f" {url!r}"
    if parts is None or not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        raise UsageError(f"{what}{shown} is not a URL", hint=hint)
    if "@" in parts.netloc:
        raise UsageError(
            f"{what} holds a user name or password",
            hint="take it out, and name an environment variable in token_env",
        )
    if parts.scheme not in ("http", "https"):
        raise UsageError(f"{what}{shown} is neither http nor https", hint=hint)
    if not parts.hostname or not port_holds:
        raise UsageError(f"{what}{shown} has no host, or a port that is none", hint=hint)
    if parts.query or parts.fragment or "?" in url or "#" in url:
        raise UsageError(
            f"{what}{shown} has something behind its path", hint="leave out everything from '?' or '#' on"
        )
    return Address(url.rstrip("/"), _is_loopback(parts.hostname), parts.scheme == "https", parts.hostname)


def _split(url: str) -> tuple[SplitResult | None, bool]:
    try:
        parts = urlsplit(url)
    except ValueError:
        return None, False
    try:
        return parts, parts.port != 0
    except ValueError:
        return parts, False


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def is_public(address: str) -> bool:
    """Whether an IP address is reachable from everywhere, as IANA's registries have it."""
    found = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(found, "ipv4_mapped", None)
    return (mapped or found).is_global and not found.is_multicast


def public_address(host: str, port: int) -> str | None:
    """An address of `host`, looked up now; None when one of its addresses is not public.

    Raises OSError when the name cannot be resolved.
    """
    found = [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    return found[0] if found and all(map(is_public, found)) else None
