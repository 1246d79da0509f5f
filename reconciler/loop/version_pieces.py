"""The Filecoin pieces of versions that are known in a run: from records, caches, deliveries, or computed."""

from __future__ import annotations

from reconciler.content.car import ShardedCar, Sharding
from reconciler.content.cid import Cid
from reconciler.content.dag import Dag, DagLayout
from reconciler.errors import DataError
from reconciler.index.records import piece_difference
from reconciler.loop.piece_cache import PieceCache
from reconciler.progress import Progress


class VersionPieces:
    """The pieces of roots, one entry for each sharding."""

    def __init__(self, cache: PieceCache | None, progress: Progress) -> None:
        self._cache = cache
        self._progress = progress
        self._pieces: dict[tuple[Cid, Sharding], ShardedCar] = {}

    def keep(self, root: Cid, pieces: ShardedCar, layout: DagLayout | None = None) -> None:
        """Remember the pieces of `root`; with its `layout`, they were computed and are cached too.

        Raises DataError, naming both, when different pieces are known already.
        """
        known = self._pieces.setdefault((root, pieces.sharding), pieces)
        if known != pieces:
            raise DataError(
                f"the pieces of {root} differ from the known ones: {piece_difference(known, pieces)}",
                hint="compare with `reconcile pieces --no-cache`, which reads the bytes again",
            )
        if layout is not None and self._cache:
            self._cache.put(layout, pieces)

    def find(self, layout: DagLayout, sharding: Sharding) -> ShardedCar | None:
        """Return the pieces of a root when they are known without reading its bytes."""
        known = self._pieces.get((layout.root, sharding))
        return known or (self._cache.get(layout, sharding) if self._cache else None)

    def compute(self, dag: Dag, sharding: Sharding) -> ShardedCar:
        """Return the pieces of `dag`; read its bytes unless they are known.

        Raises SourceChangedError, and UsageError when a block does not fit a shard of `sharding`.
        """
        from reconciler.content.pieces import shard_pieces

        key = (dag.layout.root, sharding)
        if key not in self._pieces:
            found = self.find(dag.layout, sharding)
            if found is None:
                found = shard_pieces(dag, sharding, self._progress)
                if self._cache:
                    self._cache.put(dag.layout, found)
            self._pieces[key] = found
        return self._pieces[key]
