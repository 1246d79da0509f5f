"""Observation of an account: the list of its pins, and the state of each root that follows from it.

The specification pages by time: `before=<created of the oldest pin>`. Services deviate from it: several pins
at the edge of a page have the same time, `limit` is lowered silently, `count` is that of the page and not of
the list, pages come in no order (ipfs-cluster). So a list ends when a page has no new pin, and the number of
pins received is compared with the number that the service reported.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from reconciler.content.cid import Cid
from reconciler.net.errors import RejectedError, sanitize
from reconciler.targets.interface import Expected, Inventory, Observation, Pin, State
from reconciler.targets.pinning_service.api import MAX_PAGE, PinningApi, PinRequest, PinResults

_LOWEST_LIMIT = 10  # no service returns shorter pages: 10 is the default of the specification
_MAX_PAGES = 1000  # a million pins; a longer list does not end
_EDGE = timedelta(milliseconds=1)  # lists the pins with the time of the oldest one again

#: the furthest status first: one request that is pinned keeps the root, whatever the others do
_STATES = {
    "pinned": State.HELD,
    "pinning": State.PENDING,
    "queued": State.PENDING,
    "failed": State.FAILED,
}
_UNVERIFIED = "a pinning service serves no blocks: a pin that it reports as pinned cannot be verified"


# --- roots


def observe_account(api: PinningApi, expected: Sequence[Expected], mark: str) -> Inventory:
    """List the account once, and query by CID only the roots that an incomplete list does not contain.

    Raises RequestError.
    """
    listing = list_pins(api)
    pins = listing.pins
    notes = [_UNVERIFIED]
    if not listing.complete:
        listed = {pin.cid for pin in pins}
        known = {pin.request_id for pin in pins}
        missing = [one.root for one in expected if one.root not in listed]
        pins += tuple(pin for pin in api.find(missing) if pin.request_id not in known)
        notes.append(f"the service listed {len(listing.pins)} of the {listing.reported} pins that it reports")
    by_root: dict[Cid, list[PinRequest]] = {}
    for pin in pins:
        if pin.cid is not None:
            by_root.setdefault(pin.cid, []).append(pin)
    observations = {one.root: observe_root(one.root, by_root.get(one.root, []), mark) for one in expected}
    owned: dict[Pin, None] = {}
    foreign: dict[Pin, None] = {}
    for root, found in by_root.items():
        for pin in found:
            (owned if pin.label.startswith(mark) else foreign)[Pin(root, pin.label)] = None
    return Inventory(observations, tuple(owned), tuple(foreign), tuple(notes))


def observe_root(root: Cid, pins: Sequence[PinRequest], mark: str) -> Observation:
    """Return the state of one root from its pin requests. Pure."""
    if not pins:
        return Observation(root, State.ABSENT, checked="the service lists no pin of it")
    ours = [pin for pin in pins if pin.label.startswith(mark)]
    furthest = furthest_request(ours or pins)
    labels = tuple(dict.fromkeys(pin.label for pin in (*ours, *pins) if pin.label))
    return Observation(
        root,
        pin_state(furthest),
        labels,
        checked=f"the service reports {sanitize(furthest.status)}",
        detail="; ".join(_details(furthest, ours)),
        takes_own_pin=not ours and takes_own_request(pins),
    )


def takes_own_request(pins: Sequence[PinRequest]) -> bool:
    """Return whether a request of ours may be made beside `pins`, which are not ours.

    With one pin for each CID, a second request would replace a pin that is not ours. A pin without a label
    may be ours with its mark lost: requests would accumulate with every run.
    """
    return not any(pin.id_is_cid or not pin.label for pin in pins)


def furthest_request(pins: Sequence[PinRequest]) -> PinRequest:
    """Return the request that is furthest on its way to `pinned`."""
    order = list(_STATES)
    return min(pins, key=lambda pin: order.index(pin.status) if pin.status in order else len(order))


def pin_state(pin: PinRequest) -> State:
    """Return the state of a pin request; UNKNOWN for a status that the specification does not have."""
    return _STATES.get(pin.status, State.UNKNOWN)


def _details(furthest: PinRequest, ours: Sequence[PinRequest]) -> list[str]:
    details = []
    if furthest.status not in _STATES:
        details.append(f"status {sanitize(furthest.status)!r} is not in the specification")
    if furthest.details:
        details.append(furthest.details)
    if furthest.pinned_until:
        details.append(f"pinned until {furthest.pinned_until}")
    if len(ours) > 1:
        details.append(f"{len(ours)} pin requests are ours")
    return details


# --- listing


@dataclass(frozen=True, slots=True)
class PinListing:
    """The listed pins, each request once, and how many there are according to the service."""

    pins: tuple[PinRequest, ...]
    reported: int

    @property
    def complete(self) -> bool:
        """Whether the list has as many pins as the service reported."""
        return len(self.pins) >= self.reported


def list_pins(api: PinningApi) -> PinListing:
    """List the pins of the account, as completely as the service allows. Raises RequestError."""
    listing = _list_by_time(api)
    if listing.complete or listing.reported <= MAX_PAGE:
        return listing
    try:  # exceeds the limit of the specification, but is the only way where pages come in no order
        page = api.page(limit=listing.reported)
    except RejectedError:
        return listing
    found = {pin.request_id: pin for pin in (*listing.pins, *page.pins)}
    return PinListing(tuple(found.values()), listing.reported)


def _list_by_time(api: PinningApi) -> PinListing:
    found: dict[str, PinRequest] = {}
    reported, before = 0, ""
    for _ in range(_MAX_PAGES):
        page = api.page(before=before)
        reported = max(reported, page.count)
        new = [pin for pin in page.pins if pin.request_id not in found]
        found |= {pin.request_id: pin for pin in new}
        all_sent = page.count <= len(page.pins)  # or the service counts the page and not the list
        if not page.pins or (all_sent and len(page.pins) < _LOWEST_LIMIT):
            break
        following = _next_before(page, strict=all_sent or not new)
        if not following or following == before:
            break
        before = following
    return PinListing(tuple(found.values()), reported)


def _next_before(page: PinResults, *, strict: bool) -> str:
    """Return the `before` parameter of the next page, "" when no pin of the page has a time.

    It is the time of the oldest pin; without `strict` slightly later, so that the page contains it again.
    """
    timed = [(pin.created_at, pin.created) for pin in page.pins if pin.created_at is not None]
    if not timed:
        return ""
    oldest, text = min(timed)
    return text if strict else (oldest + _EDGE).isoformat().replace("+00:00", "Z")
