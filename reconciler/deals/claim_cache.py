"""A cache of the claims of services about pieces in deals, kept for a day.

With it, the chain can be asked without asking the service. An inclusion proof is valid forever and contains
what it proves, and the chain reports whether a deal runs: a cached claim is therefore checked exactly like a
new one, and a damaged or forged entry cannot improve the state of a deal. The cache cannot know deals made
since; for that reason an entry expires after a day. It is one file, with a checksum; an invalid file counts
as missing.
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

from reconciler import fs
from reconciler.content import piece_cid
from reconciler.content.piece_cid import NODE_SIZE, PieceCid
from reconciler.deals.interface import DealClaim, InclusionProof, MerklePath, Stage, parse_actor
from reconciler.errors import DataError, LockedError
from reconciler.json_fields import JsonFields, load_json

MAX_AGE = timedelta(days=1)

_MAX_BYTES = 256 << 20  # 60,000 pieces
_MAX_NUMBER = 1 << 63


@dataclass(frozen=True, slots=True)
class CachedClaims:
    """All claims about one piece, as its service made them `at` (UTC)."""

    at: datetime
    claims: tuple[DealClaim, ...]


class ClaimCache:
    """The cache in the file at `path`, whose directory is created by `save`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self, now: datetime) -> dict[PieceCid, CachedClaims]:
        """Return all entries that are younger than MAX_AGE at `now`; empty for an invalid file."""
        try:
            checksum, _, body = self._read().partition(b"\n")
            if hashlib.sha256(body).hexdigest().encode() != checksum:
                return {}
            found = dict(_entries(JsonFields(load_json(body), DataError)))
        except (OSError, DataError, ValueError, OverflowError):
            return {}
        return {piece: each for piece, each in found.items() if timedelta(0) <= now - each.at < MAX_AGE}

    def _read(self) -> bytes:
        """Read the file, without following a symbolic link; return b"" when it is not a regular file."""
        descriptor = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            return file.read(_MAX_BYTES) if stat.S_ISREG(os.fstat(descriptor).st_mode) else b""

    def save(self, entries: Mapping[PieceCid, CachedClaims]) -> None:
        """Replace the cache by `entries`. A file that cannot be written is not an error, as for any cache."""
        body = json.dumps({str(piece): _render(each) for piece, each in entries.items()}).encode()
        with contextlib.suppress(OSError, LockedError):
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            if self._path.parent.is_symlink():
                return
            checksum = hashlib.sha256(body).hexdigest().encode()
            fs.replace_file(self._path, checksum + b"\n" + body, mode=0o600, sync=False)


def is_cacheable(claims: Iterable[DealClaim]) -> bool:
    """Return whether `claims`, all about one piece, are deals with a proof.

    Claims without a proof are only as good as the answer of the service, so they are requested in every run.
    """
    listed = list(claims)
    return bool(listed) and all(
        claim.stage is Stage.DEAL and claim.inclusion is not None and claim.provider is not None
        for claim in listed
    )


def _render(entry: CachedClaims) -> dict[str, Any]:
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


def _entries(document: JsonFields) -> Iterator[tuple[PieceCid, CachedClaims]]:
    """Iterate over the entries. Raises DataError, ValueError or OverflowError for an invalid one."""
    for text, entry in document.members():
        piece = piece_cid.parse(text)
        at = datetime.fromtimestamp(entry.number("at"), UTC)
        yield piece, CachedClaims(at, tuple(_claim(piece, deal) for deal in entry.items("deals")))


def _claim(piece: PieceCid, deal: JsonFields) -> DealClaim:
    aggregate = piece_cid.parse(deal.text("aggregate"))
    proof = InclusionProof(piece, aggregate, _path(deal.at("subtree")), _path(deal.at("index")))
    number = deal.number_in(0, _MAX_NUMBER, "deal") if deal.has("deal") else None
    return DealClaim(piece, Stage.DEAL, proof, parse_actor(deal.text("provider")), number)


def _path(value: JsonFields) -> MerklePath:
    parts = list(value.items())
    if len(parts) != 2:
        raise value.error("a path")
    nodes = bytes.fromhex(parts[1].text())
    siblings = tuple(nodes[i : i + NODE_SIZE] for i in range(0, len(nodes), NODE_SIZE))
    return MerklePath(parts[0].number(), siblings)
