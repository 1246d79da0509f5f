"""Asking providers for leaves, several at once, and judging what comes back."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from random import Random

from reconciler.content.cid import Cid
from reconciler.content.dag import Block, DagLayout
from reconciler.errors import UsageError
from reconciler.net.client import HttpClient
from reconciler.net.deadline import Timeouts
from reconciler.net.outcomes import Outcome, Stalled, Transient
from reconciler.net.reach import public_address
from reconciler.net.retry import RetryPolicy
from reconciler.probes.http_address import http_url
from reconciler.probes.interface import Finding, Provider, Verdict

_THREADS = 8
_TIMEOUTS = Timeouts(connect=5.0, silence=10.0, total=20.0)
_RAW = "application/vnd.ipld.raw"


@dataclass(frozen=True, slots=True)
class Terms:
    """How a provider is asked: how many leaves, for how long each, and where it may be."""

    leaves: int = 3
    timeouts: Timeouts = _TIMEOUTS
    allow_private: bool = False


def choose_leaves(layout: DagLayout, number: int, random: Random) -> tuple[Block, ...]:
    """`number` random leaves of a DAG, fewer when it has fewer; without raw leaves, of all its blocks."""
    leaves = [position for position in range(len(layout)) if layout.is_leaf(position)]
    positions = leaves or list(range(len(layout)))
    return tuple(layout[position] for position in random.sample(positions, min(number, len(positions))))


def probe(
    layout: DagLayout, providers: Sequence[Provider], terms: Terms, random: Random
) -> tuple[Finding, ...]:
    """One finding a provider, in their order. Each is asked for leaves of its own choosing by chance."""
    chosen = [choose_leaves(layout, terms.leaves, random) for _ in providers]
    ask = partial(_ask, layout.root, terms)
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="probe") as threads:
        return tuple(threads.map(ask, providers, chosen))


def _ask(root: Cid, terms: Terms, provider: Provider, leaves: Sequence[Block]) -> Finding:
    """Ask at the first HTTP address that may be asked."""
    urls = [url for url in map(http_url, provider.addresses) if url is not None]
    if not urls:
        return Finding(root, provider, "", Verdict.NOT_PROBED, detail="no HTTP address")
    found = Finding(root, provider, "", Verdict.NOT_PROBED)
    for url in urls:
        found = _ask_at(root, terms, provider, url, leaves)
        if found.verdict is not Verdict.NOT_PROBED:
            break
    return found


def _ask_at(root: Cid, terms: Terms, provider: Provider, url: str, leaves: Sequence[Block]) -> Finding:
    """Fetch every leaf at one address; the first one that fails decides."""
    finding = partial(Finding, root, provider, url)
    try:
        http = HttpClient(
            url,
            name=url,
            timeouts=terms.timeouts,
            retry=RetryPolicy(attempts=1),
            public_only=not terms.allow_private,
        )
    except UsageError as error:
        return finding(Verdict.NOT_PROBED, detail=error.message)
    slowest = 0.0
    try:
        if not terms.allow_private and _is_private(http):
            return finding(Verdict.NOT_PROBED, detail="a private address (--allow-private asks there)")
        for number, leaf in enumerate(leaves):
            started = time.monotonic()
            problem = _fetch(http, leaf)
            slowest = max(slowest, time.monotonic() - started)
            if problem is not None:
                verdict, detail = problem
                return finding(verdict, leaves=number, latency=slowest, detail=detail)
    finally:
        http.close()
    return finding(Verdict.SERVED, leaves=len(leaves), latency=slowest)


def _is_private(http: HttpClient) -> bool:
    """Whether the host has an address that is not public; a name that nobody knows is not private."""
    host = http.address.host
    try:
        return public_address(host, 443) is None
    except OSError:
        return False


def _fetch(http: HttpClient, leaf: Block) -> tuple[Verdict, str] | None:
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
    except Stalled as error:
        if error.status is not None:
            return Verdict.REFUSED, _words(error, http)
        return Verdict.WRONG_BYTES, f"{_words(error, http)} for {leaf.cid}"
    except Transient as error:
        return Verdict.TIMEOUT if error.timed_out else Verdict.REFUSED, _words(error, http)
    except Outcome as error:
        return Verdict.REFUSED, _words(error, http)
    if not leaf.cid.matches(answer.body):
        return Verdict.WRONG_BYTES, f"{len(answer.body)} bytes that are not those of {leaf.cid}"
    return None


def _words(error: Outcome, http: HttpClient) -> str:
    return error.message.removeprefix(f"{http.name}: ")
