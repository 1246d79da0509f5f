"""Reading of a space: its uploads, and the claims of the service about the deals of its pieces.

A space is read over the HTTP bridge, which takes many tasks in one request and needs no Node.js, or through
the client, which starts a process for each question. Uploads are not possible over the bridge.

Sources: the specifications w3-ucan-bridge, w3-store and w3-filecoin; the responses of `@storacha/upload-api`
2.8.4 and the output of `@storacha/cli` 1.6.32.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from reconciler.content import cid as cids
from reconciler.content import piece_cid
from reconciler.content.cid import Cid
from reconciler.content.piece_cid import PieceCid
from reconciler.deals.interface import DealClaim, InclusionProof, MerklePath, Stage, parse_actor
from reconciler.errors import DataError
from reconciler.json_fields import JsonFields
from reconciler.net.client import HttpClient
from reconciler.net.errors import AccessDeniedError, NotFoundError, UnexpectedResponseError, sanitize
from reconciler.targets.storacha.client import StorachaClient
from reconciler.targets.storacha.options import BridgeCredentials
from reconciler.targets.storacha.output import DELEGATION_HINT, read_link

BATCH = 100  #: tasks in one request to the bridge
PAGE = 1000  #: uploads in one response of the bridge
MAX_CLIENT_PIECES = 200  #: pieces queried through the client, which takes a second for each

_THREADS = 4  # concurrent requests about pieces: a service verifies signatures for milliseconds a task
_MAX_PAGES = 10_000  # ten million uploads; a longer listing does not end
_UNKNOWN_PIECE = "RecordNotFound"  # error for a piece that was offered and that the queue has not processed
_MAX_DEAL_ID = 1 << 63  # deal ids are 64 bits on the chain
_HINT = "check that `endpoint` is the address of an upload service"
_NO_DEALS = "not in a deal yet, or no longer: the client reports both alike"


@dataclass(frozen=True, slots=True)
class SpaceUpload:
    """One root in a space. `shards` are the CIDs of its CARs as text; empty where the service names none."""

    root: Cid
    shards: frozenset[str]


@dataclass(frozen=True, slots=True)
class TaskFailure:
    """The error in the receipt of one task: its name and its message, sanitized."""

    name: str
    message: str


PieceClaims = tuple[DealClaim, ...] | TaskFailure


class SpaceReader(Protocol):
    """A reader of one space. Methods raise RequestError."""

    def uploads(self) -> dict[Cid, SpaceUpload]:
        """Return every upload in the space, by root."""

    def claims(self, pieces: Sequence[PieceCid], done: Callable[[int], None]) -> dict[PieceCid, PieceClaims]:
        """Return what the service claims about the deals of each piece.

        Calls `done` from this thread with the number of pieces since the last call; what it raises ends the
        queries.
        """


# --- the bridge


class BridgeReader:
    """A reader of a space over the HTTP bridge. `page` is how many uploads one request lists."""

    def __init__(
        self, http: HttpClient, space: str, credentials: BridgeCredentials, page: int = PAGE
    ) -> None:
        self._http = http
        self._space = space
        self._credentials = credentials
        self._page = page
        http.secrets = (credentials.secret, credentials.authorization)

    def uploads(self) -> dict[Cid, SpaceUpload]:
        """Return every upload in the space, page by page."""
        found: dict[Cid, SpaceUpload] = {}
        cursor = ""
        for _ in range(_MAX_PAGES):
            arguments: dict[str, object] = {"size": self._page} | ({"cursor": cursor} if cursor else {})
            (page,) = self._invoke([("upload/list", arguments)])
            if isinstance(page, TaskFailure):
                raise AccessDeniedError(
                    self._http.name,
                    f"refuses upload/list: {page.message or page.name}",
                    hint=DELEGATION_HINT,
                )
            results = list(page.items("results"))
            for upload in map(read_upload, results):
                if upload is not None:
                    found[upload.root] = upload
            following = page.text_or("", "cursor")
            if not following or not results:
                return found
            if following == cursor:
                break
            cursor = following
        raise UnexpectedResponseError(self._http.name, "returned the same page of uploads repeatedly")

    def claims(self, pieces: Sequence[PieceCid], done: Callable[[int], None]) -> dict[PieceCid, PieceClaims]:
        """Return the claims about each piece; several requests are sent at a time."""
        found: dict[PieceCid, PieceClaims] = {}
        batches = [pieces[start : start + BATCH] for start in range(0, len(pieces), BATCH)]
        with ThreadPoolExecutor(_THREADS, "bridge") as threads:
            try:
                for claims in threads.map(self._claims_of_batch, batches):
                    found |= claims
                    done(len(claims))
            finally:
                threads.shutdown(cancel_futures=True)  # the first failure ends the queries
        return found

    def _claims_of_batch(self, pieces: Sequence[PieceCid]) -> dict[PieceCid, PieceClaims]:
        found: dict[PieceCid, PieceClaims] = {}
        results = self._invoke([("filecoin/info", {"piece": {"/": str(piece)}}) for piece in pieces])
        for piece, result in zip(pieces, results, strict=True):
            if not isinstance(result, TaskFailure):
                found[piece] = read_piece_info(piece, result)
            elif result.name == _UNKNOWN_PIECE:
                found[piece] = _unknown_piece(piece)
            else:
                found[piece] = result
        return found

    def _invoke(self, tasks: Sequence[tuple[str, Mapping[str, object]]]) -> list[JsonFields | TaskFailure]:
        """Send tasks (ability, arguments), and return the result of each."""
        response = self._http.request(
            "POST",
            "bridge",
            repeatable=True,
            json={"tasks": [[ability, self._space, arguments] for ability, arguments in tasks]},
            headers={
                "X-Auth-Secret": self._credentials.secret.reveal(),
                "Authorization": self._credentials.authorization.reveal(),
            },
        )
        receipts = list(JsonFields(response.json(), self._unexpected).items())
        if len(receipts) != len(tasks):
            raise self._unexpected(f"{len(receipts)} receipts for {len(tasks)} tasks")
        return [self._read_receipt(receipt.at("p", "out")) for receipt in receipts]

    def _read_receipt(self, outcome: JsonFields) -> JsonFields | TaskFailure:
        if "ok" in outcome.mapping():
            return outcome.at("ok")
        outcome.mapping("error")
        name, message = outcome.text_or("", "error", "name"), outcome.text_or("", "error", "message")
        return TaskFailure(sanitize(name), sanitize(message, self._http.secrets))

    def _unexpected(self, message: str) -> UnexpectedResponseError:
        return UnexpectedResponseError(self._http.name, f"unexpected response: {message}", hint=_HINT)


# --- the client


class ClientReader:
    """A reader of a space through the client, which starts a process for each question."""

    def __init__(self, client: StorachaClient) -> None:
        self._client = client

    def uploads(self) -> dict[Cid, SpaceUpload]:
        """Return every upload in the space, from one command."""
        uploads = map(read_upload, self._client.run_json("ls", "--json"))
        return {upload.root: upload for upload in uploads if upload is not None}

    def claims(self, pieces: Sequence[PieceCid], done: Callable[[int], None]) -> dict[PieceCid, PieceClaims]:
        """Return the claims about each piece, by one command each; after MAX_CLIENT_PIECES, failures."""
        found: dict[PieceCid, PieceClaims] = {}
        for piece in pieces[:MAX_CLIENT_PIECES]:
            found[piece] = self._claims_of_piece(piece)
            done(1)
            if isinstance(found[piece], TaskFailure):  # a denied capability is denied for all pieces
                return dict.fromkeys(pieces, found[piece]) | found
        too_many = TaskFailure(
            "TooMany", f"more than {MAX_CLIENT_PIECES} pieces need the bridge: set bridge_auth_env"
        )
        return found | dict.fromkeys(pieces[MAX_CLIENT_PIECES:], too_many)

    def _claims_of_piece(self, piece: PieceCid) -> PieceClaims:
        try:
            lines = self._client.run_json("can", "filecoin", "info", str(piece), "--json")
        except AccessDeniedError as error:
            return TaskFailure("Unauthorized", error.message)
        except NotFoundError:
            return _unknown_piece(piece)
        if not lines:
            return (DealClaim(piece, Stage.QUEUED, detail=_NO_DEALS),)
        return tuple(read_deal_line(piece, line) for line in lines)


# --- parsing; all functions raise the error of their `fields`


def read_upload(fields: JsonFields) -> SpaceUpload | None:
    """Parse one upload of a list; None for a root of a kind that we never make."""
    root = read_link(fields, "root")
    shards = frozenset(read_link(shard) for shard in fields.items_or_none("shards"))
    try:
        return SpaceUpload(cids.parse(root), shards)
    except DataError:
        return None


def read_piece_info(piece: PieceCid, fields: JsonFields) -> tuple[DealClaim, ...]:
    """Parse the result of a `filecoin/info` task.

    The service lists an aggregate only once a deal was made for it: an aggregate without deals had some.
    """
    if read_link(fields, "piece") != str(piece):
        raise fields.fail(f"'piece' is another piece than {piece}")
    proofs: dict[str, InclusionProof | None] = {}
    for entry in fields.items_or_none("aggregates"):
        aggregate = read_link(entry, "aggregate")
        proofs[aggregate] = _read_proof(piece, aggregate, entry.at("inclusion"))
    claims = []
    for deal in fields.items_or_none("deals"):
        aggregate = read_link(deal, "aggregate")
        for names in (("aux",), ("aux", "dataSource")):
            if deal.has(*names):
                deal.mapping(*names)
        claims.append(_read_deal(piece, proofs.get(aggregate), deal, "aux", "dataSource", "dealID"))
    if claims:
        return tuple(claims)
    if proofs:
        proof = next(iter(proofs.values()))
        return (
            DealClaim(piece, Stage.GONE, proof, detail="it was in a deal, and the service names none now"),
        )
    return (DealClaim(piece, Stage.QUEUED),)


def read_deal_line(piece: PieceCid, fields: JsonFields) -> DealClaim:
    """Parse one line of `can filecoin info --json`."""
    fields.mapping()
    proof = _read_proof(piece, fields.text_or("", "aggregate"), fields.at("inclusion"))
    return _read_deal(piece, proof, fields, "dealId")


def _unknown_piece(piece: PieceCid) -> tuple[DealClaim, ...]:
    """Return the claim about a piece that the service does not know, although it has the CAR."""
    return (DealClaim(piece, Stage.QUEUED, detail="the service has the CAR and does not know the piece yet"),)


def _read_deal(piece: PieceCid, proof: InclusionProof | None, fields: JsonFields, *deal_id: str) -> DealClaim:
    """Return the claim of one deal; `deal_id` is the path of its number, which may be missing."""
    number = fields.number(*deal_id) if fields.has(*deal_id) else None
    if number is not None and not 0 <= number < _MAX_DEAL_ID:
        raise fields.error("the number of a deal", *deal_id)
    try:
        provider = parse_actor(str(fields.at("provider").value))
    except DataError as error:
        raise fields.fail(f"the provider of a deal is invalid: {error.message}") from None
    return DealClaim(piece, Stage.DEAL, proof, provider, number)


def _read_proof(piece: PieceCid, aggregate: str, fields: JsonFields) -> InclusionProof | None:
    """Return the inclusion proof, unverified; None when there is none."""
    if fields.value is None:
        return None
    try:
        whole = piece_cid.parse(aggregate)
    except DataError as error:
        raise fields.fail(f"an aggregate is not a piece: {error.message}") from None
    return InclusionProof(piece, whole, _read_path(fields.at("subtree")), _read_path(fields.at("index")))


def _read_path(fields: JsonFields) -> MerklePath:
    """Return a path: `[at, path]` as the service writes it, or `{at, path}` as the specification does."""
    if isinstance(fields.value, list) and len(fields.value) == 2:
        at, path = fields.value
        fields = JsonFields({"at": at, "path": path}, fields.fail, fields.path)
    number = fields.number("at")
    if number < 0:
        raise fields.error("a position", "at")
    return MerklePath(number, tuple(_read_bytes(node) for node in fields.items("path")))


def _read_bytes(fields: JsonFields) -> bytes:
    """Return DAG-JSON bytes: `{"/": {"bytes": "<base64>"}}`."""
    text = fields.text("/", "bytes")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise fields.error("base64", "/", "bytes") from None
