"""What the service says, over the bridge or through its client, as frozen dataclasses.

All raise UnexpectedResponseError for JSON of the wrong shape. Source: the specifications w3-store and
w3-filecoin; the answers of `@storacha/upload-api` 2.8.4 and `@storacha/cli` 1.6.32.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass

from reconciler.content import cid as cids
from reconciler.content import piece_cid
from reconciler.content.cid import Cid
from reconciler.content.piece_cid import PieceCid
from reconciler.deals.interface import DealClaim, InclusionProof, MerklePath, Stage, parse_actor
from reconciler.errors import DataError
from reconciler.net.errors import UnexpectedResponseError, sanitize
from reconciler.targets import fields

_MOST_DEALS = 1 << 63  # numbers of deals are 64 bits on the chain


@dataclass(frozen=True, slots=True)
class SpaceUpload:
    """One root in a space. `shards` are the CIDs of its CARs as text; empty where the service names none."""

    root: Cid
    shards: frozenset[str]


@dataclass(frozen=True, slots=True)
class TaskRefusal:
    """The service's considered no to one task: the name of its error, and what it says."""

    name: str
    message: str


Claims = tuple[DealClaim, ...] | TaskRefusal


def read_upload(peer: str, value: object) -> SpaceUpload | None:
    """One entry of a listing; None for a root of a kind we never make."""
    entry = fields.record(peer, value, "an upload")
    root = link(peer, entry.get("root"), "an upload")
    shards = frozenset(link(peer, each, "an upload") for each in fields.items(peer, entry, "shards"))
    try:
        return SpaceUpload(cids.parse(root), shards)
    except DataError:
        return None


def link(peer: str, value: object, what: str) -> str:
    """The text of a DAG-JSON link."""
    text = value.get("/") if isinstance(value, dict) else None
    if not isinstance(text, str):
        raise UnexpectedResponseError(peer, f"answered with {what} that has no CID where one belongs")
    return text


def read_info(peer: str, piece: PieceCid, value: object) -> tuple[DealClaim, ...]:
    """The claims in an answer to `filecoin/info` of the bridge.

    The service lists an aggregate only once a deal was made for it: an aggregate without deals is one that
    had some.
    """
    info = fields.record(peer, value, "what it knows of a piece")
    if link(peer, info.get("piece"), "a piece") != str(piece):
        raise UnexpectedResponseError(peer, f"answered about another piece than {piece}")
    proofs: dict[str, InclusionProof | None] = {}
    for each in fields.items(peer, info, "aggregates"):
        entry = fields.record(peer, each, "an aggregate")
        aggregate = link(peer, entry.get("aggregate"), "an aggregate")
        proofs[aggregate] = _proof(peer, piece, aggregate, entry.get("inclusion"))
    claims = []
    for each in fields.items(peer, info, "deals"):
        deal = fields.record(peer, each, "a deal")
        aggregate = link(peer, deal.get("aggregate"), "a deal")
        source = fields.record(peer, deal.get("aux", {}), "a deal").get("dataSource", {})
        number = fields.record(peer, source, "a deal").get("dealID")
        claims.append(_deal(peer, piece, proofs.get(aggregate), deal.get("provider"), number))
    if claims:
        return tuple(claims)
    if proofs:
        proof = next(iter(proofs.values()))
        return (
            DealClaim(piece, Stage.GONE, proof, detail="it was in a deal, and the service names none now"),
        )
    return (DealClaim(piece, Stage.QUEUED),)


def read_deal_line(peer: str, piece: PieceCid, value: object) -> DealClaim:
    """The claim in one line of `can filecoin info --json` of the client."""
    deal = fields.record(peer, value, "a deal")
    proof = _proof(peer, piece, fields.text(peer, deal, "aggregate"), deal.get("inclusion"))
    return _deal(peer, piece, proof, deal.get("provider"), deal.get("dealId"))


def unknown(piece: PieceCid) -> tuple[DealClaim, ...]:
    """The claim about a piece that the service does not know, although it has the CAR."""
    return (DealClaim(piece, Stage.QUEUED, detail="the service has the CAR and knows no such piece yet"),)


def _deal(
    peer: str, piece: PieceCid, proof: InclusionProof | None, provider: object, number: object
) -> DealClaim:
    if number is not None and (
        not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < _MOST_DEALS
    ):
        raise UnexpectedResponseError(
            peer, f"answered with the number of a deal that is none: {sanitize(repr(number))}"
        )
    try:
        address = parse_actor(str(provider))
    except DataError as error:
        raise UnexpectedResponseError(peer, f"answered with a deal of nobody: {error.message}") from None
    return DealClaim(piece, Stage.DEAL, proof, address, number)


def _proof(peer: str, piece: PieceCid, aggregate: str, value: object) -> InclusionProof | None:
    """The inclusion proof, unchecked; None where there is none."""
    if value is None:
        return None
    proof = fields.record(peer, value, "an inclusion proof")
    try:
        whole = piece_cid.parse(aggregate)
    except DataError as error:
        raise UnexpectedResponseError(
            peer, f"answered with an aggregate that is none: {error.message}"
        ) from None
    return InclusionProof(piece, whole, _path(peer, proof.get("subtree")), _path(peer, proof.get("index")))


def _path(peer: str, value: object) -> MerklePath:
    """`[at, path]` as the code has it, or `{at, path}` as the specification does."""
    at, path = (value.get("at"), value.get("path")) if isinstance(value, Mapping) else _pair(value)
    if not isinstance(at, int) or isinstance(at, bool) or at < 0 or not isinstance(path, list):
        raise UnexpectedResponseError(peer, "answered with an inclusion proof whose path is none")
    return MerklePath(at, tuple(_node(peer, each) for each in path))


def _pair(value: object) -> tuple[object, object]:
    return (value[0], value[1]) if isinstance(value, list) and len(value) == 2 else (None, None)


def _node(peer: str, value: object) -> bytes:
    inner = value.get("/") if isinstance(value, dict) else None
    text = inner.get("bytes") if isinstance(inner, dict) else None
    try:
        if isinstance(text, str):
            return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        pass
    raise UnexpectedResponseError(
        peer, "answered with an inclusion proof whose path has something else than bytes"
    )
