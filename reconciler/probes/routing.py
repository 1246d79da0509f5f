"""Who provides a CID, as a delegated router says. Source: the Delegated Routing V1 HTTP API."""

from __future__ import annotations

import json

from reconciler.content.cid import Cid
from reconciler.net.client import HttpClient
from reconciler.net.deadline import Timeouts
from reconciler.net.outcomes import NotFound
from reconciler.net.response import parse_json
from reconciler.net.retry import RetryPolicy
from reconciler.probes.interface import Provider

DEFAULT_ROUTER = "https://delegated-ipfs.dev"
MAX_PROVIDERS = 50  #: of one root; a router may name as many as it likes
_MAX_ADDRESSES = 20
_BODY_LIMIT = 1 << 20
_TIMEOUTS = Timeouts(connect=10.0, silence=30.0, total=60.0)


class Router:
    """One router at one base URL, which the user gave or which is the default."""

    def __init__(self, url: str) -> None:
        self._http = HttpClient(url, name="router", timeouts=_TIMEOUTS, retry=RetryPolicy(attempts=2))

    def providers(self, root: Cid) -> tuple[Provider, ...]:
        """Who is said to provide `root`, each peer once. Raises Outcome."""
        try:
            answer = self._http.request(
                "GET",
                f"routing/v1/providers/{root}",
                repeatable=True,
                headers={"Accept": "application/x-ndjson, application/json"},
                limit=_BODY_LIMIT,
            )
        except NotFound:  # the API's older way to say: nobody
            return ()
        if "ndjson" in answer.headers.get("content-type", ""):
            records = [
                parse_json(answer.peer, answer.headers, line)
                for line in answer.body.splitlines()
                if line.strip()
            ]
        else:
            document = answer.json()
            found = document.get("Providers") if isinstance(document, dict) else None
            records = found if isinstance(found, list) else []
        return _merged(records)

    def close(self) -> None:
        """Close the connection."""
        self._http.close()


def _merged(records: list[object]) -> tuple[Provider, ...]:
    """The peers in `records`, the addresses of equal ones together; what is no record is left out."""
    peers: dict[str, list[str]] = {}
    for record in records:
        if not isinstance(record, dict):
            continue
        peer = record.get("ID")
        listed = record.get("Addrs")
        addresses = [text for text in listed if isinstance(text, str)] if isinstance(listed, list) else []
        key = peer if isinstance(peer, str) and peer else json.dumps(addresses)
        known = peers.setdefault(key, [])
        known += [address for address in addresses if address not in known]
        if len(peers) > MAX_PROVIDERS:
            peers.popitem()
            break
    return tuple(
        Provider("" if key.startswith("[") else key, tuple(addresses[:_MAX_ADDRESSES]))
        for key, addresses in peers.items()
    )
