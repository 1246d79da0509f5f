"""The answers of the REST API of a cluster peer, as frozen dataclasses.

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
from reconciler.json_fields import JsonFields
from reconciler.net.errors import UnexpectedResponseError
from reconciler.targets.interface import pin_label

EVERYWHERE = -1  #: as a replication factor: every peer

_HINT = "check that this is the address of a REST API of ipfs-cluster 1.0 or later"


@dataclass(frozen=True, slots=True)
class ClusterPin:
    """One entry of the pinset: a pin as the cluster should keep it.

    `allocations` are peer ids, empty when every peer should keep it. `factor_min` and `factor_max` are
    EVERYWHERE or numbers of peers; `expires` is None when the pin does not expire. `spelling` is the CIDv0 by
    which it is pinned, "" for a CIDv1: for a cluster these are two pins.
    """

    cid: Cid
    label: str
    recursive: bool
    factor_min: int
    factor_max: int
    expires: datetime | None
    allocations: tuple[str, ...]
    spelling: str = ""


@dataclass(frozen=True, slots=True)
class PeerStatus:
    """The status of one pin on one peer, in the words of the cluster, such as "pinned" or "pin_error"."""

    peer: str
    name: str
    status: str
    error: str
    since: datetime | None


@dataclass(frozen=True, slots=True)
class PinStatus:
    """The status of one pin on all peers that answer."""

    cid: Cid
    peers: tuple[PeerStatus, ...]
    spelling: str = ""


@dataclass(frozen=True, slots=True)
class ClusterPeer:
    """One present cluster peer. `ipfs_error` is the reason why its Kubo does not answer, "" when it does."""

    peer: str
    name: str
    error: str
    ipfs: str
    ipfs_addresses: tuple[str, ...]
    ipfs_error: str


@dataclass(frozen=True, slots=True)
class PeerAlert:
    """A peer that stopped reporting one of its metrics; only some of these alerts contain its name.

    Alerts stay listed after the peer has returned.
    """

    peer: str
    name: str


@dataclass(frozen=True, slots=True)
class AddedCar:
    """The result of /add: the root, and the total bytes of all blocks."""

    cid: str
    size: int


def _parse_cid(text: str) -> Cid | None:
    """Parse a CID; return None for an unsupported one, such as dag-cbor: its pin is always foreign."""
    try:
        return cids.parse(text)
    except DataError:
        return None


def read_object(peer: str, value: object, what: str) -> JsonFields:
    """Return a JSON object in a response of `peer` as fields; `what` is what it should be, such as "a pin".

    Raises UnexpectedResponseError when it is not an object; so do the methods of the result.
    """

    def unexpected(message: str) -> UnexpectedResponseError:
        return UnexpectedResponseError(peer, f"unexpected response instead of {what}: {message}", hint=_HINT)

    fields = JsonFields(value, unexpected)
    fields.mapping()
    return fields


def read_entry(peer: str, value: object) -> ClusterPin | None:
    """Read an api.Pin; None when we never pin CIDs of its kind, or when it is only part of another pin."""
    pin = read_object(peer, value, "a pin")
    text = pin.text_or("", "cid")
    root = _parse_cid(text)
    if root is None or pin.text_or("", "type") not in ("", "pin"):
        return None
    return ClusterPin(
        cid=root,
        label=pin_label(pin.text_or("", "name"), pin.words("metadata")),
        recursive=pin.text_or("", "mode") in ("", "recursive"),
        factor_min=pin.number_or(0, "replication_factor_min"),
        factor_max=pin.number_or(0, "replication_factor_max"),
        expires=pin.moment("expire_at"),
        allocations=pin.texts("allocations"),
        spelling=text if cids.is_v0(text) else "",
    )


def read_status(peer: str, value: object) -> PinStatus | None:
    """Read an api.GlobalPinInfo; None when its CID is of a kind that we never pin."""
    info = read_object(peer, value, "the status of a pin")
    text = info.text_or("", "cid")
    root = _parse_cid(text)
    if root is None:
        return None
    found = info.mapping("peer_map") if info.has("peer_map") else {}
    peers = []
    for peer_id, state in sorted(found.items()):
        one = read_object(peer, state, "the status of a pin on one peer")
        peers.append(
            PeerStatus(
                peer_id,
                one.text_or("", "peername") or short_id(peer_id),
                one.text_or("", "status"),
                one.text_or("", "error"),
                one.moment("timestamp"),
            )
        )
    return PinStatus(root, tuple(peers), text if cids.is_v0(text) else "")


def read_peer(peer: str, value: object) -> ClusterPeer:
    """Read an api.ID."""
    one = read_object(peer, value, "a cluster peer")
    if one.has("ipfs"):
        one.mapping("ipfs")
    peer_id = one.text_or("", "id")
    return ClusterPeer(
        peer_id,
        one.text_or("", "peername") or short_id(peer_id),
        one.text_or("", "error"),
        one.text_or("", "ipfs", "id"),
        one.texts("ipfs", "addresses"),
        one.text_or("", "ipfs", "error"),
    )


def read_alert(peer: str, value: object) -> PeerAlert:
    """Read an api.Alert. The name of the peer is in JSON text inside the `ping` metric, otherwise ""."""
    alert = read_object(peer, value, "an alert")
    peer_id = alert.text_or("", "peer")
    try:
        inner = json.loads(alert.text_or("", "value"))
    except (ValueError, RecursionError):
        inner = None
    name = inner.get("peer_name") if isinstance(inner, dict) else None
    return PeerAlert(peer_id, name if isinstance(name, str) else "")


def missing_peers(peers: Iterable[ClusterPeer], alerts: Iterable[PeerAlert]) -> dict[str, str]:
    """Return the names of peers that stopped reporting and are not present, by id."""
    present = {peer.peer for peer in peers}
    found: dict[str, str] = {}
    for alert in alerts:
        if alert.peer not in present:
            found[alert.peer] = alert.name or found.get(alert.peer, "")
    return {peer_id: name or short_id(peer_id) for peer_id, name in found.items()}


def read_added(peer: str, value: object) -> AddedCar:
    """Read the one api.AddedOutput in the list that `/add?stream-channels=false` returns for a CAR."""
    outputs = value if isinstance(value, list) else [value]
    added = read_object(peer, outputs[0] if len(outputs) == 1 else None, "the outcome of one added CAR")
    return AddedCar(added.text_or("", "cid"), added.number_or(0, "bytes"))


def short_id(peer_id: str) -> str:
    """Return the end of a peer id, which distinguishes peers for a user."""
    return peer_id if len(peer_id) <= 12 else "…" + peer_id[-8:]
