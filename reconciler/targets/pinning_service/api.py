"""The IPFS Pinning Service API: its calls, and the objects of its requests and responses.

Source: IPFS Pinning Service API specification, version 1.0.0, paths and components/schemas.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import quote

from reconciler.content import cid as cids
from reconciler.content.cid import Cid
from reconciler.errors import DataError
from reconciler.index.label import Label
from reconciler.json_fields import JsonFields
from reconciler.net.client import HttpClient
from reconciler.net.errors import (
    AccessDeniedError,
    ConflictError,
    NotFoundError,
    UnexpectedResponseError,
    sanitize,
)
from reconciler.net.response import Response
from reconciler.targets.interface import pin_label, pin_metadata

# limits of the specification
MAX_PAGE = 1000  #: pins in one response
MAX_CIDS = 10  #: CIDs in one query
MAX_NAME = 255  #: characters of a pin's name
MAX_ORIGINS = 20  #: origins of one pin

STATUSES = ("queued", "pinning", "pinned", "failed")

_SUCCESS = (200, 202)  # the specification says 202; services send either
_HINT = (
    "is this the address of the right API, and a version of it that the documentation of this target names?"
)
_ENDPOINT_HINT = "the endpoint is the address before /pins"


@dataclass(frozen=True, slots=True)
class PinRequest:
    """One pin request: a `PinStatus` object with its `Pin`.

    `cid` is None when it is of a kind that we never pin. `id_is_cid` is True when the id of the request is
    its CID in any spelling: such services keep one pin for each CID. `created` is the service's own text,
    which paging sends back; `created_at` the same as a time, None when it cannot be read. `label` is ours or
    foreign, "" when there is none. `delegates` are the multiaddrs of the nodes that fetch the blocks.
    """

    request_id: str
    status: str
    created: str
    created_at: datetime | None
    cid: Cid | None
    id_is_cid: bool
    label: str
    origins: tuple[str, ...]
    delegates: tuple[str, ...]
    details: str
    pinned_until: str


@dataclass(frozen=True, slots=True)
class PinResults:
    """One page of a list; `count` is how many pins match the query according to the service."""

    count: int
    pins: tuple[PinRequest, ...]


class PinningApi:
    """One account of one service.

    All methods raise RequestError; AccessDeniedError with advice when the account has no funds left.
    """

    def __init__(self, http: HttpClient) -> None:
        self._http = http

    @property
    def name(self) -> str:
        """The service's name for the user."""
        return self._http.name

    def page(self, *, before: str = "", wanted: Sequence[Cid] = (), limit: int = MAX_PAGE) -> PinResults:
        """Return one page of the pins, the newest first if the service follows the specification.

        The query names all statuses: without them a service lists only `pinned`, and a queued pin would seem
        to be absent.
        """
        params = [("status", ",".join(STATUSES)), ("limit", str(limit))]
        if before:
            params.append(("before", before))
        if wanted:
            # Both spellings: services compare texts, and show a pin as its maker wrote it.
            spelled = [text for cid in wanted for text in (str(cid), cids.v0_text(cid)) if text is not None]
            params.append(("cid", ",".join(spelled)))
        return self._read_results(self._request("GET", "pins", repeatable=True, params=params))

    def find(self, roots: Iterable[Cid]) -> tuple[PinRequest, ...]:
        """Return every pin request of these roots, queried by CID."""
        wanted = list(dict.fromkeys(roots))
        found: dict[str, PinRequest] = {}
        step = MAX_CIDS // 2
        for start in range(0, len(wanted), step):
            batch = wanted[start : start + step]
            # A service that ignores the filter returns pins of others: they must not pass for ours.
            found |= {pin.request_id: pin for pin in self.page(wanted=batch).pins if pin.cid in batch}
        return tuple(found.values())

    def get(self, request_id: str) -> PinRequest | None:
        """Return the current state of one pin request; None when there is none with this id."""
        try:
            response = self._request("GET", _path(request_id), repeatable=True)
        except NotFoundError:
            return None
        return read_pin_request(self._fields(response))

    def add(self, root: Cid, label: Label, origins: tuple[str, ...]) -> PinRequest:
        """Create a pin request. Never retried here: each call may create another request."""
        body = _pin_body(root, label, origins)
        response = self._request("POST", "pins", repeatable=False, json=body)
        return read_pin_request(self._fields(response))

    def replace(self, request_id: str, root: Cid, label: Label, origins: tuple[str, ...]) -> PinRequest:
        """Replace a pin request by another one.

        Never use it for the same CID where the id of a request is its CID: ipfs-cluster pins the new one,
        then unpins the old one, and the pin is gone.
        """
        body = _pin_body(root, label, origins)
        response = self._request("POST", _path(request_id), repeatable=False, json=body)
        return read_pin_request(self._fields(response))

    def remove(self, request_id: str) -> None:
        """Remove one pin request. No error when it does not exist."""
        try:
            response = self._request("DELETE", _path(request_id), repeatable=True)
        except NotFoundError:
            return
        if response.body.strip():
            response.json()  # the specification has no body here; a login page has status 200 as well

    def server_time(self) -> datetime | None:
        """Return the time of the service; None when it sends none. Requests a list of one pin."""
        response = self._request("GET", "pins", repeatable=True, params=[("limit", "1")])
        self._read_results(response)
        try:
            now = parsedate_to_datetime(response.headers.get("date", ""))
        except ValueError:
            return None
        return now if now.tzinfo else now.replace(tzinfo=UTC)

    def _read_results(self, response: Response) -> PinResults:
        """Parse a `PinResults` object."""
        fields = self._fields(response)
        if "results" not in fields.mapping():
            raise UnexpectedResponseError(
                self.name, "the response is not a list of pins", hint=_ENDPOINT_HINT
            )
        pins = tuple(read_pin_request(item) for item in fields.items_or_none("results"))
        return PinResults(fields.number_or(0, "count"), pins)

    def _fields(self, response: Response) -> JsonFields:
        return JsonFields(
            response.json(),
            lambda message: UnexpectedResponseError(self.name, f"unexpected response: {message}", hint=_HINT),
        )

    def _request(
        self,
        method: str,
        path: str,
        *,
        repeatable: bool,
        params: Sequence[tuple[str, str]] = (),
        json: object = None,
    ) -> Response:
        try:
            return self._http.request(
                method, path, repeatable=repeatable, params=params, json=json, expect=_SUCCESS
            )
        except ConflictError as error:
            # The specification defines 409 as insufficient funds; services send it for every limit of a plan.
            raise AccessDeniedError(
                self.name,
                f"the account has no funds or no room left ({error.message})",
                status=error.status,
                hint="top up the account, raise its plan, or remove pins that are no longer needed",
            ) from None


