"""A cache of the pieces of bundles, so that a proposal that is not merged yet needs no second reading. They
follow from the root and the sharding, so a cache entry is never out of date, only damaged: it starts
with its own checksum, and a damaged entry counts as missing.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path

from reconciler import fs
from reconciler.content.car import ShardedCar, Sharding
from reconciler.content.dag import DagLayout
from reconciler.errors import LockedError
from reconciler.index.records import parse_pieces, render_pieces
from reconciler.json_fields import JsonFields, load_json


class PieceCache:
    """A cache of pieces below `directory`, which is created when needed and may be deleted at any time."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def get(self, layout: DagLayout, sharding: Sharding) -> ShardedCar | None:
        """Return the pieces of the bundle with `layout`, or None."""
        path = self._entry(layout, sharding)
        try:
            checksum, _, body = path.read_bytes().partition(b"\n")
            if hashlib.sha256(body).hexdigest().encode() != checksum:
                return None
            (pieces,) = parse_pieces(JsonFields(load_json(body), ValueError), layout.car_size)
        except (OSError, ValueError):
            return None
        return pieces if pieces.sharding == sharding else None

    def put(self, layout: DagLayout, pieces: ShardedCar) -> None:
        """Store the pieces of the bundle with `layout`. A cache that cannot be written is not an error."""
        body = json.dumps(render_pieces((pieces,))).encode()
        with contextlib.suppress(OSError, LockedError):
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            entry = hashlib.sha256(body).hexdigest().encode() + b"\n" + body
            fs.replace_file(self._entry(layout, pieces.sharding), entry, mode=0o600, sync=False)

    def _entry(self, layout: DagLayout, sharding: Sharding) -> Path:
        return self._directory / f"{layout.root}-{sharding.max_bytes}-{sharding.naming.value}"
