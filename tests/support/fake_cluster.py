"""A fake of the REST API of ipfs-cluster v1.1.6, in memory, with the calls that our target uses.

It passes the same conformance suite as the real daemons. A test can also set the status of a pin on a peer,
remove a peer, or make every `/add` lose blocks.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl, unquote, urlsplit

from reconciler.content import walk
from reconciler.content.car_reader import CarReader
from reconciler.content.cid import RAW, Cid, parse
from reconciler.errors import DataError
from tests.support.http_peer import Asked, HttpPeer, Said, http_peer

_NEVER = "0001-01-01T00:00:00Z"


@dataclass
class FakePeer:
    """One peer. `ipfs_error` is the error of its Kubo; a peer that is not `alive` is missing."""

    name: str
    alive: bool = True
    ipfs_error: str = ""

    @property
    def id(self) -> str:
        return f"12D3KooW{self.name}"


@dataclass
class FakeCluster:
    """The cluster: `entries` are its pinset as JSON, `blocks` the blocks of all its Kubo daemons."""

    peers: list[FakePeer] = field(default_factory=lambda: [FakePeer("peer1")])
    entries: dict[str, dict[str, object]] = field(default_factory=dict)
    blocks: dict[Cid, bytes] = field(default_factory=dict)
    #: (cid, peer name) -> the status that the peer reports, and its time
    overrides: dict[tuple[str, str], tuple[str, datetime]] = field(default_factory=dict)
    add_loses: int = 0  #: number of blocks that /add drops without an error, as for an incomplete CAR
    url: str = ""
    asked: list[Asked] = field(default_factory=list)

    @property
    def now(self) -> datetime:
        """The time of its clock."""
        return datetime.now(UTC)

    def calls(self) -> list[str]:
        """Return every request so far, such as `GET /pins`, without its query."""
        return [f"{one.method} {urlsplit(one.target).path}" for one in self.asked]

    def answer(self, asked: Asked) -> Said:
        """Answer any request."""
        parts = urlsplit(asked.target)
        query = dict(parse_qsl(parts.query))
        route = (asked.method, *[unquote(part) for part in parts.path.strip("/").split("/")])
        said = self._route(route, query, asked)
        if asked.headers.get("connection") == "close":
            return Said(said.status, said.body, {"Connection": "close"})
        return said

    def _route(self, route: tuple[str, ...], query: dict[str, str], asked: Asked) -> Said:
        match route:
            case ("GET", "version"):
                return _json({"version": "1.1.6"})
            case ("GET", "peers"):
                return _lines(self._peer(peer) for peer in self.peers if peer.alive)
            case ("GET", "health", "alerts"):
                return _json([alert for peer in self.peers if not peer.alive for alert in _alerts(peer)])
            case ("GET", "allocations"):
                return _lines(iter(self.entries.values()))
            case ("GET", "pins"):
                return _lines(self._status(cid) for cid in self.entries)
            case ("POST", "add"):
                return self._add(query, asked)
            case (method, "allocations" | "pins", cid, *rest):
                return self._one(method, route[1], cid, rest, query)
        return _error(404, "not found")

    def _one(self, method: str, kind: str, cid: str, rest: list[str], query: dict[str, str]) -> Said:
        try:
            parse(cid)
        except DataError as error:
            return _error(400, f"error decoding Cid: {error}")
        if method == "GET" and kind == "allocations":
            found = self.entries.get(cid)
            return _json(found) if found else _error(404, "pin is not part of the pinset")
        if method == "GET" and kind == "pins":
            return _json(self._status(cid))
        if method == "POST" and rest == ["recover"]:
            self.overrides = {
                key: state
                for key, state in self.overrides.items()
                if key[0] != cid or state[0] not in ("unexpectedly_unpinned", "pin_error")
            }
            return _json(self._status(cid))
        if method == "POST":
            return self._pin(cid, query)
        if method == "DELETE":
            self.overrides = {key: state for key, state in self.overrides.items() if key[0] != cid}
            found = self.entries.pop(cid, None)
            return _json(found) if found else _error(404, "pin is not part of the pinset")
        return _error(405, "method not allowed")

    def _pin(self, cid: str, query: dict[str, str]) -> Said:
        low, high = int(query.get("replication-min", "-1")), int(query.get("replication-max", "-1"))
        alive = [peer.id for peer in self.peers if peer.alive]
        if low > len(alive):
            return _error(
                500,
                f"not enough peers to allocate CID. Needed at least: {low}. Wanted at most: {high}. "
                f"Available candidates: {len(alive)}. See logs for more info.",
            )
        expires = _NEVER
        if "expire-in" in query:
            hours = int(query["expire-in"].removesuffix("h"))
            expires = (self.now + timedelta(hours=hours)).isoformat()
        self.entries[cid] = {
            "cid": cid,
            "name": query.get("name", ""),
            "mode": query.get("mode", "recursive"),
            "type": "pin",
            "replication_factor_min": low,
            "replication_factor_max": high,
            "expire_at": expires,
            "metadata": {key[5:]: value for key, value in query.items() if key.startswith("meta-")},
            "allocations": [] if low < 0 else alive[:high],
            "origins": None,
            "timestamp": self.now.isoformat(),
        }
        return _json(self.entries[cid])

    def _add(self, query: dict[str, str], asked: Asked) -> Said:
        try:
            reader = CarReader(io.BytesIO(_only_part(asked)))
            sections = list(reader)
        except DataError as error:
            return _error(500, str(error))
        kept = sections[: len(sections) - self.add_loses]
        self.blocks |= {section.cid: section.data for section in kept}
        if query.get("no-pin") != "true":
            pinned = self._pin(str(reader.root), query)
            if pinned.status != 200:
                return pinned
        size = sum(len(section.data) for section in kept)
        return _json([{"name": "bundle.car", "cid": str(reader.root), "bytes": size, "allocations": []}])

    def _status(self, cid: str) -> dict[str, object]:
        entry = self.entries.get(cid)
        if entry is None:
            states = {p.id: _state(p, "unpinned", self.now) for p in self.peers if p.alive}
            return {"cid": cid, "name": "", "allocations": None, "metadata": None, "peer_map": states}
        allocated = entry["allocations"]
        assert isinstance(allocated, list)
        pinned = "pinned" if self._complete(parse(cid)) else "pinning"
        states = {}
        for peer in self.peers:
            since = datetime.fromisoformat(str(entry["timestamp"]))
            state = pinned if not allocated or peer.id in allocated else "remote"
            error = ""
            if (cid, peer.name) in self.overrides:
                state, since = self.overrides[cid, peer.name]
                error = f"made {state} by a test"
            if peer.ipfs_error:
                state, error = "cluster_error", peer.ipfs_error
            if peer.alive:
                states[peer.id] = _state(peer, state, since, error)
        return {**{key: entry[key] for key in ("cid", "name", "allocations", "metadata")}, "peer_map": states}

    def _complete(self, root: Cid) -> bool:
        try:
            raw_size = len(self.blocks[root]) if root.codec == RAW else None
            layout = walk.walk(root, self.blocks.__getitem__, raw_size=raw_size).layout
        except KeyError:
            return False
        return all(block.cid in self.blocks for block in layout)

    def _peer(self, peer: FakePeer) -> dict[str, object]:
        address = f"/ip4/127.0.0.1/tcp/4001/p2p/{peer.id}kubo"
        ipfs = {"id": f"{peer.id}kubo", "addresses": [address], "error": peer.ipfs_error}
        return {"id": peer.id, "peername": peer.name, "version": "1.1.6", "error": "", "ipfs": ipfs}


@contextmanager
def fake_cluster(*names: str) -> Iterator[FakeCluster]:
    """Run a cluster of peers with these names (by default one, `peer1`) on loopback."""
    fake = FakeCluster([FakePeer(name) for name in names or ("peer1",)])
    peer: HttpPeer
    with http_peer(fake.answer) as peer:
        fake.url, fake.asked = peer.url, peer.asked
        yield fake


def _state(peer: FakePeer, status: str, since: datetime, error: str = "") -> dict[str, object]:
    return {
        "peername": peer.name,
        "ipfs_peer_id": f"{peer.id}kubo",
        "status": status,
        "timestamp": since.isoformat().replace("+00:00", "Z"),
        "error": error,
        "attempt_count": 0,
        "priority_pin": False,
    }


def _alerts(peer: FakePeer) -> list[dict[str, object]]:
    ping = {"name": "ping", "peer": peer.id, "value": json.dumps({"peer_name": peer.name})}
    return [ping, {"name": "freespace", "peer": peer.id, "value": "72057594037927936"}]


def _only_part(asked: Asked) -> bytes:
    boundary = re.search(r'boundary="?([^";]+)', asked.headers["content-type"])
    assert boundary is not None
    mark = f"--{boundary[1]}".encode()
    assert asked.body.count(mark) == 2, "a CAR is sent as the only part"
    return asked.body.split(b"\r\n\r\n", 1)[1].rsplit(b"\r\n" + mark + b"--", 1)[0]


def _json(value: object) -> Said:
    return Said(200, json.dumps(value).encode())


def _lines(values: Iterator[dict[str, object]]) -> Said:
    body = b"".join(json.dumps(value).encode() + b"\n" for value in values)
    return Said(200, body) if body else Said(204, b"")


def _error(status: int, message: str) -> Said:
    return Said(status, json.dumps({"code": status, "message": message}).encode())