def read_pin_request(fields: JsonFields) -> PinRequest:
    """Parse a `PinStatus` object. Raises the error of `fields` when a field has the wrong type."""
    fields.mapping()
    fields.mapping("pin")
    request_id = fields.text_or("", "requestid")
    if not request_id or request_id in (".", ".."):
        raise fields.fail(f"the requestid of a pin is {request_id!r}")
    cid = fields.text_or("", "pin", "cid")
    info = fields.words("info")
    return PinRequest(
        request_id=request_id,
        status=fields.text_or("", "status"),
        created=fields.text_or("", "created"),
        created_at=fields.moment("created"),
        cid=_parse_cid(cid),
        id_is_cid=request_id == cid or _is_same_cid(request_id, cid),
        label=pin_label(fields.text_or("", "pin", "name"), fields.words("pin", "meta")),
        origins=fields.texts("pin", "origins"),
        delegates=fields.texts("delegates"),
        details=sanitize(info.get("status_details", "")),
        pinned_until=sanitize(info.get("pinned_until", "")),
    )


def _pin_body(root: Cid, label: Label, origins: tuple[str, ...]) -> dict[str, object]:
    """Return a `Pin` object with the label as its name and in its meta: services drop or truncate either."""
    body: dict[str, object] = {"cid": str(root), "name": label, "meta": pin_metadata(label)}
    if origins:
        body["origins"] = list(origins)
    return body


def _parse_cid(text: str) -> Cid | None:
    try:
        return cids.parse(text)
    except DataError:
        return None


def _is_same_cid(text: str, other: str) -> bool:
    found = _parse_cid(text)
    return found is not None and found == _parse_cid(other)


def _path(request_id: str) -> str:
    return f"pins/{quote(request_id, safe='')}"
