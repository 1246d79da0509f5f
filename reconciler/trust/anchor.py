"""Anchors: a digest on an EVM chain, as the data of a transaction that sends nothing to its own sender.

    data = "RCL" ‖ 0x01 ‖ kind ‖ SHA-256         37 bytes
    kind = 0x01  SHA-256 of the text of a checkpoint
           0x02  SHA-256 of the binary CID of an artifact

A block says that the digest existed at its time. What a node answers about a transaction is judged by a pure
function: it must be the recorded one, successful, and in the block that the chain has at that height.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum

from reconciler.content.cid import Cid
from reconciler.errors import DataError, TrustError
from reconciler.json_fields import JsonFields, load_json

MAGIC = b"RCL\x01"
ANCHORS = "anchors"  #: the directory of the records in that of the log
MAX_ANCHOR = 1 << 16  #: bytes of a record that is read
_HEX32 = re.compile(r"0x[0-9a-f]{64}")
_ADDRESS = re.compile(r"0x[0-9a-f]{40}")
_BYTES = re.compile(r"(?:0x(?:[0-9a-f]{2})+)?")
_MAX = 1 << 62


class AnchorKind(IntEnum):
    """What a digest is of."""

    CHECKPOINT = 1
    ARTIFACT = 2


def anchor_data(kind: AnchorKind, digest: bytes) -> bytes:
    """Return the data of the transaction that anchors a digest of 32 bytes."""
    return MAGIC + bytes([kind]) + digest


def checkpoint_digest(text: str) -> bytes:
    """Return what is anchored of a checkpoint with this text."""
    return hashlib.sha256(text.encode()).digest()


def artifact_digest(cid: Cid) -> bytes:
    """Return what is anchored of an artifact."""
    return hashlib.sha256(bytes(cid)).digest()


@dataclass(frozen=True, slots=True)
class AnchorRecord:
    """Where a digest is on a chain: `releases/log/anchors/<size or CID>.json`.

    `subject` is the number of entries of the checkpoint, or the CID of the artifact. `transaction`,
    `block_hash` and `sender` are in hexadecimal, as is `raw`, the signed transaction, which is "" when the
    node does not give it.
    """

    subject: int | str
    digest: bytes
    chain: int
    transaction: str
    sender: str
    nonce: int
    block: int
    block_hash: str
    raw: str = ""

    @property
    def kind(self) -> AnchorKind:
        """What the digest is of."""
        return AnchorKind.CHECKPOINT if isinstance(self.subject, int) else AnchorKind.ARTIFACT

    @property
    def data(self) -> bytes:
        """The data of the transaction."""
        return anchor_data(self.kind, self.digest)

    @property
    def path(self) -> str:
        """The path of the record in the directory of the log."""
        return anchor_path(self.subject)

    def render(self) -> bytes:
        """Return the bytes of the file."""
        fields = {
            "block": self.block,
            "block_hash": self.block_hash,
            "chain": self.chain,
            "cid" if isinstance(self.subject, str) else "size": self.subject,
            "digest": self.digest.hex(),
            "nonce": self.nonce,
            "raw": self.raw,
            "schema": 1,
            "sender": self.sender,
            "transaction": self.transaction,
        }
        return (json.dumps(fields, indent=2, sort_keys=True) + "\n").encode()


def anchor_path(subject: int | str) -> str:
    """Return the path of the record of a checkpoint or an artifact in the directory of the log."""
    return f"{ANCHORS}/{subject}.json"


def parse_anchor(data: bytes, path: str) -> AnchorRecord:
    """Parse the record at `path` in the directory of the log. Raises DataError."""
    try:
        value = load_json(data)
    except ValueError as error:
        raise DataError(f"{path} is not an anchor: {str(error)[:100]}") from None
    fields = JsonFields(value, lambda message: DataError(f"{path} is not an anchor: {message}"))
    fields.number_in(1, 1, "schema")

    def text(key: str, pattern: re.Pattern[str]) -> str:
        found = fields.text(key)
        if not pattern.fullmatch(found):
            raise fields.fail(f"invalid {key!r}")
        return found

    record = AnchorRecord(
        fields.text("cid") if fields.has("cid") else fields.number_in(1, _MAX, "size"),
        bytes.fromhex(text("digest", re.compile(r"[0-9a-f]{64}"))),
        fields.number_in(1, _MAX, "chain"),
        text("transaction", _HEX32),
        text("sender", _ADDRESS),
        fields.number_in(0, _MAX, "nonce"),
        fields.number_in(0, _MAX, "block"),
        text("block_hash", _HEX32),
        text("raw", _BYTES),
    )
    if record.path != path:
        raise DataError(f"{path} has the anchor of {record.subject}", hint="restore it from the git history")
    return record


@dataclass(frozen=True, slots=True)
class SeenTransaction:
    """What one node says about a transaction, and about the block at its height.

    `chain_block` is the hash that the chain has there, `listed` whether that block lists the transaction,
    `time` its time in seconds since 1970, `final` whether the node calls it final; None when it cannot tell.
    """

    sender: str
    to: str
    data: bytes
    succeeded: bool
    block: int
    block_hash: str
    chain_block: str
    listed: bool
    time: int
    final: bool | None


@dataclass(frozen=True, slots=True)
class AnchoredAt:
    """A digest that is on the chain: since when, and whether that is final; None when no node can tell."""

    record: AnchorRecord
    time: datetime
    final: bool | None


class NotAnchoredError(TrustError):
    """A transaction is not on the chain: it was never carried out, or its block was replaced."""


def judge_anchor(record: AnchorRecord, seen: SeenTransaction | None, node: str) -> AnchoredAt:
    """Return since when `record` is on the chain, as `node` says.

    Raises NotAnchoredError when it is not there, and TrustError when there is another transaction.
    """
    name = f"the transaction {record.transaction}"
    if seen is None:
        raise NotAnchoredError(
            f"{node}: {name} is not on the chain: its block was reorganised away, or it was never sent",
            hint="`reconcile audit checkpoint` anchors the newest checkpoint again",
        )
    if (seen.sender, seen.to) != (record.sender, record.sender) or seen.data != record.data:
        raise TrustError(
            f"{node}: {name} does not anchor this digest: it has other data or another sender",
            hint="the record was altered, or the node answers with something else: ask another one",
        )
    if not seen.succeeded:
        raise TrustError(f"{node}: {name} was reverted, so it anchors nothing")
    if seen.chain_block != seen.block_hash or not seen.listed:
        raise NotAnchoredError(
            f"{node}: {name} is in the block {seen.block_hash}, which was reorganised away",
            hint="run again in some minutes",
        )
    if (seen.block, seen.block_hash) != (record.block, record.block_hash):
        raise NotAnchoredError(
            f"{node}: {name} is in block {seen.block}, and was recorded in block {record.block}: "
            "the chain was reorganised",
            hint="`reconcile audit checkpoint` records where it is now",
        )
    return AnchoredAt(record, datetime.fromtimestamp(seen.time, UTC), seen.final)
