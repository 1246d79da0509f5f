"""Checkpoints: what a log signs about itself (C2SP tlog-checkpoint), and proofs that begin with one.

    <origin> LF <number of entries> LF <base64 of the root> LF

Extension lines may follow; they are kept and not understood. A proof file (C2SP tlog-proof) needs nothing but
the verifier key of the log:

    c2sp.org/tlog-proof@v1
    [extra <base64>]
    index <number>
    <base64 of a hash>                     from the sibling of the leaf upwards
    <blank line>
    <signed checkpoint>
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass

from reconciler.errors import DataError, TrustError
from reconciler.trust.merkle import MAX_SIZE, leaf_hash, verify_inclusion
from reconciler.trust.note import (
    MAX_NOTE,
    NoteKey,
    SignedNote,
    decode_hash,
    encode_hash,
    is_signed_by,
    parse_note,
    signers_among,
)

PROOF_HEAD = "c2sp.org/tlog-proof@v1"
MAX_PROOF = MAX_NOTE + (1 << 17)  #: bytes of a proof file
_NUMBER = re.compile(r"0|[1-9][0-9]{0,18}")
_MAX_HASHES = 63


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The state of the log `origin`: its number of entries and its root, from the text of `note`."""

    origin: str
    size: int
    root: bytes
    note: SignedNote

    def __str__(self) -> str:
        return f"{self.size:,} entries, root {encode_hash(self.root)}"


def checkpoint_text(origin: str, size: int, root: bytes) -> str:
    """Return the text that is signed."""
    return f"{origin}\n{size}\n{encode_hash(root)}\n"


def parse_checkpoint(data: bytes, what: str = "the checkpoint") -> Checkpoint:
    """Parse a signed checkpoint, without verifying it; errors call it `what`. Raises DataError."""
    note = parse_note(data, what)
    origin, *rest = note.text.split("\n")
    if not origin or len(rest) < 3 or not _NUMBER.fullmatch(rest[0]) or int(rest[0]) > MAX_SIZE:
        raise DataError(f"{what} does not name a log and its number of entries")
    return Checkpoint(origin, int(rest[0]), decode_hash(rest[1], f"the root in {what}"), note)


@dataclass(frozen=True, slots=True)
class LogKeys:
    """Whose signatures make a checkpoint valid: that of the log, and `quorum` of its witnesses."""

    log: NoteKey
    witnesses: tuple[NoteKey, ...] = ()
    quorum: int = 0

    @property
    def origin(self) -> str:
        """The name of the log."""
        return self.log.name


def verify_checkpoint(data: bytes, keys: LogKeys, what: str = "the checkpoint") -> Checkpoint:
    """Parse a checkpoint and check its signatures.

    Raises DataError for a malformed one, TrustError when it is of another log, not signed by it, or cosigned
    by too few witnesses.
    """
    found = parse_checkpoint(data, what)
    if found.origin != keys.origin:
        raise TrustError(
            f"{what} is of the log {found.origin!r}, not of {keys.origin!r}",
            hint="check which log the key belongs to",
        )
    try:
        signed, cosigned = is_signed_by(found.note, keys.log), signers_among(found.note, keys.witnesses)
    except DataError as error:
        raise TrustError(f"{what}: {error.message}", hint=error.hint) from None
    if not signed:
        names = ", ".join(dict.fromkeys(each.name for each in found.note.signatures))
        raise TrustError(
            f"{what} is not signed by the key {keys.log.id.hex()} of {keys.origin}, but by {names}",
            hint="if the log changed its key, ask its owner for the new one",
        )
    if len(cosigned) < keys.quorum:
        raise TrustError(
            f"{what} has the cosignatures of {len(cosigned)} of {len(keys.witnesses)} witnesses, "
            f"and {keys.quorum} are required",
            hint="the owner of the log asks its witnesses with `reconcile audit checkpoint`",
        )
    return found


# --- proofs


@dataclass(frozen=True, slots=True)
class LogProof:
    """That an entry is number `index` of the log in `checkpoint`, with `extra` bytes, which are the entry."""

    index: int
    hashes: tuple[bytes, ...]
    checkpoint: bytes
    extra: bytes = b""

    def encode(self) -> bytes:
        """Return the proof as a file."""
        lines = [PROOF_HEAD]
        if self.extra:
            lines.append(f"extra {encode_hash(self.extra)}")
        lines += [f"index {self.index}", *map(encode_hash, self.hashes)]
        return "\n".join([*lines, "", ""]).encode() + self.checkpoint


def parse_proof(data: bytes) -> LogProof:
    """Parse a proof file. Raises DataError."""
    if len(data) > MAX_PROOF:
        raise DataError(f"the proof has {len(data)} bytes; at most {MAX_PROOF} are read")
    head, blank, checkpoint = data.partition(b"\n\n")
    try:
        lines = head.decode("ascii").split("\n")
    except UnicodeDecodeError:
        lines = []
    if not blank or lines[:1] != [PROOF_HEAD]:
        raise DataError("this is not a proof of a log", hint=f"its first line is {PROOF_HEAD}")
    del lines[0]
    extra = _extra(lines.pop(0)) if lines and lines[0].startswith("extra ") else b""
    if not lines or not lines[0].startswith("index ") or not _NUMBER.fullmatch(lines[0][6:]):
        raise DataError("the proof does not say which entry it is about")
    index = int(lines.pop(0)[6:])
    if len(lines) > _MAX_HASHES:
        raise DataError(f"the proof has {len(lines)} hashes; at most {_MAX_HASHES} are possible")
    hashes = tuple(decode_hash(line, f"hash {number} of the proof") for number, line in enumerate(lines, 1))
    return LogProof(index, hashes, checkpoint, extra)


def verify_proof(proof: LogProof, entry: bytes, keys: LogKeys) -> Checkpoint:
    """Check that the signed checkpoint of `proof` has `entry`. Raises DataError, TrustError."""
    checkpoint = verify_checkpoint(proof.checkpoint, keys, "the checkpoint of the proof")
    verify_inclusion(leaf_hash(entry), proof.index, checkpoint.size, proof.hashes, checkpoint.root)
    return checkpoint


def _extra(line: str) -> bytes:
    try:
        return base64.b64decode(line.removeprefix("extra "), validate=True)
    except (binascii.Error, ValueError):
        raise DataError("the extra bytes of the proof are not base64") from None


def proof_lines(hashes: Sequence[bytes]) -> str:
    """Return hashes as lines of base64."""
    return "".join(f"{encode_hash(each)}\n" for each in hashes)
