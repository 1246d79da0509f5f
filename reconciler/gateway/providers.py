"""`/routing/v1/providers/{cid}`: this gateway as a provider of what its stores hold.

Source: the Delegated Routing V1 HTTP API and its filters (IPIP-484); an empty list is a 200.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from reconciler.errors import UsageError
from reconciler.gateway.linked import base58

PROTOCOL = "transport-ipfs-gateway-http"


def multiaddr(url: str) -> str:
    """An http or https address as a multiaddr: `/ip4/127.0.0.1/tcp/8080/http`. Raises UsageError."""
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = 0
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0 or parts.path.strip("/"):
        raise UsageError(
            f"{url!r} is no address of a gateway", hint="such as https://weights.example.org, without a path"
        )
    try:
        host = f"/ip{ipaddress.ip_address(parts.hostname).version}/{parts.hostname}"
    except ValueError:
        host = f"/dns/{parts.hostname}"
    secure = parts.scheme == "https"
    return f"{host}/tcp/{port or (443 if secure else 80)}{'/tls' if secure else ''}/http"


def record(addresses: Sequence[str]) -> dict[str, object]:
    """The peer record of a gateway at these multiaddrs.

    A gateway has no libp2p key, so its peer ID is a digest of its addresses: it tells providers apart, and
    nobody can prove to be it.
    """
    digest = hashlib.sha256("\n".join(addresses).encode()).digest()
    return {
        "Schema": "peer",
        "ID": base58(b"\x12\x20" + digest),
        "Addrs": list(addresses),
        "Protocols": [PROTOCOL],
    }


def providers(
    addresses: Sequence[str], *, held: bool, query: Mapping[str, str], lines: bool
) -> tuple[bytes, str]:
    """The body and its media type; `lines` for NDJSON."""
    found = [addr for addr in addresses if _passes(query.get("filter-addrs", ""), addr.lower().split("/"))]
    protocols = {name for name in query.get("filter-protocols", "").lower().split(",") if name}
    here = held and bool(found) and (not protocols or PROTOCOL in protocols)
    records = [record(addresses) | {"Addrs": found}] if here else []
    if lines:
        return b"".join(json.dumps(one).encode() + b"\n" for one in records), "application/x-ndjson"
    return json.dumps({"Providers": records}).encode(), "application/json"


def _passes(filters: str, parts: list[str]) -> bool:
    names = [name for name in filters.lower().split(",") if name]
    wanted = [name for name in names if not name.startswith("!")]
    if any(name[1:] in parts for name in names if name.startswith("!")):
        return False
    return not wanted or any(name in parts for name in wanted)
