"""A pinning service in memory that implements the Pinning Service API 1.0.0, with optional deviations.

The real service in the tests is the pinning service port of ipfs-cluster, which deviates (the id of a request
is its CID, pages come in no order, 200 for 202). This one follows the specification, and can deviate in the
ways that services in the field do.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.support.http_peer import Asked, Said, http_peer

_STATUSES = ("queued", "pinning", "pinned", "failed")
_EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class FakePinningService:
    """The service: `pins` are all requests by id, `reachable` the CIDs whose content it can fetch."""

    pins: dict[str, dict[str, object]] = field(default_factory=dict)
    reachable: set[str] = field(default_factory=set)
    secret: str = "sesame"
    delegates: tuple[str, ...] = ("/dns4/fetch.example/tcp/4001/p2p/12D3KooWService",)
    # deviations, and choices that the specification leaves to services
    largest_page: int = 1000
    counts_pages: bool = False  #: `count` is the length of the page
    ignores_cid_filter: bool = False
    ignores_before: bool = False
    drops_meta: bool = False
    drops_name: bool = False
    same_request_for_same_cid: bool = False  #: a second POST changes nothing and returns the first request
    funds: bool = True
    details: str = ""
    tick: timedelta = timedelta(seconds=1)  #: between two pins; 0 gives all the same time
    url: str = ""
    asked: list[Asked] = field(default_factory=list)
    made: int = 0

    def add(self, cid: str, name: str = "", *, status: str = "pinned", **meta: str) -> str:
        """Add a pin of another client, and return its request id."""
        return str(self._make({"cid": cid, "name": name, "meta": meta}, status)["requestid"])

    def calls(self, method: str = "") -> list[str]:
        """Return the requests so far without their queries, such as `GET /pins`; `method` selects some."""
        seen = [f"{one.method} {urlsplit(one.target).path}" for one in self.asked]
        return [call for call in seen if call.startswith(method)]

    def answer(self, asked: Asked) -> Said:
        """Answer any request."""
        said = self._guarded(asked)
        if asked.headers.get("connection") == "close":
            return Said(said.status, said.body, {"Connection": "close"})
        return said

    def _guarded(self, asked: Asked) -> Said:
        if asked.headers.get("authorization") != f"Bearer {self.secret}":
            return _error(401, "UNAUTHORIZED", "who are you?")
        parts = urlsplit(asked.target)
        route = parts.path.strip("/").split("/")
        if route[:1] != ["pins"] or len(route) > 2:
            return _error(404, "NOT_FOUND", "no such path")
        if len(route) == 1:
            if asked.method == "GET":
                return self._list(dict(parse_qsl(parts.query)))
            return self._create(json.loads(asked.body))
        request = unquote(route[1])
        pin = self.pins.get(request)
        if pin is None:
            return _error(404, "NOT_FOUND", "pin not found")
        if asked.method == "DELETE":
            del self.pins[request]
            return Said(202, b"")
        if asked.method == "POST":
            del self.pins[request]
            return self._create(json.loads(asked.body))
        self._fetch(pin)
        return _json(200, pin)

    def _list(self, query: dict[str, str]) -> Said:
        limit = min(int(query.get("limit", "10")), self.largest_page)
        if int(query.get("limit", "10")) > 1000:
            return _error(400, "BAD_REQUEST", "limit is above 1000")
        statuses = query.get("status", "pinned").split(",")
        cids = query.get("cid", "").split(",") if "cid" in query and not self.ignores_cid_filter else []
        if len(cids) > 10:
            return _error(400, "BAD_REQUEST", "more than 10 cids")
        before = query.get("before", "") if not self.ignores_before else ""
        for pin in self.pins.values():
            self._fetch(pin)
        found = [
            pin
            for pin in self.pins.values()
            if pin["status"] in statuses
            and (not cids or pin["pin"]["cid"] in cids)  # type: ignore[index]
            and (not before or _time(pin) < datetime.fromisoformat(before))
        ]
        found.sort(key=_time, reverse=True)
        page = found[:limit]
        count = len(page) if self.counts_pages else len(found)
        return _json(200, {"count": count, "results": page})

    def _create(self, pin: dict[str, object]) -> Said:
        if not self.funds:
            return _error(409, "INSUFFICIENT_FUNDS", "top up first")
        if len(str(pin.get("name", ""))) > 255 or len(pin.get("origins", [])) > 20:  # type: ignore[arg-type]
            return _error(400, "BAD_REQUEST", "name or origins too long")
        if self.same_request_for_same_cid:
            for known in self.pins.values():
                if known["pin"]["cid"] == pin["cid"]:  # type: ignore[index]
                    return _json(202, known)
        return _json(202, self._make(pin, "queued"))

    def _make(self, pin: dict[str, object], status: str) -> dict[str, object]:
        kept = dict(pin)
        if self.drops_meta:
            kept.pop("meta", None)
        if self.drops_name:
            kept.pop("name", None)
        self.made += 1
        request = f"request/{self.made}?#"  # opaque, with characters that need quoting in a URL
        made = {
            "requestid": request,
            "status": status,
            "created": (_EPOCH + self.made * self.tick).isoformat().replace("+00:00", "Z"),
            "pin": kept,
            "delegates": list(self.delegates),
            "info": {"status_details": self.details} if self.details else {},
            "unknown": {"fields": ["are", "fine"]},
        }
        self.pins[request] = made
        return made

    def _fetch(self, pin: dict[str, object]) -> None:
        """Advance a pin whose content is reachable by one status."""
        body = pin["pin"]
        assert isinstance(body, dict)
        if pin["status"] in ("queued", "pinning") and body["cid"] in self.reachable:
            pin["status"] = _STATUSES[_STATUSES.index(str(pin["status"])) + 1]


@contextmanager
def fake_pinning_service() -> Iterator[FakePinningService]:
    """Run a new service on loopback."""
    fake = FakePinningService()
    with http_peer(fake.answer) as peer:
        fake.url, fake.asked = peer.url, peer.asked
        yield fake


def _time(pin: dict[str, object]) -> datetime:
    return datetime.fromisoformat(str(pin["created"]))


def _json(status: int, value: object) -> Said:
    return Said(status, json.dumps(value).encode())


def _error(status: int, reason: str, details: str) -> Said:
    return _json(status, {"error": {"reason": reason, "details": details}})
