"""Which addresses may be connected to where others say where: not this machine, not its networks."""

from __future__ import annotations

import ipaddress
import socket


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
