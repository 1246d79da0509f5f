"""The calls of the Pinning Service API, one method each."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import quote

from reconciler.content.cid import Cid
from reconciler.index.label import Label
from reconciler.net.client import HttpClient
from reconciler.net.errors import AccessDeniedError, ConflictError, NotFoundError
from reconciler.net.response import Response
from reconciler.targets.pinning_service import wire

PAGE = 1000  #: pins a page, the most that the specification allows
CIDS = 10  #: CIDs in one query, likewise

_DONE = (200, 202)  # the specification says 202, and services say either


class PinningApi:
    """One service and one account.

    All raise RequestError; AccessDeniedError with advice when its funds are used up.
    """

    def __init__(self, http: HttpClient) -> None:
        self.http = http

    @property
    def name(self) -> str:
        """How the user knows it."""
        return self.http.name

    def page(self, *, before: str = "", cids: Sequence[Cid] = (), limit: int = PAGE) -> wire.Page:
        """One page of the pins, the newest first if the service keeps to the specification.

        All statuses are asked for by name: without them only `pinned` is listed, and a pin that is queued
        would seem to be absent.
        """
        params = [("status", ",".join(wire.STATUSES)), ("limit", str(limit))]
        if before:
            params.append(("before", before))
        if cids:
            params.append(("cid", ",".join(str(cid) for cid in cids)))
        return wire.read_page(self.name, self._ask("GET", "pins", repeatable=True, params=params).json())

    def add(self, root: Cid, label: Label, origins: tuple[str, ...]) -> wire.RemotePin:
        """Ask for a new pin. Not repeated by itself: each time it may make one more request."""
        body = wire.pin_body(root, label, origins)
        return wire.read_pin(self.name, self._ask("POST", "pins", repeatable=False, json=body).json())

    def replace(self, request: str, root: Cid, label: Label, origins: tuple[str, ...]) -> wire.RemotePin:
        """Put another pin in the place of `request`.

        Never use it for the same CID where a request's id is its CID: ipfs-cluster pins the new one, then
        unpins the old one, and it is gone.
        """
        body = wire.pin_body(root, label, origins)
        return wire.read_pin(self.name, self._ask("POST", _path(request), repeatable=False, json=body).json())

    def get(self, request: str) -> wire.RemotePin | None:
        """One pin request as it is now, None when there is none."""
        try:
            return wire.read_pin(self.name, self._ask("GET", _path(request), repeatable=True).json())
        except NotFoundError:
            return None

    def remove(self, request: str) -> None:
        """Take one pin request away. No error when it is not there."""
        try:
            answer = self._ask("DELETE", _path(request), repeatable=True)
        except NotFoundError:
            return
        if answer.body.strip():
            answer.json()  # the specification has no body here; a login page says 200 as well

    def clock(self) -> datetime | None:
        """What time the service has, None when it does not say. Asks for the smallest list there is."""
        answer = self._ask("GET", "pins", repeatable=True, params=[("limit", "1")])
        wire.read_page(self.name, answer.json())
        try:
            now = parsedate_to_datetime(answer.headers.get("date", ""))
        except ValueError:
            return None
        return now if now.tzinfo else now.replace(tzinfo=UTC)

    def _ask(
        self,
        method: str,
        path: str,
        *,
        repeatable: bool,
        params: Sequence[tuple[str, str]] = (),
        json: object = None,
    ) -> Response:
        try:
            return self.http.request(
                method, path, repeatable=repeatable, params=params, json=json, expect=_DONE
            )
        except ConflictError as error:
            # The one meaning the specification gives to 409; services say it for every limit of a plan.
            raise AccessDeniedError(
                self.name,
                f"has no funds or no room left for this account ({error.message})",
                status=error.status,
                hint="top up the account or raise its plan, or remove pins there that nobody needs",
            ) from None


def _path(request: str) -> str:
    return f"pins/{quote(request, safe='')}"
