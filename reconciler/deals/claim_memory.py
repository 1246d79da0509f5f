"""What services said of pieces in deals, kept for a day, so that the chain can be asked without them.

An inclusion proof holds for ever and says itself what it proves, and whether a deal runs the chain says: so
a remembered claim is checked exactly like a new one, and a damaged or forged entry can make no deal better.
What a memory cannot know is deals made since; that is why it ends after a day. One file; one that does not
hold counts as not there.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from reconciler.content import piece_cid
from reconciler.content.piece_cid import NODE_SIZE, PieceCid
from reconciler.deals.interface import DealClaim, InclusionProof, MerklePath, Stage, actor
from reconciler.errors import DataError

LASTS = timedelta(days=1)

_MOST = 256 << 20  # bytes; 60,000 pieces
_PLAIN = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | _PLAIN
_WRONG_SHAPE = (ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError)


@dataclass(frozen=True, slots=True)
class Remembered:
    """All claims about one piece, as its service made them `at` (UTC)."""

    at: datetime
    claims: tuple[DealClaim, ...]


class ClaimMemory:
    """The memory in the file at `path`, whose directory is made when something is kept."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def recall(self, now: datetime) -> dict[PieceCid, Remembered]:
        """Everything that was said less than LASTS before `now`; empty when the file does not hold."""
        try:
            checksum, _, body = self._read().partition(b"\n")
            if hashlib.sha256(body).hexdigest().encode() != checksum:
                return {}
            found = dict(_entries(json.loads(body)))
        except (OSError, DataError, *_WRONG_SHAPE):
            return {}
        return {piece: each for piece, each in found.items() if timedelta(0) <= now - each.at < LASTS}

    def _read(self) -> bytes:
        """The file, where it is one: a repository may have brought a link or a pipe along."""
        descriptor = os.open(self._path, os.O_RDONLY | _PLAIN)
        with os.fdopen(descriptor, "rb") as file:
            return file.read(_MOST) if stat.S_ISREG(os.fstat(descriptor).st_mode) else b""

    def keep(self, entries: Mapping[PieceCid, Remembered]) -> None:
        """Put `entries` in place of everything that is there. A file that cannot be written is no error.

        It is written beside it, always under one name, so that killed runs leave one file at most. Two runs
        at once may spoil each other's: then the checksum does not hold.
        """
        body = json.dumps({str(piece): _render(each) for piece, each in entries.items()}).encode()
        staged = self._path.with_name(f".{self._path.name}.new")
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            if self._path.parent.is_symlink():
                return
            descriptor = os.open(staged, _WRITE, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
            staged.replace(self._path)


def worth_keeping(claims: Iterable[DealClaim]) -> bool:
    """Whether `claims`, all of one piece, are of deals with a proof: of others only the service can speak."""
    listed = list(claims)
    return bool(listed) and all(
        claim.stage is Stage.DEAL and claim.inclusion is not None and claim.provider is not None
        for claim in listed
    )


def _render(entry: Remembered) -> dict[str, Any]:
    return {
        "at": int(entry.at.timestamp()),
        "deals": [
            {
                "aggregate": str(claim.inclusion.aggregate),
                "subtree": _render_path(claim.inclusion.subtree),
                "index": _render_path(claim.inclusion.index),
                "provider": claim.provider,
                "deal": claim.deal_id,
            }
            for claim in entry.claims
            if claim.inclusion is not None
        ],
    }


def _render_path(path: MerklePath) -> list[object]:
    return [path.at, b"".join(path.siblings).hex()]


def _entries(document: Mapping[str, Any]) -> Iterator[tuple[PieceCid, Remembered]]:
    """Raises DataError, or what Python says of a wrong shape."""
    for text, entry in document.items():
        piece = piece_cid.parse(text)
        at = datetime.fromtimestamp(entry["at"], UTC)
        yield piece, Remembered(at, tuple(_claim(piece, deal) for deal in entry["deals"]))


def _claim(piece: PieceCid, deal: Mapping[str, Any]) -> DealClaim:
    whole = piece_cid.parse(deal["aggregate"])
    proof = InclusionProof(piece, whole, _path(deal["subtree"]), _path(deal["index"]))
    number = deal["deal"]
    if number is not None and (not isinstance(number, int) or number < 0):
        raise DataError("a deal without a number")
    return DealClaim(piece, Stage.DEAL, proof, actor(deal["provider"]), number)


def _path(value: list[Any]) -> MerklePath:
    at, nodes = value[0], bytes.fromhex(value[1])
    if not isinstance(at, int):
        raise DataError("a path that begins nowhere")
    return MerklePath(at, tuple(nodes[i : i + NODE_SIZE] for i in range(0, len(nodes), NODE_SIZE)))
