"""From a multiaddr to the URL of an HTTP gateway. Source: the multiaddr protocols table; IPIP-518."""

from __future__ import annotations

import ipaddress

_HOSTS = {"ip4", "ip6", "dns", "dns4", "dns6"}
_LONGEST = 512


def http_url(multiaddr: str) -> str | None:
    """`http(s)://host:port` of `/dns/host/tcp/443/tls/http` and its like; None for any other transport."""
    if multiaddr.startswith(("http://", "https://")) and len(multiaddr) <= _LONGEST:
        return multiaddr.rstrip("/")
    parts = multiaddr.strip("/").split("/")
    if len(multiaddr) > _LONGEST or len(parts) < 5 or parts[0] not in _HOSTS or parts[2] != "tcp":
        return None
    host, port, rest = parts[1], parts[3], parts[4:]
    if not port.isdecimal() or not 0 < int(port) < 65536:
        return None
    scheme = _scheme(rest)
    if scheme is None:
        return None
    if parts[0].startswith("ip"):
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return None
        host = f"[{address}]" if address.version == 6 else str(address)
    elif not host.isascii() or not all(part and part.replace("-", "").isalnum() for part in host.split(".")):
        return None
    return f"{scheme}://{host}:{port}"


def _scheme(rest: list[str]) -> str | None:
    """The scheme behind the port: `http`, `https`, `tls/http`, `tls/sni/<name>/http`; nothing may follow."""
    if rest == ["http"]:
        return "http"
    if rest in (["https"], ["tls", "http"]) or (
        len(rest) == 4 and rest[:2] == ["tls", "sni"] and rest[3] == "http"
    ):
        return "https"
    return None
