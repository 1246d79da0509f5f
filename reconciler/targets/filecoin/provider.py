"""The HTTP API of a storage provider (the PDP service of Curio): uploads, data sets, pulls and pieces.

There is no login: the payer's signature in `extraData` is the right to write. What a provider answers about
the chain is never relied on; the chain is. Source: pdp/handlers of filecoin-project/curio, August 2026.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

from reconciler.content.piece_cid import PieceCid
from reconciler.deals.onchain.interface import EvmAddress, StorageProvider
from reconciler.errors import PeerError, UsageError
from reconciler.json_fields import JsonFields
from reconciler.net.client import HttpClient
from reconciler.net.errors import NotFoundError, UnexpectedResponseError
from reconciler.net.response import Response, Stream, UploadBody, peer_fields
from reconciler.net.retry import RetryBudget

PING = "curio-pdp"  #: what it answers to a ping; anything else is something in between

_LIMIT = 1 << 20  # bytes of an answer in JSON
_PULL_LIMIT = 30.0  # seconds for one question about a pull, which simulates a transaction
_LOCATION = re.compile(r"/?(pdp/(?:[A-Za-z0-9_-]+/)*[A-Za-z0-9_-]+)/?")
_HINT = "check that the provider's address in the registry is that of a PDP service"


class PullState(StrEnum):
    """The state of one piece that a provider pulls from another one."""

    RUNNING = "running"
    COMPLETE = "complete"
    FAILED = "failed"


_PULL_STATES = {"complete": PullState.COMPLETE, "failed": PullState.FAILED} | dict.fromkeys(
    ("pending", "inProgress", "retrying"), PullState.RUNNING
)


@dataclass(frozen=True, slots=True)
class PiecePull:
    """Pieces that a provider shall pull, each from one of the bases of other providers, and our consent.

    `data_set` is 0 for a data set that does not exist yet. A provider knows a request by its `extra_data`.
    """

    service: EvmAddress
    data_set: int
    sources: Mapping[PieceCid, Sequence[str]]
    extra_data: bytes


class ProviderClient:
    """One provider. Methods raise RequestError; usable from several threads.

    With `public_only`, as for every address from the registry of a public network, no connection is made to
    addresses of this machine and of private networks. Raises PeerError for an address that cannot be used.
    """

    def __init__(
        self,
        provider: StorageProvider,
        *,
        public_only: bool = True,
        budget: RetryBudget | None = None,
        on_retry: Callable[[str], None] | None = None,
    ) -> None:
        self.provider = provider
        self.name = describe_provider(provider)
        if public_only and not provider.url.startswith("https://"):
            raise PeerError(f"{self.name}: its address {provider.url!r} is not https")
        try:
            self._http = HttpClient(
                provider.url, name=self.name, public_only=public_only, budget=budget, on_retry=on_retry
            )
        except UsageError as error:
            raise PeerError(error.message) from None

    def close(self) -> None:
        """Close all connections. May be called twice."""
        self._http.close()

    def ping(self) -> None:
        """Check that a PDP service answers. Raises RequestError."""
        answer = self._http.request("GET", "pdp/ping", repeatable=True, limit=_LIMIT)
        if answer.text.strip() != PING:
            raise UnexpectedResponseError(self.name, "answered the ping with something else", hint=_HINT)

    # --- pieces

    def has(self, piece: PieceCid) -> bool:
        """Return whether the provider has the piece and can add it to a data set."""
        answer = self._http.request(
            "GET", "pdp/piece", repeatable=True, params=[("pieceCid", str(piece))], expect=(200, 404)
        )
        return answer.status == 200

    def begin_upload(self) -> str:
        """Open an upload of a piece whose CID is not known yet; return its place."""
        return self._location(
            self._http.request("POST", "pdp/piece/uploads", repeatable=True, expect=(201,), limit=_LIMIT)
        )

    def begin_known_upload(self, piece: PieceCid) -> str | None:
        """Open an upload of `piece`; return its place, None when the provider has it already."""
        answer = self._http.request(
            "POST",
            "pdp/piece",
            repeatable=True,
            json={"pieceCid": str(piece)},
            expect=(200, 201),
            limit=_LIMIT,
        )
        return None if answer.status == 200 else self._location(answer)

    def send(self, place: str, body: UploadBody) -> None:
        """Send the bytes of a piece once. Raises whatever `body` raises."""
        self._http.request("PUT", place, repeatable=False, content=body, expect=(204,), limit=_LIMIT)

    def finish_upload(self, place: str, piece: PieceCid) -> None:
        """Name the piece that was sent. NotFoundError: it was named already, or the upload was dropped."""
        self._http.request(
            "POST", place, repeatable=False, json={"pieceCid": str(piece)}, limit=_LIMIT, expect=(200,)
        )

    def read(self, piece: PieceCid, start: int, stop: int) -> bytes:
        """Return bytes `start` to `stop` of a piece. NotFoundError: it is not served."""
        answer = self._http.request(
            "GET",
            f"piece/{piece}",
            repeatable=True,
            headers={"Range": f"bytes={start}-{stop - 1}"},
            expect=(206,),
            limit=stop - start,
        )
        if len(answer.body) != stop - start:
            raise UnexpectedResponseError(
                self.name, f"answered with {len(answer.body)} bytes of a range of {stop - start}"
            )
        return answer.body

    @contextmanager
    def stream(self, piece: PieceCid, seconds: float) -> Iterator[Stream]:
        """Yield all bytes of a piece as they arrive, within `seconds`. NotFoundError: it is not served."""
        with self._http.stream("GET", f"piece/{piece}", repeatable=True, total=seconds) as answer:
            yield answer

    # --- data sets

    def create_and_add(self, service: EvmAddress, pieces: Sequence[PieceCid], extra_data: bytes) -> str:
        """Ask for a data set with its first pieces; return where the provider reports on the transaction."""
        return self._write(
            "pdp/data-sets/create-and-add", {"recordKeeper": str(service)} | _with_pieces(pieces, extra_data)
        )

    def add(self, data_set: int, pieces: Sequence[PieceCid], extra_data: bytes) -> str:
        """Ask for more pieces in a data set; return where the provider reports on the transaction."""
        return self._write(f"pdp/data-sets/{data_set}/pieces", _with_pieces(pieces, extra_data))

    def is_settled(self, place: str) -> bool:
        """Return whether the provider regards a transaction as done, successful or not."""
        answer = self._fields(self._http.request("GET", place, repeatable=True, limit=_LIMIT))
        return answer.text("txStatus") == "confirmed"

    def pull(self, request: PiecePull) -> dict[PieceCid, PullState]:
        """Ask the provider to fetch pieces from others; the same request again asks how it goes."""
        pieces = [
            {"pieceCid": str(piece), "sourceUrl": f"{base}/piece/{piece}"}
            for piece, bases in request.sources.items()
            for base in bases
        ]
        body: dict[str, object] = {
            "extraData": f"0x{request.extra_data.hex()}",
            "recordKeeper": str(request.service),
            "pieces": pieces,
        }
        if request.data_set:
            body["dataSetId"] = request.data_set
        answer = self._fields(
            self._http.request(
                "POST", "pdp/piece/pull", repeatable=True, json=body, limit=_LIMIT, total=_PULL_LIMIT
            )
        )
        found: dict[str, list[PullState]] = {}
        for item in answer.items("pieces"):
            state = _PULL_STATES.get(item.text("status"))
            if state is None:
                raise item.error("the state of a pull", "status")
            found.setdefault(item.text("pieceCid"), []).append(state)
        return {piece: _best(found.get(str(piece), [])) for piece in request.sources}

    def _write(self, path: str, body: Mapping[str, object]) -> str:
        return self._location(
            self._http.request("POST", path, repeatable=False, json=body, expect=(201,), limit=_LIMIT)
        )

    def _location(self, answer: Response) -> str:
        match = _LOCATION.fullmatch(answer.headers.get("location", ""))
        if match is None:
            raise UnexpectedResponseError(self.name, "answered without a usable Location", hint=_HINT)
        return match[1]

    def _fields(self, answer: Response) -> JsonFields:
        return peer_fields(self.name, answer.json(), _HINT)


def describe_provider(provider: StorageProvider) -> str:
    """Return how a provider is named to the user: `provider 3 (name)`."""
    return f"provider {provider.id}" + (f" ({provider.name})" if provider.name else "")


def is_gone(error: PeerError) -> bool:
    """Whether a refused addition says that the provider no longer has a piece that was sent."""
    return "subPiece CID" in error.message and "not found" in error.message


def is_missing(error: PeerError) -> bool:
    """Whether an error means that the provider does not have what was asked for."""
    return isinstance(error, NotFoundError)


def _best(states: Sequence[PullState]) -> PullState:
    """Return the state of a piece with several sources; one that is not mentioned counts as running."""
    for state in (PullState.COMPLETE, PullState.RUNNING):
        if state in states or not states:
            return state if states else PullState.RUNNING
    return PullState.FAILED


def _with_pieces(pieces: Sequence[PieceCid], extra_data: bytes) -> dict[str, object]:
    named = [{"pieceCid": str(piece), "subPieces": [{"subPieceCid": str(piece)}]} for piece in pieces]
    return {"pieces": named, "extraData": f"0x{extra_data.hex()}"}
