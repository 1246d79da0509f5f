"""What a pinning service says, as frozen dataclasses.

Source: Pinning Service API 1.0.0, components/schemas.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from reconciler.content import cid as cids
from reconciler.content.cid import Cid
from reconciler.errors import DataError
from reconciler.net.outcomes import Stalled, clean
from reconciler.targets import fields
from reconciler.targets.ownership import label_of, metadata

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
    """A PinStatus. Raises Stalled when it is none."""
    status = fields.record(peer, value, "the status of a pin")
    pin = fields.record(peer, status.get("pin"), "a pin")
    request = fields.text(peer, status, "requestid")
    if not request or request in (".", ".."):
        raise Stalled(peer, f"answered with a pin whose requestid is {request!r}")
    text = fields.text(peer, pin, "cid")
    info = fields.words(status, "info")
    return RemotePin(
        request=request,
        status=fields.text(peer, status, "status"),
        created=fields.text(peer, status, "created"),
        when=fields.moment(status, "created"),
        cid=_cid(text),
        by_cid=request == text,
        label=label_of(fields.text(peer, pin, "name"), fields.words(pin, "meta")),
        origins=fields.texts(peer, pin, "origins"),
        delegates=fields.texts(peer, status, "delegates"),
        details=clean(info.get("status_details", "")),
        until=clean(info.get("pinned_until", "")),
    )


def read_page(peer: str, value: object) -> Page:
    """A PinResults. Raises Stalled when it is none."""
    page = fields.record(peer, value, "a list of pins")
    if "results" not in page:
        raise Stalled(
            peer,
            "answered with something that is not a list of pins",
            hint="the endpoint is the address before /pins",
        )
    pins = tuple(read_pin(peer, one) for one in fields.items(peer, page, "results"))
    return Page(fields.number(peer, page, "count"), pins)


def pin_body(root: Cid, label: str, origins: tuple[str, ...]) -> dict[str, object]:
    """A Pin, to be sent: the label as its name and in its meta, since services drop or cut either one."""
    body: dict[str, object] = {"cid": str(root), "name": label[:_NAME_LIMIT], "meta": metadata(label)}
    if origins:
        body["origins"] = list(origins)
    return body


def _cid(text: str) -> Cid | None:
    try:
        return cids.parse(text)
    except DataError:
        return None
