"""Which addresses a service is told to fetch from. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

MOST = 20  #: origins that one pin may carry, by the specification


def is_origin(address: str) -> bool:
    """Whether `address` looks like a multiaddr that names a peer."""
    return address.startswith("/") and "/p2p/" in address and address.isascii() and " " not in address


def choose(configured: Sequence[str], offered: Sequence[str], *, near: bool) -> tuple[str, ...]:
    """At most MOST origins: the configured ones, then those offered by other targets, reachable ones first.

    `near` says that the service runs on this machine; for any other, loopback addresses lead nowhere.
    """
    useful = [one for one in offered if is_origin(one) and (near or _distance(one) < 2)]
    ordered = (*configured, *sorted(useful, key=_distance))
    return tuple(dict.fromkeys(ordered))[:MOST]


def _distance(address: str) -> int:
    """0 for what anyone may reach (also names), 1 for private networks, 2 for this machine only."""
    parts = address.split("/")
    if len(parts) < 3 or parts[1] not in ("ip4", "ip6"):
        return 0
    try:
        ip = ipaddress.ip_address(parts[2])
    except ValueError:
        return 2
    if ip.is_loopback or ip.is_unspecified:
        return 2
    return 0 if ip.is_global else 1
