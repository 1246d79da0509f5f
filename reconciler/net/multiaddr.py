"""Multiaddrs: parsing, formatting, and the HTTP gateways among them.

Sources: the multiaddr protocols table (multiformats/multiaddr, protocols.csv); IPIP-518 for HTTP gateways.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

from reconciler.errors import UsageError

_MAX_LENGTH = 512  #: characters
_IPS = frozenset({"ip4", "ip6"})
_NAMES = frozenset({"dns", "dns4", "dns6", "dnsaddr"})
_PORTS = frozenset({"tcp", "udp", "sctp", "dccp"})
#: protocols that a value follows; any other component is a protocol without one
_VALUED = (
    _IPS
    | _NAMES
    | _PORTS
    | {"p2p", "ipfs", "sni", "certhash", "ip6zone", "ipcidr", "memory", "unix", "http-path"}
    | {"onion", "onion3", "garlic32", "garlic64"}
)

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class Multiaddr:
    """A multiaddr as its components: pairs of a protocol and its value, which is "" where there is none."""

    components: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        return "".join(f"/{name}/{value}" if value else f"/{name}" for name, value in self.components)

    @property
    def ip(self) -> IpAddress | None:
        """The IP address that it begins with, if it begins with one."""
        name, value = self.components[0]
        return ipaddress.ip_address(value) if name in _IPS else None

    @property
    def peer(self) -> str | None:
        """The peer ID that it leads to: the value of its last `/p2p/`."""
        return next((value for name, value in reversed(self.components) if name == "p2p"), None)

    @property
    def http_url(self) -> str | None:
        """The URL `http(s)://host:port` of an HTTP gateway; None for any other transport.

        A host, a TCP port, and one of `http`, `https`, `tls/http`, `tls/sni/<name>/http`, and nothing else.
        """
        if len(self.components) < 3 or self.components[1][0] != "tcp":
            return None
        (kind, host), (_, port), *rest = self.components
        scheme = _scheme([name for name, _ in rest])
        if scheme is None or port == "0" or kind not in _IPS | _NAMES - {"dnsaddr"} or "*" in host:
            return None
        if kind in _IPS:
            host = f"[{self.ip}]" if kind == "ip6" else str(self.ip)
        return f"{scheme}://{host}:{port}"


def _scheme(protocols: list[str]) -> str | None:
    if protocols == ["http"]:
        return "http"
    return "https" if protocols in (["https"], ["tls", "http"], ["tls", "sni", "http"]) else None


def parse_multiaddr(text: str) -> Multiaddr | None:
    """Parse a multiaddr in its text form; None for a malformed one, which callers skip.

    The values of IP addresses, names and ports are checked; an unknown protocol is taken for one without a
    value.
    """
    parts = text.strip("/").split("/")
    if not text.startswith("/") or len(text) > _MAX_LENGTH or not all(parts):
        return None
    if not text.isascii() or not text.isprintable() or " " in text:
        return None
    components, rest = [], iter(parts)
    for name in rest:
        value = next(rest, "") if name in _VALUED else ""
        if name in _VALUED and not _is_valid(name, value):
            return None
        components.append((name, value))
    return Multiaddr(tuple(components))


def _is_valid(name: str, value: str) -> bool:
    if name in _IPS:
        try:
            return ipaddress.ip_address(value).version == int(name[-1])
        except ValueError:
            return False
    if name in _PORTS:
        return value.isdecimal() and len(value) <= 5 and int(value) < 1 << 16
    if name in _NAMES:
        return all(map(_is_label, value.removesuffix(".").split(".")))
    return bool(value)


def _is_label(label: str) -> bool:
    """Whether a label of a DNS name is valid: also `_` (service names, Docker) and `*` (libp2p's AutoTLS)."""
    return label == "*" or label.replace("-", "").replace("_", "").isalnum()


def multiaddr_of_url(url: str) -> Multiaddr:
    """Return the multiaddr of an HTTP gateway at `url`, such as `/ip4/127.0.0.1/tcp/8080/http`.

    Raises UsageError unless it is http or https, with a host and without a path.
    """
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = 0
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0 or parts.path.strip("/"):
        raise UsageError(
            f"{url!r} is not the address of a gateway",
            hint="write it like https://weights.example.org, without a path",
        )
    try:
        host = (f"ip{ipaddress.ip_address(parts.hostname).version}", parts.hostname)
    except ValueError:
        host = ("dns", parts.hostname)
    if parts.scheme == "https":
        return Multiaddr((host, ("tcp", str(port or 443)), ("tls", ""), ("http", "")))
    return Multiaddr((host, ("tcp", str(port or 80)), ("http", "")))


def names_peer(text: str) -> bool:
    """Return whether `text` is a multiaddr with a peer ID, as a node needs it to connect."""
    found = parse_multiaddr(text)
    return found is not None and found.peer is not None


def is_loopback(text: str) -> bool:
    """Return whether `text` is a multiaddr that begins with a loopback address."""
    found = parse_multiaddr(text)
    return found is not None and found.ip is not None and found.ip.is_loopback
