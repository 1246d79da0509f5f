"""The pieces of bundles as computed before, so that a proposal nobody merged yet costs no second reading.

They follow from the root and the way of cutting, so an entry can never be out of date, only damaged: it
carries its own checksum, and one that does not hold counts as not there.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path

from reconciler.content.car import Cut
from reconciler.content.car_shard import CutShards
from reconciler.content.dag import DagLayout
from reconciler.errors import InvalidIndex, Locked, Where
from reconciler.index.record_pieces import parse_pieces, render_pieces
from reconciler.index.replace_file import replace_file


class PieceCache:
    """Entries under `directory`, which is made when the first one is stored, and may be deleted any time."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def get(self, layout: DagLayout, cut: Cut) -> CutShards | None:
        """The pieces of the bundle with `layout`, or None."""
        path = self._entry(layout, cut)
        try:
            checksum, _, body = path.read_bytes().partition(b"\n")
            if hashlib.sha256(body).hexdigest().encode() != checksum:
                return None
            (pieces,) = parse_pieces(json.loads(body), layout.car_size, Where(str(path)))
        except (OSError, ValueError, InvalidIndex):
            return None
        return pieces if pieces.cut == cut else None

    def put(self, layout: DagLayout, pieces: CutShards) -> None:
        """Remember the pieces of the bundle with `layout`. A cache that cannot be written is no error."""
        body = json.dumps(render_pieces((pieces,))).encode()
        with contextlib.suppress(OSError, Locked):
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            entry = hashlib.sha256(body).hexdigest().encode() + b"\n" + body
            replace_file(self._entry(layout, pieces.cut), entry, 0o600)

    def _entry(self, layout: DagLayout, cut: Cut) -> Path:
        return self._directory / f"{layout.root}-{cut.max_bytes}-{cut.naming.value}"
