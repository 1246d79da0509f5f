"""A fake Filecoin node with Lotus JSON-RPC, in memory, that can fail and lie on demand.

The responses have the shapes of Lotus 1.30 (StateMarketStorageDeal, ChainHead, StateGetClaims).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from reconciler.content.piece_cid import PieceCid
from tests.support.http_peer import Asked, Said, http_peer

NOT_FOUND = (
    "deal {} not found - deal may not have completed sealing before deal proposal start epoch, "
    "or deal may have been slashed"
)


@dataclass
class FakeLotus:
    """The node: its head, the deals of the market by number, and the claims of providers by claim number."""

    head: int = 5_000_000
    deals: dict[int, dict[str, Any]] = field(default_factory=dict)
    claims: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    old: bool = False  #: omit SectorNumber, as before Lotus 1.26
    errors_with: int = 200  #: the status of a JSON-RPC error
    lie: Callable[[str, Any], Any] | None = None  #: maps (method, result) to another result
    refuse: Callable[[Asked], Said | None] | None = None  #: replaces every response
    url: str = ""
    asked: list[Asked] = field(default_factory=list)

    def calls(self) -> list[str]:
        """The called methods, in order, without `Filecoin.`."""
        return [str(json.loads(one.body)["method"]).removeprefix("Filecoin.") for one in self.asked]

    def add_deal(self, number: int, piece: PieceCid, provider: str = "f03144037", **state: int) -> None:
        """Add a deal for `piece`, from a million epochs ago to a million ahead; `state` changes it."""
        epochs = {
            "StartEpoch": self.head - 1_000_000,
            "EndEpoch": self.head + 1_000_000,
            "SectorStartEpoch": self.head - 1_000_100,
            "SlashEpoch": -1,
        } | state
        self.deals[number] = {
            "Proposal": {
                "PieceCID": {"/": str(piece.v1)},
                "PieceSize": piece.padded_size,
                "VerifiedDeal": True,
                "Client": "f01001",
                "Provider": provider,
                "Label": "uAXASIA",
                "StartEpoch": epochs["StartEpoch"],
                "EndEpoch": epochs["EndEpoch"],
                "StoragePricePerEpoch": "0",
                "ProviderCollateral": "7000000000000000",
                "ClientCollateral": "0",
            },
            "State": {
                "SectorNumber": 9,
                "SectorStartEpoch": epochs["SectorStartEpoch"],
                "LastUpdatedEpoch": -1,
                "SlashEpoch": epochs["SlashEpoch"],
            },
        }

    def add_claim(self, piece: PieceCid, provider: str = "f03144037", **terms: int) -> None:
        """Add a claim of `provider` for `piece`: two million epochs, half over; `terms` changes it."""
        claims = self.claims.setdefault(provider, {})
        claims[str(len(claims) + 7001)] = {
            "Provider": int(provider[2:]),
            "Client": 1001,
            "Data": {"/": str(piece.v1)},
            "Size": piece.padded_size,
            "TermMin": 2_000_000,
            "TermMax": 4_000_000,
            "TermStart": self.head - 1_000_000,
            "Sector": 12,
        } | terms

    def answer(self, asked: Asked) -> Said:
        """Answer any request."""
        if self.refuse is not None and (said := self.refuse(asked)) is not None:
            return said
        if asked.method != "POST" or asked.target != "/rpc/v1":
            return Said(404, b"404 page not found", {"Content-Type": "text/plain"})
        call = json.loads(asked.body)
        method = str(call["method"]).removeprefix("Filecoin.")
        try:
            result = getattr(self, f"_{method}")(*call["params"])
        except LookupError as error:
            wrong = {"code": 1, "message": str(error.args[0])}
            body = {"jsonrpc": "2.0", "id": call["id"], "error": wrong}
            return Said(self.errors_with, json.dumps(body).encode())
        if self.lie is not None:
            result = self.lie(method, result)
        return Said(200, json.dumps({"jsonrpc": "2.0", "result": result, "id": call["id"]}).encode())

    def _ChainHead(self) -> dict[str, Any]:
        return {"Cids": [{"/": "bafy2bzaceexample"}], "Blocks": [], "Height": self.head}

    def _StateMarketStorageDeal(self, number: int, tipset: None) -> dict[str, Any]:
        if number not in self.deals:
            raise LookupError(NOT_FOUND.format(number))
        deal = json.loads(json.dumps(self.deals[number]))
        if self.old:
            del deal["State"]["SectorNumber"]
        return dict(deal)

    def _StateGetClaims(self, provider: str, tipset: None) -> dict[str, Any]:
        return self.claims.get(provider, {})


@contextmanager
def fake_lotus(**fields: Any) -> Iterator[FakeLotus]:
    """Run the node; its RPC is at `url`."""
    node = FakeLotus(**fields)
    with http_peer(node.answer) as peer:
        node.url, node.asked = f"{peer.url}/rpc/v1", peer.asked
        yield node
