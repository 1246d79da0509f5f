"""A storage provider for tests: the HTTP API of Curio's PDP service over a local chain, with faults.

It computes piece CIDs by itself, with hashlib, sends real calls to the contracts of `lab`, and counts what it
receives. Facts about the real one: pdp/handlers of filecoin-project/curio (August 2026).
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import re
import threading
import urllib.request
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.support.http_peer import Asked, Said, http_peer
from tests.support.onchain.lab import OWNERS, LabError, OnchainLab

MIN_PIECE, MAX_PIECE, MAX_BATCH = 127, 1_065_353_216, 40
_NOBODY = "0x" + "00" * 20
_UUID = "[0-9a-f-]{36}"
_ADD = "addPieces(uint256,address,(bytes)[],bytes)"


@functools.lru_cache(maxsize=256)
def compute_piece(data: bytes) -> str:
    """The v2 piece CID of `data`: padding of 254 bits to 32 bytes, then a binary tree of SHA-256."""
    leaves: list[bytes] = []
    for start in range(0, len(data), 127):
        word = int.from_bytes(data[start : start + 127].ljust(127, b"\0"), "little")
        leaves += [(word >> 254 * i & (1 << 254) - 1).to_bytes(32, "little") for i in range(4)]
    height = max(2, (len(leaves) - 1).bit_length())
    zero = bytes(32)
    for _ in range(height):
        if len(leaves) % 2:
            leaves.append(zero)
        leaves = [_node(leaves[i], leaves[i + 1]) for i in range(0, len(leaves), 2)]
        zero = _node(zero, zero)
    padding, digits = (127 << height - 2) - len(data), bytearray()
    while padding > 127:
        digits.append(padding & 127 | 128)
        padding >>= 7
    digest = bytes(digits) + bytes((padding, height)) + leaves[0]
    return _text(b"\x01\x55\x91\x20" + bytes((len(digest),)) + digest)


def _node(left: bytes, right: bytes) -> bytes:
    digest = bytearray(hashlib.sha256(left + right).digest())
    digest[31] &= 0x3F
    return bytes(digest)


def _text(data: bytes) -> str:
    return "b" + base64.b32encode(data).decode().lower().rstrip("=")


def _bytes(text: str) -> bytes:
    return base64.b32decode(text[1:].upper() + "=" * (-len(text[1:]) % 8))


class RefusalError(Exception):
    """An answer that is not a success."""

    def __init__(self, status: int, text: str, **headers: str) -> None:
        super().__init__(text)
        self.said = Said(status, text.encode(), {"Content-Type": "text/plain"} | headers)


@dataclass
class PdpProvider:
    """Provider number `number` of `lab`. `faults` are names with a count, or True for always.

    Faults: down; slow (a proxy gives up, 504); wrong_piece (it computes another CID); open_500; put_500;
    has_500 (once pieces were sent); finish_500 (after it was done); forget_parked (a piece is dropped before
    it is added); accept_and_forget (after it was added); lose_before_send, lose_after_send (500 without and
    with a transaction); tx_lost (a status stays pending); held_back (a transaction is not on the chain yet);
    park (a piece stays unfindable for so many questions); pull_fails, pull_stuck, pull_busy, pull_refused;
    get_404, get_500, no_ranges; throttle.
    """

    lab: OnchainLab
    number: int
    url: str = ""
    faults: dict[str, int | bool] = field(default_factory=dict)
    pieces: dict[str, bytes] = field(default_factory=dict)
    uploads: dict[str, bytes | None] = field(default_factory=dict)
    named: dict[str, str] = field(default_factory=dict)
    parked: dict[str, int] = field(default_factory=dict)
    pulls: dict[bytes, dict[str, str]] = field(default_factory=dict)
    transactions: dict[str, int] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    stored: Counter[str] = field(
        default_factory=Counter
    )  #: how often the bytes of each piece arrived from us
    pulled: Counter[str] = field(default_factory=Counter)
    added: Counter[str] = field(default_factory=Counter)  #: how often each piece was added to a data set
    held_back: list[Callable[[], Any]] = field(
        default_factory=list
    )  #: transactions that are not on the chain yet
    lock: threading.RLock = field(default_factory=threading.RLock)

    def fault(self, name: str) -> bool:
        """Whether a fault is on; a counted one is used up by one."""
        value = self.faults.get(name, 0)
        if value is True or not value:
            return bool(value)
        self.faults[name] = value - 1
        return True

    def answer(self, asked: Asked) -> Said:
        """Answer any request."""
        url = urlsplit(asked.target)
        try:
            if self.fault("down"):
                raise RefusalError(503, "Service Unavailable")
            if self.fault("throttle"):
                raise RefusalError(429, "too many requests", **{"Retry-After": "0"})
            with self.lock:
                return self._route(asked, url.path, parse_qs(url.query))
        except RefusalError as refusal:
            return refusal.said

    def _route(self, asked: Asked, path: str, query: dict[str, list[str]]) -> Said:
        verb = asked.method
        if match := re.fullmatch(r"/piece/(b[a-z2-7]+)", path):
            return self._serve(match[1], asked.headers.get("range", ""))
        if path == "/pdp/ping":
            return Said(200, b"curio-pdp")
        if (verb, path) == ("POST", "/pdp/piece/uploads"):
            return self._opened("uploads", self.uploads, None)
        if match := re.fullmatch(rf"/pdp/piece/uploads/({_UUID})", path):
            return self._put(match[1], asked.body) if verb == "PUT" else self._finish(match[1], asked)
        if match := re.fullmatch(rf"/pdp/piece/upload/({_UUID})", path):
            return self._put_named(match[1], asked.body)
        if (verb, path) == ("POST", "/pdp/piece"):
            piece = json.loads(asked.body)["pieceCid"]
            return (
                _json({"pieceCid": piece}) if self.has(piece) else self._opened("upload", self.named, piece)
            )
        if (verb, path) == ("GET", "/pdp/piece"):
            piece = query["pieceCid"][0]
            if self.stored and self.fault("has_500"):
                raise RefusalError(500, "Database error")
            if not self.has(piece):
                raise RefusalError(404, "404 page not found")
            return _json({"pieceCid": piece})
        if (verb, path) == ("POST", "/pdp/piece/pull"):
            return self._pull(json.loads(asked.body))
        if (verb, path) == ("POST", "/pdp/data-sets/create-and-add"):
            digest = self._add(0, json.loads(asked.body))
            return Said(201, b"", {"Location": f"/pdp/data-sets/created/{digest}"})
        if match := re.fullmatch(r"/pdp/data-sets/(\d+)/pieces", path):
            digest = self._add(int(match[1]), json.loads(asked.body))
            return Said(201, b"", {"Location": f"/pdp/data-sets/{match[1]}/pieces/added/{digest}"})
        if match := re.fullmatch(r"/pdp/data-sets/(?:created|\d+/pieces/added)/(0x[0-9a-f]{64})", path):
            pending = self.fault("tx_lost")
            return _json({"txStatus": "pending" if pending else "confirmed", "ok": None if pending else True})
        raise RefusalError(404, "404 page not found")

    # --- pieces

    def has(self, piece: str) -> bool:
        """Whether the piece can be added to a data set."""
        if self.parked.get(piece, 0) > 0:
            self.parked[piece] -= 1
            return False
        return piece in self.pieces

    def hash(self, data: bytes) -> str:
        """The piece CID of what was received."""
        return compute_piece(data)

    def keep(self, data: bytes) -> str:
        """Store a piece."""
        piece = self.hash(data)
        self.pieces[piece] = data
        self.parked[piece] = int(self.faults.get("park", 0))
        return piece

    def _opened(self, kind: str, places: dict[str, Any], value: str | None) -> Said:
        if self.fault("open_500"):
            raise RefusalError(500, "Failed to create the upload")
        place = str(uuid.uuid4())
        places[place] = value
        return Said(201, b"", {"Location": f"/pdp/piece/{kind}/{place}"})

    def _check(self, data: bytes) -> None:
        if len(data) < MIN_PIECE:
            raise RefusalError(400, f"piece data is below the minimum allowed size ({MIN_PIECE} bytes)")
        if self.fault("put_500"):
            raise RefusalError(500, "Failed to store piece data")
        if self.fault("slow"):
            raise RefusalError(504, "Gateway Timeout")

    def _put(self, place: str, data: bytes) -> Said:
        if place not in self.uploads:
            raise RefusalError(404, "404 page not found")
        self._check(data)
        self.uploads[place] = data
        self.stored[self.hash(data)] += 1
        return Said(204, b"")

    def _put_named(self, place: str, data: bytes) -> Said:
        if place not in self.named:
            raise RefusalError(404, "404 page not found")
        self._check(data)
        piece = self.hash(data)
        if piece != self.named[place] or self.fault("wrong_piece"):
            raise RefusalError(400, "Computed hash does not match expected hash")
        self.stored[piece] += 1
        self.keep(data)
        return Said(204, b"")

    def _finish(self, place: str, asked: Asked) -> Said:
        if place not in self.uploads:
            raise RefusalError(404, "404 page not found")
        data = self.uploads[place]
        if data is None:
            raise RefusalError(500, "Database error")
        claimed = json.loads(asked.body)["pieceCid"]
        if claimed != self.hash(data) or self.fault("wrong_piece"):
            text = "pieceCid does not match the calculated pieceCid for the uploaded piece"
            raise RefusalError(400, f"Invalid request body: {text}")
        del self.uploads[place]
        self.keep(data)
        if self.fault("finish_500"):
            raise RefusalError(500, "Internal server error")
        return Said(200, b"")

    def _serve(self, piece: str, wanted: str) -> Said:
        if self.fault("get_500"):
            raise RefusalError(500, "Internal server error")
        if piece not in self.pieces or self.fault("get_404"):
            raise RefusalError(404, "")
        data = self.pieces[piece]
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", wanted)
        if match is None or self.fault("no_ranges"):
            return Said(200, data, {"Content-Type": "application/octet-stream"})
        first, last = int(match[1]), min(int(match[2]), len(data) - 1)
        headers = {"Content-Range": f"bytes {first}-{last}/{len(data)}"}
        return Said(206, data[first : last + 1], headers)

    # --- data sets

    def _add(self, data_set: int, body: dict[str, Any]) -> str:
        pieces = self._wanted(body)
        if self.fault("lose_before_send"):
            raise RefusalError(500, "Failed to send transaction")
        extra = bytes.fromhex(body["extraData"][2:])
        sender, verifier = OWNERS[self.number], self.lab.verifier
        listener = _NOBODY if data_set else self.lab.service
        arguments = (data_set, listener, [(_bytes(piece),) for piece in pieces], extra)
        value = 0 if data_set else 10**17

        def send() -> dict[str, Any]:
            return self.lab.send(sender, verifier, _ADD, *arguments, value=value)

        if self.fault("held_back"):
            self.held_back.append(send)
            return "0x" + hashlib.sha256(extra).hexdigest()
        try:
            receipt = send()
        except LabError as error:
            raise RefusalError(500, f"chain: execution reverted {error.data}") from None
        self.added.update(pieces)
        if self.fault("accept_and_forget"):
            for piece in pieces:
                del self.pieces[piece]
        if self.fault("lose_after_send"):
            raise RefusalError(500, "Internal server error")
        return str(receipt["transactionHash"])

    def _wanted(self, body: dict[str, Any]) -> list[str]:
        pieces = [each["pieceCid"] for each in body["pieces"]]
        if not 0 < len(pieces) <= MAX_BATCH:
            raise RefusalError(400, f"piece count ({len(pieces)}) exceeds the maximum allowed ({MAX_BATCH})")
        if self.fault("forget_parked"):
            self.pieces.pop(pieces[0], None)
        for piece in pieces:
            if not self.has(piece):
                text = f"subPiece CID {piece} not found or does not belong to service public"
                raise RefusalError(400, f"Failed to process request: failed to validate subPieces: {text}")
        return pieces

    # --- copies

    def _pull(self, body: dict[str, Any]) -> Said:
        extra = bytes.fromhex(body["extraData"][2:])
        if self.fault("pull_busy"):
            raise RefusalError(429, "pull queue backpressure", **{"Retry-After": "0"})
        if self.fault("pull_refused"):
            raise RefusalError(400, "Validation error: piece[0]: URL must use HTTPS scheme")
        if len(body["pieces"]) > MAX_BATCH:
            raise RefusalError(400, "Validation error: piece count exceeds the maximum allowed per pull")
        states = self.pulls.get(extra)
        if states is None:
            self._simulate(body, extra)
            states = {each["pieceCid"]: "pending" for each in body["pieces"]}
            self.pulls[extra] = states
        elif not self.fault("pull_stuck"):
            for each in body["pieces"]:
                if states[each["pieceCid"]] == "pending":
                    states[each["pieceCid"]] = self._fetch(each["pieceCid"], each["sourceUrl"])
        pieces = [{"pieceCid": piece, "status": state} for piece, state in states.items()]
        return _json({"status": pieces[0]["status"], "pieces": pieces})

    def _simulate(self, body: dict[str, Any], extra: bytes) -> None:
        """Refuse what the contracts would refuse."""
        pieces = [(_bytes(each["pieceCid"]),) for each in body["pieces"]]
        data_set = int(body.get("dataSetId", 0))
        value = hex(0 if data_set else 10**17)
        listener = _NOBODY if data_set else self.lab.service
        call = {"from": OWNERS[self.number], "to": self.lab.verifier, "value": value}
        call["data"] = self.lab.encoded(_ADD, data_set, listener, pieces, extra)
        try:
            self.lab.rpc("eth_call", call, "latest")
        except LabError as error:
            raise RefusalError(400, f"chain: execution reverted {error.data}") from None

    def _fetch(self, piece: str, source: str) -> str:
        if self.fault("pull_fails"):
            return "failed"
        try:
            with urllib.request.urlopen(source, timeout=10) as response:
                data = response.read()
        except OSError:
            return "failed"
        if self.hash(data) != piece:
            return "failed"
        self.pulled[piece] += 1
        self.keep(data)
        return "complete"


def _json(value: object) -> Said:
    return Said(200, json.dumps(value).encode())


@contextmanager
def pdp_provider(number: int) -> Iterator[PdpProvider]:
    """Run provider `number` at `url`; its `lab` is set once it is registered there."""
    provider = PdpProvider(OnchainLab("", ""), number)

    def answer(asked: Asked) -> Said:
        return provider.answer(asked)  # which a test may have replaced

    with http_peer(answer) as peer:
        provider.url, provider.asked = peer.url, peer.asked
        yield provider
