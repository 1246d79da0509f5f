"""What a pinning service says, as frozen dataclasses.

Source: Pinning Service API 1.0.0, components/schemas.

All pins of an account, page by page, from services that page in their own ways.

The specification pages by time: `before=<created of the oldest>`. What goes wrong with that in the field:
several pins with one time on the edge of a page, a `limit` that is silently lowered, a `count` of the page
instead of the whole, pages in no order at all (ipfs-cluster). So a list ends when nothing new comes, and what
was promised is compared with what came.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from reconciler.content import cid as cids
from reconciler.content.cid import Cid
from reconciler.errors import DataError
from reconciler.index.label import Label
from reconciler.net.errors import RejectedError, UnexpectedResponseError, sanitize
from reconciler.targets import fields
from reconciler.targets.interface import pin_label, pin_metadata
from reconciler.targets.pinning_service.api import CIDS, PAGE, PinningApi

STATUSES = ("queued", "pinning", "pinned", "failed")

_NAME_LIMIT = 255  #: characters of a name, by the specification


@dataclass(frozen=True, slots=True)
class RemotePin:
    """One pin request.

    `cid` is None when it is of a kind we never pin; `by_cid` says that the request's id is its CID. `created`
    is the service's own text, for paging; `when` the same as a time. `label` may be ours or foreign.
    """

    request: str
    status: str
    created: str
    when: datetime | None
    cid: Cid | None
    by_cid: bool
    label: str
    origins: tuple[str, ...]
    delegates: tuple[str, ...]
    details: str
    until: str


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list; `count` is how many the service says there are for this query."""

    count: int
    pins: tuple[RemotePin, ...]


def read_pin(peer: str, value: object) -> RemotePin:
    """A PinStatus. Raises UnexpectedResponseError when it is none."""
    status = fields.record(peer, value, "the status of a pin")
    pin = fields.record(peer, status.get("pin"), "a pin")
    request = fields.text(peer, status, "requestid")
    if not request or request in (".", ".."):
        raise UnexpectedResponseError(peer, f"answered with a pin whose requestid is {request!r}")
    text = fields.text(peer, pin, "cid")
    info = fields.words(status, "info")
    return RemotePin(
        request=request,
        status=fields.text(peer, status, "status"),
        created=fields.text(peer, status, "created"),
        when=fields.moment(status, "created"),
        cid=_cid(text),
        by_cid=request == text,
        label=pin_label(fields.text(peer, pin, "name"), fields.words(pin, "meta")),
        origins=fields.texts(peer, pin, "origins"),
        delegates=fields.texts(peer, status, "delegates"),
        details=sanitize(info.get("status_details", "")),
        until=sanitize(info.get("pinned_until", "")),
    )


def read_page(peer: str, value: object) -> Page:
    """A PinResults. Raises UnexpectedResponseError when it is none."""
    page = fields.record(peer, value, "a list of pins")
    if "results" not in page:
        raise UnexpectedResponseError(
            peer,
            "answered with something that is not a list of pins",
            hint="the endpoint is the address before /pins",
        )
    pins = tuple(read_pin(peer, one) for one in fields.items(peer, page, "results"))
    return Page(fields.number(peer, page, "count"), pins)


def pin_body(root: Cid, label: Label, origins: tuple[str, ...]) -> dict[str, object]:
    """A Pin, to be sent: the label as its name and in its meta, since services drop or cut either one."""
    body: dict[str, object] = {"cid": str(root), "name": label[:_NAME_LIMIT], "meta": pin_metadata(label)}
    if origins:
        body["origins"] = list(origins)
    return body


def _cid(text: str) -> Cid | None:
    try:
        return cids.parse(text)
    except DataError:
        return None


_LOWEST_LIMIT = 10  # no service lists fewer at once: it is the default
_MOST_PAGES = 1000  # a million pins; a list longer than that has no end
_EDGE = timedelta(milliseconds=1)  # so that pins made at the same time as the oldest one are listed again


@dataclass(frozen=True, slots=True)
class PinListing:
    """The pins that were listed, by request, and how many the service said there are."""

    pins: tuple[RemotePin, ...]
    promised: int

    @property
    def complete(self) -> bool:
        """Whether all that was promised came."""
        return len(self.pins) >= self.promised


def everything(api: PinningApi) -> PinListing:
    """Every pin of the account. Raises Outcome."""
    listing = _by_time(api)
    if listing.complete or listing.promised <= PAGE:
        return listing
    try:  # against the specification, and the only way with a service that lists in no order
        page = api.page(limit=listing.promised)
    except RejectedError:
        return listing
    found = {pin.request: pin for pin in (*listing.pins, *page.pins)}
    return PinListing(tuple(found.values()), listing.promised)


def of(api: PinningApi, roots: Iterable[Cid]) -> tuple[RemotePin, ...]:
    """Every pin of these roots, asked for by CID. Raises Outcome."""
    wanted = list(dict.fromkeys(roots))
    found: dict[str, RemotePin] = {}
    for start in range(0, len(wanted), CIDS):
        asked = wanted[start : start + CIDS]
        # A service that ignores the filter must not make strangers ours.
        found |= {pin.request: pin for pin in api.page(cids=asked).pins if pin.cid in asked}
    return tuple(found.values())


def _by_time(api: PinningApi) -> PinListing:
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
    return PinListing(tuple(found.values()), promised)


def _before(page: Page, *, strict: bool) -> str:
    """Where the next page begins: at the oldest of this one, or just behind it; "" when no time is there."""
    timed = [(pin.when, pin.created) for pin in page.pins if pin.when is not None]
    if not timed:
        return ""
    when, text = min(timed)
    return text if strict else (when + _EDGE).isoformat().replace("+00:00", "Z")
