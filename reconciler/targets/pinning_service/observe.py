"""Which addresses a service is told to fetch from. Pure.

What a service's word about our roots amounts to.
"""

from __future__ import annotations

from collections.abc import Sequence

from reconciler.content.cid import Cid
from reconciler.net.errors import sanitize
from reconciler.net.multiaddr import names_peer, parse_multiaddr
from reconciler.targets.interface import Expected, Inventory, Observation, Pin, State
from reconciler.targets.pinning_service import wire
from reconciler.targets.pinning_service.api import PinningApi
from reconciler.targets.pinning_service.wire import RemotePin

MOST = 20  #: origins that one pin may carry, by the specification


def choose(configured: Sequence[str], offered: Sequence[str], *, near: bool) -> tuple[str, ...]:
    """At most MOST origins: the configured ones, then those offered by other targets, reachable ones first.

    `near` says that the service runs on this machine; for any other, loopback addresses lead nowhere.
    """
    found = {address: _distance(address) for address in offered if names_peer(address)}
    useful = [address for address, distance in found.items() if near or distance < 2]
    ordered = (*configured, *sorted(useful, key=found.__getitem__))
    return tuple(dict.fromkeys(ordered))[:MOST]


def _distance(address: str) -> int:
    """Return 0 for what anyone may reach (also names), 1 for private networks, 2 for this machine only."""
    found = parse_multiaddr(address)
    if found is None or found.ip is None:
        return 0
    if found.ip.is_loopback or found.ip.is_unspecified:
        return 2
    return 0 if found.ip.is_global else 1


#: best first: one request that is pinned holds the root, whatever became of the others
_STATES = {
    "pinned": State.HELD,
    "pinning": State.PENDING,
    "queued": State.PENDING,
    "failed": State.FAILED,
}
_WORD_ONLY = "a pinning service serves no blocks: its word that a root is pinned is all there is"


def look(api: PinningApi, expected: Sequence[Expected], mark: str) -> Inventory:
    """List the account once, and ask again only for roots that an incomplete list does not show.

    Raises Outcome.
    """
    listed = wire.everything(api)
    pins = listed.pins
    notes = [_WORD_ONLY]
    if not listed.complete:
        seen = {pin.cid for pin in pins}
        missing = [one.root for one in expected if one.root not in seen]
        known = {pin.request for pin in pins}
        pins += tuple(pin for pin in wire.of(api, missing) if pin.request not in known)
        notes.append(f"the service listed {len(listed.pins)} of the {listed.promised} pins it says there are")
    by_root: dict[Cid, list[RemotePin]] = {}
    for pin in pins:
        if pin.cid is not None:
            by_root.setdefault(pin.cid, []).append(pin)
    observations = {one.root: observation(one.root, by_root.get(one.root, []), mark) for one in expected}
    owned: dict[Pin, None] = {}
    foreign: dict[Pin, None] = {}
    for root, found in by_root.items():
        for pin in found:
            (owned if pin.label.startswith(mark) else foreign)[Pin(root, pin.label)] = None
    return Inventory(observations, tuple(owned), tuple(foreign), tuple(notes))


def observation(root: Cid, pins: Sequence[RemotePin], mark: str) -> Observation:
    """What the pins of one root say about it."""
    if not pins:
        return Observation(root, State.ABSENT, checked="the service lists no pin of it")
    ours = [pin for pin in pins if pin.label.startswith(mark)]
    best = best_of(ours or pins)
    labels = tuple(dict.fromkeys(pin.label for pin in (*ours, *pins) if pin.label))
    return Observation(
        root,
        state_of(best),
        labels,
        checked=f"the service says {sanitize(best.status)}",
        detail="; ".join(_details(best, ours)),
    )


def best_of(pins: Sequence[RemotePin]) -> RemotePin:
    """The one of several requests that got furthest."""
    order = list(_STATES)
    return min(pins, key=lambda pin: order.index(pin.status) if pin.status in order else len(order))


def state_of(pin: RemotePin) -> State:
    """UNKNOWN for a status the specification does not have."""
    return _STATES.get(pin.status, State.UNKNOWN)


def _details(best: RemotePin, ours: Sequence[RemotePin]) -> list[str]:
    words = []
    if best.status not in _STATES:
        words.append(f"status {sanitize(best.status)!r} is none of the specification")
    if best.details:
        words.append(best.details)
    if best.until:
        words.append(f"pinned until {best.until}")
    if len(ours) > 1:
        words.append(f"pinned {len(ours)} times for us")
    return words
