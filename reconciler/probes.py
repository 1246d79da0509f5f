"""From a multiaddr to the URL of an HTTP gateway. Source: the multiaddr protocols table; IPIP-518.

What a probe finds out, one finding a provider.

Who provides a CID, as a delegated router says. Source: the Delegated Routing V1 HTTP API.

Asking providers for leaves, several at once, and judging what comes back.
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
from reconciler.net.response import parse_json
from reconciler.net.retry import RetryPolicy


def http_url(address: str) -> str | None:
    """Return the URL of the HTTP gateway at `address`, a multiaddr or a URL; None for another transport."""
    if address.startswith(("http://", "https://")):
        return address.rstrip("/") if len(address) <= _MAX_URL else None
    found = parse_multiaddr(address)
    return None if found is None else found.http_url


class ProbeVerdict(StrEnum):
    """How a provider did."""

    SERVED = "served"  #: every leaf asked for came back and hashed right
    REFUSED = "refused"  #: it cannot be reached, or does not hand out a leaf
    WRONG_BYTES = "wrong bytes"  #: it answered with something that does not hash to the leaf
    TIMEOUT = "timeout"  #: too slow
    NOT_PROBED = "not probed"  #: no HTTP address, or none that may be asked


@dataclass(frozen=True, slots=True)
class Provider:
    """A provider as the router names it: its peer ID ("" when it gives none) and its multiaddrs."""

    peer: str
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """What became of one provider of `root`. `latency` is the slowest leaf in seconds, None without one."""

    root: Cid
    provider: Provider
    url: str
    verdict: ProbeVerdict
    leaves: int = 0  #: that came back right
    latency: float | None = None
    detail: str = ""


DEFAULT_ROUTER = "https://delegated-ipfs.dev"
MAX_PROVIDERS = 50  #: of one root; a router may name as many as it likes
_MAX_ADDRESSES = 20
_MAX_URL = 512
_BODY_LIMIT = 1 << 20
_ROUTER_TIMEOUTS = Timeouts(connect=10.0, silence=30.0, total=60.0)


class Router:
    """One router at one base URL, which the user gave or which is the default."""

    def __init__(self, url: str) -> None:
        self._http = HttpClient(url, name="router", timeouts=_ROUTER_TIMEOUTS, retry=RetryPolicy(attempts=2))

    def providers(self, root: Cid) -> tuple[Provider, ...]:
        """Who is said to provide `root`, each peer once. Raises RequestError."""
        try:
            answer = self._http.request(
                "GET",
                f"routing/v1/providers/{root}",
                repeatable=True,
                headers={"Accept": "application/x-ndjson, application/json"},
                limit=_BODY_LIMIT,
            )
        except NotFoundError:  # the API's older way to say: nobody
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


_THREADS = 8
_PROBE_TIMEOUTS = Timeouts(connect=5.0, silence=10.0, total=20.0)
_RAW = "application/vnd.ipld.raw"


@dataclass(frozen=True, slots=True)
class ProbeTerms:
    """How a provider is asked: how many leaves, for how long each, and where it may be."""

    leaves: int = 3
    timeouts: Timeouts = _PROBE_TIMEOUTS
    allow_private: bool = False


def choose_leaves(layout: DagLayout, number: int, random: Random) -> tuple[Block, ...]:
    """`number` random leaves of a DAG, fewer when it has fewer; without raw leaves, of all its blocks."""
    leaves = [position for position in range(len(layout)) if layout.is_leaf(position)]
    positions = leaves or list(range(len(layout)))
    return tuple(layout[position] for position in random.sample(positions, min(number, len(positions))))


def probe(
    layout: DagLayout, providers: Sequence[Provider], terms: ProbeTerms, random: Random
) -> tuple[ProbeResult, ...]:
    """One finding a provider, in their order. Each is asked for leaves of its own choosing by chance."""
    chosen = [choose_leaves(layout, terms.leaves, random) for _ in providers]
    ask = partial(_ask, layout.root, terms)
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="probe") as threads:
        return tuple(threads.map(ask, providers, chosen))


def _ask(root: Cid, terms: ProbeTerms, provider: Provider, leaves: Sequence[Block]) -> ProbeResult:
    """Ask at the first HTTP address that may be asked."""
    urls = [url for url in map(http_url, provider.addresses) if url is not None]
    if not urls:
        return ProbeResult(root, provider, "", ProbeVerdict.NOT_PROBED, detail="no HTTP address")
    found = ProbeResult(root, provider, "", ProbeVerdict.NOT_PROBED)
    for url in urls:
        found = _ask_at(root, terms, provider, url, leaves)
        if found.verdict is not ProbeVerdict.NOT_PROBED:
            break
    return found


def _ask_at(
    root: Cid, terms: ProbeTerms, provider: Provider, url: str, leaves: Sequence[Block]
) -> ProbeResult:
    """Fetch every leaf at one address; the first one that fails decides."""
    finding = partial(ProbeResult, root, provider, url)
    try:
        http = HttpClient(
            url,
            name=url,
            timeouts=terms.timeouts,
            retry=RetryPolicy(attempts=1),
            public_only=not terms.allow_private,
        )
    except UsageError as error:
        return finding(ProbeVerdict.NOT_PROBED, detail=error.message)
    slowest = 0.0
    try:
        if not terms.allow_private and _is_private(http):
            return finding(ProbeVerdict.NOT_PROBED, detail="a private address (--allow-private asks there)")
        for number, leaf in enumerate(leaves):
            started = time.monotonic()
            problem = _fetch(http, leaf)
            slowest = max(slowest, time.monotonic() - started)
            if problem is not None:
                verdict, detail = problem
                return finding(verdict, leaves=number, latency=slowest, detail=detail)
    finally:
        http.close()
    return finding(ProbeVerdict.SERVED, leaves=len(leaves), latency=slowest)


def _is_private(http: HttpClient) -> bool:
    """Whether the host has an address that is not public; a name that nobody knows is not private."""
    host = http.address.host
    try:
        return public_address(host, 443) is None
    except OSError:
        return False


def _fetch(http: HttpClient, leaf: Block) -> tuple[ProbeVerdict, str] | None:
    """None when the leaf came back right; else what to say."""
    try:
        answer = http.request(
            "GET",
            f"ipfs/{leaf.cid}",
            params=(("format", "raw"),),
            repeatable=True,
            # A gateway that would fetch it from elsewhere first proves nothing: it answers 412 to this.
            headers={"Accept": _RAW, "Cache-Control": "only-if-cached"},
            limit=max(leaf.size, 1),
        )
    except UnexpectedResponseError as error:
        if error.status is not None:
            return ProbeVerdict.REFUSED, _words(error, http)
        return ProbeVerdict.WRONG_BYTES, f"{_words(error, http)} for {leaf.cid}"
    except TransientError as error:
        return ProbeVerdict.TIMEOUT if error.timed_out else ProbeVerdict.REFUSED, _words(error, http)
    except RequestError as error:
        return ProbeVerdict.REFUSED, _words(error, http)
    if not leaf.cid.matches(answer.body):
        return ProbeVerdict.WRONG_BYTES, f"{len(answer.body)} bytes that are not those of {leaf.cid}"
    return None


def _words(error: RequestError, http: HttpClient) -> str:
    return error.message.removeprefix(f"{http.name}: ")
