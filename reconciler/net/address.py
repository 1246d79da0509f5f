"""Addresses of peers: base URLs, the proxy for each, and the SSRF guard.

The guard decides which addresses may be dialled when a peer supplies them: not those of this machine and of
private networks.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
from dataclasses import dataclass, field
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies

from reconciler.errors import UsageError
from reconciler.redaction import shown_address

_BRACKETS_AND_PORT = re.compile(r"\[.*\]:\d+")
#: IPv4 in the last 32 bits: mapped (RFC 4291), translated (RFC 2765), and by NAT64 (RFC 6052)
_EMBEDDING = tuple(map(ipaddress.IPv6Network, ("::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96")))
#: IPv4-compatible (deprecated), site-local (deprecated), and NAT64 of a network of one's own (RFC 8215)
_NOT_ROUTED = tuple(map(ipaddress.IPv6Network, ("::/96", "fec0::/10", "64:ff9b:1::/48")))


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
        return f"{self.text}/{path.removeprefix('/')}"


def parse_address(url: str, what: str = "URL") -> Address:
    """Parse a peer's base URL. `what` names it in errors, such as "api".

    Raises UsageError unless it is http or https with a host and an optional path. User information is refused
    because URLs are shown in logs.
    """
    parts, port = _split(url)
    hint = "write it like http://127.0.0.1:5001"
    shown = f" {shown_address(url)!r}"
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
    """Return whether an IP address is globally reachable by IANA's special-purpose registries.

    An IPv6 address that stands for one of IPv4 is as public as that one.
    """
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        if any(found in network for network in _NOT_ROUTED):
            return False
        if any(found in network for network in _EMBEDDING):
            return is_public(str(ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)))
        if found.sixtofour is not None:
            return is_public(str(found.sixtofour))
    return found.is_global and not found.is_multicast


def public_address(host: str, port: int) -> str | None:
    """Resolve `host` and return one of its addresses; None unless all of them are public.

    Raises OSError when the name cannot be resolved.
    """
    found = [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    return found[0] if found and all(map(is_public, found)) else None


# --- proxies


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy: its `url`, which may contain a password, and the `variable` that names it ("" for none)."""

    url: str = field(repr=False)
    variable: str = ""

    @property
    def described(self) -> str:
        """The proxy and where it is configured, without a password."""
        where = f" of {self.variable}" if self.variable else ""
        return f"the proxy {shown_address(self.url)}{where}"


def environment_proxy(address: Address) -> Proxy | None:
    """Return the proxy that the environment names for a peer; None without one.

    HTTP_PROXY or HTTPS_PROXY by the scheme of the peer, or else ALL_PROXY, unless an entry of NO_PROXY covers
    the peer; each also in lower case, which wins.
    """
    found = getproxies()
    kind = "https" if address.encrypted else "http"
    kind = kind if found.get(kind) else "all"
    url = found.get(kind)
    entries = re.split(r"[\s,]+", found.get("no", "").lower())
    if not url or any(_covers(entry, address) for entry in entries):
        return None
    names = (f"{kind}_proxy", f"{kind}_proxy".upper())
    variable = next((name for name in names if os.environ.get(name) == url), "")
    return Proxy(url if "://" in url else f"http://{url}", variable)


def _covers(entry: str, address: Address) -> bool:
    """Return whether an entry of NO_PROXY covers a peer, as curl reads it.

    `*`, an IP address or network, or a name with its subdomains (with a leading dot, without the name
    itself), each with an optional scheme and port. IPv6 addresses may be in brackets.
    """
    scheme, _, host = entry.rpartition("://")
    if not host or scheme not in ("", "all", "https" if address.encrypted else "http"):
        return False
    if host == "*":
        return True
    ip = _ip(address.host)
    try:
        network = ipaddress.ip_network(host.replace("[", "").replace("]", ""), strict=False)
        if not _BRACKETS_AND_PORT.fullmatch(host):
            return ip is not None and ip in network
    except ValueError:
        pass
    parts, port = _split(f"//{host.removeprefix('*')}")
    if parts is None or not parts.hostname or port not in (None, address.port):
        return False
    if ip is not None or _ip(parts.hostname) is not None:
        return ip is not None and ip == _ip(parts.hostname)
    name, peer = parts.hostname.strip("."), address.host.rstrip(".")
    exact = peer == name and not parts.hostname.startswith(".")
    return exact or peer.endswith(f".{name}")


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
