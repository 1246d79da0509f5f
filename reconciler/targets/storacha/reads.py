"""What can be read of a space, and the same through the client, for those who have no keys of the bridge."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from reconciler.content.cid import Cid
from reconciler.content.piece_cid import PieceCid
from reconciler.deals.interface import DealClaim, Stage
from reconciler.net.outcomes import Denied, Stalled
from reconciler.targets.storacha import wire
from reconciler.targets.storacha.client import StorachaClient
from reconciler.targets.storacha.wire import Claims, Refused, Upload

MOST = 200  #: pieces asked for through the client, which takes a second each

_EITHER = "not in a deal yet, or not any more: through the client the service says the same of both"


class Reads(Protocol):
    """Reading one space. Calls raise Outcome."""

    def uploads(self) -> dict[Cid, Upload]:
        """Every upload in the space, by root."""

    def claims(self, pieces: Sequence[PieceCid], done: Callable[[int], None]) -> dict[PieceCid, Claims]:
        """What the service says of each piece. `done` is called, from this thread, with how many more pieces
        were asked for; what it raises ends the asking.
        """


class ClientReads:
    """Reads through the client: a process a question."""

    def __init__(self, name: str, client: StorachaClient) -> None:
        self._name = name
        self._client = client

    def uploads(self) -> dict[Cid, Upload]:
        """Every upload, in one command."""
        listed = [wire.read_upload(self._name, line) for line in self._client.call("ls", "--json")]
        return {upload.root: upload for upload in listed if upload is not None}

    def claims(self, pieces: Sequence[PieceCid], done: Callable[[int], None]) -> dict[PieceCid, Claims]:
        """One command a piece, for the first MOST of them."""
        found: dict[PieceCid, Claims] = {}
        for number, piece in enumerate(pieces):
            if number >= MOST:
                found[piece] = Refused(
                    "TooMany", f"more than {MOST} pieces need the bridge: set bridge_auth_env"
                )
            else:
                found[piece] = self._claims(piece)
                done(1)
                if isinstance(found[piece], Refused):  # what is refused once is refused for all
                    return dict.fromkeys(pieces, found[piece]) | found
        return found

    def _claims(self, piece: PieceCid) -> Claims:
        try:
            lines = self._client.call("can", "filecoin", "info", str(piece), "--json")
        except Denied as error:
            return Refused("Unauthorized", error.message)
        except Stalled as error:
            if "not found" in error.message:
                return wire.unknown(piece)
            raise
        if not lines:
            return (DealClaim(piece, Stage.QUEUED, detail=_EITHER),)
        return tuple(wire.read_deal_line(self._name, piece, line) for line in lines)
