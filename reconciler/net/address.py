"""Addresses of peers: base URLs, the proxy for each, and the SSRF guard.

The guard decides which addresses may be dialled when a peer supplies them: not those of this machine and of
private networks.
"""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies

from reconciler.errors import UsageError


@dataclass(frozen=True, slots=True)
class Address:
    """A peer's base URL: `text` has no trailing slash; `loopback` is True when its host is this machine."""

    text: str
    loopback: bool
    encrypted: bool
    host: str
    port: int

    def join(self, path: str) -> str:
        """Return the URL of `path` below the base URL."""
        return f"{self.text}/{path.lstrip('/')}"


def parse_address(url: str, what: str = "URL") -> Address:
    """Parse a peer's base URL. `what` names it in errors, such as "api".

    Raises UsageError unless it is http or https with a host and an optional path. User information is refused
    because URLs are shown in logs.
    """
    parts, port = _split(url)
    hint = "write it like http://127.0.0.1:5001"
    shown = "" if parts is not None and "@" in parts.netloc else f" {url!r}"
    if parts is None or not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        raise UsageError(f"{what}{shown} is not a URL", hint=hint)
    if "@" in parts.netloc:
        raise UsageError(
            f"{what} contains a user name or password",
            hint="remove it, and name an environment variable in token_env",
        )
    if parts.scheme not in ("http", "https"):
        raise UsageError(f"{what}{shown} is neither http nor https", hint=hint)
    if not parts.hostname or port == 0:
        raise UsageError(f"{what}{shown} has no host, or an invalid port", hint=hint)
    if parts.query or parts.fragment or "?" in url or "#" in url:
        raise UsageError(
            f"{what}{shown} has a query or a fragment", hint="remove everything from '?' or '#' on"
        )
    encrypted = parts.scheme == "https"
    return Address(
        url.rstrip("/"),
        _is_loopback(parts.hostname),
        encrypted,
        parts.hostname,
        port or (443 if encrypted else 80),
    )


def _split(url: str) -> tuple[SplitResult | None, int | None]:
    """Split `url`; the port is None when it has none, 0 when it is invalid."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return None, 0
    try:
        return parts, parts.port
    except ValueError:
        return parts, 0


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


# --- the SSRF guard


def is_public(address: str) -> bool:
    """Return whether an IP address is globally reachable by IANA's special-purpose registries."""
    found = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(found, "ipv4_mapped", None)
    return (mapped or found).is_global and not found.is_multicast


def public_address(host: str, port: int) -> str | None:
    """Resolve `host` and return one of its addresses; None unless all of them are public.

    Raises OSError when the name cannot be resolved.
    """
    found = [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    return found[0] if found and all(map(is_public, found)) else None


# --- proxies


def environment_proxy(address: Address) -> str | None:
    """Return the URL of the proxy that the environment names for a peer; None without one.

    HTTP_PROXY or HTTPS_PROXY by the scheme of the peer, or else ALL_PROXY, unless an entry of NO_PROXY covers
    the peer; each also in lower case, which wins.
    """
    found = getproxies()
    proxy = found.get("https" if address.encrypted else "http") or found.get("all")
    if not proxy or any(_covers(entry.strip().lower(), address) for entry in found.get("no", "").split(",")):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _covers(entry: str, address: Address) -> bool:
    """Return whether an entry of NO_PROXY covers a peer, as curl reads it.

    `*`, an IP address or network, or a name with its subdomains (with a leading dot, without the name
    itself), each with an optional scheme and port.
    """
    scheme, _, host = entry.rpartition("://")
    if not host or scheme not in ("", "all", "https" if address.encrypted else "http"):
        return False
    if host == "*":
        return True
    try:
        return ipaddress.ip_address(address.host) in ipaddress.ip_network(host.strip("[]"), strict=False)
    except ValueError:
        pass
    parts, port = _split(f"//{host.removeprefix('*')}")
    if parts is None or not parts.hostname or port not in (None, address.port):
        return False
    name = parts.hostname.lstrip(".")
    exact = address.host == name and not parts.hostname.startswith(".")
    return exact or address.host.endswith(f".{name}")
