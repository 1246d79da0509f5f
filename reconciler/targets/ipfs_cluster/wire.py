"""What a cluster peer says over its REST API, as frozen dataclasses.

Source: ipfs-cluster v1.1.6, `api/types.go` (Pin, GlobalPinInfo, PinInfo, ID, Alert, AddedOutput).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from reconciler.content import cid as cids
from reconciler.content.cid import Cid
from reconciler.errors import DataError
from reconciler.targets import fields
from reconciler.targets.interface import pin_label

EVERYWHERE = -1  #: as a replication factor: every peer


@dataclass(frozen=True, slots=True)
class ClusterPin:
    """One entry of the pinset: what the cluster wants.

    `allocations` are peer ids, empty when it is to be everywhere. `factor_min` and `factor_max` are
    EVERYWHERE or counts of peers; `expires` is None when it stays.
    """

    cid: Cid
    label: str
    recursive: bool
    factor_min: int
    factor_max: int
    expires: datetime | None
    allocations: tuple[str, ...]
    origins: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PeerStatus:
    """How one peer does with one pin. `status` is the cluster's word, such as "pinned" or "pin_error"."""

    peer: str
    name: str
    status: str
    error: str
    since: datetime | None


@dataclass(frozen=True, slots=True)
class PinStatus:
    """How all peers that answer do with one pin."""

    cid: Cid
    peers: tuple[PeerStatus, ...]


@dataclass(frozen=True, slots=True)
class ClusterPeer:
    """One cluster peer that is there. `ipfs_error` says why its Kubo does not answer, "" when it does."""

    peer: str
    name: str
    version: str
    error: str
    ipfs: str
    ipfs_addresses: tuple[str, ...]
    ipfs_error: str


@dataclass(frozen=True, slots=True)
class Alert:
    """A peer that stopped reporting something, of several things; its name is in some of these alerts only.

    Alerts stay listed after the peer has come back.
    """

    peer: str
    name: str


@dataclass(frozen=True, slots=True)
class Added:
    """What /add took in: the root, and the bytes of all blocks together."""

    cid: str
    size: int


def _cid(text: str) -> Cid | None:
    """None for CIDs we do not know how to write, such as dag-cbor: such pins are foreign in any case."""
    try:
        return cids.parse(text)
    except DataError:
        return None


def read_entry(peer: str, value: object) -> ClusterPin | None:
    """An api.Pin; None when its CID is of a kind we never pin, or it is no pin of its own but a shard."""
    pin = fields.record(peer, value, "a pin")
    root = _cid(fields.text(peer, pin, "cid"))
    if root is None or fields.text(peer, pin, "type") not in ("", "pin"):
        return None
    return ClusterPin(
        cid=root,
        label=pin_label(fields.text(peer, pin, "name"), fields.words(pin, "metadata")),
        recursive=fields.text(peer, pin, "mode") in ("", "recursive"),
        factor_min=fields.number(peer, pin, "replication_factor_min"),
        factor_max=fields.number(peer, pin, "replication_factor_max"),
        expires=fields.moment(pin, "expire_at"),
        allocations=fields.texts(peer, pin, "allocations"),
        origins=fields.texts(peer, pin, "origins"),
    )


def read_status(peer: str, value: object) -> PinStatus | None:
    """An api.GlobalPinInfo; None when its CID is of a kind we never pin."""
    info = fields.record(peer, value, "the status of a pin")
    root = _cid(fields.text(peer, info, "cid"))
    if root is None:
        return None
    found = fields.record(peer, info.get("peer_map") or {}, "the status of a pin by peer")
    peers = []
    for peer_id, state in sorted(found.items()):
        one = fields.record(peer, state, "the status of a pin on one peer")
        peers.append(
            PeerStatus(
                peer_id,
                fields.text(peer, one, "peername") or short_id(peer_id),
                fields.text(peer, one, "status"),
                fields.text(peer, one, "error"),
                fields.moment(one, "timestamp"),
            )
        )
    return PinStatus(root, tuple(peers))


def read_peer(peer: str, value: object) -> ClusterPeer:
    """An api.ID."""
    one = fields.record(peer, value, "a cluster peer")
    ipfs = fields.record(peer, one.get("ipfs") or {}, "the IPFS node of a cluster peer")
    peer_id = fields.text(peer, one, "id")
    return ClusterPeer(
        peer_id,
        fields.text(peer, one, "peername") or short_id(peer_id),
        fields.text(peer, one, "version"),
        fields.text(peer, one, "error"),
        fields.text(peer, ipfs, "id"),
        fields.texts(peer, ipfs, "addresses"),
        fields.text(peer, ipfs, "error"),
    )


def read_alert(peer: str, value: object) -> Alert:
    """An api.Alert; the name is in a JSON text inside it (that of the `ping` metric), "" without one."""
    alert = fields.record(peer, value, "an alert")
    peer_id = fields.text(peer, alert, "peer")
    try:
        inner = json.loads(fields.text(peer, alert, "value"))
    except (ValueError, RecursionError):
        inner = None
    name = inner.get("peer_name") if isinstance(inner, dict) else None
    return Alert(peer_id, name if isinstance(name, str) else "")


def gone(peers: Iterable[ClusterPeer], alerts: Iterable[Alert]) -> dict[str, str]:
    """The names of peers that stopped reporting and are not there, by id."""
    there = {peer.peer for peer in peers}
    found: dict[str, str] = {}
    for alert in alerts:
        if alert.peer not in there:
            found[alert.peer] = alert.name or found.get(alert.peer, "")
    return {peer_id: name or short_id(peer_id) for peer_id, name in found.items()}


def read_added(peer: str, value: object) -> Added:
    """The one api.AddedOutput in the list that `/add?stream-channels=false` answers for a CAR."""
    outputs = value if isinstance(value, list) else [value]
    added = fields.record(peer, outputs[0] if len(outputs) == 1 else None, "the outcome of one added CAR")
    return Added(fields.text(peer, added, "cid"), fields.number(peer, added, "bytes"))


def short_id(peer_id: str) -> str:
    """The end of a peer id, which is what tells peers apart for a person."""
    return peer_id if len(peer_id) <= 12 else "…" + peer_id[-8:]
