"""All pins of an account, page by page, from services that page in their own ways.

The specification pages by time: `before=<created of the oldest>`. What goes wrong with that in the field:
several pins with one time on the edge of a page, a `limit` that is silently lowered, a `count` of the page
instead of the whole, pages in no order at all (ipfs-cluster). So a list ends when nothing new comes, and what
was promised is compared with what came.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from reconciler.content.cid import Cid
from reconciler.net.outcomes import Rejected
from reconciler.targets.pinning_service.api import CIDS, PAGE, PinningApi
from reconciler.targets.pinning_service.wire import Page, RemotePin

_LOWEST_LIMIT = 10  # no service lists fewer at once: it is the default
_MOST_PAGES = 1000  # a million pins; a list longer than that has no end
_EDGE = timedelta(milliseconds=1)  # so that pins made at the same time as the oldest one are listed again


@dataclass(frozen=True, slots=True)
class Listing:
    """The pins that were listed, by request, and how many the service said there are."""

    pins: tuple[RemotePin, ...]
    promised: int

    @property
    def complete(self) -> bool:
        """Whether all that was promised came."""
        return len(self.pins) >= self.promised


def everything(api: PinningApi) -> Listing:
    """Every pin of the account. Raises Outcome."""
    listing = _by_time(api)
    if listing.complete or listing.promised <= PAGE:
        return listing
    try:  # against the specification, and the only way with a service that lists in no order
        page = api.page(limit=listing.promised)
    except Rejected:
        return listing
    found = {pin.request: pin for pin in (*listing.pins, *page.pins)}
    return Listing(tuple(found.values()), listing.promised)


def of(api: PinningApi, roots: Iterable[Cid]) -> tuple[RemotePin, ...]:
    """Every pin of these roots, asked for by CID. Raises Outcome."""
    wanted = list(dict.fromkeys(roots))
    found: dict[str, RemotePin] = {}
    for start in range(0, len(wanted), CIDS):
        asked = wanted[start : start + CIDS]
        # A service that ignores the filter must not make strangers ours.
        found |= {pin.request: pin for pin in api.page(cids=asked).pins if pin.cid in asked}
    return tuple(found.values())


def _by_time(api: PinningApi) -> Listing:
    found: dict[str, RemotePin] = {}
    promised, before = 0, ""
    for _ in range(_MOST_PAGES):
        page = api.page(before=before)
        promised = max(promised, page.count)
        fresh = [pin for pin in page.pins if pin.request not in found]
        found |= {pin.request: pin for pin in fresh}
        said_all = page.count <= len(page.pins)
        if not page.pins or (said_all and len(page.pins) < _LOWEST_LIMIT):
            break
        following = _before(page, strict=said_all or not fresh)
        if not following or following == before:
            break
        before = following
    return Listing(tuple(found.values()), promised)


def _before(page: Page, *, strict: bool) -> str:
    """Where the next page begins: at the oldest of this one, or just behind it; "" when no time is there."""
    timed = [(pin.when, pin.created) for pin in page.pins if pin.when is not None]
    if not timed:
        return ""
    when, text = min(timed)
    return text if strict else (when + _EDGE).isoformat().replace("+00:00", "Z")
