"""Probes: fetch random leaves from the providers of a CID, at their own HTTP gateways, and verify them.

Providers come from a delegated router. Sources: the Delegated Routing V1 HTTP API; IPIP-518 for addresses.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from random import Random

from reconciler.content.cid import Cid
from reconciler.content.dag import Block, DagLayout
from reconciler.errors import UsageError
from reconciler.net.address import public_address
from reconciler.net.client import HttpClient
from reconciler.net.deadline import Timeouts
from reconciler.net.errors import NotFoundError, RequestError, TransientError, UnexpectedResponseError
from reconciler.net.multiaddr import parse_multiaddr
from reconciler.net.retry import RetryPolicy


def http_url(address: str) -> str | None:
    """Return the URL of the HTTP gateway at `address`, a multiaddr or a URL; None for another transport."""
    if address.startswith(("http://", "https://")):
        return address.rstrip("/") if len(address) <= _MAX_URL else None
    found = parse_multiaddr(address)
    return None if found is None else found.http_url


class ProbeVerdict(StrEnum):
    """The result for one provider."""

    SERVED = "served"  #: every requested leaf was served and verified
    REFUSED = "refused"  #: it cannot be reached, or does not serve a leaf
    WRONG_BYTES = "wrong bytes"  #: it answered with bytes that do not match the CID of the leaf
    TIMEOUT = "timeout"  #: it exceeded a time limit
    NOT_PROBED = "not probed"  #: it has no HTTP address, or none that may be dialled


@dataclass(frozen=True, slots=True)
class Provider:
    """A provider as the router lists it: its peer ID ("" without one) and its multiaddrs."""

    peer: str
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """The result of probing one provider of `root`; `latency` are the seconds of its slowest leaf."""

    root: Cid
    provider: Provider
    url: str
    verdict: ProbeVerdict
    leaves: int = 0  #: that were verified
    latency: float | None = None
    detail: str = ""


DEFAULT_ROUTER = "https://delegated-ipfs.dev"
MAX_PROVIDERS = 50  #: of one root; a router may list any number
_MAX_ADDRESSES = 20
_MAX_URL = 512
_BODY_LIMIT = 1 << 20
_ROUTER_TIMEOUTS = Timeouts(connect=10.0, silence=30.0, total=60.0)


class Router:
    """A delegated router at a base URL."""

    def __init__(self, url: str) -> None:
        self._http = HttpClient(url, name="router", timeouts=_ROUTER_TIMEOUTS, retry=RetryPolicy(attempts=2))

    def providers(self, root: Cid) -> tuple[Provider, ...]:
        """Return the providers that the router lists for `root`, each peer once. Raises RequestError."""
        try:
            answer = self._http.request(
                "GET",
                f"routing/v1/providers/{root}",
                repeatable=True,
                headers={"Accept": "application/x-ndjson, application/json"},
                limit=_BODY_LIMIT,
            )
        except NotFoundError:  # an empty list, in the older version of the API
            return ()
        if "ndjson" in answer.headers.get("content-type", ""):
            records = list(answer.json_lines())
        else:
            document = answer.json()
            found = document.get("Providers") if isinstance(document, dict) else None
            records = found if isinstance(found, list) else []
        return _merged(records)

    def close(self) -> None:
        """Close connections."""
        self._http.close()


def _merged(records: list[object]) -> tuple[Provider, ...]:
    """Return the peers in `records`, with all their addresses; malformed records are skipped."""
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


_THREADS = 8
_PROBE_TIMEOUTS = Timeouts(connect=5.0, silence=10.0, total=20.0)
_RAW = "application/vnd.ipld.raw"


@dataclass(frozen=True, slots=True)
class ProbeTerms:
    """Leaves to request from each provider, time limits, and whether private addresses may be dialled."""

    leaves: int = 3
    timeouts: Timeouts = _PROBE_TIMEOUTS
    allow_private: bool = False


def choose_leaves(layout: DagLayout, number: int, random: Random) -> tuple[Block, ...]:
    """Return up to `number` random leaves of a DAG; of all its blocks when it has no raw leaves."""
    leaves = [position for position in range(len(layout)) if layout.is_leaf(position)]
    positions = leaves or list(range(len(layout)))
    return tuple(layout[position] for position in random.sample(positions, min(number, len(positions))))


def probe_providers(
    layout: DagLayout, providers: Sequence[Provider], terms: ProbeTerms, random: Random
) -> tuple[ProbeResult, ...]:
    """Probe each provider with random leaves of its own; return the results in the order of `providers`."""
    chosen = [choose_leaves(layout, terms.leaves, random) for _ in providers]
    probe_one = partial(_probe_one, layout.root, terms)
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="probe") as threads:
        return tuple(threads.map(probe_one, providers, chosen))


def _probe_one(root: Cid, terms: ProbeTerms, provider: Provider, leaves: Sequence[Block]) -> ProbeResult:
    """Probe a provider at its first HTTP address that may be dialled."""
    urls = [url for url in map(http_url, provider.addresses) if url is not None]
    if not urls:
        return ProbeResult(root, provider, "", ProbeVerdict.NOT_PROBED, detail="no HTTP address")
    result = ProbeResult(root, provider, "", ProbeVerdict.NOT_PROBED)
    for url in urls:
        result = _probe_at(root, terms, provider, url, leaves)
        if result.verdict is not ProbeVerdict.NOT_PROBED:
            break
    return result


def _probe_at(
    root: Cid, terms: ProbeTerms, provider: Provider, url: str, leaves: Sequence[Block]
) -> ProbeResult:
    """Fetch the leaves at one address; the first failure is the result."""
    result = partial(ProbeResult, root, provider, url)
    try:
        http = HttpClient(
            url,
            name=url,
            timeouts=terms.timeouts,
            retry=RetryPolicy(attempts=1),
            public_only=not terms.allow_private,
        )
    except UsageError as error:
        return result(ProbeVerdict.NOT_PROBED, detail=error.message)
    slowest = 0.0
    try:
        if not terms.allow_private and _is_private(http):
            return result(ProbeVerdict.NOT_PROBED, detail="a private address (use --allow-private)")
        for number, leaf in enumerate(leaves):
            started = time.monotonic()
            failure = _fetch(http, leaf)
            slowest = max(slowest, time.monotonic() - started)
            if failure is not None:
                verdict, detail = failure
                return result(verdict, leaves=number, latency=slowest, detail=detail)
    finally:
        http.close()
    return result(ProbeVerdict.SERVED, leaves=len(leaves), latency=slowest)


def _is_private(http: HttpClient) -> bool:
    """Return whether the host has an address that is not public; an unknown name is not private."""
    host = http.address.host
    try:
        return public_address(host, 443) is None
    except OSError:
        return False


def _fetch(http: HttpClient, leaf: Block) -> tuple[ProbeVerdict, str] | None:
    """Fetch and verify one leaf; return the verdict and its detail when that fails, None on success."""
    try:
        answer = http.request(
            "GET",
            f"ipfs/{leaf.cid}",
            params=(("format", "raw"),),
            repeatable=True,
            # A gateway that would first fetch it from another node proves nothing: it answers 412 to this.
            headers={"Accept": _RAW, "Cache-Control": "only-if-cached"},
            limit=max(leaf.size, 1),
        )
    except UnexpectedResponseError as error:
        if error.status is not None:
            return ProbeVerdict.REFUSED, _detail(error, http)
        return ProbeVerdict.WRONG_BYTES, f"{_detail(error, http)} for {leaf.cid}"
    except TransientError as error:
        return ProbeVerdict.TIMEOUT if error.timed_out else ProbeVerdict.REFUSED, _detail(error, http)
    except RequestError as error:
        return ProbeVerdict.REFUSED, _detail(error, http)
    if not leaf.cid.matches(answer.body):
        return ProbeVerdict.WRONG_BYTES, f"{len(answer.body)} bytes that do not match {leaf.cid}"
    return None


def _detail(error: RequestError, http: HttpClient) -> str:
    return error.message.removeprefix(f"{http.name}: ")
