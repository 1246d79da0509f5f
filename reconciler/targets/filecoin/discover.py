"""Which pieces belong to which root, where no record says so: from what providers serve of them.

The beginning of a piece names the root of its CAR. That is a claim of the provider; the pieces of a root
count as its CAR only when the inner nodes read from them prove a DAG whose shards have exactly these sizes.
Beginnings that name a root are cached by piece, because a piece never changes.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from reconciler import fs
from reconciler.content import car
from reconciler.content import cid as cids
from reconciler.content.car import MAX_SECTION_PREFIX
from reconciler.content.cid import Cid
from reconciler.content.dag import HEADER_SIZE
from reconciler.content.piece_cid import PieceCid
from reconciler.errors import BlockUnavailableError, DataError, LockedError, PeerError
from reconciler.json_fields import JsonFields, load_json

MAX_READ = 500  #: beginnings that are read in one run

_THREADS = 8

ReadRange = Callable[[PieceCid, int, int, Callable[[bytes], bool]], bytes]


@dataclass(frozen=True, slots=True)
class PieceStart:
    """The root that a piece names, and its first block; both None when it is no CAR of ours."""

    root: Cid | None
    first: Cid | None


NO_CAR = PieceStart(None, None)


def read_start(data: bytes) -> PieceStart:
    """Return what the first bytes of a piece say; `data` are HEADER_SIZE + MAX_SECTION_PREFIX of them."""
    try:
        first, _, _ = car.decode_section_prefix(data[HEADER_SIZE:])
        root = cids.decode(data[HEADER_SIZE - len(_VERSION) - cids.BINARY_SIZE : HEADER_SIZE - len(_VERSION)])
    except DataError:
        return NO_CAR
    return PieceStart(root, first) if data.startswith(car.header(root)) else NO_CAR


_VERSION = b"\x67version\x01"


class PieceStarts:
    """The beginnings of pieces, read when they are needed. `file` is a cache; None: nothing is kept."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._known: dict[str, PieceStart] = {}
        self._loaded = False

    def get(self, pieces: Iterable[PieceCid], read: ReadRange) -> Mapping[PieceCid, PieceStart]:
        """Return the beginnings of `pieces`; those that cannot be read now are left out."""
        self._load()
        wanted = list(pieces)
        missing = [piece for piece in wanted if str(piece) not in self._known][:MAX_READ]

        def one(piece: PieceCid) -> PieceStart | None:
            size = min(piece.size, HEADER_SIZE + MAX_SECTION_PREFIX)
            for accept in (lambda data: read_start(data) != NO_CAR, lambda _: True):
                try:
                    return read_start(read(piece, 0, size, accept))
                except BlockUnavailableError:
                    continue
                except PeerError:
                    return None
            return None

        if missing:
            with ThreadPoolExecutor(min(_THREADS, len(missing)), "piece") as threads:
                found = zip(missing, threads.map(one, missing), strict=True)
                self._known |= {str(piece): start for piece, start in found if start is not None}
            self._save()
        return {piece: self._known[str(piece)] for piece in wanted if str(piece) in self._known}

    def _load(self) -> None:
        if self._loaded or self._file is None:
            return
        self._loaded = True
        with contextlib.suppress(OSError, ValueError, DataError):
            fields = JsonFields(load_json(self._file.read_bytes()), ValueError)
            for piece, each in fields.members():
                texts = each.texts()
                self._known[piece] = PieceStart(*map(cids.parse, texts)) if len(texts) == 2 else NO_CAR

    def _save(self) -> None:
        if self._file is None:
            return
        body = {
            piece: [str(start.root), str(start.first)]
            for piece, start in self._known.items()
            if start != NO_CAR  # a provider may have served something else
        }
        with contextlib.suppress(OSError, LockedError):
            self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            fs.replace_file(self._file, json.dumps(body).encode(), mode=0o600, sync=False)


def pieces_by_root(starts: Mapping[PieceCid, PieceStart]) -> dict[Cid, dict[Cid, PieceCid]]:
    """Return the pieces that name each root, by their first block; one of them must begin with the root."""
    found: dict[Cid, dict[Cid, PieceCid]] = {}
    for piece, start in starts.items():
        if start.root is not None and start.first is not None:
            found.setdefault(start.root, {}).setdefault(start.first, piece)
    return {root: pieces for root, pieces in found.items() if root in pieces}
